//! Jobs that took their workers down too often: the last try of each is one in which a crash can be blamed on nobody
//! else.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;

use super::super::finisher::Ended;
use super::super::held::Ticket;
use super::super::own_process::{self, OneJob, OwnProcess};
use super::super::{Shared, Signal, Stopping, attempt};
use super::Dispatch;

/// Processes for one job each at once at most: each has connections of its own.
pub(super) const OWN_PROCESSES_MAX: usize = 4;
/// Jobs that wait here for one of them. The others go back to other workers, which may have one free.
const WAITING_MAX: usize = 2;
/// At most so often, and more rarely by this for each: thousands must not go back and forth all the time.
const GIVE_BACK_EVERY: Duration = Duration::from_millis(250);
const GIVE_BACK_MORE: Duration = Duration::from_millis(5);
/// How long one is put off whose process did not begin with it.
const NOT_BEGUN_PAUSE: Duration = Duration::from_secs(10);

/// What a job in a process of its own holds here: one of the processes, a slot, and one of its kind where that is limited.
type Places = [Option<OwnedSemaphorePermit>; 3];

impl Dispatch {
    /// Whether nothing else may be claimed or started, because a suspect needs this process for itself.
    pub(super) fn is_for_suspects(&self) -> bool {
        self.shared.settings.program.is_none() && (self.alone || !self.suspects.is_empty())
    }

    /// Starts suspects, each in a process of its own, while the others go on.
    pub(super) fn start_own_processes(&mut self) {
        let mut waiting = VecDeque::new();
        while let Some(ticket) = self.suspects.pop_front() {
            match self.places_for(&ticket) {
                Some(places) => self.start_own_process(ticket, places),
                None => waiting.push_back(ticket),
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

    fn places_for(&self, ticket: &Ticket) -> Option<Places> {
        let process = self.own_processes.clone().try_acquire_owned().ok()?;
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        let own = match self.limit_of(&ticket.job.kind) {
            // Its blocking thread is in the other process.
            Some(limit) => limit.try_acquire(None)?.0,
            None => None,
        };
        Some([Some(process), Some(slot), own])
    }

    fn start_own_process(&self, ticket: Ticket, places: Places) {
        let (shared, ended) = (self.shared.clone(), self.ended.clone());
        let program = shared.settings.program.clone().expect("or it would run here");
        shared.running.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            in_own_process(&shared, &ended, &program, ticket).await;
            shared.running.fetch_sub(1, Ordering::Relaxed);
            drop(places);
            shared.changed.notify_one();
        });
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

    /// The other side: takes the one job over that this process was started for, and nothing else.
    pub(super) async fn run_one(
        mut self,
        one: OneJob,
        mut heard: mpsc::UnboundedReceiver<Signal>,
        mut stopping: watch::Receiver<Stopping>,
    ) -> Instant {
        let (worker_id, batch) = (self.shared.worker_id(), self.next_batch);
        match self.shared.store.take_over(worker_id, batch, one.id, one.claim_id).await {
            Ok(Some(taken)) => {
                own_process::say_taken();
                self.alone = true;
                for ticket in self.shared.held.take_in(batch, [taken.job].into_iter()) {
                    let slot = self.slots.clone().try_acquire_owned().expect("nothing runs yet");
                    self.start(ticket, slot, None, None);
                }
            }
            Ok(None) => tracing::info!(job.id = one.id, "the job is not to be had any more"),
            // If it was taken all the same, this worker gives it back when it leaves.
            Err(error) => tracing::warn!(job.id = one.id, %error, "the job could not be taken over"),
        }
        while self.running() > 0 && *stopping.borrow_and_update() == Stopping::No {
            tokio::select! {
                () = self.shared.changed.notified() => {}
                Some(_) = heard.recv() => {}
                _ = stopping.changed() => {}
            }
        }
        self.drain(heard, stopping).await
    }
}

/// Runs a job in a process of its own, and returns when that has ended.
async fn in_own_process(
    shared: &Arc<Shared>,
    ended: &mpsc::UnboundedSender<Ended>,
    program: &Path,
    ticket: Ticket,
) {
    let (id, crashes) = (ticket.job.id, ticket.job.crashes);
    tracing::warn!(job.id = id, crashes, "a job whose workers were lost runs in a process of its own");
    let mut process = match OwnProcess::start(program, &ticket.job) {
        Ok(process) => process,
        Err(fault) => {
            let why = format!("a process of its own could not be started: {fault}");
            tracing::error!(job.id = id, "{why}");
            let _ = ended.send(attempt::put_off(shared, &ticket, NOT_BEGUN_PAUSE, why));
            return;
        }
    };
    let taken = tokio::select! {
        taken = process.takes_over() => taken,
        () = ticket.stop.token().cancelled() => false,
    };
    if !taken {
        let stopped = ticket.stop.reason().is_some();
        let status = process.stop().await;
        let why = format!("a process of its own ended before it began with it: {}", said(&status));
        let _ = ended.send(if stopped {
            attempt::given_back(shared, &ticket)
        } else {
            tracing::error!(job.id = id, "{why}");
            attempt::put_off(shared, &ticket, NOT_BEGUN_PAUSE, why)
        });
        return;
    }
    let _ = ended.send(attempt::handed_over(shared, &ticket));
    let status = tokio::select! {
        status = process.ended() => status,
        () = shared.stopped.cancelled() => process.stop().await,
    };
    if !matches!(&status, Ok(status) if status.success()) {
        tracing::warn!(job.id = id, "the process of a job ended: {}", said(&status));
    }
}

fn said(status: &std::io::Result<std::process::ExitStatus>) -> String {
    status.as_ref().map_or_else(ToString::to_string, ToString::to_string)
}
