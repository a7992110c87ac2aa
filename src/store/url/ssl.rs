//! What a text says about TLS, with libpq's rules for what goes together
//! (<https://www.postgresql.org/docs/current/libpq-ssl.html>).

use std::path::PathBuf;

use super::params::{Params, UrlError};
use super::values::{flag, one_of};

/// How far the link to the server is protected (<https://www.postgresql.org/docs/current/libpq-ssl.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server can; libpq would try without first.
    Allow,
    /// Encrypted if the server can; the default.
    Prefer,
    /// Always encrypted; the server's certificate counts only if `sslrootcert` is given.
    Require,
    /// Always encrypted, and the certificate comes from a trusted authority.
    VerifyCa,
    /// Always encrypted, and the certificate comes from a trusted authority and names the host.
    VerifyFull,
}

/// The modes as they are written.
pub(super) const MODES: [(&str, SslMode); 6] = [
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

/// Which authorities may vouch for the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// Those that the operating system trusts.
    System,
    /// Those in this PEM file.
    File(PathBuf),
}

/// The mode as it will be enforced, with the roots it needs.
pub(super) fn ssl_mode(params: &mut Params) -> Result<(SslMode, Option<Roots>), UrlError> {
    let roots = params.take("sslrootcert").map(|path| match path.as_str() {
        "system" => Roots::System,
        _ => Roots::File(PathBuf::from(path)),
    });
    // `ssl=true` is what JDBC writes; libpq takes it too.
    let jdbc = flag(params, "ssl")?.then_some(SslMode::Require);
    let expected = "disable, allow, prefer, require, verify-ca or verify-full";
    let given = match params.take("sslmode") {
        None => jdbc,
        Some(word) => Some(one_of(&MODES, &word).ok_or(UrlError::Value { name: "sslmode", expected })?),
    };
    match (given, roots) {
        // libpq refuses this: any public authority would vouch for any host.
        (Some(mode), Some(Roots::System)) if mode < SslMode::VerifyFull => Err(UrlError::Value {
            name: "sslmode",
            expected: "verify-full, the only mode that goes with sslrootcert=system",
        }),
        (_, Some(Roots::System)) => Ok((SslMode::VerifyFull, Some(Roots::System))),
        (Some(SslMode::Disable), _) => Ok((SslMode::Disable, None)),
        (Some(SslMode::Require), Some(file)) => Ok((SslMode::VerifyCa, Some(file))),
        (Some(mode), None) if mode >= SslMode::VerifyCa => Ok((mode, Some(Roots::System))),
        (mode, roots) => Ok((mode.unwrap_or(SslMode::Prefer), roots)),
    }
}

/// The PEM files of our own certificate and its key.
pub(super) fn identity(params: &mut Params) -> Result<Option<(PathBuf, PathBuf)>, UrlError> {
    match (params.take("sslcert"), params.take("sslkey")) {
        (Some(certificate), Some(key)) => Ok(Some((certificate.into(), key.into()))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(UrlError::Value { name: "sslkey", expected: "a file to go with sslcert" }),
        (None, Some(_)) => Err(UrlError::Value { name: "sslcert", expected: "a file to go with sslkey" }),
    }
}
