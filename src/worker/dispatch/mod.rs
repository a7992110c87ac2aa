//! Claims jobs into a small buffer and starts them as slots become free.
//!
//! One task owns all of it. It never waits for the database itself: a claim runs in a task of its own that
//! is never dropped, because a claim whose answer nobody reads would leave jobs without an owner.

mod claims;
mod drain;
mod pauses;
mod start;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::finisher::Ended;
use super::held::Ticket;
use super::lanes::Lanes;
use super::liveness::Signal;
use super::pace::{Idle, Pace};
use super::{Shared, Stopping, attempt};
use claims::{Answer, next_answer};

/// The most jobs of one claim: beyond it a claim gains nothing and holds its locks longer.
const BATCH_MAX: usize = 1_000;
/// Endings that the database refuses, from which on nothing more is claimed: whatever is wrong, it is not one job.
const REFUSED_MAX: u64 = 1_000;
/// Claims on their way at once at most: one more than none, so that two of the server's processors are busy.
const CLAIMS_MAX: usize = 2;

/// Runs until the worker is asked to stop and no job is left in it; answers when its time to drain is over.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut heard: mpsc::UnboundedReceiver<Signal>,
    ended: mpsc::UnboundedSender<Ended>,
    mut stopping: watch::Receiver<Stopping>,
) -> Instant {
    let mut dispatch = Dispatch::new(shared, ended);
    while *stopping.borrow_and_update() == Stopping::No {
        dispatch.mind_pauses();
        dispatch.start_jobs();
        dispatch.claim_if_wanted();
        let next_look = dispatch.next_look;
        tokio::select! {
            claimed = next_answer(&mut dispatch.claiming) => dispatch.claimed(claimed),
            () = dispatch.shared.changed.notified() => {}
            Some(signal) = heard.recv() => dispatch.heard(signal),
            () = tokio::time::sleep_until(next_look), if dispatch.claiming.is_empty() && dispatch.has_room() => {}
            _ = stopping.changed() => {}
        }
    }
    dispatch.drain(heard, stopping).await
}

struct Dispatch {
    shared: Arc<Shared>,
    ended: mpsc::UnboundedSender<Ended>,
    lanes: Lanes,
    /// Kinds without a limit of their own; then one set for each kind with one.
    orders: VecDeque<Kinds>,
    /// Looks in a row that found nothing; when every order was tried, the worker is idle.
    empty_looks: usize,
    slots: Arc<Semaphore>,
    buffer: VecDeque<Ticket>,
    /// Jobs that are being claimed, or claimed and not yet in the buffer.
    coming: usize,
    /// Jobs that took their worker down too often: each runs alone.
    suspects: VecDeque<Ticket>,
    alone: bool,
    /// Nothing is claimed any more.
    draining: bool,
    claiming: FuturesUnordered<JoinHandle<Answer>>,
    next_look: Instant,
    arm_next: bool,
    next_batch: i64,
    pace: Pace,
    idle: Idle,
    /// The version of the pauses that was last acted on.
    pauses_seen: u64,
}

/// Kinds that are claimed together.
struct Kinds {
    names: Vec<Arc<str>>,
    /// For one kind with a limit: its own slots, and those of its jobs that wait for one.
    limit: Option<(Arc<Semaphore>, VecDeque<Ticket>)>,
}

impl Dispatch {
    fn new(shared: Arc<Shared>, ended: mpsc::UnboundedSender<Ended>) -> Self {
        let settings = &shared.settings;
        let (limited, free): (Vec<_>, Vec<_>) =
            shared.registry.iter().partition(|(_, e)| e.concurrency.is_some());
        let mut orders: VecDeque<Kinds> = limited
            .into_iter()
            .map(|(kind, entry)| Kinds {
                names: vec![kind.clone()],
                limit: entry.concurrency.map(|n| (Arc::new(Semaphore::new(n)), VecDeque::new())),
            })
            .collect();
        if !free.is_empty() {
            let names = free.into_iter().map(|(kind, _)| kind.clone()).collect();
            orders.push_front(Kinds { names, limit: None });
        }
        Self {
            lanes: Lanes::new(&settings.queues),
            orders,
            empty_looks: 0,
            slots: Arc::new(Semaphore::new(settings.concurrency)),
            buffer: VecDeque::new(),
            coming: 0,
            suspects: VecDeque::new(),
            alone: false,
            draining: false,
            claiming: FuturesUnordered::new(),
            next_look: Instant::now(),
            arm_next: false,
            next_batch: 1,
            pace: Pace::new(),
            idle: Idle::new(settings.poll),
            pauses_seen: 0,
            shared,
            ended,
        }
    }

    /// Jobs the next claim of this order may bring.
    fn room(&mut self) -> usize {
        if self.draining || self.alone || !self.suspects.is_empty() || self.shared.is_silent() {
            return 0;
        }
        if self.shared.refused.load(Ordering::Relaxed) >= REFUSED_MAX {
            return 0;
        }
        let ahead = self.pace.ahead();
        let free = self.slots.available_permits();
        let waiting = self.buffer.len() + self.coming;
        // Claim when slots are free, or when what is held in advance is half used up.
        let room =
            if waiting == 0 || waiting < ahead / 2 { (free + ahead).saturating_sub(waiting) } else { 0 };
        let pauses = &self.shared.pauses;
        if pauses.any()
            && self.orders.front().is_some_and(|kinds| kinds.names.iter().all(|kind| pauses.hold(kind)))
        {
            return 0;
        }
        let own = self.orders.front().map_or(0, |kinds| match &kinds.limit {
            Some((slots, waiting)) => slots.available_permits().saturating_sub(waiting.len()),
            None => usize::MAX,
        });
        room.min(own).min(BATCH_MAX)
    }

    fn has_room(&mut self) -> bool {
        (0..self.orders.len()).any(|_| {
            self.orders.rotate_left(1);
            self.room() > 0
        })
    }

    fn claim_if_wanted(&mut self) {
        if self.claiming.len() >= CLAIMS_MAX || Instant::now() < self.next_look {
            return;
        }
        for _ in 0..self.orders.len() {
            let asked = self.room();
            // A second claim beside the first only for a full batch: smaller ones of many workers would step over
            // each other's locks. And none for a kind with a limit, whose slots are counted by what has arrived.
            let second = asked == BATCH_MAX && self.orders[0].limit.is_none();
            if asked > 0 && (self.claiming.is_empty() || second) {
                self.claim(asked);
                return;
            }
            self.orders.rotate_left(1);
        }
    }

    /// Where a job waits for a slot: kinds with a limit of their own wait apart.
    fn queue_of(&mut self, ticket: &Ticket) -> &mut VecDeque<Ticket> {
        let own =
            self.orders.iter_mut().find(|kinds| kinds.limit.is_some() && kinds.names[0] == ticket.job.kind);
        match own.and_then(|kinds| kinds.limit.as_mut()) {
            Some((_, waiting)) => waiting,
            None => &mut self.buffer,
        }
    }

    fn heard(&mut self, signal: Signal) {
        match signal {
            Signal::Wake => {
                self.idle.woken();
                self.lanes.sweep_next();
                self.next_look = Instant::now();
            }
            Signal::ClaimsLost => self.give_back_waiting(),
        }
    }

    fn give_back_waiting(&mut self) {
        for ticket in self.waiting() {
            let _ = self.ended.send(attempt::given_back(&self.shared, &ticket));
        }
    }

    /// Takes out all jobs that have not begun.
    fn waiting(&mut self) -> Vec<Ticket> {
        let mut all: Vec<Ticket> = self.buffer.drain(..).chain(self.suspects.drain(..)).collect();
        for kinds in &mut self.orders {
            if let Some((_, waiting)) = &mut kinds.limit {
                all.extend(waiting.drain(..));
            }
        }
        all
    }

    fn running(&self) -> usize {
        self.shared.running.load(Ordering::Relaxed) as usize
    }
}
