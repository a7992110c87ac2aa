//! The demo's worker processes: this same binary, as `rowcrew work`.
//!
//! Each has a pipe from the demo as its standard input and ends when the pipe does, so that none outlives a
//! demo that was killed.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::app::RECORD;
use crate::config;

/// How long a worker may take to give its jobs back before it is killed.
const END_WAIT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(5);
/// How much of a worker's log is shown when it ends by itself.
const LOG_BYTES_MAX: usize = 2000;

/// All workers of the demo; dropping it ends them.
pub(super) struct Crew {
    program: PathBuf,
    config: PathBuf,
    /// Where the workers, and so their commands, run: the payloads' paths begin here.
    root: PathBuf,
    url: String,
    workers: Vec<Worker>,
}

/// One process.
pub(super) struct Worker {
    pub(super) name: String,
    child: Child,
    log: PathBuf,
    killed: bool,
}

impl Crew {
    /// Writes the configuration into `folder`, which is nobody else's to read.
    pub(super) fn new(
        folder: &Path,
        root: &Path,
        url: String,
        hook: &str,
        secret: &SecretString,
    ) -> anyhow::Result<Self> {
        let program = config::program().context("this program does not find its own file")?;
        let config = folder.join("rowcrew.toml");
        fs::write(&config, configuration(&program, hook, secret)?)
            .with_context(|| config.display().to_string())?;
        Ok(Self { program, config, root: root.to_owned(), url, workers: vec![] })
    }

    /// Starts one more worker.
    pub(super) fn start(&mut self) -> anyhow::Result<&Worker> {
        let name = format!("worker-{}", self.workers.len() + 1);
        let log = self.config.with_file_name(format!("{name}.log"));
        let mut command = Command::new(&self.program);
        command.args(["work", "--exit-with-stdin", "--name", &name, "--config"]).arg(&self.config);
        // The user's own settings of rowcrew are not for this crew.
        for (own, _) in config::environment() {
            if own.as_encoded_bytes().starts_with(b"ROWCREW_") {
                command.env_remove(own);
            }
        }
        // Its connections bear its name.
        let url =
            format!("{}{}application_name={name}", self.url, if self.url.contains('?') { '&' } else { '?' });
        command.env("DATABASE_URL", url).current_dir(&self.root);
        // Its own group: the terminal's Ctrl-C is for the demo, which then ends its workers.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let child = command.spawn().with_context(|| self.program.display().to_string())?;
        self.workers.push(Worker { name, child, log, killed: false });
        Ok(self.workers.last().expect("just pushed"))
    }

    /// Stops a worker where it is.
    pub(super) fn freeze(&mut self, name: &str) -> anyhow::Result<()> {
        let pid = self.worker(name)?.signal(Signal::STOP)?;
        // Only then has its last thread stopped.
        waitpid(Some(pid), WaitOptions::UNTRACED)?;
        Ok(())
    }

    /// Lets a worker go on.
    pub(super) fn thaw(&mut self, name: &str) -> anyhow::Result<()> {
        self.worker(name)?.signal(Signal::CONT)?;
        Ok(())
    }

    /// Ends a worker as a crash would, and answers with it.
    pub(super) fn kill(&mut self, name: &str) -> anyhow::Result<&Worker> {
        let worker = self.worker(name)?;
        worker.child.kill()?;
        worker.child.wait()?;
        worker.killed = true;
        Ok(worker)
    }

    fn worker(&mut self, name: &str) -> anyhow::Result<&mut Worker> {
        let found = self.workers.iter_mut().find(|worker| worker.name == name);
        found.with_context(|| format!("the demo has no {name}"))
    }

    /// The process numbers of all workers there ever were.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.workers.iter().map(Worker::pid).collect()
    }

    /// Fails when a worker has ended that was not killed.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        for worker in self.workers.iter_mut().filter(|worker| !worker.killed) {
            if let Some(status) = worker.child.try_wait()? {
                bail!("{} ended by itself ({status}). {}", worker.name, worker.last_words());
            }
        }
        Ok(())
    }

    /// The ends of all logs.
    pub(super) fn last_words(&self) -> String {
        self.workers.iter().map(Worker::last_words).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            drop(worker.child.stdin.take());
        }
        for worker in &mut self.workers {
            worker.end();
        }
    }
}

impl Worker {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) -> io::Result<Pid> {
        let pid = Pid::from_raw(self.pid() as i32).ok_or(io::ErrorKind::NotFound)?;
        kill_process(pid, signal)?;
        Ok(pid)
    }

    /// Waits for an end that was asked for, and makes one when it does not come.
    fn end(&mut self) {
        let began = Instant::now();
        while began.elapsed() < END_WAIT {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(POLL),
                _ => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn last_words(&self) -> String {
        let log = crate::text::printable(&fs::read(&self.log).unwrap_or_default());
        format!("The log of {} ends with:\n{}", self.name, crate::text::tail(&log, LOG_BYTES_MAX))
    }
}

/// The `rowcrew.toml` of the workers.
fn configuration(program: &Path, hook: &str, secret: &SecretString) -> anyhow::Result<String> {
    let program = program
        .to_str()
        .with_context(|| format!("{}: a configuration needs a path in UTF-8", program.display()))?;
    let processors = thread::available_parallelism().map_or(2, usize::from);
    let again = json!({ "type": "fixed", "delay_ms": 200, "jitter": "none" });
    let config = json!({
        // Commands compute; more than a few at once for each processor only wait for each other.
        "worker": { "concurrency": (processors * 4).clamp(8, 64) },
        "handlers": {
            "demo.record": { "type": "sql", "statement": RECORD.trim() },
            "demo.checksum": { "type": "command", "command": [program, "demo-checksum"] },
            "demo.notify": {
                "type": "http", "url": hook, "secret": secret.expose_secret(), "backoff": again.clone(),
            },
            "demo.flaky": { "type": "fail", "max_attempts": 4, "backoff": again },
            // Fewer at once than there are, so that neither of two workers is done with all of them at once.
            "demo.nap": { "type": "sleep", "concurrency": 2 },
            "demo.echo": { "type": "echo" },
        },
    });
    Ok(toml::to_string(&config)?)
}
