//! PgBouncer in transaction mode between a test's workers and its database.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

use super::Db;
use super::server::server;

/// A running pooler; ended when dropped.
pub(crate) struct Pooler {
    child: Child,
    folder: PathBuf,
    pub url: String,
}

impl Pooler {
    /// `None`, with a line that says so, where there is no pgbouncer or the server is not the tests' own.
    pub(crate) async fn before(db: &Db) -> Option<Self> {
        let there = Command::new("pgbouncer").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !there || std::env::var_os("DATABASE_URL").is_some() {
            eprintln!("skipped: pgbouncer is not on PATH, or the server is not the tests' own");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port();
        let folder = std::env::temp_dir().join(format!("rowcrew-pooler-{}-{port}", std::process::id()));
        std::fs::create_dir(&folder).expect("a folder");
        let config = folder.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n{0} = host={1} dbname={0} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 10\nignore_startup_parameters = extra_float_digits,options\nlogfile =\n",
            db.name,
            server().socket_dir().display()
        );
        std::fs::write(&config, text).expect("a file");
        let mut command = Command::new("pgbouncer");
        // It refuses root.
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "postgres"]);
        }
        command
            .arg("-q")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let child = command.spawn().expect("pgbouncer starts");
        let url = format!("postgres://postgres@127.0.0.1:{port}/{}", db.name);
        let pooler = Self { child, folder, url };
        let began = Instant::now();
        while tokio_postgres::connect(&pooler.url, NoTls).await.is_err() {
            assert!(began.elapsed() < Duration::from_mins(1), "pgbouncer does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(pooler)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
