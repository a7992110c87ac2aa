//! Writes how attempts ended. Every write is fenced by the claim: a job that was taken over is left alone.

use std::collections::HashSet;

use tokio_postgres::types::ToSql;

use super::sql::Statement;
use super::{Error, Store};
use crate::{ClaimId, JobId, WorkerId};

/// How one claimed job ends.
#[derive(Debug, Clone)]
pub struct Ending {
    /// The job.
    pub id: JobId,
    /// The claim it ran under.
    pub claim_id: ClaimId,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a claimed job.
#[derive(Debug, Clone)]
pub enum Fate {
    /// Done, with its result as JSON text.
    Completed(Option<String>),
    /// Cancelled while it ran.
    Cancelled,
    /// To be tried again.
    Retry {
        /// Milliseconds from now.
        wait_ms: i64,
        /// Why.
        error: ErrorEntry,
    },
    /// To be run later, at no cost of an attempt.
    Snoozed {
        /// Milliseconds from now.
        wait_ms: i64,
    },
    /// Given back as if it had not been claimed.
    Released,
    /// To the dead letters.
    Buried {
        /// exhausted, permanent, expired ...
        reason: &'static str,
        /// Why.
        error: ErrorEntry,
    },
}

/// One line of a job's history.
#[derive(Debug, Clone)]
pub struct ErrorEntry {
    /// For `last_error`.
    pub message: String,
    /// For `errors`: a JSON object.
    pub entry: String,
}

/// Which claims of a worker are used up.
#[derive(Debug, Clone, Default)]
pub struct Emptied {
    /// The worker's own numbers of them.
    pub batches: Vec<i64>,
}

impl Store {
    /// Writes endings, and answers those whose claim did not hold any more; nothing was written for these.
    ///
    /// One statement for each sort of ending that occurs. The first that fails ends the call; those before
    /// it are written, and writing them again finds no claim.
    pub async fn finish(
        &self,
        worker_id: WorkerId,
        mut endings: Vec<Ending>,
        emptied: Emptied,
        keep_finished: bool,
    ) -> Result<Vec<JobId>, Error> {
        // One order of locks for everybody who writes to several jobs.
        endings.sort_unstable_by_key(|ending| ending.id);
        let mut written = HashSet::with_capacity(endings.len());
        let mut batches = Some(emptied.batches);
        let sorts: [fn(&Fate) -> bool; 3] = [
            |fate| matches!(fate, Fate::Retry { .. } | Fate::Snoozed { .. } | Fate::Released),
            |fate| matches!(fate, Fate::Buried { .. }),
            |fate| matches!(fate, Fate::Completed(_) | Fate::Cancelled),
        ];
        for (sort, is_of_sort) in sorts.iter().enumerate() {
            let some: Vec<&Ending> = endings.iter().filter(|ending| is_of_sort(&ending.fate)).collect();
            let later =
                endings.iter().any(|e| sorts[sort + 1..].iter().any(|is_of_sort| is_of_sort(&e.fate)));
            if some.is_empty() {
                continue;
            }
            // The record of a claim goes with the last of its jobs, not before.
            let batches = if later { Vec::new() } else { batches.take().unwrap_or_default() };
            let group = Group { store: self, worker_id, batches, endings: some };
            written.extend(match sort {
                0 => group.requeue().await?,
                1 => group.bury().await?,
                _ => group.end(keep_finished).await?,
            });
        }
        // Left over when all endings were written elsewhere, as SQL handlers do.
        if let Some(batches) = batches.filter(|batches| !batches.is_empty()) {
            Group { store: self, worker_id, batches, endings: Vec::new() }.end(keep_finished).await?;
        }
        Ok(endings.iter().map(|ending| ending.id).filter(|id| !written.contains(id)).collect())
    }
}

/// Endings of one sort, for one statement.
struct Group<'a> {
    store: &'a Store,
    worker_id: WorkerId,
    batches: Vec<i64>,
    endings: Vec<&'a Ending>,
}

impl Group<'_> {
    async fn end(&self, keep_finished: bool) -> Result<Vec<JobId>, Error> {
        let states =
            self.each(|fate| if matches!(fate, Fate::Cancelled) { "cancelled" } else { "completed" });
        let results = self.each(|fate| match fate {
            Fate::Completed(result) => result.as_deref(),
            _ => None,
        });
        self.send(&self.store.statements.job_finish, &[&states, &results, &keep_finished]).await
    }

    async fn requeue(&self) -> Result<Vec<JobId>, Error> {
        let waits = self.each(|fate| match fate {
            Fate::Retry { wait_ms, .. } | Fate::Snoozed { wait_ms } => Some(*wait_ms),
            _ => None,
        });
        let entries = self.each(|fate| error_of(fate).map(|error| error.entry.as_str()));
        let messages = self.each(|fate| error_of(fate).map(|error| error.message.as_str()));
        self.send(&self.store.statements.job_requeue, &[&waits, &entries, &messages]).await
    }

    async fn bury(&self) -> Result<Vec<JobId>, Error> {
        let reasons = self.each(|fate| match fate {
            Fate::Buried { reason, .. } => *reason,
            _ => "",
        });
        let entries = self.each(|fate| error_of(fate).map(|error| error.entry.as_str()));
        let messages = self.each(|fate| error_of(fate).map(|error| error.message.as_str()));
        self.send(&self.store.statements.job_bury, &[&reasons, &entries, &messages]).await
    }

    fn each<'a, T>(&'a self, part: impl Fn(&'a Fate) -> T) -> Vec<T> {
        self.endings.iter().map(|ending| part(&ending.fate)).collect()
    }

    async fn send(&self, statement: &Statement, parts: &[&(dyn ToSql + Sync)]) -> Result<Vec<JobId>, Error> {
        let ids: Vec<JobId> = self.endings.iter().map(|ending| ending.id).collect();
        let claim_ids: Vec<ClaimId> = self.endings.iter().map(|ending| ending.claim_id).collect();
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&ids, &claim_ids];
        params.extend_from_slice(parts);
        params.push(&self.worker_id);
        params.push(&self.batches);
        let rows = self.store.query(statement, &params).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

fn error_of(fate: &Fate) -> Option<&ErrorEntry> {
    match fate {
        Fate::Retry { error, .. } | Fate::Buried { error, .. } => Some(error),
        _ => None,
    }
}
