//! `[worker]`: what one worker process takes on.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::check::name;
use super::table::Table;

/// The settings of one worker process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Worker {
    /// The queues it claims from; at least one, none twice.
    pub queues: Vec<String>,
    /// Jobs it runs at once.
    pub concurrency: usize,
    /// How it is called in lists and logs; empty for the host's name.
    pub name: String,
    /// Milliseconds that running jobs get to end after SIGTERM.
    pub drain_ms: u64,
    /// Milliseconds between two looks for jobs when no notification comes.
    pub poll_ms: u64,
    /// Connections that sql handlers share.
    pub sql_connections: usize,
    /// Threads that blocking handlers share.
    pub blocking_threads: usize,
}

impl Worker {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let worker = Self {
            queues: table
                .read("queues", |given| queues(given.list()?))
                .unwrap_or_else(|| vec!["default".to_owned()]),
            concurrency: table.whole("concurrency", 100, 1..=20_000),
            name: table.text("name", |_| Ok(())).unwrap_or_default(),
            drain_ms: table.whole("drain_ms", 25_000, 0..=3_600_000),
            poll_ms: table.whole("poll_ms", 1_000, 10..=60_000),
            sql_connections: table.whole("sql_connections", 4, 1..=100),
            blocking_threads: table.whole("blocking_threads", 32, 1..=1_000),
        };
        table.finish();
        worker
    }

    /// The name, or the host's where none is set.
    pub fn name_or_host(&self) -> String {
        if self.name.is_empty() {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        } else {
            self.name.clone()
        }
    }

    /// The time running jobs get to end after SIGTERM.
    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    /// The time between two looks for jobs when no notification comes.
    pub fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }
}

fn queues(queues: Vec<String>) -> Result<Vec<String>, String> {
    if queues.is_empty() {
        return Err("is empty: expected at least one queue".to_owned());
    }
    let mut seen = BTreeSet::new();
    for queue in &queues {
        name(queue).map_err(|problem| format!("has an entry that {problem}"))?;
        if !seen.insert(queue) {
            return Err(format!("names {queue:?} twice"));
        }
    }
    Ok(queues)
}
