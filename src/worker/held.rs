//! The jobs this process holds, begun or not, and the means to stop each of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use foldhash::fast::RandomState;
use tokio_util::sync::CancellationToken;

use crate::{ClaimId, Job, JobId};

/// Why a job is stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopReason {
    /// Somebody cancelled it.
    Cancelled,
    /// The worker shuts down.
    Shutdown,
    /// The worker may not be sure of its claim any more.
    ClaimLost,
}

/// Stops one job; the first reason counts.
#[derive(Default, Debug)]
pub(super) struct Stop {
    token: CancellationToken,
    reason: OnceLock<(StopReason, Instant)>,
}

impl Stop {
    pub(super) fn set(&self, reason: StopReason) {
        let _ = self.reason.set((reason, Instant::now()));
        self.token.cancel();
    }

    pub(super) fn reason(&self) -> Option<StopReason> {
        self.reason.get().map(|(reason, _)| *reason)
    }

    /// When it was set, if it was.
    pub(super) fn since(&self) -> Option<Instant> {
        self.reason.get().map(|(_, at)| *at)
    }

    pub(super) fn token(&self) -> &CancellationToken {
        &self.token
    }
}

/// A claimed job on its way through the process.
pub(super) struct Ticket {
    pub(super) job: Arc<Job>,
    /// The worker's own number of the claim it came with.
    pub(super) batch: i64,
    pub(super) stop: Arc<Stop>,
}

/// All tickets given out and not yet given back.
#[derive(Default)]
pub(super) struct Held {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    jobs: HashMap<JobId, (ClaimId, Arc<Stop>), RandomState>,
    /// Jobs left of each claim.
    batches: HashMap<i64, usize>,
}

impl Held {
    /// Notes the jobs of one claim and makes their tickets.
    pub(super) fn take_in(&self, batch: i64, jobs: impl ExactSizeIterator<Item = Arc<Job>>) -> Vec<Ticket> {
        let mut inner = self.lock();
        inner.batches.insert(batch, jobs.len());
        jobs.map(|job| {
            let stop = Arc::new(Stop::default());
            if let Some((_, older)) = inner.jobs.insert(job.id, (job.claim_id, stop.clone())) {
                // It was taken from us and has come back: what still runs under the older claim must stop.
                older.set(StopReason::ClaimLost);
            }
            Ticket { job, batch, stop }
        })
        .collect()
    }

    /// Strikes out jobs whose ends are about to be written; answers those that we do not hold by this claim any
    /// more. The same job may be among both: it was taken from us, and came back under another claim.
    ///
    /// The database checks the claims of a group of endings together; that no job is in a group under an
    /// older claim than the one it is held by is seen to here.
    pub(super) fn strike(&self, ending: impl Iterator<Item = (JobId, ClaimId)>) -> Vec<(JobId, ClaimId)> {
        let mut inner = self.lock();
        let mut older = Vec::new();
        for (id, claim_id) in ending {
            match inner.jobs.entry(id) {
                Entry::Occupied(held) if held.get().0 == claim_id => drop(held.remove()),
                _ => older.push((id, claim_id)),
            }
        }
        older
    }

    /// Counts jobs of claims off; answers the claims of which nothing is left.
    pub(super) fn count_off(&self, batches: impl Iterator<Item = i64>) -> Vec<i64> {
        let mut inner = self.lock();
        let mut emptied = Vec::new();
        for batch in batches {
            if let Some(left) = inner.batches.get_mut(&batch) {
                *left -= 1;
                if *left == 0 {
                    inner.batches.remove(&batch);
                    emptied.push(batch);
                }
            }
        }
        emptied
    }

    /// Takes a job whose end could not be written in again, as if it had not been struck out.
    pub(super) fn put_back(&self, id: JobId, claim_id: ClaimId, batch: i64) {
        let mut inner = self.lock();
        inner.jobs.entry(id).or_insert_with(|| (claim_id, Arc::default()));
        *inner.batches.entry(batch).or_default() += 1;
    }

    /// Which jobs are held under which claims.
    pub(super) fn claims(&self) -> Vec<(JobId, ClaimId)> {
        self.lock().jobs.iter().map(|(id, (claim_id, _))| (*id, *claim_id)).collect()
    }

    /// Stops one job, if it is held.
    pub(super) fn stop(&self, id: JobId, reason: StopReason) {
        if let Some((_, stop)) = self.lock().jobs.get(&id) {
            stop.set(reason);
        }
    }

    /// Stops all of them.
    pub(super) fn stop_all(&self, reason: StopReason) {
        for (_, stop) in self.lock().jobs.values() {
            stop.set(reason);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
