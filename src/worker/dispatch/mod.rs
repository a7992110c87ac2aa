//! Claims jobs into a small buffer and starts them as slots become free.
//!
//! One task owns all of it. It never waits for the database itself: a claim runs in a task of its own that
//! is never dropped, because a claim whose answer nobody reads would leave jobs without an owner.

mod claims;
mod drain;
mod elsewhere;
mod handed;
mod limit;
mod pauses;
mod start;
mod suspects;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::finisher::Ended;
use super::held::Ticket;
use super::idle::Idle;
use super::lanes::Lanes;
use super::own_process::Handed;
use super::pace::{Pace, Turns};
use super::{Settings, Shared, Signal, Stopping, attempt};
use crate::handler::Registry;
use claims::{Answer, next_answer};
use elsewhere::Parcel;
use limit::Limit;
use suspects::LAST_TRIES_MAX;

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
    handed: Option<Handed>,
) -> Instant {
    // What is claimed before the crew can see this worker die would be missed for long.
    tokio::select! {
        () = shared.entered.cancelled() => {}
        Ok(_) = stopping.wait_for(|asked| *asked != Stopping::No) => {}
    }
    let mut dispatch = Dispatch::new(shared, ended);
    if let Some(handed) = handed {
        return dispatch.run_handed(handed, heard, stopping).await;
    }
    while *stopping.borrow_and_update() == Stopping::No {
        dispatch.mind_pauses();
        dispatch.start_jobs();
        dispatch.claim_if_wanted();
        let next_look = dispatch.next_look;
        tokio::select! {
            claimed = next_answer(&mut dispatch.claiming) => dispatch.claimed(claimed),
            // Jobs that are just ending free their slots first: then one turn starts many.
            () = dispatch.shared.changed.notified() => tokio::task::yield_now().await,
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
    /// Kinds without a limit of their own; then one set for each kind with one.
    orders: VecDeque<Kinds>,
    /// Looks in a row that found nothing; when every order was tried, the worker is idle.
    empty_looks: usize,
    /// What these took.
    empty_took: Duration,
    slots: Arc<Semaphore>,
    buffer: VecDeque<Ticket>,
    /// Jobs that are being claimed, or claimed and not yet in the buffer.
    coming: usize,
    /// The slow sweep that is on its way, and how many of them are asked of it.
    sweeping: Option<(i64, usize)>,
    /// Jobs that workers were lost with, and that wait to run apart from others.
    suspects: VecDeque<Ticket>,
    last_tries: Arc<Semaphore>,
    /// The process beside this one for those that may run together, and the place for it.
    feed: Option<mpsc::UnboundedSender<Parcel>>,
    beside: Arc<Semaphore>,
    /// When those of them go back again that find no process here.
    surplus_goes_at: Instant,
    /// One has this process for itself.
    alone: bool,
    /// Nothing is claimed any more.
    draining: bool,
    claiming: FuturesUnordered<JoinHandle<Answer>>,
    next_look: Instant,
    turns: Turns,
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
    /// How far they have been claimed; others may be further, or not so far.
    lanes: Lanes,
    /// For one kind that is limited by itself.
    limit: Option<Limit>,
    /// The last claim brought all it asked for: as soon as one more can start it is looked for, however long the
    /// worker would pause for other kinds.
    more: bool,
    /// After a claim that did not, these wait until then while others have more: looking in vain takes a small part
    /// of the time of those.
    rests_until: Instant,
}

/// Kinds that are claimed together: all without a limit, all that only share the blocking threads, and each one
/// that is limited by itself.
fn orders(registry: &Registry, settings: &Settings) -> VecDeque<Kinds> {
    let order = |names, limit| Kinds {
        names,
        lanes: Lanes::new(&settings.queues),
        limit,
        more: false,
        rests_until: Instant::now(),
    };
    let mut orders = VecDeque::new();
    for blocking in [false, true] {
        let (mut own, mut names) = (VecDeque::new(), Vec::new());
        for (kind, entry) in registry.iter().filter(|(_, entry)| entry.is_blocking() == blocking) {
            match Limit::of(entry, settings.concurrency) {
                Some(limit) => own.push_back(order(vec![kind.clone()], Some(limit))),
                None => names.push(kind.clone()),
            }
        }
        if !names.is_empty() {
            orders.push_back(order(names, blocking.then(Limit::of_threads)));
        }
        orders.append(&mut own);
    }
    orders
}

impl Dispatch {
    fn new(shared: Arc<Shared>, ended: mpsc::UnboundedSender<Ended>) -> Self {
        let settings = &shared.settings;
        Self {
            orders: orders(&shared.registry, settings),
            empty_looks: 0,
            empty_took: Duration::ZERO,
            slots: Arc::new(Semaphore::new(settings.concurrency)),
            buffer: VecDeque::new(),
            coming: 0,
            sweeping: None,
            suspects: VecDeque::new(),
            last_tries: Arc::new(Semaphore::new(LAST_TRIES_MAX)),
            feed: None,
            beside: Arc::new(Semaphore::new(1)),
            surplus_goes_at: Instant::now(),
            alone: false,
            draining: false,
            claiming: FuturesUnordered::new(),
            next_look: Instant::now(),
            turns: Turns::default(),
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
        if self.draining || self.is_for_suspects() || self.shared.is_silent() {
            return 0;
        }
        if self.shared.refused.load(Ordering::Relaxed) >= REFUSED_MAX {
            return 0;
        }
        let free = self.slots.available_permits();
        let ahead = self.pace.ahead(self.shared.settings.concurrency.saturating_sub(free));
        let swept = self.sweeping.map_or(0, |(_, asked)| asked);
        let waiting = self.buffer.len() + self.suspects.len() + self.coming - swept;
        // Claim when slots are free, or when what is held in advance is half used up.
        let room = if waiting == 0 || waiting < ahead / 2 {
            (free + ahead).saturating_sub(waiting + swept)
        } else {
            0
        };
        let pauses = &self.shared.pauses;
        if pauses.any()
            && self.orders.front().is_some_and(|kinds| kinds.names.iter().all(|kind| pauses.hold(kind)))
        {
            return 0;
        }
        let own = self.orders.front_mut().map_or(0, |kinds| match &mut kinds.limit {
            Some(limit) => limit.room(),
            None => usize::MAX,
        });
        room.min(own).min(self.threads_free()).min(BATCH_MAX).min(self.pace.fit())
    }

    /// Blocking threads that the next order's jobs may take.
    fn threads_free(&self) -> usize {
        let takes = |kinds: &Kinds| kinds.limit.as_ref().is_some_and(|limit| limit.blocking);
        match &self.shared.blocking {
            Some(pool) if self.orders.front().is_some_and(takes) => {
                // The threads are shared: the jobs of other kinds that wait for one count as well.
                let limits = self.orders.iter().filter_map(|kinds| kinds.limit.as_ref());
                let waiting: usize = limits.filter(|l| l.blocking).map(|l| l.waiting.len()).sum();
                pool.free().saturating_sub(waiting)
            }
            _ => usize::MAX,
        }
    }

    fn has_room(&mut self) -> bool {
        (0..self.orders.len()).any(|_| {
            self.orders.rotate_left(1);
            self.room() > 0
        })
    }

    fn claim_if_wanted(&mut self) {
        if self.claiming.len() >= CLAIMS_MAX {
            return;
        }
        // Those that rest only if nobody else has more, whether that can be claimed just now or not.
        let now = Instant::now();
        let busy = self.orders.iter().any(|kinds| kinds.more);
        self.claim_one(|kinds| !busy || kinds.more || now >= kinds.rests_until);
    }

    /// Claims for the first order that is asked for and has room; answers whether there was one.
    fn claim_one(&mut self, asked_for: impl Fn(&Kinds) -> bool) -> bool {
        let due = Instant::now() >= self.next_look;
        for _ in 0..self.orders.len() {
            let next = &self.orders[0];
            let asked = if (due || next.more) && asked_for(next) { self.room() } else { 0 };
            // A second claim beside the first only for a full batch: smaller ones of many workers would step over
            // each other's locks. And none for a kind with a limit, whose slots are counted by what has arrived.
            // And one beside a slow sweep, which leaves room for it.
            let beside = self.claiming.len() == 1 && self.sweeping.is_some();
            let second = (asked == BATCH_MAX || beside) && self.orders[0].limit.is_none();
            let claims = asked > 0 && (self.claiming.is_empty() || second);
            if claims {
                self.claim(asked);
            }
            // The others' turn, however much there is of these.
            self.orders.rotate_left(1);
            if claims {
                return true;
            }
        }
        false
    }

    /// What limits the jobs of a kind beside the slots of the worker.
    fn limit_of(&self, kind: &Arc<str>) -> Option<&Limit> {
        self.orders.iter().find(|kinds| kinds.names.contains(kind))?.limit.as_ref()
    }

    /// Where a job waits for a slot: kinds with a limit of their own wait apart.
    fn queue_of(&mut self, ticket: &Ticket) -> &mut VecDeque<Ticket> {
        let own = self.orders.iter_mut().find(|kinds| kinds.names.contains(&ticket.job.kind));
        match own.and_then(|kinds| kinds.limit.as_mut()) {
            Some(limit) => &mut limit.waiting,
            None => &mut self.buffer,
        }
    }

    fn heard(&mut self, signal: Signal) {
        match signal {
            Signal::Wake => {
                let (pause, arm) = self.idle.woken(self.crew());
                self.arm_next = arm;
                self.next_look = Instant::now() + pause;
            }
            Signal::Back => {
                self.orders.iter_mut().for_each(|kinds| kinds.lanes.sweep_next());
                self.idle.called();
                self.arm_next = false;
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
            if let Some(limit) = &mut kinds.limit {
                all.extend(limit.waiting.drain(..));
            }
        }
        all
    }

    fn running(&self) -> usize {
        self.shared.running.load(Ordering::Relaxed) as usize
    }
}
