//! Sends claims and takes their jobs in.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::lanes::Look;
use super::super::{DatabaseWay, Shared};
use super::{Dispatch, Kinds};
use crate::WorkerId;
use crate::store::{ClaimOrder, Claimed, Error};

/// While other kinds have more, those of which there was not enough are looked for in this part of the time: one in
/// so many, and so often at least.
const REST_SHARE: u32 = 20;
const REST_MAX: Duration = Duration::from_millis(250);
/// Between two claims that fail, from start to start: one that has waited for the server needs no pause.
const FAILED_PAUSE: Duration = Duration::from_millis(250);
/// The first pause before a claim whose answer was lost is settled again; it doubles. Its jobs wait for nothing else.
const FORGET_PAUSE: Duration = Duration::from_millis(25);

/// What a claim brought.
pub(super) struct Answer {
    worker_id: WorkerId,
    batch: i64,
    kinds: Vec<Arc<str>>,
    look: Look,
    in_turn: bool,
    took: Duration,
    /// It may have taken effect.
    sent: bool,
    outcome: Result<Vec<Claimed>, Error>,
}

/// The next answer to a claim; never, while none is on its way.
pub(super) async fn next_answer(claiming: &mut FuturesUnordered<JoinHandle<Answer>>) -> Answer {
    match claiming.next().await {
        Some(answer) => answer.expect("a claim does not panic"),
        None => std::future::pending().await,
    }
}

impl Dispatch {
    pub(super) fn claim(&mut self, mut asked: usize) {
        let batch = self.next_batch;
        self.next_batch += 1;
        if self.sweeping.is_none() && self.orders[0].lanes.sweeps_slowly() {
            asked = asked.div_ceil(2);
            self.sweeping = Some((batch, asked));
        }
        self.coming += asked;
        let arm = std::mem::take(&mut self.arm_next);
        let shared = self.shared.clone();
        let kinds = self.kinds_to_claim();
        let (lanes, sweep) = self.orders[0].lanes.next();
        let look = Look { asked, sweep, age: self.orders[0].lanes.age(), at: shared.tally.database_now() };
        let worker_id = shared.worker_id();
        let in_turn = self.turns.taken(self.crew());
        self.claiming.push(tokio::spawn(async move {
            // The bell first, then the look: an insert in between rings.
            let armed = if arm { shared.hot.arm().await } else { Ok(()) };
            let began = Instant::now();
            let order =
                ClaimOrder { worker_id, batch, kinds: &kinds, lanes: &lanes, at_most: asked, in_turn };
            let (sent, outcome) = match armed {
                Ok(()) => {
                    let outcome = shared.hot.claim(&order).await;
                    (outcome.as_ref().err().is_none_or(Error::was_sent), outcome)
                }
                Err(error) => (false, Err(error)),
            };
            let took = began.elapsed();
            Answer { worker_id, batch, kinds, look, in_turn, took, sent, outcome }
        }));
    }

    pub(super) fn claimed(&mut self, answer: Answer) {
        let Answer { worker_id, batch, kinds, look, in_turn, took, sent, outcome } = answer;
        let Look { asked, sweep, .. } = look;
        self.sweeping.take_if(|(sweep, _)| *sweep == batch);
        // Each kind is in one order; those that are paused were left out.
        let is_of = |order: &&mut Kinds| kinds.first().is_some_and(|kind| order.names.contains(kind));
        let crew = self.crew();
        if let Some(order) = self.orders.iter_mut().find(is_of) {
            order.more = outcome.as_ref().is_ok_and(|claimed| claimed.len() == asked);
            if !order.more {
                order.rests_until = Instant::now() + (took * REST_SHARE).min(REST_MAX);
            }
            match &outcome {
                Ok(claimed) => order.lanes.claimed(claimed, look, took, crew),
                Err(_) if sweep => order.lanes.sweep_failed(),
                Err(_) => {}
            }
        }
        match outcome {
            Ok(claimed) => {
                self.shared.database_works(DatabaseWay::Claim);
                // What `rowcrew bench steady` reads; one look at a flag while nobody does.
                tracing::debug!(
                    claim.jobs = claimed.len(),
                    claim.asked = asked,
                    claim.sweep = sweep,
                    claim.in_turn = in_turn,
                    duration_ms = took.as_secs_f64() * 1e3,
                    "claimed"
                );
                self.pace.claimed(took, &claimed);
                self.turns.claimed(claimed.len() == asked);
                // The next claim is on its way while these jobs are taken in and started.
                if claimed.len() == asked {
                    self.claim_if_wanted();
                }
                self.coming -= asked;
                self.take_in(batch, claimed, took);
                // A kind may have been paused while the claim was on its way.
                self.give_back_paused();
                // Claimed in a name that the crew has struck out: nobody would rescue these jobs. (Should the
                // name change only after this look, all that is held is given up then.) Or answered after this
                // worker has stopped itself, which it does once: nothing would stop these.
                if worker_id != self.shared.worker_id() || self.shared.is_silent() {
                    self.give_back_waiting();
                }
            }
            Err(error) if error.is_turn_taken() => {
                self.coming -= asked;
                self.turns.waited_in_vain();
            }
            Err(error) => {
                self.coming -= asked;
                let pause = FAILED_PAUSE.mul_f64(0.5 + fastrand::f64());
                self.next_look = Instant::now() + pause.saturating_sub(took);
                self.shared.database_failed(DatabaseWay::Claim, &error);
                // Whether it took effect is not known: settle it.
                if sent {
                    tokio::spawn(forget(self.shared.clone(), worker_id, batch));
                }
            }
        }
    }

    /// Workers there are, this one included.
    pub(super) fn crew(&self) -> u32 {
        self.shared.crew.load(Ordering::Relaxed)
    }

    fn take_in(&mut self, batch: i64, mut claimed: Vec<Claimed>, took: Duration) {
        if claimed.is_empty() {
            self.empty_looks += 1;
            self.empty_took += took;
            if self.empty_looks >= self.orders.len() {
                self.empty_looks = 0;
                let took = std::mem::take(&mut self.empty_took);
                let (pause, arm) = self.idle.nothing(self.crew(), took);
                // Of two claims on their way the second must not take back what the first has asked for.
                self.arm_next |= arm;
                self.next_look = Instant::now() + pause;
            }
            return;
        }
        self.empty_looks = 0;
        self.empty_took = Duration::ZERO;
        self.idle.found();
        claimed.sort_unstable_by_key(|one| (one.job.priority, one.place));
        let jobs = claimed.into_iter().map(|one| one.job);
        for ticket in self.shared.held.take_in(batch, jobs) {
            if self.is_suspect(&ticket) {
                self.suspects.push_back(ticket);
            } else {
                self.queue_of(&ticket).push_back(ticket);
            }
        }
    }
}

/// Settles a claim whose answer was lost, however long the database takes to come back.
pub(super) async fn forget(shared: Arc<Shared>, worker_id: WorkerId, batch: i64) {
    let mut pause = FORGET_PAUSE;
    while !shared.gives_up() {
        match shared.store.forget_claim(worker_id, batch).await {
            Ok((jobs, locked)) => {
                if jobs > 0 {
                    tracing::debug!(jobs, "a claim whose answer was lost is given back");
                    let _ = shared.store.ring().await;
                }
                if locked == 0 {
                    return;
                }
            }
            Err(error) => tracing::debug!(%error, "a claim whose answer was lost is not settled yet"),
        }
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (pause * 2).min(FAILED_PAUSE);
    }
}
