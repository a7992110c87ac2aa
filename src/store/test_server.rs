//! A PostgreSQL of its own for one test, with its own certificates and login rules.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::embedded::{Environment, locate};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Files that the server and its clients read.
pub(super) struct Files(Vec<(&'static str, String)>);

impl Files {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn with(mut self, name: &'static str, text: &str) -> Self {
        self.0.push((name, text.to_owned()));
        self
    }
}

/// A running server; stopped and removed when dropped.
pub(super) struct TestServer {
    dir: PathBuf,
    bin: PathBuf,
    pub(super) port: u16,
}

impl TestServer {
    pub(super) fn start(files: Files, settings: &str, login_rules: &str) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("rowcrew-tls-{}-{number}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { bin: bin_dir(), dir, port };
        give_away(&server.dir);
        server.run("initdb", &["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"]);
        for (name, text) in files.0 {
            let path = server.dir.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            give_away(&path);
        }
        let data = server.dir.join("data");
        fs::write(data.join("pg_hba.conf"), login_rules).unwrap();
        let base = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\nfsync = off\n\
             password_encryption = 'scram-sha-256'\n{settings}"
        );
        fs::write(data.join("postgresql.conf"), base).unwrap();
        server.run("pg_ctl", &["start", "-w", "-l", &server.path("log")]);
        server
    }

    /// The path of one of the files.
    pub(super) fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn run(&self, program: &str, args: &[&str]) {
        let status = self.command(program, args).status().unwrap();
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        assert!(status.success(), "{program}: {status}\n{log}");
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.arg("-D").arg(self.dir.join("data")).args(args).current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((uid, gid)) = other_user() {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.command("pg_ctl", &["stop", "-w", "-m", "immediate"]).status();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn bin_dir() -> PathBuf {
    let binaries = locate(&Environment::read(), None, &mut |line| eprintln!("{line}"));
    binaries.expect("Postgres binaries").bin_dir
}

fn give_away(path: &Path) {
    if let Some((uid, gid)) = other_user() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// The user to run as if we are root, whom Postgres refuses.
fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(|id| id.parse().ok());
        Some((ids.next()??, ids.next()??))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).expect("a user postgres or nobody"))
}
