//! The headers of a call: those of the configuration, and those that say which job it is.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use secrecy::ExposeSecret;

use super::super::signature::{self, Key};
use super::settings::HttpAuth;
use crate::Job;

static KIND: HeaderName = HeaderName::from_static("rowcrew-kind");
static ATTEMPT: HeaderName = HeaderName::from_static("rowcrew-attempt");
static JOB_ID: HeaderName = HeaderName::from_static("rowcrew-job-id");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static WEBHOOK_ID: HeaderName = HeaderName::from_static(signature::ID_HEADER);
static WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static(signature::TIMESTAMP_HEADER);
static WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static(signature::SIGNATURE_HEADER);
/// The same as `webhook-id`, under the name that receivers look for who know nothing of webhooks.
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// As many as one attempt adds.
const ADDED_MAX: usize = 8;

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
    // Room for all of them at once: a map that grows is hashed again.
    let mut headers = HeaderMap::with_capacity(fixed.len() + ADDED_MAX);
    headers.extend(fixed.iter().map(|(name, value)| (name.clone(), value.clone())));
    headers.insert(&JOB_ID, job.id.into());
    headers.insert(&ATTEMPT, job.attempt.into());
    headers.insert(&WEBHOOK_TIMESTAMP, now.into());
    let signed = (!keys.is_empty()).then(|| signature::sign(keys, &id, now, body));
    let texts = [
        (&WEBHOOK_ID, Some(&*id)),
        (&IDEMPOTENCY_KEY, Some(&*id)),
        (&KIND, Some(&*job.kind)),
        (&WEBHOOK_SIGNATURE, signed.as_deref()),
        (&TRACEPARENT, job.traceparent.as_deref()),
    ];
    for (name, text) in texts {
        // A kind or a traceparent with control characters cannot be said in a header; the call is worth more.
        if let Some(Ok(value)) = text.map(|text| HeaderValue::from_bytes(text.as_bytes())) {
            headers.insert(name, value);
        }
    }
    headers
}
