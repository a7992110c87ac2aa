//! Jobs that are handed to another process, seen from that process.

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::super::held::Ticket;
use super::super::own_process::{self, Handed, Order, Word};
use super::super::{Signal, Stopping, attempt};
use super::Dispatch;
use super::claims::forget;
use crate::{ClaimId, JobId};

impl Dispatch {
    /// Takes over what this process is handed, and nothing else.
    pub(super) async fn run_handed(
        mut self,
        Handed { last_try, mut orders }: Handed,
        mut heard: mpsc::UnboundedReceiver<Signal>,
        mut stopping: watch::Receiver<Stopping>,
    ) -> Instant {
        self.alone = last_try;
        let (mut leaves, mut running) = (false, 0);
        while !(leaves && running == 0) && *stopping.borrow_and_update() == Stopping::No {
            tokio::select! {
                Some(order) = orders.recv() => match order {
                    Order::Take(held) => for ticket in self.take_over(&held).await {
                        let slot = self.slots.clone().acquire_owned().await.expect("never closed");
                        running += 1;
                        self.start(ticket, slot, None, None);
                    },
                    Order::Leave => leaves = true,
                },
                () = self.shared.changed.notified() => {}
                Some(_) = heard.recv() => {}
                _ = stopping.changed() => {}
            }
            let left = self.running();
            if left < running {
                own_process::say(Word::Ended(running - left));
            }
            running = left;
        }
        // Whoever handed these over may be gone before they were begun: then nobody else knows that they are unharmed.
        while let Ok(Order::Take(held)) = orders.try_recv() {
            let taken = self.take_over(&held).await;
            self.give_back_all(taken);
        }
        self.drain(heard, stopping).await
    }

    /// Takes jobs over from the worker that holds them.
    async fn take_over(&mut self, held: &[(JobId, ClaimId)]) -> Vec<Ticket> {
        let (worker_id, batch) = (self.shared.worker_id(), self.next_batch);
        self.next_batch += 1;
        let taken = match self.shared.store.take_over(worker_id, batch, held).await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(jobs = held.len(), %error, "jobs could not be taken over");
                own_process::say(Word::Failed);
                if error.was_sent() {
                    tokio::spawn(forget(self.shared.clone(), worker_id, batch));
                }
                return vec![];
            }
        };
        own_process::say(Word::Taken(taken.len()));
        let tickets = self.shared.held.take_in(batch, taken.into_iter());
        // As with a claim: in a name that was struck out meanwhile, nobody would rescue them.
        if worker_id != self.shared.worker_id() {
            own_process::say(Word::Ended(tickets.len()));
            self.give_back_all(tickets);
            return vec![];
        }
        tickets
    }

    fn give_back_all(&self, tickets: Vec<Ticket>) {
        for ticket in tickets {
            let _ = self.ended.send(attempt::given_back(&self.shared, &ticket));
        }
    }
}
