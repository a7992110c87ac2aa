//! The headers of a call: those of the configuration, and those that say which job it is.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use secrecy::ExposeSecret;

use super::super::signature::{self, Key};
use super::settings::HttpAuth;
use crate::Job;

const KIND_HEADER: &str = "rowcrew-kind";
const ATTEMPT_HEADER: &str = "rowcrew-attempt";
const JOB_ID_HEADER: &str = "rowcrew-job-id";
const TRACEPARENT_HEADER: &str = "traceparent";
/// The same as `webhook-id`, under the name that receivers look for who know nothing of webhooks.
const IDEMPOTENCY_HEADER: &str = "idempotency-key";

/// Headers that the call sets itself; setting them would break it or forge what receivers rely on. A reply is
/// never unpacked, so nobody may ask for a packed one.
const RESERVED: [&str; 8] = [
    "accept-encoding",
    "connection",
    "content-length",
    "host",
    "idempotency-key",
    "te",
    "traceparent",
    "transfer-encoding",
];
const RESERVED_PREFIXES: [&str; 2] = ["rowcrew-", "webhook-"];

/// The headers that are the same for every job.
pub(super) fn fixed(extra: &[(String, String)], auth: Option<&HttpAuth>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in extra {
        let parsed: HeaderName =
            name.parse().map_err(|_| format!("headers: `{name}` is not the name of a header"))?;
        let word = parsed.as_str();
        if RESERVED.contains(&word) || RESERVED_PREFIXES.iter().any(|prefix| word.starts_with(prefix)) {
            return Err(format!("headers: `{name}` is set by rowcrew itself"));
        }
        headers.append(parsed, sensitive(value, &format!("headers: the value of `{name}`"))?);
    }
    if let Some(auth) = auth {
        let (text, what) = match auth {
            HttpAuth::Bearer(token) => (format!("Bearer {}", token.expose_secret()), "bearer"),
            HttpAuth::Basic { user, .. } if user.contains(':') => {
                return Err("basic_user: holds a colon, which ends a user".to_owned());
            }
            HttpAuth::Basic { user, password } => {
                let pair = format!("{user}:{}", password.expose_secret());
                (format!("Basic {}", BASE64_STANDARD.encode(pair)), "basic_user")
            }
        };
        if headers.insert(AUTHORIZATION, sensitive(&text, what)?).is_some() {
            return Err(format!("{what}: headers have Authorization as well: expected one of the two"));
        }
    }
    let agent = concat!("rowcrew/", env!("CARGO_PKG_VERSION"));
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(agent));
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    Ok(headers)
}

fn sensitive(value: &str, what: &str) -> Result<HeaderValue, String> {
    let mut value: HeaderValue =
        value.parse().map_err(|_| format!("{what} has characters that a header cannot carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// All headers of one attempt, signed now (seconds since 1970) over the body that is sent.
pub(super) fn of_attempt(fixed: &HeaderMap, keys: &[Key], job: &Job, body: &[u8], now: i64) -> HeaderMap {
    let id = format!("job_{}", job.id);
    let mut headers = fixed.clone();
    headers.insert(JOB_ID_HEADER, job.id.into());
    headers.insert(ATTEMPT_HEADER, job.attempt.into());
    headers.insert(signature::TIMESTAMP_HEADER, now.into());
    let signed = signature::sign(keys, &id, now, body);
    let mut texts = vec![
        (signature::ID_HEADER, id.as_str()),
        (IDEMPOTENCY_HEADER, id.as_str()),
        (KIND_HEADER, &*job.kind),
    ];
    if !keys.is_empty() {
        texts.push((signature::SIGNATURE_HEADER, &signed));
    }
    texts.extend(job.traceparent.as_deref().map(|parent| (TRACEPARENT_HEADER, parent)));
    for (name, text) in texts {
        // A kind or a traceparent with control characters cannot be said in a header; the call is worth more.
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            headers.insert(name, value);
        }
    }
    headers
}
