//! What runs a job: the trait every handler implements, and the handlers that come with rowcrew.
//!
//! This floor knows no database. A handler gets a [`Context`] and answers with an
//! [`Outcome`](crate::Outcome); what becomes of the job is decided and written elsewhere.

mod registry;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::{Job, Outcome};

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
