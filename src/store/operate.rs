//! What people do to jobs, dead letters and queues. Each change leaves an event.

use super::enqueue::When;
use super::look::DeadFilter;
use super::time::{JsonText, Moment};
use super::{Error, Store};
use crate::JobId;

impl Store {
    /// Cancels a job: `cancelled`, `cancelling`, `finished`, `dead` or `unknown`.
    pub async fn cancel(&self, id: JobId) -> Result<String, Error> {
        Ok(self.query_one(&self.statements.job_cancel, &[&id]).await?.get(0))
    }

    /// Makes a job run now: `due` or `revived`; or says why not: `taken` (its `unique_key`), `available`,
    /// `running`, `waiting`, `finished` or `unknown`.
    pub async fn retry(&self, id: JobId) -> Result<String, Error> {
        Ok(self.query_one(&self.statements.job_retry, &[&id]).await?.get(0))
    }

    /// Puts a dead job back: `revived`, `taken` (its `unique_key`) or `unknown`.
    pub async fn revive(&self, id: JobId) -> Result<String, Error> {
        Ok(self.query_one(&self.statements.dead_revive, &[&id]).await?.get(0))
    }

    /// Puts dead jobs back, the oldest death first; answers how many. The filter may not be empty.
    pub async fn revive_many(&self, filter: &DeadFilter, at_most: i32) -> Result<i64, Error> {
        let DeadFilter { kind, queue, reason, fingerprint } = filter;
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [kind, queue, reason, &at_most, fingerprint];
        let row = self.query_one(&self.statements.dead_revive_many, &params).await?;
        Ok(row.get(0))
    }

    /// Deletes dead jobs for good; answers those that there were.
    pub async fn discard(&self, ids: &[JobId]) -> Result<Vec<JobId>, Error> {
        let rows = self.query(&self.statements.dead_discard, &[&ids]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Deletes those that were dead at a moment, so many of them; answers how many.
    pub async fn discard_many(
        &self,
        filter: &DeadFilter,
        dead_at: Moment,
        at_most: i64,
    ) -> Result<i64, Error> {
        let DeadFilter { kind, queue, reason, fingerprint } = filter;
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [kind, queue, reason, &dead_at, &at_most, fingerprint];
        Ok(self.query_one(&self.statements.dead_discard_many, &params).await?.get(0))
    }

    /// Gives a dead job another payload (JSON text): `edited`, `too large` or `unknown`.
    pub async fn edit_dead(&self, id: JobId, payload: &str, bytes_max: i32) -> Result<String, Error> {
        let row = self.query_one(&self.statements.dead_edit, &[&id, &JsonText(payload), &bytes_max]).await?;
        Ok(row.get(0))
    }

    /// Pauses a queue, with `None` until it is resumed; answers until when.
    pub async fn pause(&self, queue: &str, until: Option<When>) -> Result<String, Error> {
        let (until, for_ms) = When::halves(until);
        Ok(self.query_one(&self.statements.queue_pause, &[&queue, &until, &for_ms]).await?.get(1))
    }

    /// Ends the pause of a queue; answers whether there was one.
    pub async fn resume(&self, queue: &str) -> Result<bool, Error> {
        Ok(self.query_one(&self.statements.queue_resume, &[&queue]).await?.get(0))
    }

    /// Deletes jobs of a queue that are not running; answers how many.
    pub async fn purge(&self, queue: &str, at_most: i32) -> Result<i64, Error> {
        Ok(self.query_one(&self.statements.queue_purge, &[&queue, &at_most]).await?.get(0))
    }

    /// Sets whether finished jobs of a queue are dropped at once.
    pub async fn set_retention(&self, queue: &str, keep_none: bool) -> Result<(), Error> {
        self.query(&self.statements.queue_set, &[&queue, &keep_none]).await.map(drop)
    }
}
