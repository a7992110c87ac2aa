//! How many jobs of one kind may run at once, and those of its jobs that wait until they may.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::held::Ticket;
use super::super::pace::Pace;
use crate::handler::{Entry, Runner};

/// The limit of one kind.
pub(super) struct Limit {
    /// The most that ever run at once.
    most: usize,
    slots: Arc<Semaphore>,
    /// Knows how many can run just now.
    runner: Runner,
    pub(super) waiting: VecDeque<Ticket>,
    /// A kind claims ahead as its own jobs begin, not as those of others do.
    pace: Pace,
}

impl Limit {
    /// Whether a kind is limited by itself, by its settings or by what runs it.
    pub(super) fn is_needed(entry: &Entry) -> bool {
        entry.concurrency.is_some() || entry.runner.capacity() != usize::MAX
    }

    /// `all` is how many jobs of any kind the worker runs at once.
    pub(super) fn new(entry: &Entry, all: usize) -> Self {
        let most = entry.concurrency.unwrap_or(all);
        let slots = Arc::new(Semaphore::new(most));
        Self { most, slots, runner: entry.runner.clone(), waiting: VecDeque::new(), pace: Pace::new() }
    }

    /// Jobs that the next claim may bring: those that can begin, and some ahead.
    pub(super) fn room(&mut self) -> usize {
        if self.is_shut() {
            return 0;
        }
        let (waiting, ahead) = (self.waiting.len(), self.pace.ahead());
        if waiting == 0 || waiting < ahead / 2 { (self.free() + ahead).saturating_sub(waiting) } else { 0 }
    }

    /// None of its jobs can run for now.
    pub(super) fn is_shut(&self) -> bool {
        self.runner.capacity() == 0
    }

    /// The next job that may begin, and its slot among those of its kind.
    pub(super) fn next(&mut self) -> Option<(Ticket, OwnedSemaphorePermit)> {
        if self.waiting.is_empty() || self.free() == 0 {
            return None;
        }
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        self.pace.started();
        Some((self.waiting.pop_front()?, slot))
    }

    /// How many more may begin now.
    fn free(&self) -> usize {
        let running = self.most - self.slots.available_permits();
        self.most.min(self.runner.capacity()).saturating_sub(running)
    }
}
