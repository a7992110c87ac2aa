//! The workers among each other: entering, beating, watching, rescuing, leaving.

use super::session::Params;
use super::time::{JsonText, Moment};
use super::{Error, Store};
use crate::{CRASHES_MAX, ClaimId, JobId, WorkerId};

/// What a worker says of itself when it enters the crew.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The host, unless the configuration names it.
    pub name: String,
    /// The queues it serves.
    pub queues: Vec<String>,
    /// The kinds it has handlers for.
    pub kinds: Vec<String>,
    /// How many jobs it runs at once at most.
    pub concurrency: i32,
}

/// What a worker shows with each beat.
#[derive(Debug, Clone, Copy)]
pub struct Beat<'a> {
    /// Jobs it runs.
    pub running: i32,
    /// `running` or `draining`.
    pub state: &'a str,
    /// Whether both of its connections hold its lock.
    pub locked: bool,
    /// The key of that lock.
    pub lock_key: i64,
    /// The figures of its blocking threads, as JSON text.
    pub blocking: Option<&'a str>,
    /// Kinds of which it can run no job now.
    pub kinds_down: &'a [&'a str],
}

/// One worker as the others see it.
#[derive(Debug, Clone, Copy)]
pub struct Observed {
    /// Who.
    pub id: WorkerId,
    /// Its beat count.
    pub beat: i64,
    /// Whether the server holds a lock of it.
    pub locked: bool,
    /// Whether the lock was taken since the server started, so that its absence proves something.
    pub provable: bool,
}

/// What a rescue did.
#[derive(Debug, Clone)]
pub struct Rescued {
    /// The lost worker's name.
    pub name: String,
    /// Jobs that are available again.
    pub given_back: i64,
    /// Jobs that are dead because they crashed their worker too often.
    pub buried: i64,
}

impl Store {
    /// Enters a worker into the crew; answers its id and the key of its advisory lock.
    pub async fn register(&self, worker: &Registration) -> Result<(WorkerId, i64), Error> {
        let pid = std::process::id() as i32;
        let row = self
            .query_one(
                &self.statements.worker_register,
                &[
                    &worker.name,
                    &pid,
                    &env!("CARGO_PKG_VERSION"),
                    &worker.queues,
                    &worker.kinds,
                    &worker.concurrency,
                    &self.lock_class(),
                ],
            )
            .await?;
        Ok((row.get(0), row.get(1)))
    }

    /// Takes a worker that stops in order from the crew; answers how many jobs it still held, now given back.
    pub async fn leave(&self, id: WorkerId) -> Result<i64, Error> {
        Ok(self.query_one(&self.statements.worker_leave, &[&id]).await?.get(0))
    }

    /// Takes a worker that holds no job from the crew; answers whether it did: not if it holds one.
    pub async fn step_aside(&self, id: WorkerId) -> Result<bool, Error> {
        Ok(!self.query(&self.statements.worker_step_aside, &[&id]).await?.is_empty())
    }

    /// Gives back jobs whose claims arrived after their worker had left the crew; answers how many.
    pub async fn reclaim(&self) -> Result<i64, Error> {
        Ok(self.query_one(&self.statements.claims_reclaim, &[]).await?.get(0))
    }

    /// Says which job now runs alone, or that none does.
    pub async fn set_alone(&self, id: WorkerId, job: Option<JobId>) -> Result<(), Error> {
        self.query(&self.statements.worker_alone, &[&id, &job]).await.map(drop)
    }

    /// Finds the jobs a worker must stop; `true` marks those whose cancellation was asked for.
    pub async fn to_stop(&self, held: &[(JobId, ClaimId)]) -> Result<Vec<(JobId, bool)>, Error> {
        let (ids, claim_ids): (Vec<JobId>, Vec<ClaimId>) = held.iter().copied().unzip();
        let rows = self.query(&self.statements.jobs_cancelled, &[&ids, &claim_ids]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Shows that the worker lives, and answers the database's clock and how many workers there are; `None` when the
    /// others have found it lost and given its jobs back.
    pub async fn beat(&self, id: WorkerId, beat: &Beat<'_>) -> Result<Option<(Moment, i64)>, Error> {
        let Beat { running, state, locked, lock_key, blocking, kinds_down } = beat;
        let blocking = blocking.map(JsonText);
        let params: Params<'_> = &[&id, running, state, locked, lock_key, &blocking, kinds_down];
        let rows = self.query(&self.statements.worker_beat, params).await?;
        Ok(rows.first().map(|row| (row.get(0), row.get(1))))
    }

    /// Looks at all workers.
    pub async fn observe(&self) -> Result<Vec<Observed>, Error> {
        let rows = self.query(&self.statements.workers_observe, &[]).await?;
        let read = |row: &tokio_postgres::Row| Observed {
            id: row.get(0),
            beat: row.get(1),
            locked: row.get(2),
            provable: row.get(3),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// Gives back the jobs of a worker that was not seen to beat since; `None` when it was, or when
    /// somebody else was quicker.
    pub async fn rescue(&self, lost: Observed) -> Result<Option<Rescued>, Error> {
        let rows = self.query(&self.statements.worker_rescue, &[&lost.id, &lost.beat, &CRASHES_MAX]).await?;
        Ok(rows.first().map(|row| Rescued { name: row.get(0), given_back: row.get(1), buried: row.get(2) }))
    }

    /// Asks that the next insert wakes idle workers.
    pub async fn arm(&self) -> Result<(), Error> {
        self.query(&self.statements.wake_arm, &[]).await.map(drop)
    }

    /// Wakes idle workers.
    pub async fn ring(&self) -> Result<(), Error> {
        self.query(&self.statements.wake_ring, &[]).await.map(drop)
    }
}
