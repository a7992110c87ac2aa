//! Runs a job by posting its payload to a URL.
//!
//! The call is a Standard Webhook ([`signature`]), so a receiver can tell who called and drop what it has seen. The
//! URL comes from the configuration and never from a job, and neither a redirect nor a proxy can lead the call
//! elsewhere.

mod client;
mod reply;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use chrono::Utc;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, Url};
use secrecy::SecretString;

use self::reply::Endpoint;
use super::signature::{self, Key};
use super::{Context, Handler, Work, output};
use crate::{Failure, Job, Outcome};

const KIND_HEADER: &str = "rowcrew-kind";
const ATTEMPT_HEADER: &str = "rowcrew-attempt";
const JOB_ID_HEADER: &str = "rowcrew-job-id";
const TRACEPARENT_HEADER: &str = "traceparent";
/// The same as `webhook-id`, under the name that receivers look for who know nothing of webhooks.
const IDEMPOTENCY_HEADER: &str = "idempotency-key";

/// Headers that the call sets itself; setting them would break it or forge what receivers rely on.
const RESERVED: [&str; 6] =
    ["connection", "content-length", "host", "idempotency-key", "traceparent", "transfer-encoding"];
const RESERVED_PREFIXES: [&str; 2] = ["rowcrew-", "webhook-"];

/// What an [`HttpHandler`] is told.
#[derive(Clone)]
pub struct HttpSettings {
    /// Where to post, `http` or `https`. A user and a password in it become basic authentication.
    pub url: String,
    /// Each signs the call; none leaves it unsigned. `whsec_` and base64, or any other text as it is.
    pub secrets: Vec<SecretString>,
    /// More headers to send.
    pub headers: Vec<(String, String)>,
    /// How many bytes of a reply are kept as the result, at most
    /// [`RESULT_BYTES_MAX_LIMIT`](super::RESULT_BYTES_MAX_LIMIT).
    pub result_bytes_max: usize,
}

/// Posts the payload of each job; see [`HttpSettings`].
///
/// 2xx completes the job with the body as its result. 408, 425, 429, 5xx and a missing reply are tried again, after
/// `Retry-After` if the reply has it. Any other status buries the job.
#[derive(Debug)]
pub struct HttpHandler {
    client: Client,
    endpoint: Endpoint,
    keys: Vec<Key>,
    headers: HeaderMap,
}

impl HttpSettings {
    /// Settings for an unsigned call.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            secrets: Vec::new(),
            headers: Vec::new(),
            result_bytes_max: output::RESULT_BYTES_MAX_DEFAULT,
        }
    }
}

impl fmt::Debug for HttpSettings {
    /// Header values and the URL may carry credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("HttpSettings")
            .field("url", &Url::parse(&self.url).ok().as_ref().map(reply::public_url))
            .field("secrets", &self.secrets.len())
            .field("headers", &names)
            .field("result_bytes_max", &self.result_bytes_max)
            .finish()
    }
}

impl HttpHandler {
    /// Checks the settings and makes the client; its connections are kept and shared by all attempts.
    pub fn new(settings: &HttpSettings) -> Result<Self, String> {
        let url = parse_url(&settings.url)?;
        output::check_result_bytes_max(settings.result_bytes_max)?;
        Ok(Self {
            client: client::build(url.scheme() == "https")?,
            keys: settings.secrets.iter().map(Key::parse).collect::<Result<_, _>>()?,
            headers: fixed_headers(&settings.headers)?,
            endpoint: Endpoint::new(url, settings.result_bytes_max),
        })
    }

    async fn exchange(&self, job: &Job) -> Outcome {
        let request = self
            .client
            .post(self.endpoint.url().clone())
            .headers(self.headers_for(job, Utc::now().timestamp()))
            .body(job.payload.to_string());
        let reply = request.send().await.map_err(|fault| self.endpoint.no_reply(fault))?;
        self.endpoint.judge(reply).await
    }

    fn headers_for(&self, job: &Job, now: i64) -> HeaderMap {
        let id = format!("job_{}", job.id);
        let mut headers = self.headers.clone();
        headers.insert(JOB_ID_HEADER, job.id.into());
        headers.insert(ATTEMPT_HEADER, job.attempt.into());
        headers.insert(signature::TIMESTAMP_HEADER, now.into());
        let signed = signature::sign(&self.keys, &id, now, job.payload.as_bytes());
        let mut texts = vec![
            (signature::ID_HEADER, id.as_str()),
            (IDEMPOTENCY_HEADER, id.as_str()),
            (KIND_HEADER, &*job.kind),
        ];
        if !self.keys.is_empty() {
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
}

impl Handler for HttpHandler {
    fn run(self: Arc<Self>, context: Context) -> Work {
        Box::pin(async move {
            match context.within(self.exchange(&context.job)).await {
                Ok(outcome) => outcome,
                Err(cut) => Err::<_, Failure>(cut.failure(self.endpoint.label())),
            }
        })
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    // The text is not repeated: it may carry a password.
    let url = Url::parse(text).map_err(|fault| format!("url: {fault}"))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(format!("url: scheme `{}`: expected http or https", url.scheme()));
    }
    Ok(url)
}

/// The headers that are the same for every job.
fn fixed_headers(extra: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in extra {
        let parsed: HeaderName =
            name.parse().map_err(|_| format!("headers: `{name}` is not the name of a header"))?;
        let word = parsed.as_str();
        if RESERVED.contains(&word) || RESERVED_PREFIXES.iter().any(|prefix| word.starts_with(prefix)) {
            return Err(format!("headers: `{name}` is set by rowcrew itself"));
        }
        let mut value: HeaderValue = value.parse().map_err(|_| {
            format!("headers: the value of `{name}` has characters that a header cannot carry")
        })?;
        value.set_sensitive(true);
        headers.append(parsed, value);
    }
    let agent = concat!("rowcrew/", env!("CARGO_PKG_VERSION"));
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(agent));
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    Ok(headers)
}
