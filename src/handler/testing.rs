//! What the handlers' tests share: a job and a context to run it in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Context, Handler};
use crate::{Job, Outcome, Success};

/// Long enough that only a hanging handler meets it.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

pub(super) fn job(payload: &str) -> Job {
    Job { id: 42, claim_id: 7, kind: "email.send".into(), payload: payload.into(), ..Job::example() }
}

pub(super) fn context(job: Job, time_left: Duration) -> Context {
    Context::new(Arc::new(job), Instant::now() + time_left, CancellationToken::new())
}

/// Runs one attempt of a job with this payload.
pub(super) async fn run(handler: impl Handler, payload: &str) -> Outcome {
    Arc::new(handler).run(context(job(payload), PATIENCE)).await
}

/// The end of an attempt that has this result.
#[allow(clippy::unnecessary_wraps)]
pub(super) fn done(result: &str) -> Outcome {
    Ok(Success::Done(Some(result.to_owned())))
}
