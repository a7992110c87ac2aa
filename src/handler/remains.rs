//! What an attempt leaves to end when its handler is done or dropped: processes that are being killed.
//!
//! A dropped future can wait for nothing. So whoever ends something behind the attempt's back takes a token, and the
//! worker writes the job's end only when all tokens are back: what still ran then would run beside the next attempt.

use std::sync::OnceLock;

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Held by something of an attempt that must be gone before the attempt is over.
pub type Remainder = TaskTrackerToken;

/// Counts what is left of one attempt. Costs nothing while nobody takes a token.
#[derive(Debug, Default)]
pub struct Remains(OnceLock<TaskTracker>);

impl Remains {
    /// A token, which is given back by dropping it.
    pub fn remainder(&self) -> Remainder {
        self.0.get_or_init(TaskTracker::new).token()
    }

    /// Whether a token is out.
    pub fn any(&self) -> bool {
        self.0.get().is_some_and(|tracker| !tracker.is_empty())
    }

    /// Returns when all tokens are back.
    pub async fn gone(&self) {
        if let Some(tracker) = self.0.get() {
            tracker.close();
            tracker.wait().await;
        }
    }
}
