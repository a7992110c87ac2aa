//! Writes how far jobs are, as their handlers report it: the last word of each, together once a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Shared;
use crate::store::Progress;
use crate::{Job, JobId};

/// Between two writes. A person who watches needs no more; each is a new version of its row.
const EVERY: Duration = Duration::from_secs(1);
/// Reports in one write at most; the rest goes with the next.
const AT_ONCE: usize = 1_000;

/// The last report of each job, until it is written.
#[derive(Default)]
pub(super) struct Reports {
    latest: Mutex<HashMap<JobId, Progress>>,
    added: Notify,
}

impl Reports {
    /// Takes a report; an older one of the job that is not written yet is forgotten.
    pub(super) fn put(&self, job: &Job, json: String) {
        self.lock().insert(job.id, Progress { id: job.id, claim_id: job.claim_id, json });
        self.added.notify_one();
    }

    fn take(&self) -> Vec<Progress> {
        let mut latest = self.lock();
        let some: Vec<JobId> = latest.keys().copied().take(AT_ONCE).collect();
        some.iter().filter_map(|id| latest.remove(id)).collect()
    }

    fn put_back(&self, reports: Vec<Progress>) {
        let mut latest = self.lock();
        for report in reports {
            latest.entry(report.id).or_insert(report);
        }
        self.added.notify_one();
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Progress>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes reports until dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        if shared.reports.is_empty() {
            shared.reports.added.notified().await;
        }
        let reports = shared.reports.take();
        match shared.store.report_progress(&reports).await {
            Ok(()) => {}
            Err(error) if error.is_transient() => shared.reports.put_back(reports),
            Err(_) => {
                // One that the database does not take shall not cost the others theirs.
                for report in reports {
                    if let Err(error) = shared.store.report_progress(std::slice::from_ref(&report)).await {
                        tracing::warn!(job.id = report.id, %error, "a progress report is dropped");
                    }
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
