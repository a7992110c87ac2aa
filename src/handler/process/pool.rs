//! Who has which job in hand: a seat for each child, the jobs in it, and the jobs that wait for a place.
//!
//! Knows no processes. What a child shall read is gathered here, and what it said is checked against what it was
//! given: an answer counts only for a job that this very child has in hand, and only once.

mod seat;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::super::Context;
use super::protocol::{self, Ready, Rubbish, Said};
use super::stderr::Stderr;
use crate::{Failure, JobId, Outcome, Success};
use seat::{Flight, Seat, State};

/// How long a child that understands the line may take to give a job up. Then it is ended, with all it has in hand.
pub(super) const CANCEL_GRACE: Duration = Duration::from_millis(400);

/// The children's jobs.
pub(super) struct Pool {
    /// Jobs in hand of one child, where the settings say.
    concurrency: Option<usize>,
    state: Mutex<State>,
    /// The places of all children that are up.
    capacity: AtomicUsize,
    /// Rung when the capacity changes.
    changed: OnceLock<Arc<Notify>>,
    /// Some child has shown that it works: those after it need not be waited for.
    proven: AtomicBool,
    /// Children shall end.
    pub(super) closing: CancellationToken,
}

/// What a child's task has to do next.
pub(super) struct Due {
    /// The child takes jobs.
    pub(super) up: bool,
    /// When the child is to be ended because of a job that was cut off.
    pub(super) over_at: Option<Instant>,
    pub(super) closing: bool,
}

/// A job given to the pool. Dropping it before the answer came cuts the job off.
pub(super) struct Ticket {
    pool: Arc<Pool>,
    id: JobId,
    number: u64,
    pub(super) answer: oneshot::Receiver<Outcome>,
}

impl Pool {
    pub(super) fn new(processes: usize, concurrency: Option<usize>) -> Self {
        let seats = (0..processes).map(|_| Seat::default()).collect();
        Self {
            concurrency,
            state: Mutex::new(State { seats, waiting: VecDeque::new(), tickets: 0 }),
            capacity: AtomicUsize::new(0),
            changed: OnceLock::new(),
            proven: AtomicBool::new(false),
            closing: CancellationToken::new(),
        }
    }

    /// How many jobs the children that are up can have in hand.
    pub(super) fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }

    pub(super) fn ring_when_changed(&self, changed: Arc<Notify>) {
        let _ = self.changed.set(changed);
    }

    /// Some child of this command has answered before.
    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// A child is about to start in this seat. Answers what rings when there is something to do.
    pub(super) fn sit_down(&self, seat: usize, stderr: &Arc<Stderr>) -> Arc<Notify> {
        let mut state = self.lock();
        let seat = &mut state.seats[seat];
        seat.stderr = stderr.clone();
        seat.room = self.concurrency.unwrap_or(1);
        seat.bell.clone()
    }

    /// Asks all children to end.
    pub(super) fn close(&self) {
        self.closing.cancel();
        let state = self.lock();
        state.seats.iter().for_each(|seat| seat.bell.notify_one());
    }

    /// Gives the job to the child with the least in hand, or has it wait for a place.
    pub(super) fn submit(self: &Arc<Self>, context: Context) -> Ticket {
        let (reply, answer) = oneshot::channel();
        let id = context.job.id;
        let mut state = self.lock();
        state.tickets += 1;
        let number = state.tickets;
        let remainder = context.remainder();
        let flight = Flight { ticket: number, context, reply, over_at: None, _remainder: remainder };
        // Closed, the reply is dropped, and the job goes back.
        if !self.closing.is_cancelled() {
            match state.freest(id) {
                Some(seat) => seat.take(flight),
                None => state.waiting.push_back(flight),
            }
        }
        Ticket { pool: self.clone(), id, number, answer }
    }

    /// Takes the lines that are to be written, if `outbox` has room for them.
    pub(super) fn collect(&self, seat: usize, outbox: &mut Vec<u8>) -> Due {
        let mut state = self.lock();
        let seat = &mut state.seats[seat];
        if outbox.is_empty() {
            std::mem::swap(outbox, &mut seat.outbox);
        }
        Due { up: seat.up, over_at: seat.over_at(), closing: self.closing.is_cancelled() }
    }

    /// The child takes jobs from now on.
    pub(super) fn up(&self, seat: usize) {
        self.change(seat, |seat| seat.up = true);
    }

    /// Takes in one line of a child. Answers whether it ended a job.
    pub(super) fn heard(&self, seat: usize, said: Said) -> Result<bool, Rubbish> {
        match said {
            Said::Ready(ready) => {
                self.ready(seat, &ready);
                Ok(false)
            }
            Said::Progress(id, progress) => {
                let context = self.lock().seats[seat].flight(id)?.context.clone();
                context.progress(progress);
                Ok(false)
            }
            Said::Ended(id, outcome) => {
                let mut state = self.lock();
                state.seats[seat].flight(id)?;
                if let Some(flight) = state.seats[seat].flights.remove(&id) {
                    state.seats[seat].cut_off -= usize::from(flight.over_at.is_some());
                    // Nobody waits for the answer of a job that was cut off.
                    let _ = flight.reply.send(outcome);
                }
                state.refill(seat);
                self.proven.store(true, Ordering::Relaxed);
                Ok(true)
            }
        }
    }

    fn ready(&self, seat: usize, ready: &Ready) {
        self.proven.store(true, Ordering::Relaxed);
        self.change(seat, |seat| {
            seat.up = true;
            seat.cancels = ready.cancel;
            seat.room = match (self.concurrency, ready.concurrency) {
                (Some(most), Some(own)) => most.min(own),
                (most, own) => most.or(own).unwrap_or(1),
            };
        });
    }

    /// The child gets no more jobs, and may still answer for those it has. Answers whether it was up.
    pub(super) fn retire(&self, seat: usize) -> bool {
        let mut was_up = false;
        self.change(seat, |seat| {
            was_up = std::mem::take(&mut seat.up);
            seat.outbox.clear();
        });
        was_up
    }

    /// A child ended without a single answer: the next one must show that it starts.
    pub(super) fn doubt(&self) {
        self.proven.store(false, Ordering::Relaxed);
    }

    /// The child is gone. Jobs it had in hand fail like this; without a failure it was not their fault nor the
    /// child's, and they run again at no cost of an attempt. Answers how many there were.
    pub(super) fn gone(&self, seat: usize, failure: Option<&Failure>) -> usize {
        let mut flights = HashMap::new();
        self.change(seat, |seat| {
            flights = std::mem::take(&mut seat.flights);
            *seat = Seat { bell: seat.bell.clone(), ..Seat::default() };
        });
        let count = flights.len();
        for flight in flights.into_values() {
            let _ = flight.reply.send(match failure {
                Some(failure) => Err(failure.clone()),
                None => Ok(Success::Snooze(Duration::ZERO)),
            });
        }
        count
    }

    /// No child starts for now: unless another is up, jobs that wait for one go back to their queue with the reason.
    pub(super) fn give_back_waiting(&self, pause: Duration, why: &str) {
        let mut state = self.lock();
        if state.seats.iter().any(|seat| seat.up) {
            return;
        }
        for flight in state.waiting.drain(..) {
            let _ = flight.reply.send(Err(Failure::snooze_because(pause, why)));
        }
    }

    fn change(&self, seat: usize, change: impl FnOnce(&mut Seat)) {
        let mut state = self.lock();
        change(&mut state.seats[seat]);
        state.refill(seat);
        let capacity = state.seats.iter().filter(|seat| seat.up).map(|seat| seat.room).sum();
        if self.capacity.swap(capacity, Ordering::Relaxed) != capacity
            && let Some(changed) = self.changed.get()
        {
            changed.notify_one();
        }
    }

    fn cut(&self, id: JobId, ticket: u64) -> Option<Arc<Stderr>> {
        let mut state = self.lock();
        state.waiting.retain(|flight| flight.ticket != ticket);
        let holds = |seat: &&mut Seat| seat.flights.get(&id).is_some_and(|flight| flight.ticket == ticket);
        let seat = state.seats.iter_mut().find(holds)?;
        let flight = seat.flights.get_mut(&id)?;
        if flight.over_at.is_none() {
            let grace = if seat.cancels { CANCEL_GRACE } else { Duration::ZERO };
            flight.over_at = Some(Instant::now() + grace);
            seat.cut_off += 1;
            if seat.cancels {
                protocol::cancel_line(id, &mut seat.outbox);
            }
            seat.bell.notify_one();
        }
        Some(seat.stderr.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Pool {
    pub(super) fn in_hand(&self) -> usize {
        self.ids_in_hand().len()
    }

    pub(super) fn ids_in_hand(&self) -> std::collections::HashSet<JobId> {
        self.lock().seats.iter().flat_map(|seat| seat.flights.keys().copied()).collect()
    }
}

impl Ticket {
    /// Asks the child to give the job up. Answers what it wrote to its standard error, if it has the job.
    pub(super) fn cut(&self) -> Option<Arc<Stderr>> {
        self.pool.cut(self.id, self.number)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Answered, the sender is gone.
        if !self.answer.is_terminated() {
            self.cut();
        }
    }
}

#[cfg(test)]
mod tests;
