//! Claims jobs into a small buffer and starts them as slots become free.
//!
//! One task owns all of it. It never waits for the database itself: a claim runs in a task of its own that
//! is never dropped, because a claim whose answer nobody reads would leave jobs without an owner.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::finisher::Ended;
use super::held::{StopReason, Ticket};
use super::lanes::Lanes;
use super::liveness::Signal;
use super::pace::{Idle, Pace};
use super::{Shared, Stopping, attempt};
use crate::handler::Entry;
use crate::store::{ClaimOrder, Claimed, Error};
use crate::{CRASHES_MAX, Job, WorkerId};

/// The most jobs of one claim: beyond it a claim gains nothing and holds its locks longer.
const BATCH_MAX: usize = 1_000;
/// Claims on their way at once at most: one more than none, so that two of the server's processors are busy.
const CLAIMS_MAX: usize = 2;
/// How long handlers may take to stop when their time is over.
const STOP_WAIT: Duration = Duration::from_millis(450);
/// Pause after a claim that failed.
const FAILED_PAUSE: Duration = Duration::from_millis(250);

/// Runs until the worker is asked to stop and no job is left in it; answers when its time to drain is over.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut heard: mpsc::UnboundedReceiver<Signal>,
    ended: mpsc::UnboundedSender<Ended>,
    mut stopping: watch::Receiver<Stopping>,
) -> Instant {
    let mut dispatch = Dispatch::new(shared, ended);
    while *stopping.borrow_and_update() == Stopping::No {
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
    claiming: FuturesUnordered<JoinHandle<Answer>>,
    next_look: Instant,
    arm_next: bool,
    next_batch: i64,
    pace: Pace,
    idle: Idle,
}

/// Kinds that are claimed together.
struct Kinds {
    names: Vec<Arc<str>>,
    /// For one kind with a limit: its own slots, and those of its jobs that wait for one.
    limit: Option<(Arc<Semaphore>, VecDeque<Ticket>)>,
}

struct Answer {
    worker_id: WorkerId,
    batch: i64,
    asked: usize,
    sweep: bool,
    took: Duration,
    outcome: Result<Vec<Claimed>, Error>,
}

/// The next answer to a claim; never, while none is on its way.
async fn next_answer(claiming: &mut FuturesUnordered<JoinHandle<Answer>>) -> Answer {
    match claiming.next().await {
        Some(answer) => answer.expect("a claim does not panic"),
        None => std::future::pending().await,
    }
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
            claiming: FuturesUnordered::new(),
            next_look: Instant::now(),
            arm_next: false,
            next_batch: 1,
            pace: Pace::new(),
            idle: Idle::new(settings.poll),
            shared,
            ended,
        }
    }

    /// Jobs the next claim of this order may bring.
    fn room(&mut self) -> usize {
        if !self.suspects.is_empty() || self.alone || self.shared.is_silent() {
            return 0;
        }
        let ahead = self.pace.ahead();
        let free = self.slots.available_permits();
        let waiting = self.buffer.len() + self.coming;
        // Claim when slots are free, or when what is held in advance is half used up.
        let room =
            if waiting == 0 || waiting < ahead / 2 { (free + ahead).saturating_sub(waiting) } else { 0 };
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
            if asked > 0 {
                self.claim(asked);
                return;
            }
            self.orders.rotate_left(1);
        }
    }

    fn claim(&mut self, asked: usize) {
        let batch = self.next_batch;
        self.next_batch += 1;
        self.coming += asked;
        let arm = std::mem::take(&mut self.arm_next);
        let shared = self.shared.clone();
        let kinds = self.orders[0].names.clone();
        let (lanes, sweep) = self.lanes.next();
        let worker_id = shared.worker_id();
        self.claiming.push(tokio::spawn(async move {
            // The bell first, then the look: an insert in between rings.
            let armed = if arm { shared.store.arm().await } else { Ok(()) };
            let began = Instant::now();
            let order = ClaimOrder { worker_id, batch, kinds: &kinds, lanes: &lanes, at_most: asked };
            let outcome = match armed {
                Ok(()) => shared.store.claim(&order).await,
                Err(error) => Err(error),
            };
            Answer { worker_id, batch, asked, sweep, took: began.elapsed(), outcome }
        }));
    }

    fn claimed(&mut self, answer: Answer) {
        let Answer { worker_id, batch, asked, sweep, took, outcome } = answer;
        match outcome {
            Ok(claimed) => {
                self.shared.database_works();
                self.lanes.claimed(&claimed, asked, sweep, took);
                // The next claim is on its way while these jobs are taken in and started.
                if claimed.len() == asked {
                    self.claim_if_wanted();
                }
                self.coming -= asked;
                self.take_in(batch, asked, claimed);
                // Claimed in a name that the crew has struck out: nobody would rescue these jobs. (Should the
                // name change only after this look, all that is held is given up then.)
                if worker_id != self.shared.worker_id() {
                    self.give_back_waiting();
                }
            }
            Err(error) => {
                self.coming -= asked;
                self.next_look = Instant::now() + FAILED_PAUSE.mul_f64(0.5 + fastrand::f64());
                if error.is_transient() {
                    self.shared.database_failed(&error);
                } else {
                    tracing::error!(%error, "jobs cannot be claimed");
                }
                // Whether it took effect is not known: settle it.
                tokio::spawn(forget(self.shared.clone(), worker_id, batch));
            }
        }
    }

    fn take_in(&mut self, batch: i64, asked: usize, mut claimed: Vec<Claimed>) {
        if claimed.is_empty() {
            self.empty_looks += 1;
            self.orders.rotate_left(1);
            if self.empty_looks >= self.orders.len() {
                self.empty_looks = 0;
                let (pause, arm) = self.idle.nothing();
                self.arm_next = arm;
                self.next_look = Instant::now() + pause;
            }
            return;
        }
        self.empty_looks = 0;
        self.idle.found();
        claimed.sort_unstable_by_key(|one| (one.job.priority, one.place));
        let short = claimed.len() < asked;
        let jobs: Vec<Job> = claimed.into_iter().map(|one| one.job).collect();
        for ticket in self.shared.held.take_in(batch, jobs) {
            if ticket.job.crashes >= CRASHES_MAX - 1 {
                self.suspects.push_back(ticket);
            } else {
                self.queue_of(&ticket).push_back(ticket);
            }
        }
        if short {
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

    /// Starts what can be started.
    fn start_jobs(&mut self) {
        if !self.suspects.is_empty() || self.alone {
            self.start_suspect();
            return;
        }
        for at in 0..self.orders.len() {
            while let Some((own, waiting)) = &mut self.orders[at].limit
                && !waiting.is_empty()
                && let Ok(own) = own.clone().try_acquire_owned()
            {
                let Ok(slot) = self.slots.clone().try_acquire_owned() else { return };
                let ticket = waiting.pop_front().expect("not empty");
                self.start(ticket, vec![slot, own]);
            }
        }
        while !self.buffer.is_empty()
            && let Ok(slot) = self.slots.clone().try_acquire_owned()
        {
            let ticket = self.buffer.pop_front().expect("not empty");
            self.start(ticket, vec![slot]);
        }
    }

    /// A suspect runs alone, so that a crash is blamed on nobody else; the others wait elsewhere meanwhile.
    fn start_suspect(&mut self) {
        let all = self.shared.settings.concurrency;
        let idle = self.slots.available_permits() == all;
        self.alone &= !idle;
        if let Some(suspect) = (idle && !self.alone).then(|| self.suspects.pop_front()).flatten() {
            self.alone = true;
            let slots = self.slots.clone().try_acquire_many_owned(all as u32).expect("all are free");
            self.start(suspect, vec![slots]);
        } else {
            // Other suspects wait here for the workers to be idle, but not for the one that runs.
            let keep = if self.alone { VecDeque::new() } else { std::mem::take(&mut self.suspects) };
            self.give_back_waiting();
            self.suspects = keep;
        }
    }

    fn start(&mut self, ticket: Ticket, slots: Vec<OwnedSemaphorePermit>) {
        self.pace.started();
        let Some(entry) = self.shared.registry.get(&ticket.job.kind).cloned() else {
            let _ = self.ended.send(attempt::unknown_kind(&self.shared, &ticket));
            return;
        };
        let run = Run { shared: self.shared.clone(), ended: self.ended.clone(), entry, alone: self.alone };
        run.shared.running.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            run.job(ticket).await;
            run.shared.running.fetch_sub(1, Ordering::Relaxed);
            drop(slots);
            run.shared.changed.notify_one();
        });
    }

    /// Claims nothing more, gives back what has not begun, and waits for the rest as long as it may; answers
    /// when that time is over.
    async fn drain(
        mut self,
        mut heard: mpsc::UnboundedReceiver<Signal>,
        mut stopping: watch::Receiver<Stopping>,
    ) -> Instant {
        let mut over = Instant::now() + self.shared.settings.drain;
        tracing::info!(
            running = self.running(),
            drain_ms = self.shared.settings.drain.as_millis() as u64,
            "worker drains"
        );
        let mut told_to_stop = false;
        loop {
            let now = Instant::now();
            if *stopping.borrow_and_update() == Stopping::Now {
                over = over.min(now);
            }
            if now >= over && !told_to_stop {
                told_to_stop = true;
                self.shared.stop_everything(StopReason::Shutdown);
            }
            self.give_back_waiting();
            if self.claiming.is_empty() && self.running() == 0 {
                return over;
            }
            tokio::select! {
                answer = next_answer(&mut self.claiming) => self.claimed(answer),
                () = self.shared.changed.notified() => {}
                Some(signal) = heard.recv() => self.heard(signal),
                Ok(()) = stopping.changed() => {}
                () = tokio::time::sleep_until(over), if !told_to_stop => {}
                () = tokio::time::sleep_until(over + STOP_WAIT), if told_to_stop => return over,
            }
        }
    }

    fn running(&self) -> usize {
        self.shared.running.load(Ordering::Relaxed) as usize
    }
}

/// One started job.
struct Run {
    shared: Arc<Shared>,
    ended: mpsc::UnboundedSender<Ended>,
    entry: Entry,
    alone: bool,
}

impl Run {
    async fn job(&self, ticket: Ticket) {
        let shared = &self.shared;
        if self.alone {
            tracing::warn!(
                job.id = ticket.job.id,
                crashes = ticket.job.crashes,
                "a job whose workers were lost runs alone"
            );
            if let Err(error) = shared.store.set_alone(shared.worker_id(), Some(ticket.job.id)).await {
                tracing::warn!(%error, "the job is given back");
                let _ = self.ended.send(attempt::given_back(&self.shared, &ticket));
                return;
            }
        }
        let ended = attempt::run(shared, &self.entry, ticket).await;
        let _ = self.ended.send(ended);
        if self.alone {
            let _ = shared.store.set_alone(shared.worker_id(), None).await;
        }
    }
}

/// Settles a claim whose answer was lost, however long the database takes to come back.
async fn forget(shared: Arc<Shared>, worker_id: WorkerId, batch: i64) {
    while !shared.gives_up() {
        match shared.store.forget_claim(worker_id, batch).await {
            Ok(0) => return,
            Ok(jobs) => {
                tracing::info!(jobs, "a claim whose answer was lost is given back");
                let _ = shared.store.ring().await;
                return;
            }
            Err(_) => tokio::time::sleep(FAILED_PAUSE.mul_f64(0.5 + fastrand::f64())).await,
        }
    }
}
