//! Runs jobs in children that live on from job to job: one line of JSON for each job, one for each answer.
//!
//! `docs/protocol.md` has the protocol. Whatever a child does, it harms only the jobs it has in hand: what it writes
//! counts for these alone, writing to it never waits, and in its place another one is started.

mod child;
mod keeper;
mod lines;
mod pool;
mod protocol;
mod stderr;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use self::pool::{CANCEL_GRACE, Pool};
use super::{CommandSettings, Context, Cut, Handler, Stopped, Work};
use crate::{Outcome, Success};

/// The most children of one kind; more do not fit on a machine that has anything else to do.
pub const PROCESSES_MAX: usize = 256;
/// Jobs that one child may have in hand at most; more would make its death too costly.
pub const JOBS_IN_HAND_MAX: usize = protocol::CONCURRENCY_MAX;

/// What a [`ProcessHandler`] is told.
#[derive(Debug, Clone)]
pub struct ProcessSettings {
    /// The kind of the jobs, which the children find in `ROWCREW_KIND`.
    pub kind: String,
    /// What is started, and in which environment.
    pub command: CommandSettings,
    /// Children at once, 1 to [`PROCESSES_MAX`].
    pub processes: usize,
    /// Jobs that one child has in hand at once at most, 1 to [`JOBS_IN_HAND_MAX`]. `None` leaves it to the child,
    /// and is 1 when the child does not say.
    pub concurrency: Option<usize>,
    /// How long a child may take to say that it is ready; it gets no job before. `None`: it need not say so.
    pub ready_within: Option<Duration>,
}

/// Runs jobs in long-lived children; see [`ProcessSettings`].
///
/// The children start with the worker, and again when they have ended. While none is up, the handler's
/// [`capacity`](Handler::capacity) is 0, and no job is claimed that could not run.
pub struct ProcessHandler {
    launch: Arc<Launch>,
    pool: Arc<Pool>,
    processes: usize,
    started: Once,
    keepers: TaskTracker,
}

/// How a child is started.
struct Launch {
    kind: String,
    command: CommandSettings,
    concurrency: Option<usize>,
    ready_within: Option<Duration>,
}

impl Launch {
    /// The command for the child with this number.
    fn command(&self, number: usize) -> Command {
        let mut command = self.command.prepare(&self.command.command[1..]);
        command
            .env("ROWCREW_PROTOCOL", protocol::VERSION.to_string())
            .env("ROWCREW_KIND", &self.kind)
            .env("ROWCREW_PROCESS", number.to_string());
        if let Some(jobs) = self.concurrency {
            command.env("ROWCREW_CONCURRENCY", jobs.to_string());
        }
        command
    }
}

impl ProcessHandler {
    /// Checks the settings; nothing is started yet.
    pub fn new(settings: ProcessSettings) -> Result<Self, String> {
        let ProcessSettings { kind, command, processes, concurrency, ready_within } = settings;
        if !(1..=PROCESSES_MAX).contains(&processes) {
            return Err(format!("processes = {processes}: expected 1 to {PROCESSES_MAX}"));
        }
        if let Some(jobs) = concurrency.filter(|jobs| !(1..=JOBS_IN_HAND_MAX).contains(jobs)) {
            return Err(format!("concurrency = {jobs}: expected 1 to {JOBS_IN_HAND_MAX}"));
        }
        let command = command.checked()?;
        Ok(Self {
            launch: Arc::new(Launch { kind, command, concurrency, ready_within }),
            pool: Arc::new(Pool::new(processes, concurrency)),
            processes,
            started: Once::new(),
            keepers: TaskTracker::new(),
        })
    }

    /// Starts the children, unless they are.
    fn start_children(&self) {
        self.started.call_once(|| {
            for seat in 0..self.processes {
                self.keepers.spawn(keeper::keep(self.pool.clone(), seat, self.launch.clone()));
            }
            self.keepers.close();
        });
    }

    async fn attempt(&self, context: Context) -> Outcome {
        self.start_children();
        let mut ticket = self.pool.submit(context.clone());
        let cut = match context.within(&mut ticket.answer).await {
            Ok(Ok(outcome)) => return outcome,
            // The children are being stopped.
            Ok(Err(_)) => return Ok(Success::Snooze(Duration::ZERO)),
            Err(cut) => cut,
        };
        let stderr = ticket.cut();
        if let Cut::Cancelled = cut
            && let Ok(Ok(last_word)) = timeout(CANCEL_GRACE, &mut ticket.answer).await
        {
            return last_word;
        }
        let failure = cut.failure(&format!("`{}`", self.launch.command.program()));
        Err(failure.with_detail(stderr.map(|stderr| stderr.text()).unwrap_or_default()))
    }
}

impl Handler for ProcessHandler {
    fn run(self: Arc<Self>, context: Context) -> Work {
        Box::pin(async move { self.attempt(context).await })
    }

    fn capacity(&self) -> usize {
        self.pool.capacity()
    }

    fn start(&self, changed: &Arc<Notify>) {
        self.pool.ring_when_changed(changed.clone());
        self.start_children();
    }

    fn stop(&self) -> Stopped {
        self.pool.close();
        let keepers = self.keepers.clone();
        let started = self.started.is_completed();
        Box::pin(async move {
            if started {
                keepers.wait().await;
            }
        })
    }
}

impl Drop for ProcessHandler {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl fmt::Debug for ProcessHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessHandler")
            .field("kind", &self.launch.kind)
            .field("command", &self.launch.command)
            .field("processes", &self.processes)
            .field("concurrency", &self.launch.concurrency)
            .field("ready_within", &self.launch.ready_within)
            .finish_non_exhaustive()
    }
}
