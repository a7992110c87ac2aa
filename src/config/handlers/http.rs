//! `type = "http"`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use secrecy::SecretString;
use serde::Serialize;

use super::credentials::Credentials;
use crate::config::duration::{self, parse_duration};
use crate::config::given::Given;
use crate::config::secret;
use crate::config::table::Table;
use crate::outbound::{HostRules, Reach, UrlTemplate};

const METHODS: [&str; 5] = ["POST", "PUT", "PATCH", "GET", "DELETE"];
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// How long an attempt may run unless the table says otherwise. Receivers of webhooks are expected to answer within
/// 15 to 30 s; a slow one would hold a slot for the quarter of an hour that other work gets.
pub(super) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Where the payload goes, and how it is signed.
#[derive(Debug, Clone, Serialize)]
pub struct Http {
    /// `http` or `https`, without a password; may have fields of the payload in braces.
    pub url: String,
    /// POST, PUT, PATCH, GET or DELETE.
    pub method: String,
    /// Hosts that a payload may name.
    pub allow_hosts: Vec<String>,
    /// Networks that such a host may be in, beside the public internet.
    pub allow_networks: Vec<String>,
    /// Further headers; names are unique without regard to case, values may be secret.
    #[serde(serialize_with = "secret::map")]
    pub headers: BTreeMap<String, SecretString>,
    /// Calls at once to one host by one process; `None` for as many as jobs run.
    pub host_concurrency: Option<usize>,
    /// How long a connection may take to stand.
    #[serde(serialize_with = "duration::serialize")]
    pub connect_timeout: Duration,
    /// How calls are signed and who they say they are from.
    #[serde(flatten)]
    pub credentials: Credentials,
}

impl Http {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        if !table.has("url") {
            table.missing("url", "where the request goes, http:// or https://");
        }
        let url = table.text("url", url).unwrap_or_default();
        let methods = METHODS.map(|method| (method, method));
        let method = table.read("method", |given| given.choice(&methods)).unwrap_or("POST").to_owned();
        let allow_hosts = table.read("allow_hosts", Given::list).unwrap_or_default();
        let allow_networks = table.read("allow_networks", Given::list).unwrap_or_default();
        if let Err(problem) = HostRules::parse(&allow_hosts, &[]) {
            table.fault("allow_hosts", problem);
        }
        if let Err(problem) = HostRules::parse(&[], &allow_networks) {
            table.fault("allow_networks", problem);
        }
        let reach = UrlTemplate::parse(&url).map(|template| template.reach());
        if reach == Ok(Reach::Host) && allow_hosts.is_empty() {
            table.fault("url", "lets the payload choose the host: expected allow_hosts to say which it may");
        }
        Self {
            method,
            allow_hosts,
            allow_networks,
            headers: headers(table),
            host_concurrency: table.read("host_concurrency", |given| given.whole(&(1..=20_000))),
            connect_timeout: table
                .read("connect_timeout", connect_timeout)
                .unwrap_or(CONNECT_TIMEOUT_DEFAULT),
            credentials: Credentials::read(table),
            url,
        }
    }
}

fn url(text: &str) -> Result<(), String> {
    // The text is not repeated in a fault: it may hold what should be in `headers`.
    let template = UrlTemplate::parse(text)?;
    if template.shape().is_some_and(|url| url.password().is_some() || !url.username().is_empty()) {
        return Err(
            "holds a user or password: expected them in basic_user and basic_password_file".to_owned()
        );
    }
    Ok(())
}

fn connect_timeout(given: &Given) -> Result<Duration, String> {
    let text = given.text()?;
    let time = parse_duration(&text)?;
    if (Duration::from_millis(100)..=Duration::from_mins(1)).contains(&time) {
        return Ok(time);
    }
    Err(format!("is {text:?}: expected 100ms to 1m"))
}

fn headers(table: &mut Table<'_>) -> BTreeMap<String, SecretString> {
    let headers = table.secrets("headers", |name, value| {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            return Err("is no header name".to_owned());
        }
        if value.chars().any(char::is_control) {
            return Err("holds a control character".to_owned());
        }
        Ok(())
    });
    let mut seen = BTreeSet::new();
    for name in headers.keys() {
        if !seen.insert(name.to_ascii_lowercase()) {
            table.fault("headers", format!("names {name:?} twice, in upper and lower case"));
        }
    }
    headers
}
