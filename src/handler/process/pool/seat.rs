//! One child's place, the jobs in its hand, and those that wait for a place.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Notify, oneshot};

use super::super::super::{Context, Remainder};
use super::super::protocol::{self, Rubbish};
use super::super::stderr::Stderr;
use crate::{JobId, Outcome};

/// All children's places.
pub(super) struct State {
    pub(super) seats: Vec<Seat>,
    pub(super) waiting: VecDeque<Flight>,
    pub(super) tickets: u64,
}

/// One child's place, whether there is a child just now or not.
#[derive(Default)]
pub(super) struct Seat {
    /// Takes jobs.
    pub(super) up: bool,
    /// Jobs it may have in hand.
    pub(super) room: usize,
    /// The child understands the line that cancels a job.
    pub(super) cancels: bool,
    pub(super) flights: HashMap<JobId, Flight>,
    /// How many of them were cut off.
    pub(super) cut_off: usize,
    /// Lines that the child has not been sent.
    pub(super) outbox: Vec<u8>,
    /// Rung when there is something to do.
    pub(super) bell: Arc<Notify>,
    pub(super) stderr: Arc<Stderr>,
}

/// A job in a child's hand, or on its way there.
pub(super) struct Flight {
    pub(super) ticket: u64,
    pub(super) context: Context,
    pub(super) reply: oneshot::Sender<Outcome>,
    /// Set when it was cut off: the child is ended if it has not answered by then.
    pub(super) over_at: Option<Instant>,
    /// The job's end waits until no child has it in hand any more.
    pub(super) _remainder: Option<Remainder>,
}

impl State {
    /// The seat with the least in hand that can take this job. A child that still has an earlier attempt of it
    /// in hand could not tell the two apart.
    pub(super) fn freest(&mut self, id: JobId) -> Option<&mut Seat> {
        let free = self.seats.iter_mut().filter(|seat| seat.has_place_for(id));
        free.min_by_key(|seat| seat.flights.len())
    }

    /// Gives a child that has places jobs that wait.
    pub(super) fn refill(&mut self, seat: usize) {
        let seat = &mut self.seats[seat];
        while seat.has_place()
            && let Some(at) = self.waiting.iter().position(|flight| seat.has_place_for(flight.context.job.id))
            && let Some(flight) = self.waiting.remove(at)
        {
            seat.take(flight);
        }
    }
}

impl Seat {
    pub(super) fn has_place(&self) -> bool {
        self.up && self.flights.len() < self.room
    }

    pub(super) fn has_place_for(&self, id: JobId) -> bool {
        self.has_place() && !self.flights.contains_key(&id)
    }

    pub(super) fn take(&mut self, flight: Flight) {
        let job = &flight.context.job;
        let time_left = flight.context.deadline.saturating_duration_since(Instant::now());
        protocol::job_line(job, time_left, &mut self.outbox);
        self.flights.insert(job.id, flight);
        self.bell.notify_one();
    }

    pub(super) fn flight(&self, id: JobId) -> Result<&Flight, Rubbish> {
        let why = || Rubbish(format!("spoke of job {id}, which it does not have in hand"));
        self.flights.get(&id).ok_or_else(why)
    }

    pub(super) fn over_at(&self) -> Option<Instant> {
        if self.cut_off == 0 {
            return None;
        }
        self.flights.values().filter_map(|flight| flight.over_at).min()
    }
}
