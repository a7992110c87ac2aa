//! What the jobs of one kind, or of all kinds that share the blocking threads, must have to start; and those that
//! wait for it.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::blocking::Blocking;
use super::super::held::Ticket;
use super::super::pace::Pace;
use crate::handler::{Entry, Runner};

/// What limits these kinds beside the worker's own slots.
pub(super) struct Limit {
    /// For one kind with a limit of its own.
    own: Option<Own>,
    /// Whether each job takes a blocking thread.
    pub(super) blocking: bool,
    /// Claimed jobs that wait for a slot.
    pub(super) waiting: VecDeque<Ticket>,
}

/// The limit of one kind, by its settings or by what runs it.
struct Own {
    /// The most that ever run at once.
    most: usize,
    slots: Arc<Semaphore>,
    /// Knows how many can run just now.
    runner: Runner,
    /// A kind claims ahead as its own jobs begin, not as those of others do.
    pace: Pace,
}

impl Limit {
    /// The limit of a kind, if it has one of its own; `all` is how many jobs of any kind the worker runs at once.
    pub(super) fn of(entry: &Entry, all: usize) -> Option<Self> {
        if entry.concurrency.is_none() && entry.runner.capacity() == usize::MAX {
            return None;
        }
        let most = entry.concurrency.unwrap_or(all);
        let slots = Arc::new(Semaphore::new(most));
        let own = Own { most, slots, runner: entry.runner.clone(), pace: Pace::new() };
        Some(Self { own: Some(own), blocking: entry.is_blocking(), waiting: VecDeque::new() })
    }

    /// That of kinds which only share the blocking threads.
    pub(super) fn of_threads() -> Self {
        Self { own: None, blocking: true, waiting: VecDeque::new() }
    }

    /// Jobs that the next claim may bring, as far as the kind's own limit goes: those that can begin, and some ahead.
    pub(super) fn room(&mut self) -> usize {
        let waiting = self.waiting.len();
        let Some(own) = &mut self.own else { return usize::MAX };
        if own.runner.capacity() == 0 {
            return 0;
        }
        let ahead = own.pace.ahead(own.running());
        if waiting == 0 || waiting < ahead / 2 { (own.free() + ahead).saturating_sub(waiting) } else { 0 }
    }

    /// None of its jobs can run for now.
    pub(super) fn is_shut(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.runner.capacity() == 0)
    }

    /// Takes what a job needs beside a slot of the worker, if it is all free: a slot of its kind, and a thread.
    pub(super) fn try_acquire(
        &self,
        pool: Option<&Blocking>,
    ) -> Option<(Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>)> {
        let own = match &self.own {
            Some(own) if own.free() == 0 => return None,
            Some(own) => Some(own.slots.clone().try_acquire_owned().ok()?),
            None => None,
        };
        let thread = match pool.filter(|_| self.blocking) {
            Some(pool) => Some(pool.try_thread()?),
            None => None,
        };
        Some((own, thread))
    }

    /// The job that may begin.
    pub(super) fn next(&mut self) -> Option<Ticket> {
        if let Some(own) = &mut self.own {
            own.pace.started();
        }
        self.waiting.pop_front()
    }
}

impl Own {
    /// How many more may begin now.
    fn free(&self) -> usize {
        self.most.min(self.runner.capacity()).saturating_sub(self.running())
    }

    fn running(&self) -> usize {
        self.most - self.slots.available_permits()
    }
}
