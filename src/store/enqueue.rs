//! Puts jobs in, one at a time; [`super::Import`] puts in many.

use std::time::Duration;

use super::time::{Interval, JsonText, Moment};
use super::{Error, Store};
use crate::{JobId, PRIORITY_NORMAL};

/// A moment as a person names it. Relative ones are counted by the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// A point in time.
    At(Moment),
    /// So long from now.
    In(Duration),
}

impl When {
    /// The two halves of it, as statements take them: the moment, or milliseconds from now.
    pub(super) fn halves(when: Option<Self>) -> (Option<Moment>, Option<i64>) {
        match when {
            Some(Self::At(moment)) => (Some(moment), None),
            Some(Self::In(time)) => (None, Some(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))),
            None => (None, None),
        }
    }

    /// The moment, by a clock that shows `now`.
    pub(super) fn by(self, now: Moment) -> Moment {
        match self {
            Self::At(moment) => moment,
            Self::In(time) => {
                Moment(now.0.saturating_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)))
            }
        }
    }
}

/// A job to be: the columns a user may set. `None` leaves a column as an insert without it does.
#[derive(Debug, Clone, Default)]
pub struct NewJob {
    /// Which handler runs it.
    pub kind: String,
    /// JSON text.
    pub payload: String,
    /// The lane.
    pub queue: Option<String>,
    /// 0 (first) to 9 (last).
    pub priority: Option<i16>,
    /// Not before this moment.
    pub run_at: Option<When>,
    /// Tries at most.
    pub max_attempts: Option<i32>,
    /// Waits between tries: JSON text.
    pub backoff: Option<String>,
    /// Time limit of a try.
    pub timeout: Option<Duration>,
    /// Dead if not done by then.
    pub expires_at: Option<When>,
    /// At most one unfinished job of a kind has it.
    pub unique_key: Option<String>,
    /// Tenant or other group.
    pub group_key: Option<String>,
    /// Words to find it by.
    pub tags: Option<Vec<String>>,
    /// What is not for the handler: JSON text.
    pub meta: Option<String>,
}

impl NewJob {
    pub(super) fn queue_or_default(&self) -> &str {
        self.queue.as_deref().unwrap_or("default")
    }

    pub(super) fn priority_or_default(&self) -> i16 {
        self.priority.unwrap_or(PRIORITY_NORMAL)
    }
}

/// What an enqueue came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// A new job.
    New(JobId),
    /// An unfinished job of the kind has the same `unique_key`; nothing was inserted.
    Existing(JobId),
}

impl Store {
    /// Inserts a job, unless its `unique_key` is taken.
    pub async fn enqueue(&self, job: &NewJob) -> Result<Enqueued, Error> {
        let (run_at, run_in_ms) = When::halves(job.run_at);
        let (expires_at, expires_in_ms) = When::halves(job.expires_at);
        let row = self
            .query_one(
                &self.statements.job_enqueue,
                &[
                    &job.kind,
                    &JsonText(&job.payload),
                    &job.queue_or_default(),
                    &i32::from(job.priority_or_default()),
                    &run_at,
                    &run_in_ms,
                    &job.max_attempts,
                    &job.backoff.as_deref().map(JsonText),
                    &job.timeout.map(Interval),
                    &expires_at,
                    &expires_in_ms,
                    &job.unique_key,
                    &job.group_key,
                    &job.tags,
                    &job.meta.as_deref().map(JsonText),
                ],
            )
            .await?;
        let id = row.get(0);
        Ok(if row.get(1) { Enqueued::Existing(id) } else { Enqueued::New(id) })
    }
}
