//! Writes how jobs ended. While one write is on its way the next one gathers; alone, an ending goes at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use super::tally::Attempt;
use super::{DatabaseWay, Shared};
use crate::store::{Ending, Error, ErrorEntry, Fate};

/// Endings in one write at most; more would hold their locks too long.
const ENDINGS_AT_ONCE: usize = 2_000;
/// Bytes of results and errors in one write at most, unless one ending alone has more.
const BYTES_AT_ONCE: usize = 4 * 1024 * 1024;
/// Bounds of the pause before a write is tried again while the database does not answer.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Pause before an ending that the database refuses is written again. What refuses it (a trigger of somebody's,
/// a right that was taken away) is for a person to mend.
const REFUSED_PAUSE: Duration = Duration::from_secs(3);

/// One job that has ended here.
pub(super) struct Ended {
    pub(super) ending: Ending,
    /// It is already written: a SQL handler's transaction did it.
    pub(super) written: bool,
    /// The worker's own number of the claim.
    pub(super) batch: i64,
    /// What statistics count; nothing for a job that was not begun.
    pub(super) attempt: Option<Attempt>,
    /// The database has refused it before.
    pub(super) refused: bool,
}

/// Writes until the channel is closed and empty. `again` brings back what was refused.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut ended: mpsc::UnboundedReceiver<Ended>,
    again: mpsc::WeakUnboundedSender<Ended>,
) {
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
        for refused in write_group(&shared, now).await {
            write_later(&shared, refused, again.clone());
        }
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

/// Writes one group; answers those that the database refuses to write at all.
async fn write_group(shared: &Shared, mut group: Vec<Ended>) -> Vec<Ended> {
    let batches = shared.held.count_off(group.iter().map(|ended| ended.batch));
    let claim = |ended: &Ended| (ended.ending.id, ended.ending.claim_id);
    let older = shared.held.strike(group.iter().map(claim));
    if !older.is_empty() {
        shared.count_stale(older.len(), older.iter().map(|(id, _)| *id));
        group.retain(|ended| !older.contains(&claim(ended)));
    }
    let endings: Vec<&Ending> = group.iter().filter(|e| !e.written).map(|e| &e.ending).collect();
    match write(shared, &endings, &batches).await {
        Ok(stale) => {
            count(shared, &group, stale);
            Vec::new()
        }
        Err(refusal) => {
            tracing::warn!(error = %refusal, jobs = endings.len(), "finished jobs were refused; each is written by itself");
            write_one_by_one(shared, group, batches).await
        }
    }
}

/// Writes each ending by itself, so that one that is refused holds up no other.
async fn write_one_by_one(shared: &Shared, group: Vec<Ended>, mut batches: Vec<i64>) -> Vec<Ended> {
    let mut refused = Vec::new();
    for mut ended in group {
        let one = [&ended.ending];
        let written = match write(shared, if ended.written { &[] } else { &one }, &[]).await {
            Ok(stale) => Ok(stale),
            Err(refusal) => write(shared, &[&plainly(&ended.ending, &refusal)], &[]).await,
        };
        match written {
            Ok(stale) => count(shared, std::slice::from_ref(&ended), stale),
            Err(refusal) => {
                if !std::mem::replace(&mut ended.refused, true) {
                    tracing::error!(job.id = ended.ending.id, error = %refusal,
                        "the end of a job cannot be written; it is held, and written when the cause is mended");
                }
                // The record of its claim must stay: the job is found by it if this worker is lost.
                batches.retain(|batch| *batch != ended.batch);
                shared.held.put_back(ended.ending.id, ended.ending.claim_id, ended.batch);
                refused.push(ended);
            }
        }
    }
    // Whoever refused the jobs has no say in this; should it fail all the same, the worker takes it along
    // when it leaves.
    let _ = write(shared, &[], &batches).await;
    refused
}

/// Brings an ending back after a while. A worker that stops meanwhile gives the job back.
fn write_later(shared: &Arc<Shared>, ended: Ended, again: mpsc::WeakUnboundedSender<Ended>) {
    let shared = shared.clone();
    shared.refused.fetch_add(1, Ordering::Relaxed);
    tokio::spawn(async move {
        tokio::time::sleep(REFUSED_PAUSE.mul_f64(0.5 + fastrand::f64())).await;
        shared.refused.fetch_sub(1, Ordering::Relaxed);
        if let Some(again) = again.upgrade() {
            let _ = again.send(ended);
        }
    });
}

/// Writes endings, however often it takes while the database does not answer; answers how many of the jobs were
/// not ours any more, or why the database refuses them.
async fn write(shared: &Shared, endings: &[&Ending], batches: &[i64]) -> Result<usize, Error> {
    let mut pause = PAUSE_MIN;
    let mut repeated = false;
    loop {
        match shared.store.finish(shared.worker_id(), endings, batches).await {
            // After a lost answer, those that the first try wrote are not found again.
            Ok(_) if repeated => {
                shared.database_works(DatabaseWay::Finish);
                return Ok(0);
            }
            Ok(stale) => {
                if stale > 0 {
                    shared.count_stale(stale, endings.iter().map(|ending| ending.id));
                }
                return Ok(stale);
            }
            Err(error) if error.is_transient() => {
                shared.database_failed(DatabaseWay::Finish, &error);
                if shared.gives_up() {
                    return Ok(0);
                }
                repeated = true;
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            Err(refusal) => return Err(refusal),
        }
    }
}

/// Counts what was written. Which of a group came too late is not known, as a rule all or one; the sum is right.
fn count(shared: &Shared, written: &[Ended], stale: usize) {
    let attempts = written.iter().filter_map(|e| e.attempt.as_ref().map(|attempt| (attempt, &e.ending.fate)));
    shared.tally.count(attempts.skip(stale));
}

/// The same end with words that cannot be what the database objects to.
fn plainly(ending: &Ending, refusal: &Error) -> Ending {
    let reason = format!("could not be stored: {refusal}").replace(|c: char| !(' '..='~').contains(&c), "?");
    let plain = |text: &str| ErrorEntry {
        message: text.to_owned(),
        entry: serde_json::json!({ "error": text }).to_string(),
    };
    let mut ending = ending.clone();
    match &mut ending.fate {
        Fate::Completed(result) => *result = Some(serde_json::json!({ "result": reason }).to_string()),
        Fate::Retry { error, .. } | Fate::Buried { error, .. } => {
            *error = plain(&format!("the error {reason}"));
        }
        Fate::Deferred { message, .. } => *message = format!("the reason {reason}"),
        Fate::Cancelled | Fate::Snoozed { .. } | Fate::Released => {}
    }
    ending
}
