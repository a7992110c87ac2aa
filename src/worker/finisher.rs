//! Writes how jobs ended. While one write is on its way the next one gathers; alone, an ending goes at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Shared;
use super::tally::Attempt;
use crate::store::{Emptied, Ending, Error, ErrorEntry, Fate};

/// Endings in one write at most; more would hold their locks too long.
const ENDINGS_AT_ONCE: usize = 2_000;
/// Bytes of results and errors in one write at most, unless one ending alone has more.
const BYTES_AT_ONCE: usize = 4 * 1024 * 1024;
/// Bounds of the pause before a write is tried again while the database does not answer.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// One job that has ended here.
pub(super) struct Ended {
    pub(super) ending: Ending,
    /// It is already written: a SQL handler's transaction did it.
    pub(super) written: bool,
    /// The worker's own number of the claim.
    pub(super) batch: i64,
    /// What statistics count; nothing for a job that was not begun.
    pub(super) attempt: Option<Attempt>,
}

/// Writes until the channel is closed and empty.
pub(super) async fn run(shared: Arc<Shared>, mut ended: mpsc::UnboundedReceiver<Ended>) {
    let mut waiting = Vec::with_capacity(ENDINGS_AT_ONCE);
    while !waiting.is_empty() || ended.recv_many(&mut waiting, ENDINGS_AT_ONCE).await > 0 {
        // Jobs that are just ending come along; nothing is waited for.
        tokio::task::yield_now().await;
        while waiting.len() < ENDINGS_AT_ONCE
            && let Ok(one) = ended.try_recv()
        {
            waiting.push(one);
        }
        let now = next_group(&mut waiting);
        let back = now.iter().any(|e| matches!(e.ending.fate, Fate::Released));
        write_group(&shared, now).await;
        if back {
            // Others may have room for what was given back.
            let _ = shared.store.ring().await;
        }
    }
}

/// Takes as many endings as one write may carry.
fn next_group(waiting: &mut Vec<Ended>) -> Vec<Ended> {
    let mut bytes = 0;
    let fits = waiting.iter().take_while(|ended| {
        let first = bytes == 0;
        bytes += 1 + ended.ending.fate.bytes();
        first || bytes <= BYTES_AT_ONCE
    });
    let count = fits.count();
    waiting.drain(..count).collect()
}

async fn write_group(shared: &Shared, group: Vec<Ended>) {
    let batches = shared.held.count_off(group.iter().map(|ended| ended.batch));
    let (current, older): (Vec<Ended>, Vec<Ended>) =
        group.into_iter().partition(|ended| shared.held.strike(ended.ending.id, ended.ending.claim_id));
    if !older.is_empty() {
        shared.count_stale(&older.iter().map(|ended| ended.ending.id).collect::<Vec<_>>());
    }
    let endings: Vec<Ending> = current.iter().filter(|e| !e.written).map(|e| e.ending.clone()).collect();
    let stale = write(shared, endings, Emptied { batches }).await;
    shared.tally.count(current.iter().filter_map(|e| {
        let counts = !stale.contains(&e.ending.id);
        e.attempt.as_ref().filter(|_| counts).map(|attempt| (attempt, &e.ending.fate))
    }));
}

/// Writes one group, however often it takes; answers the jobs that were not ours any more.
async fn write(shared: &Shared, endings: Vec<Ending>, emptied: Emptied) -> Vec<i64> {
    let worker_id = shared.worker_id();
    let mut pause = PAUSE_MIN;
    let mut repeated = false;
    loop {
        match shared.store.finish(worker_id, endings.clone(), emptied.clone()).await {
            Ok(stale) => {
                // After a lost answer, those that the first try wrote are not found again.
                if !stale.is_empty() && !repeated {
                    shared.count_stale(&stale);
                }
                return if repeated { Vec::new() } else { stale };
            }
            Err(error) if error.is_transient() => {
                shared.database_failed(&error);
                if shared.gives_up() {
                    return Vec::new();
                }
                repeated = true;
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            Err(error) if endings.len() > 1 => {
                tracing::warn!(%error, "a group of finished jobs was refused; each is written by itself");
                let mut stale = Vec::new();
                for ending in endings {
                    stale.extend(Box::pin(write(shared, vec![ending], Emptied::default())).await);
                }
                Box::pin(write(shared, Vec::new(), emptied)).await;
                return stale;
            }
            Err(error) => {
                let stale = write_plainly(shared, endings, &error).await;
                if !emptied.batches.is_empty() {
                    let _ = shared.store.finish(worker_id, Vec::new(), emptied).await;
                }
                return stale;
            }
        }
    }
}

/// The last resort for an ending the database refuses: the same end, with words that cannot be refused.
async fn write_plainly(shared: &Shared, mut endings: Vec<Ending>, refusal: &Error) -> Vec<i64> {
    let reason = format!("could not be stored: {refusal}").replace(|c: char| !(' '..='~').contains(&c), "?");
    let plain = |text: &str| ErrorEntry {
        message: text.to_owned(),
        entry: serde_json::json!({ "error": text }).to_string(),
    };
    for ending in &mut endings {
        tracing::error!(job.id = ending.id, error = %refusal, "what a job ended with could not be stored; it is stored without");
        match &mut ending.fate {
            Fate::Completed(result) => *result = Some(serde_json::json!({ "result": reason }).to_string()),
            Fate::Retry { error, .. } | Fate::Buried { error, .. } => {
                *error = plain(&format!("the error {reason}"));
            }
            Fate::Cancelled | Fate::Snoozed { .. } | Fate::Released => {}
        }
    }
    match shared.store.finish(shared.worker_id(), endings, Emptied::default()).await {
        Ok(stale) => stale,
        Err(error) => {
            tracing::error!(%error, "a finished job could not be written at all; it runs again when this worker is gone");
            Vec::new()
        }
    }
}
