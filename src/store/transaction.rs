//! A transaction that a handler writes in and that commits together with the finish of its job: both or neither.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Client;

use super::session::Lent;
use super::sql_run::{OURS, failure};
use super::{Error, NewJob, SqlRun, Store};
use crate::{Failure, FailureClass, Job};

/// How long a rollback may take before the connection is closed instead, which rolls back as well.
const ROLLBACK_MAX: Duration = Duration::from_secs(1);

/// An open transaction, as a `tokio_postgres::Client`: send it any statement.
///
/// It commits when the handler answers `Ok`, in one step with the job's finish, and only if the job is still held
/// by this worker. On any other end, a crash included, it is rolled back. Drop it before the handler returns; do
/// not send `commit` or `rollback` yourself (savepoints are fine).
pub struct Transaction {
    lent: Option<Lent>,
    slot: TransactionSlot,
}

/// Where the transaction of one attempt is.
#[derive(Clone, Default)]
pub struct TransactionSlot(Arc<Mutex<Place>>);

#[derive(Default)]
enum Place {
    #[default]
    NotOpen,
    /// The handler has it.
    Out,
    /// The handler is done with it.
    Back(Box<Lent>),
    /// The attempt is over.
    Closed,
}

impl Deref for Transaction {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.lent.as_ref().expect("there until dropped").client()
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transaction")
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let mut place = self.slot.lock();
        // After the attempt's end nobody would commit it: the connection is closed.
        if let (Place::Out, Some(lent)) = (&*place, self.lent.take()) {
            *place = Place::Back(Box::new(lent));
        }
    }
}

impl TransactionSlot {
    /// Whether a transaction was opened.
    pub fn is_used(&self) -> bool {
        !matches!(*self.lock(), Place::NotOpen)
    }

    /// Ends the attempt: from now on nothing is opened, and what is still out is closed when it is dropped.
    pub fn close(&self) {
        // Dropped after the lock is free: a connection that is not settled closes.
        let _before = std::mem::replace(&mut *self.lock(), Place::Closed);
    }

    fn take_out(&self) -> Result<Option<Transaction>, Failure> {
        let mut place = self.lock();
        let lent = match std::mem::replace(&mut *place, Place::Out) {
            Place::NotOpen => None,
            Place::Back(lent) => Some(*lent),
            Place::Out => {
                return Err(Failure::retry("the job's transaction is already open: drop the first one"));
            }
            Place::Closed => {
                *place = Place::Closed;
                return Err(Failure::retry("the attempt is over: no transaction can be opened any more"));
            }
        };
        Ok(lent.map(|lent| Transaction { lent: Some(lent), slot: self.clone() }))
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a slot back as it was when opening comes to nothing, also when it is given up half-way.
struct Opening<'a>(&'a TransactionSlot);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let mut place = self.0.lock();
        if matches!(*place, Place::Out) {
            *place = Place::NotOpen;
        }
    }
}

impl Store {
    /// Opens the transaction of an attempt, or hands the open one out again. Waits for a connection as long as it
    /// takes; the server ends statements that run for longer than `limit`.
    pub async fn open_in(&self, slot: &TransactionSlot, limit: Duration) -> Result<Transaction, Failure> {
        if let Some(open) = slot.take_out()? {
            return Ok(open);
        }
        let opening = Opening(slot);
        let lent = self.open_transaction(limit).await?;
        std::mem::forget(opening);
        Ok(Transaction { lent: Some(lent), slot: slot.clone() })
    }

    async fn open_transaction(&self, limit: Duration) -> Result<Lent, Failure> {
        let sql = |error: &dyn fmt::Display| Failure::retry_as(FailureClass::Sql, error.to_string());
        // While all are in use the job's own time limit goes on.
        let lent = self.lend_patiently().await.map_err(|error| sql(&error))?;
        lent.client().batch_execute(&self.begin_for_handler(limit)).await.map_err(|error| failure(&error))?;
        Ok(lent)
    }

    /// Enqueues jobs and finishes this one in the attempt's transaction (one is opened if need be), and commits it
    /// all or nothing.
    ///
    /// A connection that breaks before the commit is no fault of the job.
    pub async fn finish_in(
        &self,
        slot: &TransactionSlot,
        job: &Job,
        kept: (Option<&str>, bool),
        enqueue: &[NewJob],
    ) -> SqlRun {
        let opened = self.open_in(slot, self.shared.answer_limit).await;
        let lent = match opened.map(|mut open| open.lent.take()) {
            Ok(Some(lent)) => lent,
            Ok(None) => unreachable!("just opened"),
            Err(failure) => return SqlRun::Failed(failure),
        };
        slot.close();
        let opened_at = lent.opened_at();
        tokio::select! {
            run = self.finish_over(lent, job, kept, enqueue) => run,
            // A primary that was demoted and stays up lets a commit wait for a standby that is gone, perhaps for good.
            () = self.shared.health.left(opened_at) => SqlRun::left(),
        }
    }

    async fn finish_over(
        &self,
        mut lent: Lent,
        job: &Job,
        (result, keep): (Option<&str>, bool),
        enqueue: &[NewJob],
    ) -> SqlRun {
        let limit = self.shared.answer_limit;
        match tokio::time::timeout(limit, self.ready_to_commit(lent.client(), enqueue, keep)).await {
            Ok(Ok(())) => {}
            Ok(Err(run)) => {
                roll_back(lent).await;
                return run;
            }
            Err(_) => {
                return SqlRun::Failed(Failure::retry_as(
                    FailureClass::Sql,
                    format!("the transaction was not committed within {} s", limit.as_secs()),
                ));
            }
        }
        let run = self.within_limit(self.complete(lent.client(), "", job, result, keep)).await;
        lent.settled = run.is_over();
        run
    }

    /// Does all that comes before the finish.
    async fn ready_to_commit(
        &self,
        client: &ClientWrapper,
        enqueue: &[NewJob],
        keep: bool,
    ) -> Result<(), SqlRun> {
        // A savepoint is refused outside of a transaction: then the handler has ended it itself.
        let own = format!("savepoint finish; {OURS}");
        client.batch_execute(&own).await.map_err(|error| SqlRun::before_commit(&error))?;
        for new in enqueue {
            self.enqueue_over(client, new).await.map_err(|error| match error {
                Error::Statement { source, .. } => SqlRun::before_commit(&source),
                error => SqlRun::Failed(Failure::retry_as(FailureClass::Sql, error.to_string())),
            })?;
        }
        self.prepare_completion(client, keep).await.map_err(|error| SqlRun::before_commit(&error))
    }

    /// Rolls back what the attempt has open, and closes its slot. Answers whether its connection still works.
    pub async fn roll_back(&self, slot: &TransactionSlot) -> bool {
        let place = std::mem::replace(&mut *slot.lock(), Place::Closed);
        match place {
            Place::Back(lent) => roll_back(*lent).await,
            Place::NotOpen | Place::Out | Place::Closed => true,
        }
    }
}

/// A failed transaction is over only when the server says so; a connection that does not say it in time is closed.
pub(super) async fn roll_back(mut lent: Lent) -> bool {
    let rollback = tokio::time::timeout(ROLLBACK_MAX, lent.client().batch_execute("rollback")).await;
    lent.settled = matches!(rollback, Ok(Ok(())));
    lent.settled
}
