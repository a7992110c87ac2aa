//! What people look at: jobs, dead letters, queues, workers, figures.
//!
//! Rows come as JSON objects in the words of Postgres, so that numbers in them keep all their digits.

use serde_json::value::RawValue;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::time::Moment;
use super::{Error, Store};
use crate::JobId;

/// A row as a JSON object.
pub type Record = Box<RawValue>;

/// Which jobs to list; `None` is all.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// In the words of `job_status`.
    pub state: Option<String>,
    /// The lane.
    pub queue: Option<String>,
    /// The kind.
    pub kind: Option<String>,
    /// One of its tags.
    pub tag: Option<String>,
    /// Only smaller ids.
    pub after: Option<JobId>,
}

/// A page of jobs.
#[derive(Debug)]
pub struct JobPage {
    /// The jobs, the largest id first.
    pub jobs: Vec<Record>,
    /// Where to go on, when there may be more.
    pub next_after: Option<JobId>,
    /// The page is short because the look ended here, not because there is nothing more.
    pub cut: bool,
}

/// Which dead jobs are meant; `None` is all.
#[derive(Debug, Clone, Default)]
pub struct DeadFilter {
    /// The kind.
    pub kind: Option<String>,
    /// The lane it was in.
    pub queue: Option<String>,
    /// Why it died.
    pub reason: Option<String>,
    /// The failure it died of.
    pub fingerprint: Option<String>,
}

/// Everything kept of one job.
#[derive(Debug)]
pub struct JobShown {
    /// In the words of `job_status`.
    pub state: String,
    /// All columns, and `why`.
    pub job: Record,
    /// The payload, printed for people.
    pub payload: String,
    /// The result, printed for people.
    pub result: Option<String>,
}

impl JobFilter {
    fn is_set(&self) -> bool {
        self.state.is_some() || self.queue.is_some() || self.kind.is_some() || self.tag.is_some()
    }

    /// Whether jobs of one of these states are asked for.
    fn wants(&self, states: &[&str]) -> bool {
        self.state.as_deref().is_none_or(|state| states.contains(&state))
    }
}

impl Store {
    /// Lists jobs, the largest id first. With a filter it looks at no more than 100,000 rows of each table.
    pub async fn list_jobs(&self, filter: &JobFilter, at_most: i64) -> Result<JobPage, Error> {
        let held = filter.state.as_deref() == Some("running");
        let live = !held && filter.wants(&["scheduled", "available", "retrying", "waiting"]);
        let finished = filter.wants(&["completed", "cancelled"]);
        let dead = filter.wants(&["dead"]);
        let after = filter.after.unwrap_or(i64::MAX);
        let mut horizon = None;
        if filter.is_set() {
            let row =
                self.query_one(&self.statements.jobs_horizon, &[&after, &live, &finished, &dead]).await?;
            horizon = row.get(0);
        }
        let rows = self
            .query(
                &self.statements.jobs_list,
                &[
                    &after,
                    &filter.state,
                    &filter.queue,
                    &filter.kind,
                    &filter.tag,
                    &live,
                    &held,
                    &finished,
                    &dead,
                    &horizon.unwrap_or(i64::MIN),
                    &at_most,
                ],
            )
            .await?;
        let full = rows.len() as i64 >= at_most;
        let last = rows.last().map(|row| row.get(0));
        Ok(JobPage {
            jobs: rows.iter().map(|row| record(row, 1)).collect(),
            next_after: if full { last } else { horizon },
            cut: !full && horizon.is_some(),
        })
    }

    /// Shows everything kept of one job; `None` when there is no trace of it.
    pub async fn show_job(&self, id: JobId) -> Result<Option<JobShown>, Error> {
        let rows = self.query(&self.statements.job_show, &[&id]).await?;
        Ok(rows.first().map(|row| JobShown {
            state: row.get(0),
            job: record(row, 1),
            payload: row.get(2),
            result: row.get(3),
        }))
    }

    /// Lists dead jobs, the latest death first, among the 100,000 latest.
    pub async fn list_dead(&self, filter: &DeadFilter, at_most: i64) -> Result<Vec<Record>, Error> {
        let DeadFilter { kind, queue, reason, fingerprint } = filter;
        let params: [&(dyn ToSql + Sync); 5] = [kind, queue, reason, &at_most, fingerprint];
        let rows = self.query(&self.statements.dead_list, &params).await?;
        Ok(rows.iter().map(|row| record(row, 0)).collect())
    }

    /// Groups dead jobs by what went wrong, the largest group first, among the 100,000 latest.
    pub async fn group_dead(&self, filter: &DeadFilter, at_most: i64) -> Result<Vec<Record>, Error> {
        let DeadFilter { kind, queue, reason, fingerprint } = filter;
        let params: [&(dyn ToSql + Sync); 5] = [kind, queue, reason, fingerprint, &at_most];
        let rows = self.query(&self.statements.dead_groups, &params).await?;
        Ok(rows.iter().map(|row| record(row, 0)).collect())
    }

    /// Counts dead jobs, and tells the moment for which the count holds.
    pub async fn count_dead(&self, filter: &DeadFilter, at_most: i64) -> Result<(i64, Moment), Error> {
        let DeadFilter { kind, queue, reason, fingerprint } = filter;
        let params: [&(dyn ToSql + Sync); 5] = [kind, queue, reason, &at_most, fingerprint];
        let row = self.query_one(&self.statements.dead_count, &params).await?;
        Ok((row.get(0), row.get(1)))
    }

    /// Lists the queues that have jobs, settings or a recent past.
    pub async fn list_queues(&self) -> Result<Vec<Record>, Error> {
        Ok(records(&self.query(&self.statements.queues_list, &[]).await?))
    }

    /// Lists the workers of the crew.
    pub async fn list_workers(&self) -> Result<Vec<Record>, Error> {
        Ok(records(&self.query(&self.statements.workers_list, &[]).await?))
    }

    /// Reads the figures of the moment.
    pub async fn read_stats(&self) -> Result<Record, Error> {
        Ok(record(&self.query_one(&self.statements.stats_read, &[]).await?, 0))
    }
}

/// Rows of one column each.
pub(super) fn records(rows: &[Row]) -> Vec<Record> {
    rows.iter().map(|row| record(row, 0)).collect()
}

fn record(row: &Row, column: usize) -> Record {
    RawValue::from_string(row.get(column)).expect("the server prints valid JSON")
}
