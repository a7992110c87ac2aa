//! Runs a job by sending its payload to a URL.
//!
//! The call is a Standard Webhook ([`signature`]), so a receiver can tell who called and drop what it has seen.
//! A payload may fill in parts of the URL; the host is the configuration's, or one that the configuration allows
//! ([`outbound`](crate::outbound)), and neither a redirect nor a proxy nor a name can lead the call elsewhere.

mod client;
mod guard;
#[cfg(test)]
mod guard_tests;
mod headers;
#[cfg(test)]
mod hostile_tests;
mod reply;
mod settings;
mod slots;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use chrono::Utc;
use reqwest::dns::Resolve;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, Url};

pub use self::settings::{CONNECT_TIMEOUT_DEFAULT, HttpAuth, HttpSettings, HttpTls};

use self::guard::{Guard, SystemNames};
use self::reply::Call;
use self::slots::{Slots, Turn};
use super::signature::Key;
use super::{Context, Handler, Work, output};
use crate::outbound::{HostRules, Reach, UrlTemplate};
use crate::{Failure, FailureClass, Job, Outcome, Success, Verdict};

const METHODS: [(Method, bool); 5] = [
    (Method::POST, true),
    (Method::PUT, true),
    (Method::PATCH, true),
    (Method::GET, false),
    (Method::DELETE, false),
];

/// Sends the payload of each job; see [`HttpSettings`].
///
/// 2xx completes the job with the body as its result. 408, 425, 429, 5xx and a missing reply are tried again, after
/// `Retry-After` if the reply has it; with it, 429 and 503 pause the kind. Any other status buries the job, and 410
/// disables the kind where all of its jobs call the same URL.
#[derive(Debug)]
pub struct HttpHandler {
    client: Client,
    method: Method,
    has_body: bool,
    template: UrlTemplate,
    rules: Arc<HostRules>,
    slots: Slots,
    keys: Vec<Key>,
    headers: HeaderMap,
    result_bytes_max: usize,
}

impl HttpHandler {
    /// Checks the settings and makes the client; its connections are kept and shared by all attempts.
    pub fn new(settings: &HttpSettings) -> Result<Self, String> {
        Self::with_names(settings, Arc::new(SystemNames))
    }

    /// As [`HttpHandler::new`], with another way to look names up.
    fn with_names(settings: &HttpSettings, names: Arc<dyn Resolve>) -> Result<Self, String> {
        let template = UrlTemplate::parse(&settings.url).map_err(|fault| format!("url {fault}"))?;
        let rules = Arc::new(rules(settings, &template)?);
        output::check_result_bytes_max(settings.result_bytes_max)?;
        let https = template.shape().is_none_or(|url| url.scheme() == "https");
        if https && settings.tls.ca.is_none() {
            client::check_native_roots()?;
        }
        let guard = match template.reach() {
            Reach::Host => Some(Arc::new(Guard::new(rules.clone(), names)) as Arc<dyn Resolve>),
            Reach::Fixed | Reach::Path => None,
        };
        let method = settings.method.as_str();
        let (method, has_body) = METHODS
            .into_iter()
            .find(|(known, _)| known == method)
            .ok_or_else(|| format!("method: {method:?} is not POST, PUT, PATCH, GET or DELETE"))?;
        Ok(Self {
            client: client::build(&settings.tls, settings.connect_timeout, guard)?,
            method,
            has_body,
            template,
            rules,
            slots: Slots::new(settings.host_concurrency),
            keys: settings.secrets.iter().map(Key::parse).collect::<Result<_, _>>()?,
            headers: headers::fixed(&settings.headers, settings.auth.as_ref())?,
            result_bytes_max: settings.result_bytes_max,
        })
    }

    async fn exchange(&self, job: &Arc<Job>) -> Outcome {
        let url = self.template.fill(&job.payload, &self.rules).map_err(|why| {
            Failure::bury_as(FailureClass::Start, format!("{}: not called: {why}", self.label()))
        })?;
        let call = self.call(&url);
        let _permit = match self.slots.turn(|| host(&url)).await {
            Turn::Now(permit) => permit,
            Turn::Later(wait) => return Ok(Success::Snooze(wait)),
        };
        let body = if self.has_body { job.payload.as_bytes() } else { b"" };
        let headers = headers::of_attempt(&self.headers, &self.keys, job, body, Utc::now().timestamp());
        let mut request = self.client.request(self.method.clone(), url.clone()).headers(headers);
        if self.has_body {
            request = request.body(Bytes::from_owner(Payload(job.clone())));
        }
        let outcome = match request.send().await {
            Ok(reply) => call.judge(reply).await,
            Err(fault) => Err(call.no_reply(fault)),
        };
        if let Err(Failure { verdict: Verdict::PauseKind(wait), .. }) = &outcome {
            self.slots.quiet_for(*wait);
        }
        outcome
    }

    fn call<'a>(&'a self, url: &'a Url) -> Call<'a> {
        Call {
            url,
            method: &self.method,
            shown: self.template.shown(),
            reach: self.template.reach(),
            result_bytes_max: self.result_bytes_max,
        }
    }

    /// Method and URL, as messages begin.
    fn label(&self) -> String {
        format!("{} {}", self.method, self.template.shown())
    }
}

impl Handler for HttpHandler {
    fn run(self: Arc<Self>, context: Context) -> Work {
        Box::pin(async move {
            match context.within(self.exchange(&context.job)).await {
                Ok(outcome) => outcome,
                Err(cut) => Err::<_, Failure>(cut.failure(&self.label())),
            }
        })
    }
}

/// The payload as a body, which holds on to the job instead of copying it.
struct Payload(Arc<Job>);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self.0.payload.as_bytes()
    }
}

/// The hosts a payload may name, in agreement with the template.
fn rules(settings: &HttpSettings, template: &UrlTemplate) -> Result<HostRules, String> {
    let rules = HostRules::parse(&settings.allow_hosts, &settings.allow_networks)?;
    match template.reach() {
        Reach::Host if rules.is_empty() => {
            Err("url lets the payload choose the host: expected allow_hosts to say which it may".to_owned())
        }
        Reach::Host if rules.is_open() && settings.auth.is_some() => {
            Err("allow_hosts has *, and bearer or basic_user would tell every host the password: expected hosts by name"
                .to_owned())
        }
        Reach::Fixed | Reach::Path if !rules.is_empty() || !settings.allow_networks.is_empty() => {
            Err("allow_hosts and allow_networks say where a payload may lead, and the host of url is fixed".to_owned())
        }
        _ => Ok(rules),
    }
}

fn host(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}
