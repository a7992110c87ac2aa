//! Starts jobs as slots become free.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::super::finisher::Ended;
use super::super::held::Ticket;
use super::super::{Shared, attempt};
use super::Dispatch;
use crate::handler::Entry;

impl Dispatch {
    /// Starts what can be started.
    pub(super) fn start_jobs(&mut self) {
        if self.shared.is_silent() {
            return;
        }
        if self.is_for_suspects() {
            self.start_suspect_alone();
            return;
        }
        self.start_elsewhere();
        for at in 0..self.orders.len() {
            self.give_back_shut(at);
            while let Some(limit) = &mut self.orders[at].limit
                && !limit.waiting.is_empty()
                && let Some((own, thread)) = limit.try_acquire(self.shared.blocking.as_ref())
            {
                let Ok(slot) = self.slots.clone().try_acquire_owned() else { return };
                let ticket = limit.next().expect("not empty");
                self.start(ticket, slot, own, thread);
            }
        }
        while !self.buffer.is_empty()
            && let Ok(slot) = self.slots.clone().try_acquire_owned()
        {
            let ticket = self.buffer.pop_front().expect("not empty");
            self.start(ticket, slot, None, None);
        }
    }

    /// Jobs of a kind of which none can run for now go to others who may.
    fn give_back_shut(&mut self, at: usize) {
        if let Some(limit) = &mut self.orders[at].limit
            && limit.is_shut()
        {
            for ticket in limit.waiting.drain(..) {
                let _ = self.ended.send(attempt::given_back(&self.shared, &ticket));
            }
        }
    }

    /// Starts a job in its slot, and in one of its kind's own and on a thread where these are limited.
    pub(super) fn start(
        &mut self,
        ticket: Ticket,
        slot: OwnedSemaphorePermit,
        own: Option<OwnedSemaphorePermit>,
        thread: Option<OwnedSemaphorePermit>,
    ) {
        self.pace.started();
        let Some(entry) = self.shared.registry.get(&ticket.job.kind).cloned() else {
            let _ = self.ended.send(attempt::unknown_kind(&self.shared, &ticket));
            return;
        };
        let run = Run { shared: self.shared.clone(), ended: self.ended.clone(), entry, alone: self.alone };
        run.shared.running.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            run.job(ticket, thread).await;
            run.shared.running.fetch_sub(1, Ordering::Relaxed);
            drop((slot, own));
            run.shared.changed.notify_one();
        });
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
    async fn job(&self, ticket: Ticket, thread: Option<OwnedSemaphorePermit>) {
        if self.alone {
            // Boxed, because the size of what few jobs need would be that of every job.
            return Box::pin(self.job_alone(ticket, thread)).await;
        }
        let ended = attempt::run(&self.shared, &self.entry, ticket, thread).await;
        let _ = self.ended.send(ended);
    }

    /// Runs a job that is to blame if the worker now dies.
    async fn job_alone(&self, ticket: Ticket, thread: Option<OwnedSemaphorePermit>) {
        let shared = &self.shared;
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
        let _ = self.ended.send(attempt::run(shared, &self.entry, ticket, thread).await);
        let _ = shared.store.set_alone(shared.worker_id(), None).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of what an async function makes.
    fn size<A, F: Future>(_: impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_job_that_is_started_takes_little_memory() {
        let bytes = size(|(run, ticket, thread): (Run, Ticket, Option<OwnedSemaphorePermit>)| async move {
            run.job(ticket, thread).await;
        });
        // Each start copies it about four times: ten kilobytes were 5 us of each job. Box what few jobs need.
        assert!(bytes <= 1_400, "{bytes} bytes");
    }
}
