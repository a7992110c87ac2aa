//! Decides what a reply means for the job.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};

use super::super::output::Head;
use crate::text::{self, DETAIL_BYTES_MAX};
use crate::{Failure, FailureClass, Outcome, Success, Verdict};

/// The longest wait a server may ask for; a longer one is cut to it, and the server can ask again.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);
/// How long the body of a refusal is waited for. The status has decided already, and a body that never ends must
/// not turn a burial into a timeout and thus a retry.
const REFUSAL_BODY_WAIT: Duration = Duration::from_secs(5);

/// Where the calls go, and what their replies are judged by.
#[derive(Debug)]
pub(super) struct Endpoint {
    url: Url,
    label: String,
    result_bytes_max: usize,
}

impl Endpoint {
    pub(super) fn new(url: Url, result_bytes_max: usize) -> Self {
        let label = format!("POST {}", public_url(&url));
        Self { url, label, result_bytes_max }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Method and URL, as messages begin.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn no_reply(&self, fault: reqwest::Error) -> Failure {
        let why = text::error_chain(&fault.without_url());
        Failure::retry_as(FailureClass::Network, format!("{}: no reply: {why}", self.label))
    }

    pub(super) async fn judge(&self, reply: Response) -> Outcome {
        if reply.status().is_success() { self.result(reply).await } else { Err(self.refusal(reply).await) }
    }

    /// Reads a body up to the limit and no further: it may be endless.
    async fn result(&self, mut reply: Response) -> Outcome {
        let total = reply.content_length();
        let mut head = Head::new(self.result_bytes_max);
        while !head.is_over() {
            match reply.chunk().await {
                Ok(Some(bytes)) => head.push(&bytes),
                Ok(None) => break,
                Err(fault) => {
                    let why = text::error_chain(&fault.without_url());
                    let message =
                        format!("{}: {}, but the reply broke off: {why}", self.label, reply.status());
                    return Err(Failure::retry_as(FailureClass::Network, message));
                }
            }
        }
        Ok(Success::Done(head.into_result(total)))
    }

    async fn refusal(&self, reply: Response) -> Failure {
        let status = reply.status();
        let message = format!("{}: {status}", self.label);
        let failure = if status.is_redirection() {
            let target = self.redirect_target(reply.headers());
            Failure::bury_as(
                FailureClass::Status,
                format!(
                    "{message}: redirects to {target}; redirects are not followed: correct the handler's url"
                ),
            )
        } else if is_transient(status) {
            let wait = retry_after(reply.headers(), Utc::now());
            let verdict = wait.map_or(Verdict::Retry, Verdict::RetryAfter);
            Failure { verdict, ..Failure::retry_as(FailureClass::Status, message) }
        } else {
            Failure::bury_as(FailureClass::Status, message)
        };
        failure.with_detail(refusal_body(reply).await)
    }

    fn redirect_target(&self, headers: &HeaderMap) -> String {
        let target = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        match target.map(|target| self.url.join(target)) {
            Some(Ok(url)) => public_url(&url),
            _ => "an address that cannot be read".to_owned(),
        }
    }
}

/// The URL without what may be secret in it: user, password, query and fragment.
pub(super) fn public_url(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // These fail only where there is nothing to remove.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

fn is_transient(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

/// Reads `Retry-After` in both its forms, seconds and a date (RFC 9110, 10.2.3).
///
/// A moment that has come already says nothing, and the job's own backoff holds.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let at = DateTime::parse_from_rfc2822(text).ok()?;
        at.signed_duration_since(now).to_std().ok()?
    };
    (!wait.is_zero()).then(|| wait.min(RETRY_AFTER_MAX))
}

async fn refusal_body(mut reply: Response) -> String {
    let mut head = Head::new(DETAIL_BYTES_MAX);
    let read = async {
        while let (false, Ok(Some(bytes))) = (head.is_over(), reply.chunk().await) {
            head.push(&bytes);
        }
    };
    // What came until then is better than nothing.
    let _ = tokio::time::timeout(REFUSAL_BODY_WAIT, read).await;
    text::truncated(&head.text(), DETAIL_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(text: &str) -> Option<Duration> {
        let now = DateTime::parse_from_rfc3339("2026-03-01T12:00:00Z").expect("a date").to_utc();
        let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("a header"))]);
        retry_after(&headers, now)
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        assert_eq!(wait("120"), Some(Duration::from_mins(2)));
        assert_eq!(wait("Sun, 01 Mar 2026 12:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(wait("99999999999"), Some(RETRY_AFTER_MAX));
        for nothing in ["0", "-1", "soon", "", "Sun, 01 Mar 2026 11:59:59 GMT", "99999999999999999999999"] {
            assert_eq!(wait(nothing), None, "{nothing}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), Utc::now()), None);
    }

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        let url = Url::parse("https://user:pass@host.example:8443/a/b?token=x#y").expect("a URL");
        assert_eq!(public_url(&url), "https://host.example:8443/a/b");
    }
}
