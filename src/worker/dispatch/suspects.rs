//! Jobs that workers were lost with. One that has taken two down has its last try where a crash can be blamed on
//! nobody else; those that were in one crash only, of which most are innocent, run together beside the worker, while
//! there is room, so that the one to blame does not take a whole worker down again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{self, error::SendError};
use tokio::time::Instant;

use super::super::attempt;
use super::super::held::Ticket;
use super::super::own_process::Purpose;
use super::elsewhere::{Elsewhere, Parcel};
use super::{BATCH_MAX, Dispatch};
use crate::CRASHES_MAX;
use crate::handler::{Entry, Runner};

/// Processes of a worker for a last try each at once at most: they have connections of their own.
pub(super) const LAST_TRIES_MAX: usize = 3;
/// Jobs that wait here for one of them. The others go back to other workers, which may have one free.
const WAITING_MAX: usize = 2;
/// At most so often, and more rarely by this for each: thousands must not go back and forth all the time.
const GIVE_BACK_EVERY: Duration = Duration::from_millis(250);
const GIVE_BACK_MORE: Duration = Duration::from_millis(5);

/// Whether this is the last try of a job.
pub(super) fn is_last_try(ticket: &Ticket) -> bool {
    ticket.job.crashes >= CRASHES_MAX - 1
}

impl Dispatch {
    /// Whether nothing else may be claimed or started, because a suspect needs this process for itself.
    pub(super) fn is_for_suspects(&self) -> bool {
        self.shared.settings.program.is_none() && (self.alone || !self.suspects.is_empty())
    }

    /// Whether a job waits apart from the others.
    pub(super) fn is_suspect(&self, ticket: &Ticket) -> bool {
        let program = &self.shared.settings.program;
        is_last_try(ticket)
            || (ticket.job.crashes > 0 && program.is_some() && self.can_run_beside(&ticket.job.kind))
    }

    /// Whether jobs of this kind may be handed to the process beside this one. What is limited apart from the worker's
    /// slots, as children and threads are, runs where these are; and a statement takes no worker down.
    fn can_run_beside(&self, kind: &Arc<str>) -> bool {
        let is_sql = |entry: &Entry| matches!(entry.runner, Runner::Sql(_));
        self.limit_of(kind).is_none() && !self.shared.registry.get(kind).is_none_or(is_sql)
    }

    /// Starts suspects in processes of their own, while the others go on.
    pub(super) fn start_elsewhere(&mut self) {
        if self.suspects.is_empty() {
            return;
        }
        let (last_tries, others) = self.suspects.drain(..).partition(is_last_try);
        self.start_last_tries(last_tries);
        self.start_beside(others);
    }

    fn start_last_tries(&mut self, tickets: VecDeque<Ticket>) {
        let mut waiting = VecDeque::new();
        for ticket in tickets {
            if let Err(ticket) = self.start_last_try(ticket) {
                waiting.push_back(ticket);
            }
        }
        let now = Instant::now();
        if waiting.len() > WAITING_MAX && now >= self.surplus_goes_at {
            let surplus = waiting.split_off(WAITING_MAX);
            self.surplus_goes_at = now + GIVE_BACK_EVERY + GIVE_BACK_MORE * surplus.len() as u32;
            for ticket in surplus {
                let _ = self.ended.send(attempt::given_back(&self.shared, &ticket));
            }
        }
        self.suspects = waiting;
    }

    fn start_last_try(&self, ticket: Ticket) -> Result<(), Ticket> {
        let Some((place, slots, own)) = self.places_for(&ticket) else { return Err(ticket) };
        let job = &ticket.job;
        tracing::warn!(job.id, crashes = job.crashes, "the last try of a job has a process of its own");
        let purpose = Purpose { kinds: vec![job.kind.to_string()], last_try: Some(job.id) };
        let feed = self.start_process(purpose, place);
        let _ = feed.send(Parcel { tickets: vec![ticket], slots, own });
        Ok(())
    }

    fn places_for(
        &self,
        ticket: &Ticket,
    ) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit, Option<OwnedSemaphorePermit>)> {
        let place = self.last_tries.clone().try_acquire_owned().ok()?;
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        let own = match self.limit_of(&ticket.job.kind) {
            // Its blocking thread is in the other process.
            Some(limit) => limit.try_acquire(None)?.0,
            None => None,
        };
        Some((place, slot, own))
    }

    /// Hands those that may run together to the process beside this one, as slots are free.
    fn start_beside(&mut self, mut tickets: VecDeque<Ticket>) {
        while !tickets.is_empty() {
            // As many as a claim may bring: their payloads come in one answer.
            let slots = self.slots.available_permits().min(tickets.len()).min(BATCH_MAX);
            if slots == 0 {
                self.suspects.append(&mut tickets);
                return;
            }
            let Some(feed) = self.feed() else {
                // None could be started just now: what was in one crash only may run among the others.
                for ticket in tickets.into_iter().rev() {
                    self.queue_of(&ticket).push_front(ticket);
                }
                return;
            };
            let permits = self.slots.clone().try_acquire_many_owned(slots as u32).expect("only taken here");
            let parcel = Parcel { tickets: tickets.drain(..slots).collect(), slots: permits, own: None };
            if let Err(SendError(parcel)) = feed.send(parcel) {
                // It was just leaving.
                tickets = parcel.tickets.into_iter().chain(tickets).collect();
            }
        }
    }

    /// What is handed to the process beside this one; it is started when it is needed.
    fn feed(&mut self) -> Option<mpsc::UnboundedSender<Parcel>> {
        if self.feed.as_ref().is_none_or(mpsc::UnboundedSender::is_closed) {
            let place = self.beside.clone().try_acquire_owned().ok()?;
            tracing::warn!("jobs that a worker was lost with run in a process beside this one");
            let all = self.shared.registry.iter().map(|(kind, _)| kind);
            let kinds = all.filter(|kind| self.can_run_beside(kind)).map(ToString::to_string).collect();
            self.feed = Some(self.start_process(Purpose { kinds, last_try: None }, place));
        }
        self.feed.clone()
    }

    fn start_process(&self, purpose: Purpose, place: OwnedSemaphorePermit) -> mpsc::UnboundedSender<Parcel> {
        let (feed, parcels) = mpsc::unbounded_channel();
        let (shared, ended) = (self.shared.clone(), self.ended.clone());
        shared.running.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            Elsewhere { shared: shared.clone(), ended, place, fed: parcels }.run(purpose).await;
            shared.running.fetch_sub(1, Ordering::Relaxed);
            shared.changed.notify_one();
        });
        feed
    }

    /// Where there can be no other process, a suspect has this one for itself; the others wait elsewhere meanwhile.
    pub(super) fn start_suspect_alone(&mut self) {
        let all = self.shared.settings.concurrency;
        let idle = self.slots.available_permits() == all;
        self.alone &= !idle;
        if let Some(suspect) = (idle && !self.alone).then(|| self.suspects.pop_front()).flatten() {
            self.alone = true;
            let slots = self.slots.clone().try_acquire_many_owned(all as u32).expect("all are free");
            self.start(suspect, slots, None, None);
        } else {
            // Other suspects wait here for the workers to be idle, but not for the one that runs.
            let keep = if self.alone { VecDeque::new() } else { std::mem::take(&mut self.suspects) };
            self.give_back_waiting();
            self.suspects = keep;
        }
    }
}
