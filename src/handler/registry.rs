//! Which handler runs which kind, and what jobs of the kind get when their rows do not say.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::Notify;

use super::{BlockingHandler, Handler};
use crate::{JobDefaults, SqlStatement};

/// How the jobs of a kind are run.
#[derive(Clone)]
pub enum Runner {
    /// By a handler, which knows no database.
    Handler(Arc<dyn Handler>),
    /// By a handler that blocks, on one of the worker's blocking threads.
    Blocking(Arc<dyn BlockingHandler>),
    /// By this SQL statement, in one transaction with the finish.
    Sql(Arc<SqlStatement>),
}

impl Runner {
    /// How many jobs it can run at once just now; [`Handler::capacity`].
    pub fn capacity(&self) -> usize {
        match self {
            Self::Handler(handler) => handler.capacity(),
            Self::Blocking(_) | Self::Sql(_) => usize::MAX,
        }
    }
}

/// What is registered for a kind.
#[derive(Clone)]
pub struct Entry {
    /// How it is run.
    pub runner: Runner,
    /// Attempts, time limit and backoff of its jobs.
    pub defaults: Arc<JobDefaults>,
    /// How many of the kind run at once in one process, where that is limited.
    pub concurrency: Option<usize>,
}

impl Entry {
    /// Whether it needs a blocking thread.
    pub fn is_blocking(&self) -> bool {
        matches!(self.runner, Runner::Blocking(_))
    }
}

/// The handlers of one worker.
#[derive(Clone, Default)]
pub struct Registry {
    entries: BTreeMap<Arc<str>, Entry>,
}

impl Registry {
    /// Without any handler.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler written in Rust, with the usual limits.
    #[must_use]
    pub fn with(self, kind: &str, handler: impl Handler) -> Self {
        let runner = Runner::Handler(Arc::new(handler));
        self.with_entry(kind, Entry { runner, defaults: Arc::default(), concurrency: None })
    }

    /// Adds what shall run a kind; the last one added counts.
    #[must_use]
    pub fn with_entry(mut self, kind: &str, entry: Entry) -> Self {
        self.entries.insert(kind.into(), entry);
        self
    }

    /// The handlers of these kinds alone.
    #[must_use]
    pub fn only(mut self, kinds: &[String]) -> Self {
        self.entries.retain(|name, _| kinds.iter().any(|kind| **kind == **name));
        self
    }

    /// What runs this kind.
    pub fn get(&self, kind: &str) -> Option<&Entry> {
        self.entries.get(kind)
    }

    /// All kinds with their entries, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        self.entries.iter()
    }

    /// Gets all handlers ready; [`Handler::start`].
    pub fn start(&self, changed: &Arc<Notify>) {
        self.handlers().for_each(|handler| handler.start(changed));
    }

    /// Ends what handlers keep running between jobs; [`Handler::stop`].
    pub async fn stop(&self) {
        join_all(self.handlers().map(|handler| handler.stop())).await;
    }

    fn handlers(&self) -> impl Iterator<Item = &Arc<dyn Handler>> {
        self.entries.values().filter_map(|entry| match &entry.runner {
            Runner::Handler(handler) => Some(handler),
            Runner::Blocking(_) | Runner::Sql(_) => None,
        })
    }

    /// The kinds of which no job can be run now; [`Handler::capacity`].
    pub fn kinds_down(&self) -> impl Iterator<Item = &str> {
        let down = self.entries.iter().filter(|(_, entry)| entry.runner.capacity() == 0);
        down.map(|(kind, _)| &**kind)
    }

    /// Whether any kind needs blocking threads.
    pub fn has_blocking(&self) -> bool {
        self.entries.values().any(Entry::is_blocking)
    }
}
