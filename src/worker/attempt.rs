//! Runs one attempt of one job: its handler, its deadline, and whatever stops it from outside.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::OwnedSemaphorePermit;

use super::blocking::{self, Ran};
use super::desk::{Desk, Hours, Settled};
use super::finisher::HeldUp;
use super::held::{StopReason, Ticket};
use super::tally::Attempt;
use super::verdict::{entry, fate_of};
use super::{Ended, Shared, payloads};
use crate::handler::{Context, Entry, Remains, Runner};
use crate::store::{Fate, SqlRun};
use crate::{Failure, FailureClass, Job, Outcome, SqlStatement, Verdict};

/// How long a handler that was told to stop may take before its work is dropped.
/// Shorter than the second that a shutdown may take beyond the drain time.
const STOP_GRACE: Duration = Duration::from_millis(400);
/// How long the end of a job waits for its processes to be gone, after its handler is. They are killed by then; only
/// the kernel can hold one up for longer.
const GONE_WAIT: Duration = Duration::from_secs(1);
/// The same while the worker stops, from the moment its handler was told to: the last endings have 750 ms.
const GONE_WAIT_AT_STOP: Duration = Duration::from_millis(650);

/// Pause before an attempt whose connection broke is made again: soon, and no busy loop whatever breaks it.
const UNHARMED_PAUSE: Duration = Duration::from_secs(1);
/// How much later than its own time an attempt of a statement is cut off that the store did not end: the look for
/// what became of a commit has its time.
const SQL_MARGIN: Duration = Duration::from_mins(1);
/// Pause before it is asked again whether a commit happened whose answer was lost.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// How an attempt came to its end.
enum End {
    /// The handler answered.
    Answered(Outcome),
    /// The finish is already committed.
    Written(Fate),
    /// It was stopped from outside before the handler answered.
    Stopped(StopReason),
    /// Nothing came of it, which was not its fault: it runs again soon, at no cost of an attempt.
    Unharmed(String),
}

/// Runs the attempt and says how the job ends.
///
/// A blocking handler runs on the given thread, which is free again when its work returns, not before.
pub(super) async fn run(
    shared: &Arc<Shared>,
    entry: &Entry,
    ticket: Ticket,
    thread: Option<OwnedSemaphorePermit>,
) -> Ended {
    let began = Instant::now();
    let end = match refusal(shared, &ticket, began) {
        Some(end) => end,
        None if ticket.job.payload_left.is_some() => {
            Box::pin(with_payload(shared, entry, &ticket, thread)).await
        }
        None => attempt(shared, entry, &ticket, began, thread).await,
    };
    let ran = began.elapsed();
    let job = &ticket.job;
    let stopped = ticket.stop.reason();
    let (fate, written) = match end {
        End::Written(fate) => (fate, true),
        End::Stopped(StopReason::Cancelled) => (Fate::Cancelled, false),
        // Told to stop, it failed: that is the stop's doing, not the job's.
        End::Unharmed(_) | End::Answered(Err(_)) if stopped == Some(StopReason::Cancelled) => {
            (Fate::Cancelled, false)
        }
        End::Unharmed(_) | End::Answered(Err(_)) if stopped.is_some() => (Fate::Released, false),
        End::Unharmed(message) => {
            // Debug: an outage does it to all jobs at once, and is told of by itself.
            tracing::debug!(job.id, job.kind = &*job.kind, error = %crate::text::truncated(&message, 500),
                "an attempt came to nothing, and is made again at no cost");
            let wait = UNHARMED_PAUSE.mul_f64(0.5 + fastrand::f64());
            (Fate::Deferred { wait_ms: wait.as_millis() as i64, message }, false)
        }
        End::Stopped(_) => (Fate::Released, false),
        End::Answered(outcome) => (fate(shared, entry, job, outcome, ran), false),
    };
    Ended {
        ending: shared.ending(job, fate),
        written,
        held_up: HeldUp::Never,
        batch: ticket.batch,
        attempt: Some(Attempt { queue: job.queue.clone(), kind: job.kind.clone(), waited: job.waited, ran }),
    }
}

/// Reasons not to begin at all.
fn refusal(shared: &Shared, ticket: &Ticket, now: Instant) -> Option<End> {
    if let Some(reason) = ticket.stop.reason() {
        return Some(End::Stopped(reason));
    }
    // The process may have been frozen since the job was sent on its way: then it may have ended elsewhere.
    if shared.is_silent_at(now) {
        return Some(End::Stopped(StopReason::ClaimLost));
    }
    if ticket.job.cancel_requested {
        return Some(End::Stopped(StopReason::Cancelled));
    }
    (ticket.job.expires_in == Some(Duration::ZERO)).then(|| End::Answered(Err(expired())))
}

fn expired() -> Failure {
    Failure::bury_as(FailureClass::Expired, "expires_at passed before it was done")
}

fn fate(shared: &Shared, entry: &Entry, job: &Job, outcome: Outcome, ran: Duration) -> Fate {
    if let Err(failure) = &outcome
        && !matches!(failure.verdict, Verdict::Snooze(_))
    {
        tracing::info!(
            job.id, job.kind = &*job.kind, attempt = job.attempt, class = failure.class.as_str(),
            error = %crate::text::truncated(&failure.message, 500), "an attempt failed"
        );
    }
    if let Err(Failure { verdict, message, .. }) = &outcome {
        let wait = match verdict {
            Verdict::PauseKind(wait) => Some(Some(*wait)),
            Verdict::BuryAndDisableKind => Some(None),
            Verdict::Retry | Verdict::RetryAfter(_) | Verdict::Bury | Verdict::Snooze(_) => None,
        };
        if wait.is_some_and(|wait| shared.pauses.told(&job.kind, wait, message)) {
            tracing::warn!(job.kind = &*job.kind, error = %crate::text::truncated(message, 500),
                "the kind is {}", if wait == Some(None) { "disabled until it is resumed" } else { "paused" });
            shared.changed.notify_one();
        }
    }
    fate_of(outcome, job, ran, &entry.defaults, shared.worker_id(), fastrand::f64())
}

/// An attempt whose payload is fetched first. Its time begins when it is there.
async fn with_payload(
    shared: &Arc<Shared>,
    entry: &Entry,
    ticket: &Ticket,
    thread: Option<OwnedSemaphorePermit>,
) -> End {
    let fetched = tokio::select! {
        fetched = payloads::fetch(shared, ticket) => fetched,
        () = ticket.stop.token().cancelled() => {
            return End::Stopped(ticket.stop.reason().unwrap_or(StopReason::Shutdown));
        }
    };
    match fetched {
        Ok(Some((ticket, _room))) => attempt(shared, entry, &ticket, Instant::now(), thread).await,
        Ok(None) => End::Stopped(StopReason::ClaimLost),
        Err(error) => End::Unharmed(format!("its payload could not be fetched: {error}")),
    }
}

async fn attempt(
    shared: &Arc<Shared>,
    entry: &Entry,
    ticket: &Ticket,
    began: Instant,
    thread: Option<OwnedSemaphorePermit>,
) -> End {
    let job = &ticket.job;
    let limit = job.timeout.unwrap_or(entry.defaults.timeout);
    let (limit, at_limit) = match job.expires_in {
        Some(left) if left < limit => (left, FailureClass::Expired),
        _ => (limit, FailureClass::Timeout),
    };
    let deadline = began + limit;
    // The time of a statement begins with its connection, which the store sees to; what the wait for one costs is
    // no fault of the job.
    let cut_at = match (&entry.runner, at_limit) {
        (Runner::Sql(_), FailureClass::Timeout) => deadline + limit + SQL_MARGIN,
        _ => deadline,
    };
    let desk = Desk::new(shared, job);
    let end = {
        let work = work(shared, entry, ticket, &desk, (limit, deadline), thread);
        tokio::pin!(work);
        let stop = ticket.stop.token();
        tokio::select! {
            biased;
            end = &mut work => named(end, at_limit),
            () = stop.cancelled() => match tokio::time::timeout(STOP_GRACE, &mut work).await {
                Ok(end) => end,
                Err(_) => End::Stopped(ticket.stop.reason().unwrap_or(StopReason::Shutdown)),
            },
            () = tokio::time::sleep_until(cut_at.into()) => {
                let failure = Failure::retry_as(FailureClass::Timeout, format!("timed out after {limit:?}"));
                named(End::Answered(Err(failure)), at_limit)
            }
        }
    };
    if desk.remains.any() {
        // Boxed, as is all that few jobs need: its size would be that of every job.
        Box::pin(until_gone(ticket, &desk.remains)).await;
    }
    end
}

/// Waits for what the handler left to end: the job's next attempt may begin as soon as this one's end is written.
async fn until_gone(ticket: &Ticket, remains: &Remains) {
    let began = Instant::now();
    let stops = async {
        ticket.stop.token().cancelled().await;
        // The first reason counts: a job that was cancelled before the worker stops takes its time.
        match (ticket.stop.reason(), ticket.stop.since()) {
            (Some(StopReason::Shutdown), Some(since)) => {
                tokio::time::sleep_until((since + GONE_WAIT_AT_STOP).into()).await;
            }
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = remains.gone() => return,
        () = tokio::time::sleep(GONE_WAIT) => {}
        () = stops => {}
    }
    tracing::error!(
        job.id = ticket.job.id,
        job.kind = &*ticket.job.kind,
        waited_ms = began.elapsed().as_millis() as u64,
        "processes of a job are still there though they were told to end; its end is written all the same, and its \
         next attempt may run beside them"
    );
}

/// A handler that keeps to its limit does not know which limit it was: here the end of time gets its name.
fn named(end: End, at_limit: FailureClass) -> End {
    match end {
        End::Answered(Err(failure))
            if failure.class == FailureClass::Timeout && at_limit == FailureClass::Expired =>
        {
            End::Answered(Err(Failure { detail: failure.detail, ..expired() }))
        }
        other => other,
    }
}

/// The handler's work; a panic in it is an answer too.
async fn work(
    shared: &Arc<Shared>,
    entry: &Entry,
    ticket: &Ticket,
    desk: &Arc<Desk>,
    (limit, deadline): (Duration, Instant),
    thread: Option<OwnedSemaphorePermit>,
) -> End {
    let job = &ticket.job;
    let with_desk = || {
        let context = Context::new(job.clone(), deadline, ticket.stop.token().clone());
        (context.with_desk(desk.clone()), Hours(desk.clone()))
    };
    match &entry.runner {
        Runner::Handler(handler) => {
            let (context, hours) = with_desk();
            let handler = Arc::clone(handler);
            let run = async move { handler.run(context).await };
            let ran = AssertUnwindSafe(run).catch_unwind().await;
            settled(shared, job, hours, ran).await
        }
        Runner::Blocking(handler) => {
            let (context, hours) = with_desk();
            let handler = Arc::clone(handler);
            let pool = shared.blocking.as_ref().expect("made when a handler needs it");
            let ran = pool.run(thread, blocking::waker(shared), move || handler.run(context)).await;
            settled(shared, job, hours, ran).await
        }
        // Boxed, as is all that few jobs need: its size would be that of every job.
        Runner::Sql(statement) => Box::pin(run_sql(shared, statement, job, (limit, deadline))).await,
    }
}

async fn run_sql(shared: &Shared, statement: &SqlStatement, job: &Job, time: (Duration, Instant)) -> End {
    match shared.sql_store.run_sql(statement, job, time, shared.keeps(job)).await {
        SqlRun::Committed => End::Written(Fate::Completed(None)),
        SqlRun::ClaimLost => End::Stopped(StopReason::ClaimLost),
        SqlRun::Failed(failure) => End::Answered(Err(failure)),
        SqlRun::NoConnection(why) => End::Unharmed(why),
        SqlRun::Broken(why) => broken(shared, job, why),
        SqlRun::Uncertain(why) => look(shared, job, why).await,
    }
}

/// Writes at once what must commit together with the finish.
async fn settled(shared: &Shared, job: &Job, hours: Hours, ran: Ran) -> End {
    let outcome = ran.unwrap_or_else(|panic| Err(panicked(&*panic)));
    let why = match hours.0.settle(shared, outcome).await {
        Settled::Answered(outcome) => return End::Answered(outcome),
        Settled::Committed => return End::Written(Fate::Completed(None)),
        Settled::ClaimLost => return End::Stopped(StopReason::ClaimLost),
        Settled::NoConnection(why) => return End::Unharmed(why),
        Settled::Broken(why) => return broken(shared, job, why),
        Settled::Uncertain(why) => why,
    };
    Box::pin(look(shared, job, why)).await
}

/// A connection that broke is no fault of the job, unless it happens to it again and again.
fn broken(shared: &Shared, job: &Job, why: String) -> End {
    if shared.broken.is_free(job.id) {
        return End::Unharmed(why);
    }
    let message = format!("the connection broke again: {why}");
    End::Answered(Err(Failure::retry_as(FailureClass::Sql, message)))
}

/// Finds out whether a commit happened whose answer was lost: then the claim holds the job no more. An attempt that
/// is stopped meanwhile writes its end as ever, and the claim decides.
async fn look(shared: &Shared, job: &Job, why: String) -> End {
    loop {
        match shared.store.is_held(job).await {
            Ok(true) => return broken(shared, job, why),
            Ok(false) => return End::Written(Fate::Completed(None)),
            Err(_) => tokio::time::sleep(ASK_AGAIN.mul_f64(0.5 + fastrand::f64())).await,
        }
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    Failure::retry_as(FailureClass::Panic, format!("the handler panicked: {text}"))
}

/// A job given back as it was, not begun.
pub(super) fn given_back(shared: &Shared, ticket: &Ticket) -> Ended {
    let fate = match ticket.stop.reason() {
        Some(StopReason::Cancelled) => Fate::Cancelled,
        _ => Fate::Released,
    };
    let ending = shared.ending(&ticket.job, fate);
    Ended { ending, written: false, held_up: HeldUp::Never, batch: ticket.batch, attempt: None }
}

/// A job that another process has taken over: nothing is to be written.
pub(super) fn handed_over(shared: &Shared, ticket: &Ticket) -> Ended {
    Ended { written: true, ..given_back(shared, ticket) }
}

/// A job that has not begun and cannot for now; it costs no attempt.
pub(super) fn put_off(shared: &Shared, ticket: &Ticket, pause: Duration, why: String) -> Ended {
    let wait = pause.mul_f64(0.5 + fastrand::f64());
    let fate = Fate::Deferred { wait_ms: wait.as_millis() as i64, message: why };
    Ended { ending: shared.ending(&ticket.job, fate), ..given_back(shared, ticket) }
}

/// A job whose kind has no handler here after all; it cannot be claimed, so this is a fault of ours.
pub(super) fn unknown_kind(shared: &Shared, ticket: &Ticket) -> Ended {
    let failure = Failure::retry_as(
        FailureClass::Start,
        format!("this worker has no handler for kind {}", ticket.job.kind),
    );
    let error = entry(&failure, &ticket.job, shared.worker_id());
    let ending = shared.ending(&ticket.job, Fate::Retry { wait_ms: 1_000, error });
    Ended { ending, written: false, held_up: HeldUp::Never, batch: ticket.batch, attempt: None }
}
