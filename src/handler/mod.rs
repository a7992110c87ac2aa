//! What runs a job: the trait every handler implements, and the handlers that come with rowcrew.
//!
//! This floor knows no database. A handler gets a [`Context`] and answers with an
//! [`Outcome`]; what becomes of the job is decided and written elsewhere.

mod builtin;
mod child;
mod command;
mod http;
mod output;
pub mod signature;
#[cfg(test)]
mod testing;

mod context;
mod registry;
mod typed;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use self::builtin::{Block, Echo, Fail, Noop, Sleep};
pub use self::child::guard;
pub use self::command::{CommandHandler, CommandSettings, limits};
use self::context::Cut;
pub use self::http::{HttpHandler, HttpSettings};
pub use self::output::{RESULT_BYTES_MAX_DEFAULT, RESULT_BYTES_MAX_LIMIT};
use crate::Outcome;

pub use context::{Context, Desk, PROGRESS_BYTES_MAX};
pub use registry::{Entry, Registry, Runner};
pub use typed::{IntoBlocking, IntoFailure, IntoHandler};

/// What a handler's work is, boxed so that handlers of every sort stand in one registry.
pub type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Runs the jobs of one or more kinds.
///
/// Delivery is at-least-once: a job whose worker died runs again, so the work must bear repetition.
/// Dropping the returned future must end the work, child processes included; the worker drops it when
/// the attempt's time is over, when the job is cancelled, and when it may no longer hold the job.
pub trait Handler: Send + Sync + 'static {
    /// Starts one attempt.
    fn run(self: Arc<Self>, context: Context) -> Work;
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
