//! What runs a job: the trait every handler implements, and the handlers that come with rowcrew.
//!
//! This floor knows no database. A handler gets a [`Context`] and answers with an
//! [`Outcome`]; what becomes of the job is decided and written elsewhere.

mod builtin;
mod command;
mod http;
mod output;
pub mod signature;
#[cfg(test)]
mod testing;

mod registry;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

pub use self::builtin::{Echo, Fail, Noop, Sleep};
pub use self::command::{CommandHandler, CommandSettings};
pub use self::http::{CONNECT_TIMEOUT_DEFAULT, HttpAuth, HttpHandler, HttpSettings, HttpTls};
pub use self::output::{RESULT_BYTES_MAX_DEFAULT, RESULT_BYTES_MAX_LIMIT};
use crate::{Failure, FailureClass, Job, Outcome};

pub use registry::{Entry, Registry, Runner};

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

/// What one attempt may know and use.
#[derive(Debug, Clone)]
pub struct Context {
    /// The job; its payload is JSON text.
    pub job: Arc<Job>,
    /// When the attempt is cut off.
    pub deadline: Instant,
    /// Set when the job is cancelled or the worker must stop; long work should look at it.
    pub cancelled: CancellationToken,
}

/// Why an attempt was broken off before its work had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Cancelled,
    Deadline,
}

impl Context {
    /// Awaits the work as long as the attempt may last; work that is cut off is dropped.
    async fn within<F: Future>(&self, work: F) -> Result<F::Output, Cut> {
        tokio::select! {
            // Work that has ended is worth more than the news that it should end.
            biased;
            output = work => Ok(output),
            () = self.cancelled.cancelled() => Err(Cut::Cancelled),
            () = tokio::time::sleep_until(self.deadline.into()) => Err(Cut::Deadline),
        }
    }
}

impl Cut {
    fn failure(self, what: &str) -> Failure {
        let (class, why) = match self {
            Self::Cancelled => {
                (FailureClass::Cancelled, "broken off: the job was cancelled or the worker must stop")
            }
            Self::Deadline => (FailureClass::Timeout, "not done when the attempt's time was over"),
        };
        Failure::retry(class, format!("{what}: {why}"))
    }
}
