//! How often each job's connection broke under it, so that a statement that crashes its backend comes to an end.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// So often that costs a job nothing in one worker; a server that restarts does it once or twice.
const FREE: u32 = 3;
/// Jobs that are remembered; with more of them the server is to blame, and they begin anew.
const JOBS_MAX: usize = 10_000;

/// The jobs it happened to, by id; they are not many, and are not forgotten when they end.
#[derive(Debug, Default)]
pub(super) struct Broken(Mutex<HashMap<i64, u32>>);

impl Broken {
    /// Notes that it happened to a job; answers whether that is still no fault of the job.
    pub(super) fn is_free(&self, job_id: i64) -> bool {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() >= JOBS_MAX {
            jobs.clear();
        }
        let times = jobs.entry(job_id).or_default();
        *times = times.saturating_add(1);
        *times <= FREE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_breaks_costs_an_attempt_from_the_fourth_time() {
        let broken = Broken::default();
        let free: Vec<_> = (0..5).map(|_| broken.is_free(7)).collect();
        assert_eq!(free, [true, true, true, false, false]);
        assert!(broken.is_free(8), "each job has its own count");
    }

    #[test]
    fn no_more_jobs_are_remembered_than_there_is_room_for() {
        let broken = Broken::default();
        (0..3 * JOBS_MAX as i64).for_each(|id| assert!(broken.is_free(id)));
        assert!(broken.0.lock().expect("not poisoned").len() <= JOBS_MAX);
    }
}
