//! Jobs to be, put together in Rust.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{Moment, NewJob, When};
use crate::Backoff;

/// Each setter fills the column of its name; what is not set is as in a plain insert.
impl NewJob {
    /// A job of this kind with this payload. Fails only for a payload that cannot be JSON.
    pub fn new(kind: impl Into<String>, payload: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self { kind: kind.into(), payload: serde_json::to_string(payload)?, ..Self::default() })
    }

    /// The lane it waits in.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// 0 (first) to 9 (last); 5 unless set.
    #[must_use]
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Not before: a [`Duration`] from now by the database's clock, a [`SystemTime`] or a `chrono` moment.
    #[must_use]
    pub fn run_at(mut self, when: impl Into<When>) -> Self {
        self.run_at = Some(when.into());
        self
    }

    /// Tries at most.
    #[must_use]
    pub fn max_attempts(mut self, attempts: i32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// The waits between its tries.
    #[must_use]
    pub fn backoff(mut self, backoff: &Backoff) -> Self {
        self.backoff = serde_json::to_string(backoff).ok();
        self
    }

    /// How long one try may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Not done by then, it is dead with the reason `expired`. Moments as for [`NewJob::run_at`].
    #[must_use]
    pub fn expires_at(mut self, when: impl Into<When>) -> Self {
        self.expires_at = Some(when.into());
        self
    }

    /// At most one unfinished job of a kind has this key: a second enqueue answers the first one.
    #[must_use]
    pub fn unique_key(mut self, key: impl Into<String>) -> Self {
        self.unique_key = Some(key.into());
        self
    }

    /// The tenant or other group it belongs to.
    #[must_use]
    pub fn group_key(mut self, key: impl Into<String>) -> Self {
        self.group_key = Some(key.into());
        self
    }

    /// Words to find it by.
    #[must_use]
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = Some(tags.into_iter().map(Into::into).collect());
        self
    }
}

impl From<Duration> for When {
    fn from(time: Duration) -> Self {
        Self::In(time)
    }
}

impl From<SystemTime> for When {
    fn from(time: SystemTime) -> Self {
        let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self::At(Moment::from_unix_micros(match time.duration_since(UNIX_EPOCH) {
            Ok(since) => micros(since),
            Err(before) => -micros(before.duration()),
        }))
    }
}

impl From<chrono::DateTime<chrono::Utc>> for When {
    fn from(time: chrono::DateTime<chrono::Utc>) -> Self {
        Self::At(Moment::from_unix_micros(time.timestamp_micros()))
    }
}
