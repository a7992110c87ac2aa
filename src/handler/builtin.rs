//! Handlers that need nothing outside: for benchmarks, demonstrations and fault injection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{BlockingHandler, Context, Cut, Handler, Work};
use crate::{Failure, FailureClass, Outcome, Success};

/// Does nothing, and so shows what the queue itself costs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Noop;

/// Waits for the payload's `{"ms": 3500}`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sleep;

/// As [`Sleep`], but with code that blocks its thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Block;

/// Gives the payload back as the result.
#[derive(Debug, Clone, Copy, Default)]
pub struct Echo;

/// Fails as the payload says: `{"class": "transient", "times": 2}` or `{"class": "permanent"}`.
///
/// The first `times` attempts fail and the next one succeeds; without `times` every attempt fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fail;

#[derive(Deserialize)]
struct SleepPayload {
    ms: u64,
}

#[derive(Deserialize)]
struct FailPayload {
    #[serde(default)]
    class: FailWith,
    times: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FailWith {
    #[default]
    Transient,
    Permanent,
}

impl Handler for Noop {
    fn run(self: Arc<Self>, _context: Context) -> Work {
        Box::pin(async { Ok(Success::Done(None)) })
    }
}

impl Handler for Sleep {
    fn run(self: Arc<Self>, context: Context) -> Work {
        Box::pin(async move {
            let payload: SleepPayload = read_payload(&context, r#"{"ms": 3500}"#)?;
            let nap = tokio::time::sleep(Duration::from_millis(payload.ms));
            match context.within(nap).await {
                Ok(()) => Ok(Success::Done(None)),
                Err(cut) => Err(cut.failure("sleep")),
            }
        })
    }
}

impl BlockingHandler for Block {
    fn run(&self, context: Context) -> Outcome {
        const LOOK_EVERY: Duration = Duration::from_millis(10);
        let payload: SleepPayload = read_payload(&context, r#"{"ms": 3500}"#)?;
        let ends = Instant::now() + Duration::from_millis(payload.ms);
        while let Some(left) = ends.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if context.should_stop() {
                let cut = if context.cancelled.is_cancelled() { Cut::Cancelled } else { Cut::Deadline };
                return Err(cut.failure("block"));
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
        Ok(Success::Done(None))
    }
}

impl Handler for Echo {
    fn run(self: Arc<Self>, context: Context) -> Work {
        Box::pin(async move { Ok(Success::Done(Some(context.job.payload.to_string()))) })
    }
}

impl Handler for Fail {
    fn run(self: Arc<Self>, context: Context) -> Work {
        Box::pin(async move { fail(&context) })
    }
}

fn fail(context: &Context) -> Outcome {
    let payload: FailPayload = read_payload(context, r#"{"class": "transient", "times": 2}"#)?;
    let attempt = context.job.attempt;
    if payload.times.is_some_and(|times| i64::from(attempt) > i64::from(times)) {
        return Ok(Success::Done(None));
    }
    Err(match payload.class {
        FailWith::Transient => {
            Failure::retry_as(FailureClass::Error, format!("attempt {attempt} failed, as the payload asks"))
        }
        FailWith::Permanent => Failure::bury_as(
            FailureClass::Error,
            format!("attempt {attempt} failed for good, as the payload asks"),
        ),
    })
}

/// A payload that cannot be read now cannot be read later either.
fn read_payload<T: DeserializeOwned>(context: &Context, example: &str) -> Result<T, Failure> {
    serde_json::from_str(&context.job.payload).map_err(|fault| {
        Failure::bury_as(FailureClass::Error, format!("payload: {fault}; expected one like {example}"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{PATIENCE, context, job, run};
    use super::*;
    use crate::Verdict;

    #[tokio::test]
    async fn echo_gives_the_payload_back() {
        assert_eq!(run(Noop, "{}").await, Ok(Success::Done(None)));
        assert_eq!(run(Echo, r#"{"a": 1}"#).await, Ok(Success::Done(Some(r#"{"a": 1}"#.into()))));
    }

    #[tokio::test]
    async fn sleep_takes_the_time_it_is_given() {
        let start = std::time::Instant::now();
        assert_eq!(run(Sleep, r#"{"ms": 20}"#).await, Ok(Success::Done(None)));
        assert!(start.elapsed() >= Duration::from_millis(20));
    }

    #[tokio::test]
    async fn sleep_ends_when_the_job_is_cancelled_or_its_time_is_over() {
        let cancelled = context(job(r#"{"ms": 600000}"#), PATIENCE);
        cancelled.cancelled.cancel();
        let failure = Arc::new(Sleep).run(cancelled).await.expect_err("cancelled");
        assert_eq!((failure.class, failure.verdict), (FailureClass::Cancelled, Verdict::Retry));

        let late = context(job(r#"{"ms": 600000}"#), Duration::ZERO);
        let failure = Arc::new(Sleep).run(late).await.expect_err("late");
        assert_eq!((failure.class, failure.verdict), (FailureClass::Timeout, Verdict::Retry));
    }

    #[tokio::test]
    async fn fail_fails_as_often_as_it_is_told() {
        let mut ends = Vec::new();
        for attempt in 1..=3 {
            let mut job = job(r#"{"class": "transient", "times": 2}"#);
            job.attempt = attempt;
            ends.push(Arc::new(Fail).run(context(job, PATIENCE)).await.map_err(|f| f.verdict));
        }
        assert_eq!(ends, [Err(Verdict::Retry), Err(Verdict::Retry), Ok(Success::Done(None))]);

        let always = run(Fail, r#"{"class": "permanent"}"#).await.expect_err("permanent");
        assert_eq!(always.verdict, Verdict::Bury);
    }

    #[tokio::test]
    async fn a_payload_that_cannot_be_read_is_buried_with_an_example() {
        for bad in ["{}", "[]", r#"{"ms": -1}"#, r#"{"ms": "3"}"#] {
            let failure = run(Sleep, bad).await.expect_err(bad);
            assert_eq!(failure.verdict, Verdict::Bury, "{bad}");
            assert!(failure.message.contains(r#"expected one like {"ms": 3500}"#), "{}", failure.message);
        }
        for bad in [r#"{"class": "odd"}"#, r#"{"class": "transient", "times": -1}"#] {
            let failure = run(Fail, bad).await.expect_err(bad);
            assert_eq!(failure.verdict, Verdict::Bury, "{bad}");
        }
    }
}
