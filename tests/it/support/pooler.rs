//! PgBouncer in transaction mode between workers and their database: for one test that asks for it, or, with
//! `ROWCREW_TEST_POOLER` set, for every worker and every command of the run.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::Db;
use super::server::{admin_url, server};

/// Puts a pooler between all workers and the server.
const FOR_ALL: &str = "ROWCREW_TEST_POOLER";
/// How long it may take to answer.
const START_MAX: Duration = Duration::from_mins(1);

/// Ends the pooler and removes its folder when this process is gone, in whatever way it went.
const GUARD: &str = r#"
    pgbouncer "$@" </dev/null & pooler=$!
    cat >/dev/null; kill -KILL "$pooler"; wait "$pooler"; rm -rf "$0"
"#;

/// A running pooler for all databases of the server; ended when dropped.
pub(crate) struct Pooler {
    child: Child,
    port: u16,
    /// The URL of the database it was started for.
    pub url: String,
}

impl Pooler {
    /// `None`, with a line that says so, where there is no pgbouncer or the server is not the tests' own.
    pub(crate) async fn before(db: &Db) -> Option<Self> {
        let name = db.name.clone();
        tokio::task::spawn_blocking(move || Self::start(&name)).await.expect("no panic")
    }

    fn start(database: &str) -> Option<Self> {
        let there = Command::new("pgbouncer").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !there || std::env::var_os("DATABASE_URL").is_some() {
            eprintln!("skipped: pgbouncer is not on PATH, or the server is not the tests' own");
            return None;
        }
        let socket_dir = server().socket_dir();
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port();
        let folder = std::env::temp_dir().join(format!("rowcrew-pooler-{}-{port}", std::process::id()));
        std::fs::create_dir(&folder).expect("a folder");
        let config = folder.join("pgbouncer.ini");
        // Hundreds of databases, of which a few are in use: connections to the others must not pile up.
        let text = format!(
            "[databases]\n* = host={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 10\nmax_client_conn = 2000\nserver_idle_timeout = 5\n\
             ignore_startup_parameters = extra_float_digits,options\nlogfile =\n",
            socket_dir.display()
        );
        std::fs::write(&config, text).expect("a file");
        let mut command = Command::new("sh");
        command.args(["-c", GUARD]).arg(&folder);
        // It refuses root, and must enter the folder of the server's socket.
        if rustix::process::geteuid().is_root() {
            command.args(["-u", &owner(socket_dir)]);
        }
        command.arg("-q").arg(&config).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("a shell");
        let mut pooler = Self { child, port, url: String::new() };
        pooler.url = pooler.url_of(database);
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < START_MAX, "pgbouncer does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(pooler)
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

/// The name of the user whose folder this is.
fn owner(folder: &Path) -> String {
    let uid = std::fs::metadata(folder).expect("a folder").uid().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").expect("users");
    let user = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid)).expect("the folder's owner");
    user.split(':').next().expect("a name").to_owned()
}

/// The environment that sends a process of this run to its database: through the pooler, if one is for all. A server
/// of a test's own is reached directly.
pub(super) fn way_to(url: &str, database: &str) -> Vec<(&'static str, String)> {
    match for_all() {
        Some(pooler) if url == admin_url(database) => vec![
            ("DATABASE_URL", pooler.url_of(database)),
            ("ROWCREW_DIRECT_URL", url.to_owned()),
            ("ROWCREW_DATABASE__PREPARE", "false".to_owned()),
        ],
        _ => vec![("DATABASE_URL", url.to_owned())],
    }
}

/// The pooler that is for all, if the run asks for one. It ends with the run's server.
fn for_all() -> Option<&'static Pooler> {
    static POOLER: OnceLock<Option<Pooler>> = OnceLock::new();
    let start = || std::env::var_os(FOR_ALL).and_then(|_| Pooler::start("postgres"));
    POOLER.get_or_init(start).as_ref()
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
