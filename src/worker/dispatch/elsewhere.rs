//! Jobs that are handed to another process, seen from the worker that starts it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::super::finisher::Ended;
use super::super::held::Ticket;
use super::super::own_process::{News, Order, OwnProcess, Purpose, Word};
use super::super::{Shared, attempt};
use super::suspects::is_last_try;

/// How long a last try is put off whose process did not begin with it, and how long its place stays empty: what keeps
/// one from beginning keeps the next.
const NOT_BEGUN_PAUSE: Duration = Duration::from_secs(10);

/// Jobs for another process, and what they hold in this one.
pub(super) struct Parcel {
    pub(super) tickets: Vec<Ticket>,
    /// A slot for each.
    pub(super) slots: OwnedSemaphorePermit,
    /// One of its kind, where that is limited.
    pub(super) own: Option<OwnedSemaphorePermit>,
}

/// What becomes of jobs in another process, seen from the worker that started it.
pub(super) struct Elsewhere {
    pub(super) shared: Arc<Shared>,
    pub(super) ended: mpsc::UnboundedSender<Ended>,
    /// One of as many as there may be.
    pub(super) place: OwnedSemaphorePermit,
    pub(super) fed: mpsc::UnboundedReceiver<Parcel>,
}

/// What the other process has.
#[derive(Default)]
struct There {
    /// It had some.
    begun: bool,
    /// It could not take some over: it is handed no more.
    failed: bool,
    /// Handed, and not yet its own.
    offered: VecDeque<Parcel>,
    running: usize,
    /// What these jobs hold here.
    slots: Option<OwnedSemaphorePermit>,
    own: Option<OwnedSemaphorePermit>,
}

impl Elsewhere {
    /// Starts the process, hands it jobs as they come, and returns when it has ended: when none is left, it leaves.
    pub(super) async fn run(mut self, purpose: Purpose) {
        let mut there = There::default();
        let program = self.shared.settings.program.as_deref().expect("or they would run here");
        let mut process = match OwnProcess::start(program, &purpose) {
            Ok(process) => process,
            Err(fault) => {
                return self
                    .give_up(there, Some(format!("a process of its own could not be started: {fault}")));
            }
        };
        while !self.is_done(&there) {
            tokio::select! {
                Some(parcel) = self.fed.recv() => {
                    process.tell(&offer(&parcel)).await;
                    there.offered.push_back(parcel);
                    there.begun = true;
                }
                news = process.news() => match news {
                    News::Said(word) => self.heard(word, &mut there),
                    News::Gone(status) => {
                        let said = said(&status);
                        tracing::warn!(process = %purpose, jobs = there.running, "a process with suspects ended: {said}");
                        let why = format!("a process of its own ended before it began with it: {said}");
                        return self.give_up(there, Some(why));
                    }
                },
                () = self.shared.stopped.cancelled() => {
                    let _ = process.stop().await;
                    return self.give_up(there, None);
                }
            }
        }
        // Another may start while this one leaves.
        if there.failed {
            rest(self.place);
        } else {
            drop(self.place);
        }
        process.tell(&Order::Leave).await;
        tokio::select! {
            () = process.gone() => {}
            () = self.shared.stopped.cancelled() => drop(process.stop().await),
        }
    }

    /// Whether no job is left there, nor comes: then no more is taken.
    fn is_done(&mut self, there: &There) -> bool {
        if there.running > 0 || !there.offered.is_empty() || !self.fed.is_empty() {
            return false;
        }
        if !there.begun && !self.fed.is_closed() {
            return false;
        }
        self.fed.close();
        self.fed.is_empty()
    }

    fn heard(&mut self, word: Word, there: &mut There) {
        match word {
            Word::Taken(jobs) => {
                let Some(Parcel { tickets, mut slots, own }) = there.offered.pop_front() else { return };
                for ticket in &tickets {
                    // What it could not have is not this worker's either.
                    let _ = self.ended.send(attempt::handed_over(&self.shared, ticket));
                }
                drop(slots.split(tickets.len().saturating_sub(jobs)));
                there.running += jobs;
                there.own = there.own.take().or(own);
                match &mut there.slots {
                    Some(all) => all.merge(slots),
                    none => *none = Some(slots),
                }
            }
            Word::Failed => {
                there.failed = true;
                self.fed.close();
                if let Some(parcel) = there.offered.pop_front() {
                    self.give_back(&parcel, Some("a process of its own could not take it over"));
                }
            }
            Word::Ended(jobs) => {
                there.running = there.running.saturating_sub(jobs);
                drop(there.slots.as_mut().and_then(|slots| slots.split(jobs)));
            }
        }
        self.shared.changed.notify_one();
    }

    /// Gives back what has not become the other process's own: it is not there, or leaves.
    fn give_up(mut self, mut there: There, why: Option<String>) {
        self.fed.close();
        while let Ok(parcel) = self.fed.try_recv() {
            there.offered.push_back(parcel);
        }
        for parcel in &there.offered {
            self.give_back(parcel, why.as_deref());
        }
        // One that had jobs may have been taken down by one of them: the next can begin.
        if let Some(why) = why.filter(|_| there.slots.is_none()) {
            tracing::error!("{why}");
            rest(self.place);
        }
    }

    fn give_back(&self, parcel: &Parcel, why: Option<&str>) {
        for ticket in &parcel.tickets {
            let _ = self.ended.send(match why {
                Some(why) if is_last_try(ticket) => {
                    attempt::put_off(&self.shared, ticket, NOT_BEGUN_PAUSE, why.to_owned())
                }
                _ => attempt::given_back(&self.shared, ticket),
            });
        }
    }
}

fn offer(parcel: &Parcel) -> Order {
    Order::Take(parcel.tickets.iter().map(|ticket| (ticket.job.id, ticket.job.claim_id)).collect())
}

/// Leaves the place of a process empty for a while.
fn rest(place: OwnedSemaphorePermit) {
    tokio::spawn(async move {
        tokio::time::sleep(NOT_BEGUN_PAUSE).await;
        drop(place);
    });
}

fn said(status: &std::io::Result<std::process::ExitStatus>) -> String {
    status.as_ref().map_or_else(ToString::to_string, ToString::to_string)
}
