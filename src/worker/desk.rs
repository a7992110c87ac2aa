//! What a running handler may ask of its worker: to report progress, to open a transaction that commits with the
//! finish, to enqueue more jobs with it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::Shared;
use crate::handler::{self, Context, Remains};
use crate::store::{NewJob, SqlRun, Transaction, TransactionSlot};
use crate::{Failure, Job, Outcome, Success, Verdict};

/// The desk of one attempt.
pub(super) struct Desk {
    /// Weak: a thread that never returns holds its desk, and must not keep the worker's connections open.
    shared: Weak<Shared>,
    job: Arc<Job>,
    /// Made by the first job that asks for a transaction, which most never do; only under the lock of the next.
    slot: OnceLock<TransactionSlot>,
    /// Jobs to enqueue with the finish; `None` once the attempt is over, and then nothing more is taken or opened.
    enqueued: Mutex<Option<Vec<NewJob>>>,
    /// What must be gone before the job's end is written.
    pub(super) remains: Remains,
}

/// What became of an attempt whose handler has answered.
pub(super) enum Settled {
    /// Nothing is written yet.
    Answered(Outcome),
    /// The finish is committed, with all that went with it.
    Committed,
    /// The job was not held any more; nothing is committed.
    ClaimLost,
    /// Nothing is committed: no connection was to be had.
    NoConnection(String),
    /// Nothing is committed: the connection broke.
    Broken(String),
    /// It may be committed.
    Uncertain(String),
}

impl Desk {
    pub(super) fn new(shared: &Arc<Shared>, job: &Arc<Job>) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::downgrade(shared),
            job: job.clone(),
            slot: OnceLock::new(),
            enqueued: Mutex::new(Some(Vec::new())),
            remains: Remains::default(),
        })
    }

    /// Commits what the handler left here with the job's finish, or rolls it back.
    pub(super) async fn settle(&self, shared: &Shared, outcome: Outcome) -> Settled {
        let enqueued = self.lock().take().unwrap_or_default();
        let slot = self.slot.get();
        match outcome {
            Ok(Success::Done(result))
                if slot.is_some_and(TransactionSlot::is_used) || !enqueued.is_empty() =>
            {
                let kept = (result.as_deref(), shared.keeps(&self.job));
                let slot = self.slot.get_or_init(TransactionSlot::default);
                let finish = shared.sql_store.finish_in(slot, &self.job, kept, &enqueued);
                // Boxed, as is the other: what few jobs need would be the size of every job.
                match Box::pin(finish).await {
                    SqlRun::Committed => Settled::Committed,
                    SqlRun::ClaimLost => Settled::ClaimLost,
                    SqlRun::Failed(failure) => Settled::Answered(Err(failure)),
                    SqlRun::NoConnection(why) => Settled::NoConnection(why),
                    SqlRun::Broken(why) => Settled::Broken(why),
                    SqlRun::Uncertain(why) => Settled::Uncertain(why),
                }
            }
            outcome => {
                let works = match slot {
                    Some(slot) => Box::pin(shared.sql_store.roll_back(slot)).await,
                    None => true,
                };
                match outcome {
                    // Whatever the handler makes of it: its statements could not work.
                    Err(Failure { verdict: Verdict::Retry, message, .. }) if !works => {
                        Settled::Broken(message)
                    }
                    outcome => Settled::Answered(outcome),
                }
            }
        }
    }

    /// Where the attempt's transaction is.
    fn slot(&self) -> Result<&TransactionSlot, Failure> {
        match &*self.lock() {
            Some(_) => Ok(self.slot.get_or_init(TransactionSlot::default)),
            None => Err(Failure::retry("the attempt is over: no transaction can be opened any more")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<NewJob>>> {
        self.enqueued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl handler::Desk for Desk {
    fn progress(&self, json: String) {
        if let Some(shared) = self.shared.upgrade() {
            shared.reports.put(&self.job, json);
        }
    }

    fn remains(&self) -> &Remains {
        &self.remains
    }
}

/// Closes the desk when the attempt is over, in whatever way: code that outlives it changes nothing any more.
pub(super) struct Hours(pub(super) Arc<Desk>);

impl Drop for Hours {
    fn drop(&mut self) {
        self.0.lock().take();
        if let Some(slot) = self.0.slot.get() {
            slot.close();
        }
    }
}

/// Needs a worker around it; a context that was made by hand has none.
impl Context {
    /// Opens the job's transaction: what is written in it commits with the job's finish, in one step, if the
    /// handler answers `Ok`, and is rolled back otherwise. So its effect happens exactly once, though the handler
    /// may run more often.
    ///
    /// It is a `tokio_postgres::Client` to the worker's database with the role's own `search_path`. Drop it
    /// before the handler returns; opened again, it is the same transaction. So many jobs at once can have one as
    /// `worker.sql_connections` says, others wait for theirs: open it late, and make no slow calls in between.
    pub async fn transaction(&self) -> Result<Transaction, Failure> {
        let desk = self.own_desk()?;
        let left = self.deadline.saturating_duration_since(Instant::now());
        let shared = desk.shared.upgrade().ok_or_else(|| Failure::retry("the worker has stopped"))?;
        shared.sql_store.open_in(desk.slot()?, left.max(Duration::from_millis(1))).await
    }

    /// Enqueues a job with this job's finish: if the handler answers `Ok` it is there, exactly once; otherwise it
    /// never was.
    pub fn enqueue(&self, job: NewJob) -> Result<(), Failure> {
        let desk = self.own_desk()?;
        match &mut *desk.lock() {
            Some(enqueued) => enqueued.push(job),
            None => {
                return Err(Failure::retry("the attempt is over: nothing can be enqueued with it any more"));
            }
        }
        Ok(())
    }

    fn own_desk(&self) -> Result<&Desk, Failure> {
        self.desk().ok_or_else(|| {
            Failure::bury(
                "this context has no worker: transactions and enqueue need one (see rowcrew::testing)",
            )
        })
    }
}
