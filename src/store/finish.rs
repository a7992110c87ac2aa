//! Writes how attempts ended. Every write is fenced by the claim: a job that was taken over is left alone.

use tokio_postgres::types::ToSql;

use super::sql::Statement;
use super::time::JsonText;
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
    /// Whether a trace of it is kept if it is finished.
    pub keep: bool,
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
    /// To be run later, at no cost of an attempt, because it may not run now.
    Deferred {
        /// Milliseconds from now.
        wait_ms: i64,
        /// Why, for `last_error`.
        message: String,
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

impl Fate {
    /// About how much text it carries to the database.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Completed(result) => result.as_ref().map_or(0, String::len),
            Self::Retry { error, .. } | Self::Buried { error, .. } => error.entry.len() + error.message.len(),
            Self::Deferred { message, .. } => message.len(),
            Self::Cancelled | Self::Snoozed { .. } | Self::Released => 0,
        }
    }
}

/// One line of a job's history.
#[derive(Debug, Clone)]
pub struct ErrorEntry {
    /// For `last_error`.
    pub message: String,
    /// For `errors`: a JSON object.
    pub entry: String,
}

impl Store {
    /// Writes endings, and answers how many of them came too late: their claim did not hold any more, and
    /// nothing was written for them.
    ///
    /// One statement for each sort of ending that occurs. The first that fails ends the call; those before
    /// it are written, and writing them again finds no claim.
    pub async fn finish(
        &self,
        worker_id: WorkerId,
        endings: &[&Ending],
        batches: &[i64],
    ) -> Result<usize, Error> {
        let mut groups: [Vec<&Ending>; 4] = Default::default();
        for &ending in endings {
            groups[match ending.fate {
                Fate::Retry { .. } | Fate::Snoozed { .. } | Fate::Deferred { .. } | Fate::Released => 0,
                Fate::Buried { .. } => 1,
                Fate::Completed(_) | Fate::Cancelled if ending.keep => 2,
                Fate::Completed(_) | Fate::Cancelled => 3,
            }]
            .push(ending);
        }
        let last = groups.iter().rposition(|group| !group.is_empty()).unwrap_or(groups.len() - 1);
        let mut written = 0;
        for (sort, mut endings) in groups.into_iter().enumerate() {
            // The record of a claim goes with the last of its jobs, not before.
            let batches = if sort == last { batches } else { &[] };
            if endings.is_empty() && batches.is_empty() {
                continue;
            }
            // One order of locks for everybody who writes to several jobs.
            endings.sort_unstable_by_key(|ending| ending.id);
            let group = Group { store: self, worker_id, batches, endings };
            written += match sort {
                0 => group.requeue().await?,
                1 => group.bury().await?,
                2 => group.end().await?,
                _ => group.discard().await?,
            };
        }
        Ok(endings.len().saturating_sub(written as usize))
    }
}

impl Store {
    /// Finds those of some endings whose jobs somebody has locked, so that they cannot be written now.
    pub async fn locked(&self, endings: &[&Ending]) -> Result<Vec<JobId>, Error> {
        let (ids, claim_ids) = ids_of(endings.iter().copied());
        let rows = self.query(&self.statements.jobs_locked, &[&ids, &claim_ids]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

fn ids_of<'a>(endings: impl Iterator<Item = &'a Ending>) -> (Vec<JobId>, Vec<ClaimId>) {
    ids_and_claims(endings.map(|ending| (ending.id, ending.claim_id)))
}

/// The jobs, and their claims, each once.
pub(super) fn ids_and_claims(held: impl Iterator<Item = (JobId, ClaimId)>) -> (Vec<JobId>, Vec<ClaimId>) {
    let (ids, mut claim_ids): (Vec<JobId>, Vec<ClaimId>) = held.unzip();
    claim_ids.sort_unstable();
    claim_ids.dedup();
    (ids, claim_ids)
}

/// Endings of one sort, for one statement.
struct Group<'a> {
    store: &'a Store,
    worker_id: WorkerId,
    batches: &'a [i64],
    endings: Vec<&'a Ending>,
}

impl Group<'_> {
    async fn end(&self) -> Result<u64, Error> {
        let cancelled: Vec<JobId> =
            self.endings.iter().filter(|e| matches!(e.fate, Fate::Cancelled)).map(|e| e.id).collect();
        let results = self.by_id(|fate| match fate {
            Fate::Completed(Some(result)) => Some(result.clone()),
            _ => None,
        });
        let statement = &self.store.statements.job_finish;
        self.send(statement, &[&cancelled, &JsonText(&results)]).await
    }

    async fn discard(&self) -> Result<u64, Error> {
        self.send(&self.store.statements.job_discard, &[]).await
    }

    async fn requeue(&self) -> Result<u64, Error> {
        let how = self.by_id(|fate| match fate {
            Fate::Retry { wait_ms, error } => Some(format!(
                r#"{{"wait_ms":{wait_ms},"error":{},"message":{}}}"#,
                error.entry,
                json_string(&error.message)
            )),
            Fate::Snoozed { wait_ms } => Some(format!(r#"{{"wait_ms":{wait_ms}}}"#)),
            Fate::Deferred { wait_ms, message } => {
                Some(format!(r#"{{"wait_ms":{wait_ms},"message":{}}}"#, json_string(message)))
            }
            _ => Some("{}".to_owned()),
        });
        self.send(&self.store.statements.job_requeue, &[&JsonText(&how)]).await
    }

    async fn bury(&self) -> Result<u64, Error> {
        let why = self.by_id(|fate| match fate {
            Fate::Buried { reason, error } => Some(format!(
                r#"{{"reason":{},"error":{},"message":{}}}"#,
                json_string(reason),
                error.entry,
                json_string(&error.message)
            )),
            _ => None,
        });
        self.send(&self.store.statements.job_bury, &[&JsonText(&why)]).await
    }

    /// A JSON object of what there is to say of each job, by its id.
    ///
    /// An object, not arrays beside the ids: looking up one key needs no join, whose plan could go wrong.
    fn by_id(&self, part: impl Fn(&Fate) -> Option<String>) -> String {
        let parts = self.endings.iter().filter_map(|e| Some(format!("\"{}\":{}", e.id, part(&e.fate)?)));
        format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
    }

    async fn send(&self, statement: &Statement, parts: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        let (ids, claim_ids) = ids_of(self.endings.iter().copied());
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&ids, &claim_ids];
        params.extend_from_slice(parts);
        params.push(&self.worker_id);
        params.push(&self.batches);
        self.store.execute(statement, &params).await
    }
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
