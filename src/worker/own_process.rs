//! Gives a job that took its workers down too often a process of its own: this program, started again for that job.
//!
//! The new process enters the crew as a worker that claims nothing, takes this one job over, and leaves when it has
//! ended. Should it die, it takes no other job with it, and the crew knows which one to blame. Its standard input is
//! its tie to the worker that started it: over it, it says that the job is its own, and when the other end is gone, it
//! gives the job back unharmed.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::{Settings, Stopping};
use crate::{ClaimId, Job, JobId, config};

/// Names the job in the environment of the process that is started for it.
const VARIABLE: &str = "ROWCREW_ONE_JOB";
/// What it says when the job is its own.
const TAKEN: u8 = b'!';
/// How long a worker whose starter is gone may take to give its jobs back; its database may be gone too.
const ORPHAN_WAIT: Duration = Duration::from_secs(4);

/// The job that a process is started for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OneJob {
    pub(super) id: JobId,
    /// The claim of the worker that hands it over.
    pub(super) claim_id: ClaimId,
    pub(super) kind: String,
}

impl OneJob {
    /// That of this process, if it was started for one.
    pub(super) fn of_settings(settings: &Settings) -> Option<Self> {
        settings.program.as_ref()?;
        Self::parse(&config::variable(VARIABLE)?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let (id, claim_id, kind) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { id: id.parse().ok()?, claim_id: claim_id.parse().ok()?, kind: kind.to_owned() })
    }

    fn of(job: &Job) -> String {
        format!("{}:{}:{}", job.id, job.claim_id, job.kind)
    }
}

/// A process that was started for a job.
pub(super) struct OwnProcess {
    process: Child,
    tie: tokio::net::UnixStream,
}

impl OwnProcess {
    /// Starts this program again, as it was started itself. In a group of its own: whoever kills the worker's group
    /// must not seem to be the job.
    pub(super) fn start(program: &Path, job: &Job) -> std::io::Result<Self> {
        let (tie, its_end) = UnixStream::pair()?;
        tie.set_nonblocking(true)?;
        let mut arguments = config::arguments();
        let mut command = Command::new(program);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        let command = command.args(arguments).env(VARIABLE, OneJob::of(job)).process_group(0);
        let process = command.stdin(Stdio::from(OwnedFd::from(its_end))).spawn()?;
        Ok(Self { process, tie: tokio::net::UnixStream::from_std(tie)? })
    }

    /// Whether the job has become its own; `false` when it is gone or says nothing sensible.
    pub(super) async fn takes_over(&mut self) -> bool {
        let mut word = [0];
        matches!(self.tie.read(&mut word).await, Ok(1)) && word[0] == TAKEN
    }

    /// How it ended.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Has it give the job back, and answers how it ended.
    pub(super) async fn stop(self) -> std::io::Result<ExitStatus> {
        let Self { mut process, tie } = self;
        drop(tie);
        process.wait().await
    }
}

/// Says to the worker that started this process that the job is its own now.
pub(super) fn say_taken() {
    // It may be gone; then the end of standard input says so.
    let _ = rustix::io::write(rustix::stdio::stdin(), &[TAKEN]);
}

/// The same wish to stop, and that to stop at once when whoever started this process is gone.
pub(super) fn until_orphaned(mut stopping: watch::Receiver<Stopping>) -> watch::Receiver<Stopping> {
    let (stop, either) = watch::channel(*stopping.borrow_and_update());
    let at_end = stop.clone();
    std::thread::spawn(move || stop_at_end_of_stdin(&at_end));
    tokio::spawn(async move {
        while stopping.changed().await.is_ok() {
            let asked = *stopping.borrow_and_update();
            stop.send_modify(|now| *now = asked.max(*now));
        }
    });
    either
}

/// Asks the worker to stop at once when standard input ends, as it does when the process that started this one is
/// gone, and ends the process if that takes too long. For a thread of its own: a runtime would wait for the read before
/// it ends.
pub(crate) fn stop_at_end_of_stdin(stop: &watch::Sender<Stopping>) {
    let mut stdin = std::io::stdin().lock();
    while matches!(stdin.read(&mut [0; 64]), Ok(1..)) {}
    stop.send_replace(Stopping::Now);
    std::thread::sleep(ORPHAN_WAIT);
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_the_job_it_was_started_for() {
        let job = Job { id: 7, claim_id: 12, kind: "a:b".into(), ..Job::example() };
        let one = OneJob { id: 7, claim_id: 12, kind: "a:b".to_owned() };
        assert_eq!(OneJob::parse(&OneJob::of(&job)), Some(one));
        for text in ["", "7", "7:12", "x:12:a", "7::a"] {
            assert_eq!(OneJob::parse(text), None, "{text:?}");
        }
    }
}
