//! Writes how jobs ended. While one write is on its way the next one gathers; alone, an ending goes at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use super::tally::Attempt;
use super::{DatabaseWay, Shared};
use crate::JobId;
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
/// How long a write waits for a job that somebody has locked. All that end meanwhile wait with it, once: from then on
/// until the lock is gone each group is looked through first.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(1);
/// Pause before a job that was locked is looked at again.
const LOCKED_PAUSE: Duration = Duration::from_millis(700);

/// One job that has ended here.
pub(super) struct Ended {
    pub(super) ending: Ending,
    /// It is already written: a SQL handler's transaction did it.
    pub(super) written: bool,
    /// The worker's own number of the claim.
    pub(super) batch: i64,
    /// What statistics count; nothing for a job that was not begun.
    pub(super) attempt: Option<Attempt>,
    /// Why it was not written before now.
    pub(super) held_up: HeldUp,
}

/// What kept an ending from being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeldUp {
    Never,
    /// The database has refused it.
    Refused,
    /// Somebody has locked its job.
    Locked,
}

/// Writes until the channel is closed and empty. `again` brings back what could not be written.
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
        let back = now.iter().any(|e| !e.written && matches!(e.ending.fate, Fate::Released));
        for ended in write_group(&shared, now).await {
            write_later(&shared, ended, again.clone());
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

/// Writes one group; answers those that cannot be written now.
async fn write_group(shared: &Shared, mut group: Vec<Ended>) -> Vec<Ended> {
    let mut batches = shared.held.count_off(group.iter().map(|ended| ended.batch));
    let claim = |ended: &Ended| (ended.ending.id, ended.ending.claim_id);
    let older = shared.held.strike(group.iter().map(claim));
    if !older.is_empty() {
        let late = |ended: &Ended| !ended.written && older.contains(&claim(ended));
        let ids: Vec<JobId> =
            group.extract_if(.., |ended| late(ended)).map(|ended| ended.ending.id).collect();
        if !ids.is_empty() {
            shared.count_stale(ids.len(), ids.into_iter());
        }
    }
    let mut held_up = Vec::new();
    // One lock is seldom alone, and the one that was met before may still be held. And a worker that stops has no time
    // to wait for one.
    let suspicious = shared.locked.load(Ordering::Relaxed) > 0 || shared.leaving.load(Ordering::Relaxed);
    if suspicious || group.iter().any(|ended| ended.held_up == HeldUp::Locked) {
        held_up = take_out_locked(shared, &mut group, &mut batches).await;
    }
    let mut repeated = false;
    loop {
        let endings: Vec<&Ending> = group.iter().filter(|e| !e.written).map(|e| &e.ending).collect();
        match write(shared, &endings, &batches, repeated).await {
            Ok(stale) => {
                count(shared, &group, stale);
                return held_up;
            }
            Err(error) if error.is_locked() => {
                if shared.gives_up() {
                    return held_up;
                }
                let locked = take_out_locked(shared, &mut group, &mut batches).await;
                if locked.is_empty() && repeated {
                    // Not the jobs, but the records of claims, which can stay: the worker takes them along when it
                    // leaves. Or a whole table: then this goes on until it is free.
                    batches.clear();
                }
                held_up.extend(locked);
                repeated = true;
            }
            Err(refusal) => {
                tracing::warn!(error = %refusal, jobs = endings.len(), "finished jobs were refused; each is written by itself");
                held_up.extend(write_one_by_one(shared, group, batches).await);
                return held_up;
            }
        }
    }
}

/// Takes those whose jobs somebody has locked out of a group: they hold up no other, and are written later.
async fn take_out_locked(shared: &Shared, group: &mut Vec<Ended>, batches: &mut Vec<i64>) -> Vec<Ended> {
    let endings: Vec<&Ending> = group.iter().filter(|e| !e.written).map(|e| &e.ending).collect();
    // Should the look fail, the write that follows says why.
    let ids: HashSet<JobId> = shared.store.locked(&endings).await.unwrap_or_default().into_iter().collect();
    let is_locked = |ended: &mut Ended| !ended.written && ids.contains(&ended.ending.id);
    let mut locked: Vec<Ended> = group.extract_if(.., is_locked).collect();
    let mut news = Vec::new();
    for ended in &mut locked {
        if std::mem::replace(&mut ended.held_up, HeldUp::Locked) != HeldUp::Locked {
            news.push(ended.ending.id);
        }
        hold(shared, ended, batches);
    }
    if !news.is_empty() {
        tracing::warn!(jobs = news.len(), among = ?&news[..news.len().min(10)],
            "jobs that have ended are locked by somebody's transaction; their ends are written when it is over");
    }
    locked
}

/// Keeps a job whose end cannot be written now, with the record of its claim, by which it is found if this worker is
/// lost.
fn hold(shared: &Shared, ended: &Ended, batches: &mut Vec<i64>) {
    batches.retain(|batch| *batch != ended.batch);
    shared.held.put_back(ended.ending.id, ended.ending.claim_id, ended.batch);
}

/// Writes each ending by itself, so that one that is refused holds up no other.
async fn write_one_by_one(shared: &Shared, group: Vec<Ended>, mut batches: Vec<i64>) -> Vec<Ended> {
    let mut held_up = Vec::new();
    for mut ended in group {
        let one = [&ended.ending];
        let written = match write(shared, if ended.written { &[] } else { &one }, &[], false).await {
            Err(refusal) if !refusal.is_locked() => {
                write(shared, &[&plainly(&ended.ending, &refusal)], &[], false).await
            }
            other => other,
        };
        match written {
            Ok(stale) => count(shared, std::slice::from_ref(&ended), stale),
            Err(refusal) => {
                let why = if refusal.is_locked() { HeldUp::Locked } else { HeldUp::Refused };
                if std::mem::replace(&mut ended.held_up, why) != why {
                    tracing::error!(job.id = ended.ending.id, error = %refusal,
                        "the end of a job cannot be written; it is held, and written when the cause is mended");
                }
                hold(shared, &ended, &mut batches);
                held_up.push(ended);
            }
        }
    }
    // Whoever refused the jobs has no say in this; should it fail all the same, the worker takes it along
    // when it leaves.
    let _ = write(shared, &[], &batches, false).await;
    held_up
}

/// Brings an ending back after a while. A worker that stops meanwhile gives the job back.
fn write_later(shared: &Arc<Shared>, ended: Ended, again: mpsc::WeakUnboundedSender<Ended>) {
    let shared = shared.clone();
    let is_locked = ended.held_up == HeldUp::Locked;
    let pause = if is_locked { LOCKED_PAUSE } else { REFUSED_PAUSE };
    shared.refused.fetch_add(1, Ordering::Relaxed);
    shared.locked.fetch_add(u64::from(is_locked), Ordering::Relaxed);
    tokio::spawn(async move {
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        shared.refused.fetch_sub(1, Ordering::Relaxed);
        shared.locked.fetch_sub(u64::from(is_locked), Ordering::Relaxed);
        if let Some(again) = again.upgrade() {
            let _ = again.send(ended);
        }
    });
}

/// Writes endings, however often it takes while the database does not answer; answers how many of the jobs were
/// not ours any more, or why the database refuses them (it may be that somebody has locked one). `repeated`: some of them
/// may be written already.
async fn write(
    shared: &Shared,
    endings: &[&Ending],
    batches: &[i64],
    mut repeated: bool,
) -> Result<usize, Error> {
    let mut pause = PAUSE_MIN;
    loop {
        match shared.hot.finish(shared.worker_id(), endings, batches).await {
            Ok(stale) => {
                shared.database_works(DatabaseWay::Finish);
                if repeated {
                    // After a lost answer, those that the first try wrote are not found again.
                    return Ok(0);
                }
                if stale > 0 {
                    shared.count_stale(stale, endings.iter().map(|ending| ending.id));
                }
                return Ok(stale);
            }
            Err(error) if error.is_transient() && !error.is_locked() => {
                shared.database_failed(DatabaseWay::Finish, &error);
                if shared.gives_up() {
                    return Ok(0);
                }
                repeated = true;
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            Err(refusal) => {
                shared.database_works(DatabaseWay::Finish);
                return Err(refusal);
            }
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
