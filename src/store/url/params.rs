//! Takes the text that names a Postgres server apart into named values, in both forms that libpq reads
//! (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING>).
//!
//! tokio-postgres has a parser of its own, but it stops at the first parameter it does not know, takes the
//! `@` of a query for the end of the password, and adds the hosts of `?host=` to those before it. This module
//! knows which names there are, not what they mean. No error here repeats a value: any of them may be a
//! piece of a password that was not percent-encoded.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Every name taken. libpq's own spelling, and what poolers and other drivers put into the same URL.
const NAMES: [&str; 28] = [
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "gssencmode",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "options",
    "password",
    "pgbouncer",
    "port",
    "ssl",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
    "uselibpqcompat",
    "user",
];

/// The longest parameter name that an error repeats, in bytes; libpq's longest has 25.
const NAME_BYTES_MAX: usize = 40;

/// Why a text does not name a server. Never holds a value, only names of parameters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Neither of the two forms.
    #[error("expected postgres://user:password@host:port/database or host=... dbname=...")]
    Form,
    /// A parameter that means nothing here.
    #[error(
        "unknown parameter `{0}` (a setting of the session goes into `options`, as in options=-c%20name=value)"
    )]
    Unknown(String),
    /// A parameter whose value makes no sense.
    #[error("parameter `{name}`: expected {expected}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// A `%` without two hexadecimal digits, `%00`, or bytes that are not UTF-8.
    #[error("{0}: not valid percent-encoding of UTF-8 (a `%` itself is written %25)")]
    Encoding(&'static str),
    /// An `@` where none belongs; most likely the password holds `/` or `?`.
    #[error("`@` after the host: in a URL, write @ as %40, / as %2F, ? as %3F, also within the password")]
    Unescaped,
    /// The keyword form cannot be taken apart.
    #[error("expected name=value pairs; a value with spaces goes in single quotes, with \\' and \\\\ inside")]
    Pairs,
    /// tokio-postgres did not take what was left.
    #[error("{0}")]
    Driver(String),
}

/// The values by name; an empty one counts as not given, as in libpq.
pub(super) struct Params {
    values: BTreeMap<&'static str, String>,
    /// Bytes, because Postgres takes passwords that are not UTF-8.
    pub(super) password: Option<Vec<u8>>,
}

impl Params {
    pub(super) fn read(text: &str) -> Result<Self, UrlError> {
        let mut params = Self { values: BTreeMap::new(), password: None };
        let text = text.trim();
        if text.contains('\0') {
            return Err(UrlError::Form);
        }
        match text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) {
            Some(rest) => params.read_url(rest)?,
            None if !text.contains('=') || text.split('=').next().is_some_and(|s| s.contains("://")) => {
                return Err(UrlError::Form);
            }
            None => params.read_pairs(text)?,
        }
        Ok(params)
    }

    /// Takes a value out; what nobody takes is left for [`Params::rest`].
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// What was not taken, in the keyword form with every value quoted.
    pub(super) fn rest(&self) -> String {
        self.values.iter().fold(String::new(), |mut text, (name, value)| {
            push_pair(&mut text, name, value);
            text
        })
    }

    fn read_url(&mut self, rest: &str) -> Result<(), UrlError> {
        let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        if path.contains('@') {
            return Err(UrlError::Unescaped);
        }
        let hosts = match authority.rsplit_once('@') {
            Some((login, hosts)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                self.set("user", decode("user", user)?)?;
                self.set("password", decode("password", password)?)?;
                hosts
            }
            None => authority,
        };
        self.read_hosts(hosts)?;
        self.set("dbname", decode("dbname", path.strip_prefix('/').unwrap_or(""))?)?;
        let outcome = self.read_query(query);
        if query.contains('@') { outcome.map_err(|_| UrlError::Unescaped) } else { outcome }
    }

    fn read_hosts(&mut self, list: &str) -> Result<(), UrlError> {
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for spec in list.split(',') {
            let bracketed = spec.strip_prefix('[').and_then(|v6| v6.split_once(']'));
            let (host, port) = match bracketed {
                Some((host, "")) => (host, ""),
                Some((host, after)) => (host, after.strip_prefix(':').unwrap_or("?")),
                None => spec.split_once(':').unwrap_or((spec, "")),
            };
            hosts.push(decode("host", host)?);
            ports.push(decode("port", port)?);
        }
        for (name, list) in [("host", hosts), ("port", ports)] {
            if list.iter().any(|value| !value.is_empty()) {
                self.set(name, list.join(&b','))?;
            }
        }
        Ok(())
    }

    fn read_query(&mut self, query: &str) -> Result<(), UrlError> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(UrlError::Pairs)?;
            let name = known(&String::from_utf8_lossy(&decode("parameter name", name)?))?;
            self.set(name, decode(name, value)?)?;
        }
        Ok(())
    }

    fn read_pairs(&mut self, mut text: &str) -> Result<(), UrlError> {
        let mut before = "";
        while !text.is_empty() {
            let (name, value) = text.split_once('=').ok_or(UrlError::Pairs)?;
            let name = name.trim_end();
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(UrlError::Pairs);
            }
            // What follows a password without quotes may be the rest of that password.
            before = known(name).map_err(|e| if before == "password" { UrlError::Pairs } else { e })?;
            let (value, rest) = read_value(value.trim_start())?;
            self.set(before, value.into_bytes())?;
            text = rest.trim_start();
        }
        Ok(())
    }

    fn set(&mut self, name: &'static str, value: Vec<u8>) -> Result<(), UrlError> {
        if name == "password" {
            self.password = Some(value).filter(|bytes| !bytes.is_empty());
            return Ok(());
        }
        match String::from_utf8(value) {
            Err(_) => return Err(UrlError::Encoding(name)),
            Ok(text) if text.is_empty() => self.values.remove(name),
            Ok(text) => self.values.insert(name, text),
        };
        Ok(())
    }
}

/// Appends ` name='value'` such that both libpq and tokio-postgres read the value back.
pub(super) fn push_pair(text: &mut String, name: &str, value: &str) {
    let gap = if text.is_empty() { "" } else { " " };
    let plain = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || "'\\".contains(c));
    let _ = if plain {
        write!(text, "{gap}{name}={value}")
    } else {
        write!(text, "{gap}{name}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
    };
}

fn known(name: &str) -> Result<&'static str, UrlError> {
    NAMES
        .into_iter()
        .find(|known| *known == name)
        .ok_or_else(|| UrlError::Unknown(crate::text::truncated(name, NAME_BYTES_MAX)))
}

/// One value of the keyword form, and the text after it.
fn read_value(text: &str) -> Result<(String, &str), UrlError> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            c if !quoted && c.is_whitespace() => return Ok((value, &text[at..])),
            c => value.push(c),
        }
    }
    if quoted { Err(UrlError::Pairs) } else { Ok((value, "")) }
}

/// Percent-decodes as strictly as libpq; `+` stays `+`.
fn decode(what: &'static str, text: &str) -> Result<Vec<u8>, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'%' => {
                let digits = [rest.next(), rest.next()].map(|d| d.and_then(|d| char::from(d).to_digit(16)));
                let [Some(high), Some(low)] = digits else { return Err(UrlError::Encoding(what)) };
                (high * 16 + low) as u8
            }
            plain => plain,
        };
        if decoded == 0 {
            return Err(UrlError::Encoding(what));
        }
        bytes.push(decoded);
    }
    Ok(bytes)
}
