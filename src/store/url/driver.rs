//! Makes the driver's configuration out of what is left of a text, and bounds every wait in it.

use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode as DriverSslMode, SslNegotiation, TargetSessionAttrs};

use super::params::{Params, UrlError, push_pair};
use super::ssl::SslMode;
use super::values::{duration, number, one_of};

/// What `pg_stat_activity` shows for our sessions unless the text names something else.
pub const APPLICATION_NAME: &str = "rowcrew";
/// Silence on a connection after which the kernel asks whether the other end is there.
///
/// Shorter fills idle links with probes; longer keeps a listener deaf for longer after a switch-over.
pub const KEEPALIVES_IDLE: Duration = Duration::from_secs(5);
/// Time between such questions.
pub const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(1);
/// Unanswered questions after which the connection is dead: one lost packet must not end it.
///
/// On Linux [`TCP_USER_TIMEOUT`] takes the place of this count, and a silent link is given up after about 6 s.
pub const KEEPALIVES_RETRIES: u32 = 3;
/// How long sent bytes may stay unacknowledged.
///
/// Without it a query on a cut link hangs for about 15 minutes of resending; much shorter and a moment's
/// congestion ends every connection at once.
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);
/// Where sockets are looked for without a host: Debian's and Red Hat's place, then the one of the sources.
const SOCKET_DIRS: &str = "/var/run/postgresql,/tmp";

/// Parameters that say what we do anyway are checked and dropped.
pub(super) fn check_and_drop(params: &mut Params) -> Result<(), UrlError> {
    params.take("uselibpqcompat");
    let encodings = [("utf8", ()), ("utf-8", ()), ("unicode", ()), ("auto", ())];
    let gss = [("disable", ()), ("prefer", ())];
    for (name, words, expected) in
        [("client_encoding", &encodings[..], "UTF8"), ("gssencmode", &gss[..], "disable or prefer")]
    {
        let word = params.take(name).map(|word| word.to_lowercase());
        if word.is_some_and(|word| one_of(words, &word).is_none()) {
            return Err(UrlError::Value { name, expected });
        }
    }
    Ok(())
}

/// Host, port, login, limits; all but TLS' certificates.
pub(super) fn driver_config(params: &mut Params, mode: SslMode) -> Result<Config, UrlError> {
    let fallback_name = params.take("fallback_application_name");
    let connect_timeout = duration(params, "connect_timeout", Duration::from_secs(1))?;
    let user_timeout = duration(params, "tcp_user_timeout", Duration::from_millis(1))?;
    let idle = duration(params, "keepalives_idle", Duration::from_secs(1))?;
    let interval = duration(params, "keepalives_interval", Duration::from_secs(1))?;
    let retries = number(params, "keepalives_count", 100, "0 to 100")?;

    let (session, attrs_given) = session(params)?;
    let mut config: Config = session.parse().map_err(|error| driver_error(&error))?;
    // Of several servers one takes writes, and which one it is may change.
    if config.get_hosts().len() > 1 && !attrs_given {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    if let Some(password) = params.password.take() {
        config.password(password);
    }
    if config.get_application_name().is_none() {
        config.application_name(fallback_name.as_deref().unwrap_or(APPLICATION_NAME));
    }
    if let Some(timeout) = connect_timeout {
        config.connect_timeout(timeout);
    }
    config
        .tcp_user_timeout(user_timeout.unwrap_or(TCP_USER_TIMEOUT))
        .keepalives_idle(idle.unwrap_or(KEEPALIVES_IDLE))
        .keepalives_interval(interval.unwrap_or(KEEPALIVES_INTERVAL))
        .keepalives_retries(retries.map_or(KEEPALIVES_RETRIES, |count| count as u32));
    check_hosts(&mut config)?;
    config.ssl_mode(driver_ssl_mode(&config, mode));
    if config.get_ssl_negotiation() == SslNegotiation::Direct && mode < SslMode::Require {
        return Err(UrlError::Value {
            name: "sslnegotiation",
            expected: "postgres unless sslmode is require",
        });
    }
    Ok(config)
}

/// What is left for tokio-postgres to read, in its words, and whether it says which of several servers to take.
fn session(params: &mut Params) -> Result<(String, bool), UrlError> {
    let attrs = params.take("target_session_attrs").map(|word| match word.as_str() {
        "any" | "read-write" | "read-only" => Ok(word),
        "primary" => Ok("read-write".to_owned()),
        _ => Err(UrlError::Value {
            name: "target_session_attrs",
            expected: "any, read-write, primary or read-only",
        }),
    });
    let (mut text, given) = (params.rest(), attrs.is_some());
    if let Some(attrs) = attrs {
        push_pair(&mut text, "target_session_attrs", &attrs?);
    }
    Ok((text, given))
}

fn check_hosts(config: &mut Config) -> Result<(), UrlError> {
    if config.get_hosts().is_empty() {
        // An address without a name has to be the name, or there is nothing to say in the TLS handshake.
        let mut hosts: Vec<_> = config.get_hostaddrs().iter().map(ToString::to_string).collect();
        if hosts.is_empty() {
            hosts = SOCKET_DIRS.split(',').map(str::to_owned).collect();
        }
        for host in hosts {
            config.host(host);
        }
    }
    let nonsense = |host: &Host| matches!(host, Host::Tcp(name) if name.is_empty() || name.contains('@'));
    if config.get_hosts().iter().any(nonsense) {
        return Err(UrlError::Value { name: "host", expected: "names, addresses or socket directories" });
    }
    let (hosts, addresses) = (config.get_hosts().len(), config.get_hostaddrs().len());
    if addresses != 0 && addresses != hosts {
        return Err(UrlError::Value { name: "hostaddr", expected: "one address for each host" });
    }
    let ports = config.get_ports();
    if ports.contains(&0) || (ports.len() > 1 && ports.len() != hosts) {
        return Err(UrlError::Value {
            name: "port",
            expected: "1 to 65535, one for all hosts or one for each",
        });
    }
    Ok(())
}

/// The driver's word for the mode; like libpq it does not count on sockets, which cannot be tapped.
fn driver_ssl_mode(config: &Config, mode: SslMode) -> DriverSslMode {
    let sockets = config.get_hostaddrs().is_empty()
        && config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
    match mode {
        _ if sockets => DriverSslMode::Disable,
        SslMode::Disable => DriverSslMode::Disable,
        SslMode::Allow | SslMode::Prefer => DriverSslMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => DriverSslMode::Require,
    }
}

/// tokio-postgres names the option and keeps its value to itself, but only in the error's cause.
fn driver_error(error: &tokio_postgres::Error) -> UrlError {
    UrlError::Driver(crate::text::error_chain(error))
}
