//! Large payloads, which do not come with a claim: each is fetched when its job begins.
//!
//! A claim can therefore bring a thousand jobs whatever their payloads are, and what runs holds no more of them at once
//! than fits.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Shared;
use super::held::Ticket;
use crate::Job;
use crate::store::Error;

/// Kilobytes of large payloads of running jobs at once. A larger one has all of it.
const ROOM_KIB: usize = 64 * 1024;
/// The same for those that are being fetched. Each counts twice, as a row and as a text, and for as much as it can have:
/// what it has is known when it is there.
const FETCHED_KIB: usize = 64 * 1024;

/// Room for payloads: a guess at the size of one that is fetched must not hold up those that run, nor be held up by them.
pub(super) struct Room {
    running: Arc<Semaphore>,
    fetched: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        let [running, fetched] = [ROOM_KIB, FETCHED_KIB].map(|kib| Arc::new(Semaphore::new(kib)));
        Self { running, fetched }
    }
}

async fn room(of: &Arc<Semaphore>, bytes: usize, all_kib: usize) -> OwnedSemaphorePermit {
    let kib = bytes.div_ceil(1024).min(all_kib) as u32;
    of.clone().acquire_many_owned(kib).await.expect("it is never closed")
}

/// The job with its payload, and the room that this takes, in the order in which jobs ask for it; `None` when the claim
/// holds the job no more.
pub(super) async fn fetch(
    shared: &Shared,
    ticket: &Ticket,
) -> Result<Option<(Ticket, OwnedSemaphorePermit)>, Error> {
    let at_most = ticket.job.payload_left.unwrap_or_default();
    let _fetched = room(&shared.room.fetched, at_most.saturating_mul(2), FETCHED_KIB).await;
    let Some(payload) = shared.store.payload(&ticket.job).await? else { return Ok(None) };
    let taken = room(&shared.room.running, payload.len(), ROOM_KIB).await;
    let job = Arc::new(Job { payload, payload_left: None, ..Job::clone(&ticket.job) });
    Ok(Some((Ticket { job, batch: ticket.batch, stop: ticket.stop.clone() }, taken)))
}
