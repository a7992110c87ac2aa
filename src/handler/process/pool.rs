//! Who has which job in hand: a seat for each child, the jobs in it, and the jobs that wait for a place.
//!
//! Knows no processes. What a child shall read is gathered here, and what it said is checked against what it was
//! given: an answer counts only for a job that this very child has in hand, and only once.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::super::{Context, Remainder};
use super::protocol::{self, Ready, Rubbish, Said};
use super::stderr::Stderr;
use crate::{Failure, JobId, Outcome, Success};

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

struct State {
    seats: Vec<Seat>,
    waiting: VecDeque<Flight>,
    tickets: u64,
}

/// One child's place, whether there is a child just now or not.
#[derive(Default)]
struct Seat {
    /// Takes jobs.
    up: bool,
    /// Jobs it may have in hand.
    room: usize,
    /// The child understands the line that cancels a job.
    cancels: bool,
    flights: HashMap<JobId, Flight>,
    /// How many of them were cut off.
    cut_off: usize,
    /// Lines that the child has not been sent.
    outbox: Vec<u8>,
    /// Rung when there is something to do.
    bell: Arc<Notify>,
    stderr: Arc<Stderr>,
}

/// A job in a child's hand, or on its way there.
struct Flight {
    ticket: u64,
    context: Context,
    reply: oneshot::Sender<Outcome>,
    /// Set when it was cut off: the child is ended if it has not answered by then.
    over_at: Option<Instant>,
    /// The job's end waits until no child has it in hand any more.
    _remainder: Option<Remainder>,
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

    /// No child starts for now: unless another is up, jobs that wait for one go back to their queue.
    pub(super) fn give_back_waiting(&self, pause: Duration) {
        let mut state = self.lock();
        if state.seats.iter().any(|seat| seat.up) {
            return;
        }
        for flight in state.waiting.drain(..) {
            let _ = flight.reply.send(Ok(Success::Snooze(pause)));
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

impl State {
    /// The seat with the least in hand that can take this job. A child that still has an earlier attempt of it
    /// in hand could not tell the two apart.
    fn freest(&mut self, id: JobId) -> Option<&mut Seat> {
        let free = self.seats.iter_mut().filter(|seat| seat.has_place_for(id));
        free.min_by_key(|seat| seat.flights.len())
    }

    /// Gives a child that has places jobs that wait.
    fn refill(&mut self, seat: usize) {
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
    fn has_place(&self) -> bool {
        self.up && self.flights.len() < self.room
    }

    fn has_place_for(&self, id: JobId) -> bool {
        self.has_place() && !self.flights.contains_key(&id)
    }

    fn take(&mut self, flight: Flight) {
        let job = &flight.context.job;
        let time_left = flight.context.deadline.saturating_duration_since(Instant::now());
        protocol::job_line(job, time_left, &mut self.outbox);
        self.flights.insert(job.id, flight);
        self.bell.notify_one();
    }

    fn flight(&self, id: JobId) -> Result<&Flight, Rubbish> {
        let why = || Rubbish(format!("spoke of job {id}, which it does not have in hand"));
        self.flights.get(&id).ok_or_else(why)
    }

    fn over_at(&self) -> Option<Instant> {
        if self.cut_off == 0 {
            return None;
        }
        self.flights.values().filter_map(|flight| flight.over_at).min()
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
mod tests {
    use proptest::prelude::*;

    use super::super::super::testing::{PATIENCE, context, job};
    use super::super::lines::Lines;
    use super::*;
    use crate::Job;

    /// Two children with two jobs each in hand: 1 and 2, 3 and 4.
    fn busy() -> (Arc<Pool>, Vec<Ticket>) {
        let pool = Arc::new(Pool::new(2, Some(2)));
        let mut tickets = Vec::new();
        for seat in 0..2 {
            pool.sit_down(seat, &Arc::default());
            pool.up(seat);
            tickets.extend(
                (1..=2).map(|n| pool.submit(context(Job { id: seat as i64 * 2 + n, ..job("1") }, PATIENCE))),
            );
        }
        (pool, tickets)
    }

    /// As the child in this seat would say it; false once it is to be ended.
    fn says(pool: &Pool, seat: usize, bytes: &[u8]) -> bool {
        let heard = Lines::new(10_000).push(bytes, |line| {
            if let Some(said) = protocol::read(line, 1_000)? {
                pool.heard(seat, said)?;
            }
            Ok::<_, Rubbish>(())
        });
        heard.is_ok()
    }

    fn answered(tickets: &mut [Ticket]) -> Vec<JobId> {
        tickets.iter_mut().filter_map(|t| t.answer.try_recv().ok().map(|_| t.id)).collect()
    }

    #[test]
    fn jobs_go_to_the_child_with_the_least_in_hand_and_wait_when_there_is_no_place() {
        let (pool, mut tickets) = busy();
        assert_eq!(pool.capacity(), 4);
        tickets.push(pool.submit(context(Job { id: 5, ..job("1") }, PATIENCE)));
        assert!(says(&pool, 1, b"{\"id\":4,\"ok\":1}\n"));
        let mut lines = Vec::new();
        pool.collect(1, &mut lines);
        let lines = String::from_utf8(lines).expect("text");
        let ids: Vec<_> = lines.lines().map(|line| &line[..7]).collect();
        assert_eq!(ids, ["{\"id\":3", "{\"id\":4", "{\"id\":5"]);
        assert_eq!(answered(&mut tickets), [4]);
    }

    #[test]
    fn a_second_attempt_is_not_given_to_the_child_that_still_has_the_first_in_hand() {
        let pool = Arc::new(Pool::new(2, Some(9)));
        for seat in 0..2 {
            pool.sit_down(seat, &Arc::default());
        }
        pool.up(0);
        let first = pool.submit(context(job("1"), PATIENCE));
        let mut second = pool.submit(context(job("1"), PATIENCE));
        assert!(says(&pool, 0, b"{\"id\":42,\"ok\":1}\n"));
        drop(first);
        assert!(second.answer.try_recv().is_err(), "the answer was the first one's");
        assert!(says(&pool, 0, b"{\"id\":42,\"ok\":2}\n"));
        assert!(second.answer.try_recv().is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_child_panic_or_answer_a_job_of_another(
            parts in proptest::collection::vec(prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40),
                "[{}\\[\\]\":,0-9a-z\n]{0,40}".prop_map(String::into_bytes),
                (0..6i64, "(ok|error|progress|snooze_ms|ready|id|retry|after_ms)", "(1|null|-1|1e99|\"x\"|\\{\\}|false)").prop_map(
                    |(id, key, value)| format!("{{\"id\":{id},\"{key}\":{value}}}\n").into_bytes()
                ),
            ], 0..8),
        ) {
            let (pool, mut tickets) = busy();
            let bytes = parts.concat();
            says(&pool, 0, &bytes);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            for id in answered(&mut tickets) {
                prop_assert!(id <= 2 && text.contains(&format!("\"id\":{id},")), "{} answered by {}", id, text);
            }
        }
    }
}
