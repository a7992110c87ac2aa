//! What the text that names a Postgres server means: where it is, how it is reached, how far it is trusted.
//!
//! Exists because tokio-postgres refuses `sslmode=verify-full`, `sslrootcert` and `pgbouncer=true`, and
//! because its defaults wait for ever. Only the text counts: `~/.pgpass`, `~/.postgresql/`, service files and
//! `PGHOST` and its like are not read. Without a user it is the one this process runs as, without a database
//! the one named like the user, without a host a socket of this machine.

mod driver;
mod params;
mod ssl;
mod values;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode as DriverSslMode, SslNegotiation};

use driver::{check_and_drop, driver_config};
use params::{Params, push_pair};
use ssl::{MODES, identity, ssl_mode};
use values::flag;

pub use driver::{
    APPLICATION_NAME, KEEPALIVES_IDLE, KEEPALIVES_INTERVAL, KEEPALIVES_RETRIES, TCP_USER_TIMEOUT,
};
pub use params::UrlError;
pub use ssl::{Roots, SslMode};

/// One Postgres server, or several that stand in for each other, as written in a URL.
///
/// Neither `Debug` nor [`ServerUrl::redacted`] shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl {
    config: Config,
    ssl_mode: SslMode,
    roots: Option<Roots>,
    identity: Option<(PathBuf, PathBuf)>,
    pooled: bool,
}

impl ServerUrl {
    /// Reads `postgres://`, `postgresql://`, or libpq's `host=... dbname=...`.
    ///
    /// A time of 0, libpq's "no limit", takes the default. An `@` in a database's name must be written `%40`.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let mut params = Params::read(text)?;
        let (ssl_mode, roots) = ssl_mode(&mut params)?;
        let identity = identity(&mut params)?;
        let pooled = flag(&mut params, "pgbouncer")?;
        check_and_drop(&mut params)?;
        let config = driver_config(&mut params, ssl_mode)?;
        Ok(Self { config, ssl_mode, roots, identity, pooled })
    }

    /// What tokio-postgres needs; `connect_timeout` counts for each address unless the text has its own.
    ///
    /// It covers the TCP handshake only. Use [`Connector`](super::Connector), or the pool's own timeout, for
    /// a limit on the whole.
    pub fn config(&self, connect_timeout: Duration) -> Config {
        let mut config = self.config.clone();
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(connect_timeout);
        }
        config
    }

    /// How many servers it names.
    pub fn hosts(&self) -> usize {
        self.config.get_hosts().len()
    }

    /// Whether `pgbouncer=true` says that a pooler is in between, so that sessions keep nothing.
    pub fn pooled(&self) -> bool {
        self.pooled
    }

    /// How far the link is protected; `require` with a root certificate has become `verify-ca`.
    pub fn ssl_mode(&self) -> SslMode {
        self.ssl_mode
    }

    /// Who may vouch for the server; `None` if its certificate does not count.
    pub fn roots(&self) -> Option<&Roots> {
        self.roots.as_ref()
    }

    /// The PEM files of our own certificate and its key.
    pub fn identity(&self) -> Option<(&PathBuf, &PathBuf)> {
        self.identity.as_ref().map(|(certificate, key)| (certificate, key))
    }

    /// Whether TLS is ever asked for; not if it is disabled, nor over sockets.
    pub fn uses_tls(&self) -> bool {
        self.config.get_ssl_mode() != DriverSslMode::Disable
    }

    /// Whether TLS starts without Postgres' own question first (`sslnegotiation=direct`).
    pub fn negotiates_directly(&self) -> bool {
        self.config.get_ssl_negotiation() == SslNegotiation::Direct
    }

    /// Host, port, user, database and protection, in the keyword form: what a log may say.
    pub fn redacted(&self) -> String {
        let hosts = self.config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        });
        let ports = self.config.get_ports().iter().map(ToString::to_string);
        let mode = MODES.iter().find(|(_, mode)| *mode == self.ssl_mode).map(|(name, _)| *name);
        let mut text = String::new();
        for (name, value) in [
            ("host", Some(hosts.collect::<Vec<_>>().join(","))),
            ("port", Some(ports.collect::<Vec<_>>().join(","))),
            ("user", self.config.get_user().map(str::to_owned)),
            ("dbname", self.config.get_dbname().map(str::to_owned)),
            ("sslmode", mode.map(str::to_owned)),
            ("pgbouncer", self.pooled.then(|| "true".to_owned())),
        ] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                push_pair(&mut text, name, &value);
            }
        }
        text
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerUrl").field(&self.redacted()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio_postgres::config::{ChannelBinding, TargetSessionAttrs};

    fn parse(text: &str) -> ServerUrl {
        ServerUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_way_to_name_a_server_is_read() {
        for (text, expected) in [
            ("postgres://h", "host=h"),
            ("postgresql://u:p@h:5433/d", "host=h port=5433 user=u dbname=d"),
            (" postgres://u@h/d\n", "host=h user=u dbname=d"),
            ("postgres://u:p@ss@h/d", "host=h user=u dbname=d"),
            ("postgres://u:p@h/d%20%27%C3%A4", r"host=h user=u dbname='d \'ä'"),
            ("postgres://u@h1:1,h2,[::1]:3/d", "host=h1,h2,::1 port=1,5432,3 user=u dbname=d"),
            ("postgres://h1,h2/d?port=6000", "host=h1,h2 port=6000 dbname=d"),
            ("postgres://%2Frun%2Fpg/d", "host=/run/pg dbname=d"),
            ("postgres:///d", "host=/var/run/postgresql,/tmp dbname=d"),
            ("postgres://u@:5433/d", "host=/var/run/postgresql,/tmp port=5433 user=u dbname=d"),
            ("postgresql:///d?host=/run/pg&user=u&port=1", "host=/run/pg port=1 user=u dbname=d"),
            ("postgres://h/d?host=other", "host=other dbname=d"),
            ("postgres://h/d?hostaddr=10.0.0.1", "host=h dbname=d"),
            ("postgres://?hostaddr=10.0.0.1", "host=10.0.0.1"),
            ("host=h dbname=d", "host=h dbname=d"),
            (r"host = h  password='it\'s \\' user='a b'", "host=h user='a b'"),
            ("postgres://h?pgbouncer=false&client_encoding=UTF8&gssencmode=disable", "host=h"),
        ] {
            assert_eq!(parse(text).redacted(), format!("{expected} sslmode=prefer"), "{text}");
        }
        let pooled = parse("postgres://h?sslmode=verify-full&pgbouncer=true");
        assert!(pooled.pooled());
        assert_eq!(pooled.redacted(), "host=h sslmode=verify-full pgbouncer=true");
    }

    #[test]
    fn modes_and_roots_follow_libpq() {
        use SslMode::{Allow, Disable, Prefer, Require, VerifyCa, VerifyFull};
        let file = Some(Roots::File(PathBuf::from("/c a")));
        for (query, mode, roots, driver) in [
            ("", Prefer, None, DriverSslMode::Prefer),
            ("sslmode=disable&sslrootcert=%2Fc%20a", Disable, None, DriverSslMode::Disable),
            ("sslmode=allow", Allow, None, DriverSslMode::Prefer),
            ("sslmode=prefer&sslrootcert=%2Fc%20a", Prefer, file.clone(), DriverSslMode::Prefer),
            ("sslmode=require", Require, None, DriverSslMode::Require),
            ("ssl=true", Require, None, DriverSslMode::Require),
            ("sslmode=require&sslrootcert=/c%20a", VerifyCa, file.clone(), DriverSslMode::Require),
            ("sslmode=verify%2Dca", VerifyCa, Some(Roots::System), DriverSslMode::Require),
            ("sslrootcert=/c%20a&sslmode=verify-full", VerifyFull, file, DriverSslMode::Require),
            ("sslrootcert=system", VerifyFull, Some(Roots::System), DriverSslMode::Require),
            ("host=/run&sslmode=verify-full", VerifyFull, Some(Roots::System), DriverSslMode::Disable),
        ] {
            let url = parse(&format!("postgres://h/d?{query}"));
            let config = url.config(Duration::from_secs(1));
            assert_eq!((url.ssl_mode(), config.get_ssl_mode()), (mode, driver), "{query}");
            assert_eq!(url.roots(), roots.as_ref(), "{query}");
        }
        let url = parse("host=h sslmode=verify-ca sslrootcert='/my certs/ca' sslcert=/a&b sslkey=/k");
        assert_eq!(url.roots(), Some(&Roots::File(PathBuf::from("/my certs/ca"))));
        assert_eq!(url.identity(), Some((&PathBuf::from("/a&b"), &PathBuf::from("/k"))));
    }

    #[test]
    fn every_wait_has_a_limit() {
        let url = parse("postgres://h?connect_timeout=0&tcp_user_timeout=0");
        let config = url.config(Duration::from_secs(7));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(7)));
        assert_eq!(config.get_tcp_user_timeout(), Some(&TCP_USER_TIMEOUT));
        assert_eq!(config.get_keepalives_idle(), KEEPALIVES_IDLE);
        assert_eq!(config.get_keepalives_interval(), Some(KEEPALIVES_INTERVAL));
        assert_eq!(config.get_keepalives_retries(), Some(KEEPALIVES_RETRIES));
        assert_eq!(config.get_application_name(), Some(APPLICATION_NAME));
    }

    #[test]
    fn what_the_text_says_wins() {
        let config = parse(
            "postgres://h?connect_timeout=3&tcp_user_timeout=1500&keepalives_idle=9&keepalives_interval=8\
             &keepalives_count=7&application_name=me%40x&options=-c%20search_path%3Da\
             &target_session_attrs=primary&channel_binding=require&fallback_application_name=no",
        )
        .config(Duration::from_secs(7));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_millis(1500)));
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(9));
        assert_eq!(config.get_keepalives_interval(), Some(Duration::from_secs(8)));
        assert_eq!(config.get_keepalives_retries(), Some(7));
        assert_eq!(config.get_application_name(), Some("me@x"));
        assert_eq!(config.get_options(), Some("-c search_path=a"));
        assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(config.get_channel_binding(), ChannelBinding::Require);
        let raw = parse("postgres://h?options=-c search_path=a&fallback_application_name=yes");
        let raw = raw.config(Duration::from_secs(1));
        assert_eq!((raw.get_options(), raw.get_application_name()), (Some("-c search_path=a"), Some("yes")));
    }

    #[test]
    fn of_several_hosts_the_one_that_takes_writes_is_wanted() {
        use TargetSessionAttrs::{Any, ReadWrite};
        for (text, wanted) in [
            ("postgres://a,b/d", ReadWrite),
            ("host=/run/a,/run/b", ReadWrite),
            ("postgres://a,b/d?target_session_attrs=any", Any),
            ("postgres://a/d", Any),
            ("postgres:///d", Any),
        ] {
            let config = parse(text).config(Duration::from_secs(1));
            assert_eq!(config.get_target_session_attrs(), wanted, "{text}");
        }
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, words) in [
            ("", "expected postgres://"),
            ("mysql://u:p@h/d?a=b", "expected postgres://"),
            ("jobs", "expected postgres://"),
            ("host=h jobs", "name=value"),
            ("host='h", "name=value"),
            ("postgres://h?schema=public", "unknown parameter `schema`"),
            ("host=h connection_limit=5", "unknown parameter `connection_limit`"),
            ("postgres://h?sslmode=no-verify", "`sslmode`: expected disable"),
            ("postgres://h?sslmode=require&sslrootcert=system", "`sslmode`: expected verify-full"),
            ("postgres://h?sslcert=/a", "`sslkey`"),
            ("postgres://h?sslnegotiation=direct", "`sslnegotiation`"),
            ("postgres://h:http/d", "`port`"),
            ("postgres://h:0/d", "`port`"),
            ("postgres://a,b,c/d?port=1,2", "`port`"),
            ("postgres://a,,c/d", "`host`"),
            ("postgres://h?hostaddr=x", "`hostaddr`"),
            ("postgres://h?connect_timeout=5s", "`connect_timeout`: expected 0 to 86400 (seconds)"),
            ("postgres://h?target_session_attrs=standby", "`target_session_attrs`"),
            ("postgres://h?pgbouncer=maybe", "`pgbouncer`"),
            ("postgres://h?client_encoding=latin1", "`client_encoding`"),
            ("postgres://h?application_name", "name=value"),
            ("postgres://u:5%@h/d", "password: not valid percent-encoding"),
            ("postgres://u@h/%00", "dbname: not valid percent-encoding"),
            ("postgres://u@h/d%ff", "dbname: not valid percent-encoding"),
            ("postgres://u:12/34@h/d", "/ as %2F"),
            ("postgres://u:12?34=5@h/d", "/ as %2F"),
            ("password=my secret=1", "name=value"),
        ] {
            let error = ServerUrl::parse(text).expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_need_not_be_utf8() {
        let config = parse("postgres://u:%ff%2b+@h").config(Duration::from_secs(1));
        assert_eq!(config.get_password(), Some(&b"\xff++"[..]));
    }

    fn encoded(text: &str) -> String {
        text.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02x}"))
    }

    fn quoted(text: &str) -> String {
        format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
    }

    /// All that a person may come to read about the text.
    fn shown(text: &str) -> String {
        match ServerUrl::parse(text) {
            Ok(url) => format!("{} {url:?} {:?}", url.redacted(), url.config(Duration::from_secs(1))),
            Err(error) => format!("{error} {error:?}"),
        }
    }

    proptest! {
        #[test]
        fn a_password_comes_out_as_it_went_in(password in "[^\0]{1,30}", form in 0..3) {
            let text = match form {
                0 => format!("postgres://u:{}@h/d", encoded(&password)),
                1 => format!("postgres://h/d?user=u&password={}", encoded(&password)),
                _ => format!("password={} host=h", quoted(&password)),
            };
            let config = parse(&text).config(Duration::from_secs(1));
            prop_assert_eq!(config.get_password(), Some(password.as_bytes()));
            prop_assert_eq!(config.get_hosts(), [Host::Tcp("h".to_owned())]);
        }

        #[test]
        fn a_password_is_never_shown(
            before in "[ -~]{0,6}",
            after in "[ -~]{0,6}",
            fault in prop::sample::select(vec!["", "sslmode=x", "bad=1", "port=x", "pgbouncer=2"]),
        ) {
            let password = format!("{before}SEKRIT{after}");
            for text in [
                format!("postgres://u:{}@h/d?{fault}", encoded(&password)),
                format!("postgres://u:{password}@h/d?{fault}"),
                format!("host=h password={} {fault}", quoted(&password)),
                format!("host=h password={password} {fault}"),
            ] {
                prop_assert!(!shown(&text).contains("SEKRIT"), "{text}: {}", shown(&text));
            }
        }

        #[test]
        fn any_text_is_answered_without_a_panic(text in "(postgres://)?[ -~ä]{0,40}") {
            let _ = shown(&text);
        }

        #[test]
        fn what_a_log_says_names_the_same_server(user in "[^\0]{1,8}", dbname in "[^\0]{1,8}") {
            let url = parse(&format!("postgres://{}@h/{}", encoded(&user), encoded(&dbname)));
            prop_assert_eq!(parse(&url.redacted()), url);
        }
    }
}
