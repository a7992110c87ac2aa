//! The real binary as a process.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Db;
use super::pooler::way_to;

/// What a finished command said.
#[derive(Debug)]
pub(crate) struct Output {
    pub ok: bool,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A command line of the binary, with no configuration but what the test gives it.
pub(super) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowcrew"));
    command.args(args).current_dir(std::env::temp_dir()).env_remove("DATABASE_URL");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ROWCREW_")) {
        command.env_remove(name);
    }
    command
}

/// Runs the binary to its end.
pub(crate) fn rowcrew(args: &[&str]) -> Output {
    Output::of(&command(args).stdin(Stdio::null()).output().expect("the binary runs"))
}

/// Starts the binary with no database given; its output is piped.
pub(crate) fn spawn_alone(args: &[&str]) -> Child {
    command(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

/// Starts the binary on a database, all of its streams piped.
pub(crate) fn spawn(db: &Db, args: &[&str]) -> Child {
    command(args)
        .envs(way_to(&db.url, &db.name))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

/// Runs the binary on a database, with this on its standard input.
pub(crate) fn rowcrew_on(db: &Db, args: &[&str], input: &[u8]) -> Output {
    let mut child = spawn(db, args);
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // It may end without having read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the binary runs");
    writer.join().expect("no panic");
    Output::of(&output)
}

impl Output {
    fn of(output: &std::process::Output) -> Self {
        Self {
            ok: output.status.success(),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Its standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A worker process; killed when dropped.
pub(crate) struct Crew {
    child: Child,
    log: Arc<Mutex<String>>,
    log_reader: JoinHandle<()>,
    config: PathBuf,
}

impl Crew {
    /// Starts `rowcrew work` with this configuration and waits until it has entered the crew.
    pub(crate) async fn start(db: &Db, config: &str) -> Self {
        Self::start_as(db, config, false).await
    }

    /// The same in a process group of its own.
    pub(crate) async fn start_in_group(db: &Db, config: &str) -> Self {
        Self::start_as(db, config, true).await
    }

    async fn start_as(db: &Db, config: &str, leads_group: bool) -> Self {
        let before: i64 = db.one("select coalesce(max(id), 0) from rowcrew.workers").await;
        let crew = Self::spawn_as(Some(db), config, leads_group);
        db.until(&format!(
            "exists (select from rowcrew.workers where id > {before} and locked_at is not null)"
        ))
        .await;
        crew
    }

    /// As [`Crew::start`], with the database's address in the configuration.
    pub(crate) async fn start_configured(db: &Db, config: &str) -> Self {
        let crew = Self::spawn_configured(db, config);
        db.until("exists (select from rowcrew.workers where locked_at is not null)").await;
        crew
    }

    /// Starts `rowcrew work` and waits for nothing.
    pub(crate) fn spawn(db: &Db, config: &str) -> Self {
        Self::spawn_as(Some(db), config, false)
    }

    /// As [`Crew::spawn`], with the database's address in the configuration.
    pub(crate) fn spawn_configured(_: &Db, config: &str) -> Self {
        Self::spawn_as(None, config, false)
    }

    fn spawn_as(db: Option<&Db>, config: &str, leads_group: bool) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name =
            format!("rowcrew-test-{}-{}.toml", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, config).expect("a file");
        let mut command = command(&["work", "--config", path.to_str().expect("UTF-8")]);
        if leads_group {
            command.process_group(0);
        }
        let mut child = command
            .envs(db.map(|db| way_to(&db.url, &db.name)).unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let sink = log.clone();
        let log_reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = sink.lock().expect("no panic");
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log, log_reader, config: path }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a pid");
        kill_process(pid, signal).expect("a signal");
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("it ends");
    }

    /// Waits for its end, at most this long; answers how it ended and after what time. Its log is whole then, unless a
    /// process that it left behind writes on.
    pub(crate) async fn ended(&mut self, within: Duration) -> (ExitStatus, Duration) {
        let began = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        loop {
            if let Some(status) = self.child.try_wait().expect("waiting works") {
                let took = began.elapsed();
                while !self.log_reader.is_finished() && began.elapsed() < took + Duration::from_secs(2) {
                    ticks.tick().await;
                }
                return (status, took);
            }
            assert!(began.elapsed() < within, "the worker does not end; its log:\n{}", self.log());
            ticks.tick().await;
        }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("waiting works").is_some()
    }

    /// Waits until its log says this.
    pub(crate) async fn until_log(&self, words: &str) {
        let began = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while !self.log().contains(words) {
            assert!(began.elapsed() < Duration::from_mins(1), "never logged: {words}\n{}", self.log());
            ticks.tick().await;
        }
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.config);
        if std::thread::panicking() {
            eprintln!("log of worker {}:\n{}", self.pid(), self.log());
        }
    }
}
