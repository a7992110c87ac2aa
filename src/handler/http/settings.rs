//! What an [`HttpHandler`](super::HttpHandler) is told.

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;

use super::super::output;
use crate::outbound::UrlTemplate;

/// How long a connection may take to stand unless the settings say otherwise, name look-up included. An attempt's
/// own time limit is longer: with that alone a host that swallows packets would hold a slot for as long.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// Where the calls of one handler go, and what they carry.
#[derive(Clone)]
pub struct HttpSettings {
    /// Where to send the payload, `http` or `https`; may have fields of the payload in braces, as
    /// `https://api.example.org/users/{user_id}`. A user and a password in it become basic authentication.
    pub url: String,
    /// POST, PUT and PATCH send the payload; GET and DELETE send no body.
    pub method: String,
    /// Each signs the call; none leaves it unsigned. `whsec_` and base64, or any other text as it is.
    pub secrets: Vec<SecretString>,
    /// More headers to send.
    pub headers: Vec<(String, String)>,
    /// Becomes the header Authorization.
    pub auth: Option<HttpAuth>,
    /// Hosts that a payload may name; needed where a field stands in the host or is the whole URL.
    pub allow_hosts: Vec<String>,
    /// Networks that such a host may be in, beside the public internet.
    pub allow_networks: Vec<String>,
    /// Whom to believe, and who we are.
    pub tls: HttpTls,
    /// How long a connection may take to stand.
    pub connect_timeout: Duration,
    /// Calls at once to one host; `None` for as many as jobs run.
    pub host_concurrency: Option<usize>,
    /// How many bytes of a reply are kept as the result, at most
    /// [`RESULT_BYTES_MAX_LIMIT`](crate::handler::RESULT_BYTES_MAX_LIMIT).
    pub result_bytes_max: usize,
}

/// How a call says who calls.
#[derive(Debug, Clone)]
pub enum HttpAuth {
    /// `Bearer` and this token.
    Bearer(SecretString),
    /// `Basic` with a user and a password.
    Basic {
        /// Without a colon.
        user: String,
        /// Any text.
        password: SecretString,
    },
}

/// Certificates in PEM form.
#[derive(Clone, Default)]
pub struct HttpTls {
    /// The only authorities that are believed; `None` for those of the machine.
    pub ca: Option<Vec<u8>>,
    /// The certificate to show, its chain after it, and its private key.
    pub client: Option<(Vec<u8>, SecretString)>,
}

impl HttpSettings {
    /// Settings for an unsigned POST.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            method: "POST".to_owned(),
            secrets: Vec::new(),
            headers: Vec::new(),
            auth: None,
            allow_hosts: Vec::new(),
            allow_networks: Vec::new(),
            tls: HttpTls::default(),
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            host_concurrency: None,
            result_bytes_max: output::RESULT_BYTES_MAX_DEFAULT,
        }
    }
}

impl fmt::Debug for HttpTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTls")
            .field("ca", &self.ca.is_some())
            .field("client", &self.client.is_some())
            .finish()
    }
}

impl fmt::Debug for HttpSettings {
    /// Header values and the URL may carry credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("HttpSettings")
            .field("url", &UrlTemplate::parse(&self.url).ok().as_ref().map(UrlTemplate::shown))
            .field("method", &self.method)
            .field("secrets", &self.secrets.len())
            .field("headers", &names)
            .field("auth", &self.auth)
            .field("allow_hosts", &self.allow_hosts)
            .field("allow_networks", &self.allow_networks)
            .field("tls", &self.tls)
            .field("connect_timeout", &self.connect_timeout)
            .field("host_concurrency", &self.host_concurrency)
            .field("result_bytes_max", &self.result_bytes_max)
            .finish()
    }
}
