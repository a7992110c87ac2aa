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

/// Kilobytes of large payloads in hand at once. One counts twice while it is fetched, as a row and as a text, and for as
/// much as it can have until its true size is known. A larger one has all of it.
const ROOM_KIB: usize = 64 * 1024;

/// Room for payloads.
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM_KIB)))
    }
}

impl Room {
    async fn for_bytes(&self, bytes: usize) -> OwnedSemaphorePermit {
        let kib = bytes.div_ceil(1024).min(ROOM_KIB) as u32;
        self.0.clone().acquire_many_owned(kib).await.expect("it is never closed")
    }
}

/// The job with its payload, and the room that this takes, in the order in which jobs ask for it; `None` when the claim
/// holds the job no more.
pub(super) async fn fetch(
    shared: &Shared,
    ticket: &Ticket,
) -> Result<Option<(Ticket, OwnedSemaphorePermit)>, Error> {
    let bytes = ticket.job.payload_left.unwrap_or_default();
    let mut room = shared.room.for_bytes(bytes * 2).await;
    let Some(payload) = shared.store.payload(&ticket.job).await? else { return Ok(None) };
    let more_than_it_takes = room.num_permits().saturating_sub(payload.len().div_ceil(1024));
    drop(room.split(more_than_it_takes));
    let job = Arc::new(Job { payload, payload_left: None, ..Job::clone(&ticket.job) });
    Ok(Some((Ticket { job, batch: ticket.batch, stop: ticket.stop.clone() }, room)))
}
