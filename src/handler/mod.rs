//! What runs a job: the trait every handler implements, and the handlers that come with rowcrew.
//!
//! This floor knows no database. A handler gets a [`Context`] and answers with an
//! [`Outcome`]; what becomes of the job is decided and written elsewhere.

mod builtin;
mod child;
mod command;
mod http;
mod output;
mod process;
pub mod signature;
#[cfg(test)]
mod testing;

mod context;
mod registry;
mod remains;
mod typed;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Notify;

pub use self::builtin::{Block, Echo, Fail, Noop, Sleep};
pub use self::child::guard;
pub use self::command::{CommandHandler, CommandSettings, limits};
use self::context::Cut;
pub use self::http::{CONNECT_TIMEOUT_DEFAULT, HttpAuth, HttpHandler, HttpSettings, HttpTls};
pub use self::output::{RESULT_BYTES_MAX_DEFAULT, RESULT_BYTES_MAX_LIMIT};
pub use self::process::{JOBS_IN_HAND_MAX, PROCESSES_MAX, ProcessHandler, ProcessSettings};
use crate::Outcome;

pub use context::{Context, Desk, PROGRESS_BYTES_MAX};
pub use registry::{Entry, Registry, Runner};
pub use remains::{Remainder, Remains};
pub use typed::{IntoBlocking, IntoFailure, IntoHandler};

/// What a handler's work is, boxed so that handlers of every sort stand in one registry.
pub type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// The end of what a handler keeps running between jobs.
pub type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whether a handler can work, and if not, why.
pub type Checked<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Runs the jobs of one or more kinds.
///
/// Delivery is at-least-once: a job whose worker died runs again, so the work must bear repetition.
/// Dropping the returned future must end the work, child processes included; the worker drops it when
/// the attempt's time is over, when the job is cancelled, and when it may no longer hold the job. What is still
/// being ended then, the worker waits for (see [`Remains`]).
pub trait Handler: Send + Sync + 'static {
    /// Starts one attempt.
    fn run(self: Arc<Self>, context: Context) -> Work;

    /// How many jobs it can run at once just now. While it is 0, none of its jobs is claimed by this worker, and
    /// others may have them.
    fn capacity(&self) -> usize {
        usize::MAX
    }

    /// Looks for faults that every job would meet, before a worker begins; what it answers keeps the worker from
    /// starting. What may pass by itself, as a server that is away, is no such fault.
    fn check(&self) -> Checked<'_> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Gets ready for jobs; called when a worker begins, within its runtime. `changed` is to be notified whenever
    /// the capacity changes.
    fn start(&self, _changed: &Arc<Notify>) {}

    /// Ends what the handler keeps running between jobs; called when the worker's last job has ended. The worker
    /// waits for it a few hundred milliseconds at most.
    fn stop(&self) -> Stopped {
        Box::pin(std::future::ready(()))
    }
}

/// Runs the jobs of one or more kinds with code that blocks its thread: each on one of the worker's blocking
/// threads (`worker.blocking_threads`). While none is free, no such job is claimed, and other kinds go on.
///
/// Blocking code cannot be taken off its thread. When the attempt is over before it returns, the job goes its
/// way, and the thread stays in use until it does return: look at [`Context::should_stop`] in long work.
pub trait BlockingHandler: Send + Sync + 'static {
    /// Runs one attempt.
    fn run(&self, context: Context) -> Outcome;
}
