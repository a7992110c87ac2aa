//! Puts jobs in, one at a time; [`super::Import`] puts in many.

use std::sync::OnceLock;
use std::time::Duration;

use tokio_postgres::error::SqlState;
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

impl Enqueued {
    /// The job, new or not.
    pub fn id(self) -> JobId {
        let (Self::New(id) | Self::Existing(id)) = self;
        id
    }
}

/// How often an enqueue is tried whose connection was cut before its commit.
const TRIES: u32 = 5;
/// How often the fate of a commit without an answer is asked for, and the pause between.
const INQUIRIES: u32 = 20;
const INQUIRY_PAUSE: Duration = Duration::from_millis(500);

impl Store {
    /// Inserts a job, unless its `unique_key` is taken; exactly one, also when the connection is cut meanwhile.
    ///
    /// The transaction's number is known before its commit is sent. If the commit is not answered, the server is
    /// asked what became of that number, and the job is inserted again only if nothing did.
    pub async fn enqueue(&self, job: &NewJob) -> Result<Enqueued, Error> {
        for _ in 1..TRIES {
            match self.enqueue_once(job).await {
                Ok(Some(enqueued)) => return Ok(enqueued),
                Ok(None) => {}
                // What was never sent is for the caller to try again.
                Err(error) if !error.was_sent() || !error.is_transient() => return Err(error),
                Err(error) => tracing::debug!(%error, "an enqueue is tried again"),
            }
        }
        let unanswered = || self.no_connection("it was cut off before every commit".to_owned());
        self.enqueue_once(job).await?.ok_or_else(unanswered)
    }

    /// `None`: the commit was not answered, and did not happen.
    async fn enqueue_once(&self, job: &NewJob) -> Result<Option<Enqueued>, Error> {
        let mut lent = self.lend().await?;
        let inserted = self.insert_uncommitted(lent.client(), job).await;
        let (enqueued, transaction) = match inserted {
            Ok(inserted) => inserted,
            Err(error) => {
                lent.settled =
                    error.sqlstate().is_some() && lent.client().batch_execute("rollback").await.is_ok();
                return Err(error);
            }
        };
        let limit = self.shared.answer_limit;
        let commit = tokio::time::timeout(limit, lent.client().batch_execute("commit")).await;
        let error = match commit {
            Ok(Ok(())) => {
                lent.settled = true;
                return Ok(Some(enqueued));
            }
            Ok(Err(source)) => Error::Statement { statement: "job_enqueue", source },
            Err(_) => Error::NoAnswer { statement: "job_enqueue", seconds: limit.as_secs() },
        };
        drop(lent);
        self.note(&error);
        if !error.is_transient() {
            return Err(error);
        }
        match self.fate_of(&transaction).await {
            Some(true) => Ok(Some(enqueued)),
            Some(false) => Ok(None),
            None => Err(Error::Input(format!(
                "it is not known whether the job was enqueued as {}: the database did not answer the commit \
                 ({error}). To find out, before any second try: select pg_xact_status('{transaction}'), which says \
                 committed or aborted",
                enqueued.id()
            ))),
        }
    }

    /// Whether a transaction has committed; `None` if nobody can tell.
    async fn fate_of(&self, transaction: &str) -> Option<bool> {
        for _ in 0..INQUIRIES {
            match self.query_one(&self.statements.import_outcome, &[&transaction]).await {
                Ok(row) => match row.get::<_, Option<&str>>(0) {
                    Some("committed") => return Some(true),
                    Some("aborted") => return Some(false),
                    Some(_) => {}
                    None => return None,
                },
                // A server that has not come so far has not seen the transaction: it was promoted without it.
                Err(error) if error.sqlstate() == Some(&SqlState::INVALID_PARAMETER_VALUE) => {
                    return Some(false);
                }
                Err(error) if !error.is_transient() => return None,
                Err(_) => {}
            }
            tokio::time::sleep(INQUIRY_PAUSE.mul_f64(0.5 + fastrand::f64())).await;
        }
        None
    }

    /// Answers the number of the open transaction, too.
    async fn insert_uncommitted(
        &self,
        client: &tokio_postgres::Client,
        job: &NewJob,
    ) -> Result<(Enqueued, String), Error> {
        let begin = self.begin();
        let opened = client.batch_execute(&begin);
        let named = self.send_inside(client, &self.statements.import_begin, &[]);
        // In one go; an error of the first makes the second fail too.
        let (opened, named) = futures_util::join!(opened, named);
        opened.map_err(|source| Error::Statement { statement: "job_enqueue", source })?;
        let transaction = named?[0].get(1);
        let enqueued = self.enqueue_over(client, job).await?;
        Ok((enqueued, transaction))
    }

    /// Inserts a job in the open transaction of a given connection.
    pub(super) async fn enqueue_over(&self, client: &Client, job: &NewJob) -> Result<Enqueued, Error> {
        let columns = Columns::of(job);
        let rows = self.send_inside(client, &self.statements.job_enqueue, &columns.params()).await?;
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
