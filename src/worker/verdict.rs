//! Decides what becomes of a job after an attempt: the one place where attempts, backoff and deadlines meet.

use std::time::Duration;

use crate::store::{ErrorEntry, Fate};
use crate::text::{DETAIL_BYTES_MAX, MESSAGE_BYTES_MAX, tail, truncated};
use crate::{
    Backoff, Failure, FailureClass, Job, JobDefaults, Outcome, Success, Verdict, WorkerId, fingerprint,
};

/// The longest wait that is written; more is a handler's slip, and the database's `timestamptz` ends too.
const WAIT_MAX: Duration = Duration::from_hours(366 * 24);

/// What becomes of the job. `ran` is how long this attempt took; `random` (0 to 1) spreads the waits.
pub(super) fn fate_of(
    outcome: Outcome,
    job: &Job,
    ran: Duration,
    defaults: &JobDefaults,
    worker_id: WorkerId,
    random: f64,
) -> Fate {
    let failure = match outcome {
        Ok(Success::Done(result)) => return Fate::Completed(result),
        Ok(Success::Snooze(wait)) => return Fate::Snoozed { wait_ms: millis(wait) },
        Err(Failure { verdict: Verdict::Snooze(wait), message, .. }) => {
            let (wait_ms, message) = (millis(wait), truncated(&message, MESSAGE_BYTES_MAX));
            return if message.is_empty() {
                Fate::Snoozed { wait_ms }
            } else {
                Fate::Deferred { wait_ms, message }
            };
        }
        Err(failure) => failure,
    };
    let error = entry(&failure, job, worker_id);
    if failure.class == FailureClass::Expired {
        return Fate::Buried { reason: "expired", error };
    }
    let backoff = backoff_of(job, defaults);
    let wait = match failure.verdict {
        Verdict::Bury | Verdict::BuryAndDisableKind => return Fate::Buried { reason: "permanent", error },
        // No attempt is used up, so that only its own time can end a job that is told to wait for ever.
        Verdict::PauseKind(wait) if backoff.delay_after(1, job.age + ran + wait, 0.0).is_some() => {
            return Fate::Deferred { wait_ms: millis(wait), message: error.message };
        }
        Verdict::PauseKind(_) => None,
        Verdict::RetryAfter(wait) | Verdict::Snooze(wait) => Some(wait),
        Verdict::Retry => backoff.delay_after(failures(job), job.age + ran, random),
    };
    match wait {
        Some(wait) if failures(job) < job.max_attempts.unwrap_or(defaults.max_attempts) => {
            Fate::Retry { wait_ms: millis(wait), error }
        }
        _ => Fate::Buried { reason: "exhausted", error },
    }
}

/// Attempts that count against the limit: those that a lost worker cut short do not.
fn failures(job: &Job) -> i32 {
    (job.attempt - job.crashes).max(1)
}

/// The row's own backoff, if it is a sensible one, else the handler's.
fn backoff_of(job: &Job, defaults: &JobDefaults) -> Backoff {
    let Some(text) = &job.backoff else {
        return defaults.backoff.clone();
    };
    let own = serde_json::from_str::<Backoff>(text).map_err(|fault| fault.to_string());
    match own.and_then(|backoff| backoff.check().map(|()| backoff)) {
        Ok(backoff) => backoff,
        Err(fault) => {
            tracing::warn!(
                job.id = job.id,
                fault,
                "the job's own backoff is not valid; its handler's is used"
            );
            defaults.backoff.clone()
        }
    }
}

/// The line of history for a failure.
pub(super) fn entry(failure: &Failure, job: &Job, worker_id: WorkerId) -> ErrorEntry {
    let message = truncated(&failure.message, MESSAGE_BYTES_MAX);
    let mut line = serde_json::json!({
        "attempt": job.attempt,
        "at": chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        "worker": worker_id,
        "class": failure.class.as_str(),
        "error": message,
        "fingerprint": fingerprint(&job.kind, failure.class, &message),
    });
    if let Some(detail) = &failure.detail {
        line["detail"] = tail(&truncated(detail, usize::MAX), DETAIL_BYTES_MAX).into();
    }
    ErrorEntry { message, entry: line.to_string() }
}

fn millis(wait: Duration) -> i64 {
    wait.min(WAIT_MAX).as_millis() as i64
}

/// A job for the tests of this floor.
#[cfg(test)]
pub(super) mod testing {
    use super::Job;

    pub(in crate::worker) fn job(attempt: i32, crashes: i32) -> Job {
        Job {
            id: 1,
            claim_id: 1,
            kind: "k".into(),
            queue: "q".into(),
            attempt,
            crashes,
            max_attempts: Some(3),
            backoff: Some(r#"{"type":"fixed","delay_ms":700}"#.into()),
            ..Job::example()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::job;
    use super::*;

    fn fate(outcome: Outcome, job: &Job) -> Fate {
        fate_of(outcome, job, Duration::ZERO, &JobDefaults::default(), 7, 0.5)
    }

    #[test]
    fn a_failure_is_retried_until_the_attempts_are_used_up() {
        let failed = || Err(Failure::retry_as(FailureClass::Error, "no"));
        assert!(matches!(fate(failed(), &job(2, 0)), Fate::Retry { wait_ms: 700, .. }));
        assert!(matches!(fate(failed(), &job(3, 0)), Fate::Buried { reason: "exhausted", .. }));
        assert!(matches!(fate(failed(), &job(4, 2)), Fate::Retry { .. }), "crashes cost no attempt");
    }

    #[test]
    fn the_time_to_give_up_counts_the_attempt_that_just_failed() {
        let mut job = job(1, 0);
        job.backoff = Some(r#"{"type":"fixed","delay_ms":1,"give_up_after_ms":1000}"#.into());
        let after = |ran| {
            let failed = Err(Failure::retry_as(FailureClass::Error, "no"));
            fate_of(failed, &job, ran, &JobDefaults::default(), 7, 0.5)
        };
        assert!(matches!(after(Duration::from_millis(500)), Fate::Retry { .. }));
        assert!(matches!(after(Duration::from_secs(2)), Fate::Buried { reason: "exhausted", .. }));
    }

    #[test]
    fn a_permanent_failure_is_buried_at_once() {
        let outcome = Err(Failure::bury_as(FailureClass::Status, "404"));
        assert!(matches!(fate(outcome, &job(1, 0)), Fate::Buried { reason: "permanent", .. }));
    }

    #[test]
    fn a_handler_may_say_when_to_retry() {
        let wait = Duration::from_secs(9);
        let outcome = Err(Failure::retry_after_as(FailureClass::Status, "429", wait));
        assert!(matches!(fate(outcome, &job(1, 0)), Fate::Retry { wait_ms: 9000, .. }));
    }

    #[test]
    fn a_snooze_costs_no_attempt_however_it_is_said() {
        let wait = Duration::from_secs(9);
        for outcome in [Ok(Success::Snooze(wait)), Err(Failure::snooze(wait))] {
            assert!(matches!(fate(outcome, &job(3, 0)), Fate::Snoozed { wait_ms: 9000 }));
        }
        let because = fate(Err(Failure::snooze_because(wait, "no child is up")), &job(3, 0));
        assert!(
            matches!(&because, Fate::Deferred { wait_ms: 9000, message } if message == "no child is up"),
            "{because:?}"
        );
    }

    #[test]
    fn an_entry_of_history_is_json_without_nul() {
        let failure = Failure::retry_as(FailureClass::ExitCode, "a\0b").with_detail("x\0\"y");
        let entry = entry(&failure, &job(1, 0), 7);
        let line: serde_json::Value = serde_json::from_str(&entry.entry).expect("JSON");
        assert_eq!(line["error"], "a\u{FFFD}b");
        assert_eq!(line["worker"], 7);
        assert!(!entry.entry.contains("\\u0000"));
    }
}
