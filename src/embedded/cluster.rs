//! One running private Postgres: how it is set, how it is reached, how it ends.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::watchdog::{Patience, Watchdog, fault};
use super::{Binaries, Error, user};

/// The port that names the socket file when nothing listens on TCP; clients take it without being told.
const PORT_DEFAULT: u16 = 5432;
/// A free port can be lost to somebody else before the server binds it; then another is tried.
const PORT_TRIES_MAX: u32 = 3;
/// Leaves room for a test run's many pools; each slot costs the server some kilobytes.
const MAX_CONNECTIONS_DEFAULT: u32 = 100;

/// What a [`Cluster`] is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// The Postgres to run.
    pub binaries: Binaries,
    /// Whether a commit waits for the disk, as in production. Without it tests run faster, and
    /// [`Cluster::crash`] may lose the last commits.
    pub durable: bool,
    /// The server's `max_connections`.
    pub max_connections: u32,
    /// Further settings, as in `postgresql.conf`; they win over the ones made here.
    pub settings: Vec<(String, String)>,
    /// Whether it also listens on a free port of 127.0.0.1. Every local user can then get in as superuser.
    pub tcp: bool,
}

impl Options {
    /// Durable, 100 connections, unix socket only.
    pub fn new(binaries: Binaries) -> Self {
        Self {
            binaries,
            durable: true,
            max_connections: MAX_CONNECTIONS_DEFAULT,
            settings: Vec::new(),
            tcp: false,
        }
    }

    /// The lines of `postgresql.conf`, of which the last for a name counts.
    fn conf(&self, port: u16) -> Result<String, Error> {
        let address = if self.tcp { "127.0.0.1" } else { "" };
        let mut conf = format!(
            "cluster_name = 'rowcrew'\nlisten_addresses = '{address}'\nport = {port}\nmax_connections = {}\n",
            self.max_connections
        );
        if !self.durable {
            conf.push_str("fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n");
        }
        for (name, value) in &self.settings {
            let known = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            if name.is_empty() || !name.chars().all(known) {
                return Err(Error::Setting { name: name.clone() });
            }
            let value =
                value.replace('\\', "\\\\").replace('\'', "''").replace('\n', "\\n").replace('\0', "");
            let _ = writeln!(conf, "{name} = '{value}'");
        }
        Ok(conf)
    }
}

/// A private Postgres with its superuser `postgres` and no password, reached through a folder only its owner
/// (and root) can enter.
///
/// Dropping it stops the server and removes its folder. So does the death of the owner, in whatever way it
/// comes, and also for a cluster in a `static`, which is never dropped. The server is not in the terminal's
/// process group, so Ctrl-C does not reach it.
#[derive(Debug)]
pub struct Cluster {
    watchdog: Mutex<Watchdog>,
    binaries: Binaries,
    folder: PathBuf,
    port: u16,
    tcp: bool,
}

impl Cluster {
    /// Makes a cluster and starts it; when this returns, it answers. Takes about a second, most of it initdb.
    ///
    /// Started by root, the server runs as the user `postgres`, else `nobody`.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let mut tries = 1;
        loop {
            match Self::start_once(options) {
                Err(Error::Step { log, .. })
                    if options.tcp && tries < PORT_TRIES_MAX && log.contains("already in use") =>
                {
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    fn start_once(options: &Options) -> Result<Self, Error> {
        let port = if options.tcp { free_port()? } else { PORT_DEFAULT };
        let conf = options.conf(port)?;
        let watchdog = Watchdog::spawn(&options.binaries, &conf, user::for_server()?, Patience::ORDINARY)?;
        watchdog.expect("created", "initdb")?;
        watchdog.expect("ready", "starting the server")?;
        let folder = watchdog.folder().to_owned();
        let binaries = options.binaries.clone();
        Ok(Self { watchdog: Mutex::new(watchdog), binaries, folder, port, tcp: options.tcp })
    }

    /// The folder of the unix socket: what libpq takes as `host`.
    pub fn socket_dir(&self) -> &Path {
        &self.folder
    }

    /// The server's data folder; its owner is the user the server runs as.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The programs the server was started with.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The URL of a database through the socket, as libpq and tokio-postgres read it.
    pub fn url(&self, database: &str) -> String {
        let folder = encoded(&self.folder.to_string_lossy());
        let port = if self.tcp { format!("&port={}", self.port) } else { String::new() };
        format!("postgresql://postgres@/{}?host={folder}{port}", encoded(database))
    }

    /// The URL of a database through 127.0.0.1; `None` when it was not asked to listen there.
    pub fn tcp_url(&self, database: &str) -> Option<String> {
        self.tcp.then(|| format!("postgresql://postgres@127.0.0.1:{}/{}", self.port, encoded(database)))
    }

    /// What a person types to look inside. The full path of `psql` where this Postgres has one.
    pub fn psql_line(&self, database: &str) -> String {
        let own = self.binaries.bin_dir.join("psql");
        let psql = if own.exists() { quoted(&own.to_string_lossy()) } else { "psql".to_owned() };
        let port = if self.tcp { format!(" -p {}", self.port) } else { String::new() };
        format!("{psql} -h {}{port} -U postgres {}", self.folder.display(), quoted(database))
    }

    /// Ends the server at once, as a crash would, and keeps its data for [`Cluster::recover`].
    pub fn crash(&self) -> Result<(), Error> {
        self.asked("crash", "crashed", "an immediate stop")
    }

    /// Starts the server again after [`Cluster::crash`]; when this returns, it answers.
    pub fn recover(&self) -> Result<(), Error> {
        self.asked("recover", "ready", "starting the server again")
    }

    /// [`Cluster::crash`], then [`Cluster::recover`]. Edits of `postgresql.conf` take effect.
    pub fn restart_immediate(&self) -> Result<(), Error> {
        self.crash()?;
        self.recover()
    }

    /// Stops the server in good order, waits for it and removes the folder.
    pub fn stop(self) -> Result<(), Error> {
        let mut watchdog = self.watchdog.into_inner().unwrap_or_else(PoisonError::into_inner);
        watchdog.order("stop")?;
        watchdog.close().map_err(|source| fault("cannot be awaited", source))
    }

    fn asked(&self, order: &str, reply: &str, step: &'static str) -> Result<(), Error> {
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        watchdog.order(order)?;
        watchdog.expect(reply, step).map(drop)
    }
}

fn free_port() -> Result<u16, Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(Error::Port)?;
    listener.local_addr().map(|address| address.port()).map_err(Error::Port)
}

/// Percent-encodes all but the characters that mean nothing in any part of a URL (RFC 3986, 2.3).
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut url, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
        url
    })
}

/// Quotes a word for a shell, if it needs it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_any_character_stay_one_word() {
        assert_eq!(encoded("/tmp/a b?é"), "%2Ftmp%2Fa%20b%3F%C3%A9");
        assert_eq!(quoted("demo"), "demo");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn a_setting_cannot_smuggle_in_another() {
        let mut options = Options::new(Binaries { bin_dir: PathBuf::new(), major: 17 });
        options.settings = vec![("work_mem".to_owned(), "it's\nfsync = off\\".to_owned())];
        let conf = options.conf(PORT_DEFAULT).expect("a good name");
        assert!(conf.ends_with("work_mem = 'it''s\\nfsync = off\\\\'\n"), "{conf}");
        options.settings = vec![("a = b".to_owned(), String::new())];
        assert!(matches!(options.conf(PORT_DEFAULT), Err(Error::Setting { .. })));
    }
}
