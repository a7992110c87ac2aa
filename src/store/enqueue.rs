//! Puts jobs in, one at a time; [`super::Import`] puts in many.

use std::sync::OnceLock;
use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, GenericClient, Row};

use super::sql::Statement;
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
        let columns = Columns::of(job);
        let row = self.query_one(&self.statements.job_enqueue, &columns.params()).await?;
        Ok(enqueued(&row))
    }

    /// The same over a given connection.
    pub(super) async fn enqueue_over(&self, client: &Client, job: &NewJob) -> Result<Enqueued, Error> {
        let columns = Columns::of(job);
        let rows = self.send(client, &self.statements.job_enqueue, &columns.params()).await?;
        Ok(enqueued(&rows[0]))
    }
}

/// Enqueues a job over a client of the caller's, a `Client` or `Transaction` of `tokio_postgres` or
/// `deadpool_postgres`: in a transaction the job exists exactly if that commits.
///
/// For the schema `rowcrew`; [`enqueue_in`] names another one. One round trip, and it passes transaction-mode
/// poolers. Programs with another driver send [`crate::sql::ENQUEUE`].
pub async fn enqueue(client: &impl GenericClient, job: &NewJob) -> Result<Enqueued, Error> {
    static STATEMENT: OnceLock<Statement> = OnceLock::new();
    enqueue_with(STATEMENT.get_or_init(|| Statement::job_enqueue("rowcrew")), client, job).await
}

/// As [`enqueue`], for the tables in this schema.
pub async fn enqueue_in(schema: &str, client: &impl GenericClient, job: &NewJob) -> Result<Enqueued, Error> {
    enqueue_with(&Statement::job_enqueue(schema), client, job).await
}

async fn enqueue_with(
    statement: &Statement,
    client: &impl GenericClient,
    job: &NewJob,
) -> Result<Enqueued, Error> {
    let columns = Columns::of(job);
    let typed: Vec<_> = columns.params().into_iter().zip(statement.params.iter().cloned()).collect();
    let sent = client.query_typed_one(&statement.text, &typed).await;
    let row = sent.map_err(|source| Error::Statement { statement: statement.name, source })?;
    Ok(enqueued(&row))
}

fn enqueued(row: &Row) -> Enqueued {
    let id = row.get(0);
    if row.get(1) { Enqueued::Existing(id) } else { Enqueued::New(id) }
}

/// A job as `job_enqueue.sql` takes it.
struct Columns<'a> {
    job: &'a NewJob,
    payload: JsonText<'a>,
    queue: &'a str,
    priority: i32,
    run: (Option<Moment>, Option<i64>),
    backoff: Option<JsonText<'a>>,
    timeout: Option<Interval>,
    expires: (Option<Moment>, Option<i64>),
    meta: Option<JsonText<'a>>,
}

impl<'a> Columns<'a> {
    fn of(job: &'a NewJob) -> Self {
        Self {
            job,
            payload: JsonText(&job.payload),
            queue: job.queue_or_default(),
            priority: i32::from(job.priority_or_default()),
            run: When::halves(job.run_at),
            backoff: job.backoff.as_deref().map(JsonText),
            timeout: job.timeout.map(Interval),
            expires: When::halves(job.expires_at),
            meta: job.meta.as_deref().map(JsonText),
        }
    }

    fn params(&self) -> [&(dyn ToSql + Sync); 15] {
        [
            &self.job.kind,
            &self.payload,
            &self.queue,
            &self.priority,
            &self.run.0,
            &self.run.1,
            &self.job.max_attempts,
            &self.backoff,
            &self.timeout,
            &self.expires.0,
            &self.expires.1,
            &self.job.unique_key,
            &self.job.group_key,
            &self.job.tags,
            &self.meta,
        ]
    }
}
