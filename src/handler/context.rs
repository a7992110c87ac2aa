//! What one attempt may know and use.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Remainder, Remains};
use crate::{Failure, FailureClass, Job};

/// The longest progress report, in bytes of JSON: it is for people to look at, and written again and again.
pub const PROGRESS_BYTES_MAX: usize = 16 * 1024;

/// What one attempt may know and use. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// The job; its payload is JSON text.
    pub job: Arc<Job>,
    /// When the attempt is cut off.
    pub deadline: Instant,
    /// Set when the job is cancelled or the worker must stop; long work should look at it.
    pub cancelled: CancellationToken,
    /// Where the worker takes what a handler wants of it; none outside of a worker.
    desk: Option<Arc<dyn Desk>>,
}

/// What a worker does for a running handler.
///
/// A door so narrow because this floor knows no database: a worker's own methods of [`Context`] find their own
/// desk behind it.
pub trait Desk: Any + Send + Sync {
    /// Notes how far the job is: JSON text.
    fn progress(&self, json: String);

    /// What must be gone before the job's end is written.
    fn remains(&self) -> &Remains;
}

impl fmt::Debug for dyn Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk")
    }
}

/// Why an attempt was broken off before its work had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Cancelled,
    Deadline,
}

impl Context {
    /// A context without a worker: what it is told of progress is dropped, and it has no transactions.
    pub fn new(job: Arc<Job>, deadline: Instant, cancelled: CancellationToken) -> Self {
        Self { job, deadline, cancelled, desk: None }
    }

    /// The same with a worker's desk.
    #[must_use]
    pub fn with_desk(self, desk: Arc<dyn Desk>) -> Self {
        Self { desk: Some(desk), ..self }
    }

    /// The worker's desk, by its own type.
    pub fn desk<T: Desk>(&self) -> Option<&T> {
        let desk: &dyn Any = &**self.desk.as_ref()?;
        desk.downcast_ref()
    }

    /// Which try this is: 1 on the first.
    pub fn attempt(&self) -> i32 {
        self.job.attempt
    }

    /// Whether the work should end: the job is cancelled, the worker stops, or the attempt's time is over.
    pub fn should_stop(&self) -> bool {
        self.cancelled.is_cancelled() || Instant::now() >= self.deadline
    }

    /// Says how far the job is, for people who look at it (`jobs.progress`, `rowcrew jobs show`).
    ///
    /// Call it as often as you like, from blocking code too: the last word is written once a second, and only
    /// while the job still runs under this claim. Progress of more than [`PROGRESS_BYTES_MAX`] bytes is dropped
    /// with a line in the log.
    pub fn progress(&self, progress: impl Serialize) {
        match serde_json::to_string(&progress) {
            Ok(json) if json.len() <= PROGRESS_BYTES_MAX => {
                if let Some(desk) = &self.desk {
                    desk.progress(json);
                }
            }
            Ok(json) => tracing::warn!(
                job.id = self.job.id,
                bytes = json.len(),
                most = PROGRESS_BYTES_MAX,
                "a progress report is too long"
            ),
            Err(error) => tracing::warn!(job.id = self.job.id, %error, "a progress report is no JSON"),
        }
    }

    /// Has the worker wait with the job's end until the token is dropped; none without a worker.
    pub(super) fn remainder(&self) -> Option<Remainder> {
        self.desk.as_ref().map(|desk| desk.remains().remainder())
    }

    /// Waits for a future in a blocking handler. Panics in an async one, where `.await` does it.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        tokio::runtime::Handle::current().block_on(future)
    }

    /// Awaits the work as long as the attempt may last; work that is cut off is dropped.
    pub(super) async fn within<F: Future>(&self, work: F) -> Result<F::Output, Cut> {
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
    pub(super) fn failure(self, what: &str) -> Failure {
        let (class, why) = match self {
            Self::Cancelled => {
                (FailureClass::Cancelled, "broken off: the job was cancelled or the worker must stop")
            }
            Self::Deadline => (FailureClass::Timeout, "not done when the attempt's time was over"),
        };
        Failure::retry_as(class, format!("{what}: {why}"))
    }
}
