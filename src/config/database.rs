//! `[database]`: how the crew talks to Postgres; where it is comes with `database_url`.

use std::time::Duration;

use serde::Serialize;

use super::table::Table;

/// The settings of the connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Database {
    /// Connections one process keeps for its statements.
    pub pool_size: usize,
    /// Milliseconds a connection may take to open.
    pub connect_timeout_ms: u64,
    /// Milliseconds one statement may run.
    pub statement_timeout_ms: u64,
    /// Whether statements are prepared under a name; false behind a transaction-mode pooler.
    pub prepare: bool,
}

impl Database {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let database = Self {
            pool_size: table.whole("pool_size", 4, 2..=100),
            connect_timeout_ms: table.whole("connect_timeout_ms", 5_000, 100..=60_000),
            statement_timeout_ms: table.whole("statement_timeout_ms", 30_000, 1_000..=3_600_000),
            prepare: table.truth("prepare", true),
        };
        table.finish();
        database
    }

    /// The time a connection may take to open.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    /// The time one statement may run.
    pub fn statement_timeout(&self) -> Duration {
        Duration::from_millis(self.statement_timeout_ms)
    }
}
