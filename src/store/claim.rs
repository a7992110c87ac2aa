//! Takes jobs for a worker.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::finish::ids_and_claims;
use super::migrate::lock_key;
use super::session::Params;
use super::time::{JsonText, Moment};
use super::{Error, Store};
use crate::{ClaimId, Job, JobId, WorkerId};

/// The first half of the advisory locks by which claims take turns: "rowt".
const TURN_CLASS: i64 = 0x726f_7774;

/// So many claims go on at once: one alone would leave a processor idle whenever it waits for its commit.
const TURNS: i64 = 2;

/// Where in the order of jobs a claim begins: one lane is the jobs of one queue and one priority.
#[derive(Debug, Clone)]
pub struct Lane {
    /// The queue.
    pub queue: Arc<str>,
    /// The priority.
    pub priority: i16,
    /// Rows up to this one are passed over: due moment and id.
    pub after: (Moment, i64),
}

/// What to claim.
#[derive(Debug)]
pub struct ClaimOrder<'a> {
    /// Who claims.
    pub worker_id: WorkerId,
    /// The worker's own number of this claim; never used before.
    pub batch: i64,
    /// The kinds it may take.
    pub kinds: &'a [Arc<str>],
    /// The lanes to look at, in order.
    pub lanes: &'a [Lane],
    /// The most jobs to take.
    pub at_most: usize,
    /// Whether to wait for the claims of others with the same queues to end first.
    pub in_turn: bool,
}

/// A job just claimed, with the place it had.
#[derive(Debug)]
pub struct Claimed {
    /// The job.
    pub job: Arc<Job>,
    /// Its place in its lane.
    pub place: (Moment, i64),
}

impl Store {
    /// Claims due jobs, at most as many as ordered; none to take is an empty answer.
    ///
    /// They come in no particular order.
    pub async fn claim(&self, order: &ClaimOrder<'_>) -> Result<Vec<Claimed>, Error> {
        let queues: Vec<&str> = order.lanes.iter().map(|lane| &*lane.queue).collect();
        let priorities: Vec<i16> = order.lanes.iter().map(|lane| lane.priority).collect();
        let after_due_at: Vec<Moment> = order.lanes.iter().map(|lane| lane.after.0).collect();
        let after_id: Vec<i64> = order.lanes.iter().map(|lane| lane.after.1).collect();
        let kinds: Vec<&str> = order.kinds.iter().map(|kind| &**kind).collect();
        let at_most = order.at_most as i64;
        let params: Params<'_> = &[
            &order.worker_id,
            &order.batch,
            &kinds,
            &at_most,
            &queues,
            &priorities,
            &after_due_at,
            &after_id,
        ];
        let (mut kind_names, mut queue_names) = (Names::default(), Names::default());
        let mut jobs = Ok(Vec::new());
        // Each row is gone before the next is read: of large payloads there is never more than one twice.
        let each = |row: Row| match (&mut jobs, claimed(&row, &mut kind_names, &mut queue_names)) {
            (Ok(jobs), Ok(one)) => jobs.push(one),
            (Ok(_), Err(fault)) => jobs = Err(fault),
            (Err(_), _) => {}
        };
        if order.in_turn {
            let turn = turn_of(self.schema(), &queues, order.worker_id);
            Box::pin(self.query_in_turn(&self.statements.job_claim_in_turn, params, turn, each)).await?;
        } else {
            self.query_each(&self.statements.job_claim, params, each).await?;
        }
        jobs
    }

    /// Takes jobs over from the worker that holds them by these claims; what it holds no more is left out.
    pub async fn take_over(
        &self,
        worker_id: WorkerId,
        batch: i64,
        held: &[(JobId, ClaimId)],
    ) -> Result<Vec<Arc<Job>>, Error> {
        let (mut ids, claim_ids) = ids_and_claims(held.iter().copied());
        ids.sort_unstable();
        let params: Params<'_> = &[&worker_id, &batch, &ids, &claim_ids];
        let rows = self.query(&self.statements.jobs_take_over, params).await?;
        let (mut kinds, mut queues) = (Names::default(), Names::default());
        rows.iter().map(|row| Ok(claimed(row, &mut kinds, &mut queues)?.job)).collect()
    }

    /// The payload of a job that was too large to come with its claim, as JSON text; `None` when the claim holds the job
    /// no more.
    pub async fn payload(&self, job: &Job) -> Result<Option<Box<str>>, Error> {
        let params: Params<'_> = &[&job.id, &job.claim_id];
        let mut payload: Option<Box<str>> = None;
        let take = |row: Row| payload = Some(row.get::<_, JsonText<'_>>(0).0.into());
        self.query_each(&self.statements.job_payload, params, take).await?;
        Ok(payload)
    }

    /// Settles a claim whose answer was lost, and answers how many jobs it gave back, and of how many somebody has locked
    /// the rows: for these it is to be called again.
    pub async fn forget_claim(&self, worker_id: WorkerId, batch: i64) -> Result<(u64, u64), Error> {
        loop {
            let rows = self.query(&self.statements.claim_forget, &[&worker_id, &batch]).await?;
            if let Some(row) = rows.first() {
                return Ok((row.get::<_, i64>(0) as u64, row.get::<_, i64>(1) as u64));
            }
        }
    }
}

/// Names the turn of those who claim from these queues; each worker keeps to one of the two.
fn turn_of(schema: &str, queues: &[&str], worker_id: WorkerId) -> i64 {
    let mut names: Vec<&str> = queues.to_vec();
    names.sort_unstable();
    names.dedup();
    (TURN_CLASS << 32)
        | i64::from(lock_key(&format!("{schema} {} {}", worker_id.rem_euclid(TURNS), names.join(" "))))
}

/// Keeps one copy of each kind or queue name in a batch.
#[derive(Default)]
struct Names {
    all: HashSet<Arc<str>>,
    /// Neighbours mostly have the same one: then it need not be looked up.
    last: Option<Arc<str>>,
}

impl Names {
    fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(last) = self.last.as_ref().filter(|last| &***last == name) {
            return last.clone();
        }
        let known = self.all.get(name).cloned().unwrap_or_else(|| name.into());
        self.all.insert(known.clone());
        self.last = Some(known.clone());
        known
    }
}

/// The columns of a row one after the other: looking each up by its name took a third of a claim's time here.
struct Columns<'a> {
    row: &'a Row,
    next: usize,
}

impl<'a> Columns<'a> {
    fn next<T: FromSql<'a>>(&mut self) -> Result<T, Error> {
        self.next += 1;
        self.row.try_get(self.next - 1).map_err(|source| Error::Statement { statement: "job_claim", source })
    }
}

/// What few jobs have, as the column `extra` holds it.
#[derive(Default, Deserialize)]
struct Extra<'a> {
    crashes: i32,
    max_attempts: Option<i32>,
    #[serde(borrow)]
    backoff: Option<&'a RawValue>,
    timeout_ms: Option<i64>,
    cancelled: bool,
    traceparent: Option<String>,
    payload_bytes: usize,
}

fn readable(id: JobId, text: &str) -> Option<Extra<'_>> {
    serde_json::from_str(text)
        .inspect_err(|error| tracing::error!(job.id = id, %error, "the job runs without settings of its own"))
        .ok()
}

/// Reads a row, its columns in the order of `Returns` in `job_claim.sql`.
fn claimed(row: &Row, kinds: &mut Names, queues: &mut Names) -> Result<Claimed, Error> {
    let mut columns = Columns { row, next: 0 };
    let (id, claim_id) = (columns.next()?, columns.next()?);
    let (kind, queue) = (kinds.get(columns.next()?), queues.get(columns.next()?));
    let priority = columns.next()?;
    let payload: Option<JsonText<'_>> = columns.next()?;
    let attempt = columns.next()?;
    let (created_at, due_at, claimed_at): (Moment, Moment, Moment) =
        (columns.next()?, columns.next()?, columns.next()?);
    let expires_at: Option<Moment> = columns.next()?;
    let keep = columns.next()?;
    let extra: Option<JsonText<'_>> = columns.next()?;
    // One row that cannot be read must not keep the others of its batch from running.
    let extra: Extra<'_> = extra.and_then(|text| readable(id, text.0)).unwrap_or_default();
    let job = Job {
        id,
        claim_id,
        kind,
        queue,
        priority,
        payload: payload.as_ref().map_or("", |text| text.0).into(),
        payload_left: payload.is_none().then_some(extra.payload_bytes),
        attempt,
        crashes: extra.crashes,
        max_attempts: extra.max_attempts,
        backoff: extra.backoff.map(|json| json.get().into()),
        timeout: extra.timeout_ms.map(|ms| Duration::from_millis(ms.max(1) as u64)),
        expires_in: expires_at.map(|moment| moment.since(claimed_at)),
        age: claimed_at.since(created_at),
        // A job put in with a past run_at did not wait before it was there.
        waited: claimed_at.since(due_at.max(created_at)),
        cancel_requested: extra.cancelled,
        keep,
        traceparent: extra.traceparent.map(Into::into),
    };
    Ok(Claimed { job: Arc::new(job), place: (due_at, id) })
}
