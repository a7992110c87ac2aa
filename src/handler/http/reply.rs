//! Decides what a reply means for the job.

use std::error::Error as _;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use reqwest::header::{DATE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};

use super::super::output::Head;
use super::guard::Refused;
use super::host;
use crate::outbound::Reach;
use crate::text::{self, DETAIL_BYTES_MAX};
use crate::{Failure, FailureClass, Outcome, Success, Verdict};

/// The longest wait a server may ask for; a longer one is cut to it, and the server can ask again.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);
/// How long the body of a refusal is waited for. The status has decided already, and a body that never ends must
/// not turn a burial into a timeout and thus a retry.
const REFUSAL_BODY_WAIT: Duration = Duration::from_secs(5);

/// One call, and what its reply is judged by.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) url: &'a Url,
    pub(super) method: &'a Method,
    /// The URL for people, as far as the configuration says it.
    pub(super) shown: &'a str,
    /// What of the URL is the payload's choice: a host that a payload names speaks for its own jobs only.
    pub(super) reach: Reach,
    pub(super) result_bytes_max: usize,
}

impl Call<'_> {
    /// Method and URL, as messages begin.
    fn label(&self) -> String {
        match self.reach {
            Reach::Fixed | Reach::Path => format!("{} {}", self.method, self.shown),
            // The rest of the URL is the payload's, and may be secret.
            Reach::Host => format!("{} {}://{}", self.method, self.url.scheme(), host(self.url)),
        }
    }

    pub(super) fn no_reply(&self, fault: reqwest::Error) -> Failure {
        let fault = fault.without_url();
        let message = format!("{}: no reply: {}", self.label(), text::error_chain(&fault));
        if is_refused(&fault) {
            return Failure::bury_as(FailureClass::Network, message);
        }
        Failure::retry_as(FailureClass::Network, message)
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
                        format!("{}: {}, but the reply broke off: {why}", self.label(), reply.status());
                    return Err(Failure::retry_as(FailureClass::Network, message));
                }
            }
        }
        Ok(Success::Done(head.into_result(total)))
    }

    async fn refusal(&self, reply: Response) -> Failure {
        let status = reply.status();
        let message = format!("{}: {status}", self.label());
        let failure = if status.is_redirection() {
            let target = self.redirect_target(reply.headers());
            let advice = match self.reach {
                Reach::Host => "the payload must name the address that is meant",
                Reach::Fixed | Reach::Path => "correct the handler's url",
            };
            let why = format!("redirects to {target}; redirects are not followed: {advice}");
            Failure::bury_as(FailureClass::Status, format!("{message}: {why}"))
        } else {
            let wait = retry_after(reply.headers(), Utc::now());
            Failure {
                verdict: verdict(status, wait, self.reach),
                ..Failure::retry_as(FailureClass::Status, message)
            }
        };
        failure.with_detail(refusal_body(reply).await)
    }

    fn redirect_target(&self, headers: &HeaderMap) -> String {
        let target = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        match target.map(|target| self.url.join(target)) {
            Some(Ok(url)) if self.reach == Reach::Fixed => public_url(&url),
            // The rest may repeat what the payload filled in.
            Some(Ok(url)) => url.origin().ascii_serialization(),
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

/// What a status other than 2xx and 3xx means for the job, and for the others of its kind.
fn verdict(status: StatusCode, wait: Option<Duration>, reach: Reach) -> Verdict {
    match (status.as_u16(), wait) {
        // Every job of the kind calls this host.
        (429 | 503, Some(wait)) if reach != Reach::Host => Verdict::PauseKind(wait),
        // Every job of the kind calls this URL, and it will not come back.
        (410, _) if reach == Reach::Fixed => Verdict::BuryAndDisableKind,
        (408 | 425 | 429 | 500..=599, Some(wait)) => Verdict::RetryAfter(wait),
        (408 | 425 | 429 | 500..=599, None) => Verdict::Retry,
        _ => Verdict::Bury,
    }
}

/// Whether the call was not made because its name leads where it may not go.
fn is_refused(fault: &reqwest::Error) -> bool {
    let mut cause = fault.source();
    while let Some(next) = cause {
        if next.is::<Refused>() {
            return true;
        }
        cause = next.source();
    }
    false
}

/// Reads `Retry-After` in both its forms, seconds and a date (RFC 9110, 10.2.3).
///
/// A date is compared with the reply's own, so that the two clocks need not agree; without one, with `now`. A moment
/// that has come already says nothing, and the job's own backoff holds.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let asked = text(RETRY_AFTER)?;
    let wait = if asked.bytes().all(|b| b.is_ascii_digit()) {
        asked.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        let now = text(DATE).and_then(date).unwrap_or(now);
        date(asked)?.signed_duration_since(now).to_std().ok()?
    };
    (!wait.is_zero() && !asked.is_empty()).then(|| wait.min(RETRY_AFTER_MAX))
}

/// Reads a date in the three forms that a receiver must understand (RFC 9110, 5.6.7).
fn date(text: &str) -> Option<DateTime<Utc>> {
    let old = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    DateTime::parse_from_rfc2822(text).map(|at| at.to_utc()).ok().or_else(|| {
        old.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok()).map(|at| at.and_utc())
    })
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
        assert_eq!(wait("Sunday, 01-Mar-26 12:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(wait("Sun Mar  1 12:00:30 2026"), Some(Duration::from_secs(30)));
        assert_eq!(wait("99999999999999999999999"), Some(RETRY_AFTER_MAX));
        for nothing in ["0", "-1", "soon", "", "Sun, 01 Mar 2026 11:59:59 GMT"] {
            assert_eq!(wait(nothing), None, "{nothing}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), Utc::now()), None);
    }

    #[test]
    fn a_date_is_compared_with_the_clock_of_who_wrote_it() {
        let headers = HeaderMap::from_iter([
            (DATE, "Sun, 01 Mar 2009 12:00:00 GMT".parse().expect("a header")),
            (RETRY_AFTER, "Sun, 01 Mar 2009 12:00:30 GMT".parse().expect("a header")),
        ]);
        assert_eq!(retry_after(&headers, Utc::now()), Some(Duration::from_secs(30)));
    }

    #[test]
    fn who_a_status_concerns_depends_on_what_the_payload_chose() {
        use Reach::{Fixed, Host, Path};
        let wait = Duration::from_secs(9);
        let of = |status, reach| verdict(StatusCode::from_u16(status).expect("a status"), Some(wait), reach);
        for status in [429, 503] {
            assert_eq!(of(status, Fixed), Verdict::PauseKind(wait));
            assert_eq!(of(status, Path), Verdict::PauseKind(wait));
            assert_eq!(of(status, Host), Verdict::RetryAfter(wait), "one receiver does not stop the others");
        }
        assert_eq!(of(500, Fixed), Verdict::RetryAfter(wait));
        assert_eq!(of(410, Fixed), Verdict::BuryAndDisableKind);
        assert_eq!([of(410, Path), of(410, Host)], [Verdict::Bury; 2], "one thing is gone, not the receiver");
    }

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        let url = Url::parse("https://user:pass@host.example:8443/a/b?token=x#y").expect("a URL");
        assert_eq!(public_url(&url), "https://host.example:8443/a/b");
    }
}
