//! What keeps the tables small and the figures true; each may run on any replica at any time.

use super::{Error, Store};
use crate::WorkerId;

/// How long what is over is kept.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// Whole days of finished jobs; 0: none.
    pub finished_days: i32,
    /// Days of dead letters.
    pub dead_days: i32,
    /// Days of statistics and events.
    pub stats_days: i32,
}

/// Rows that one statement of a duty touches at most, so that none holds its locks for long.
const ROWS_AT_ONCE: i64 = 1_000;

impl Store {
    /// Buries jobs whose time was over before they were begun; answers queue, kind and how many.
    pub async fn expire(&self) -> Result<Vec<(String, String, i64)>, Error> {
        let rows = self.query(&self.statements.job_expire, &[&ROWS_AT_ONCE]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
    }

    /// Makes the coming partitions and drops the past ones; answers how many of each.
    pub async fn prune_finished(&self, kept: Kept) -> Result<(i32, i32), Error> {
        let row = self.query_one(&self.statements.finished_prune, &[&kept.finished_days]).await?;
        Ok((row.get(0), row.get(1)))
    }

    /// Deletes old dead letters; answers how many.
    pub async fn prune_dead(&self, kept: Kept) -> Result<usize, Error> {
        let mut pruned = 0;
        loop {
            let rows = self.query(&self.statements.dead_prune, &[&kept.dead_days, &ROWS_AT_ONCE]).await?;
            pruned += rows.len();
            if (rows.len() as i64) < ROWS_AT_ONCE {
                return Ok(pruned);
            }
        }
    }

    /// Sums old statistics up and deletes older ones.
    pub async fn tidy_stats(&self, kept: Kept) -> Result<(), Error> {
        self.query(&self.statements.stats_fold, &[]).await?;
        self.query(&self.statements.stats_prune, &[&kept.stats_days]).await.map(drop)
    }

    /// Removes what is behind the newest frontiers.
    pub async fn prune_frontiers(&self) -> Result<(), Error> {
        self.execute(&self.statements.frontiers_prune, &[]).await.map(drop)
    }

    /// Counts the unfinished jobs of each queue for the minute that begins.
    pub async fn sample_depths(&self) -> Result<(), Error> {
        self.query(&self.statements.depth_sample, &[]).await.map(drop)
    }

    /// Writes what a worker has counted: rows of `job_stats` as a JSON array.
    pub async fn flush_stats(&self, worker_id: WorkerId, rows: &serde_json::Value) -> Result<(), Error> {
        self.query(&self.statements.stats_flush, &[&worker_id, rows]).await.map(drop)
    }
}
