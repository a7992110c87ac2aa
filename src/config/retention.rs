//! `[retention]`: how long what is over is kept.

use serde::Serialize;

use super::table::Table;

/// Ten years; more is an archive, not a queue.
const DAYS_MAX: u32 = 3650;

/// Days until pruning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// Days that completed and cancelled jobs are kept; 0 keeps none.
    pub finished_days: u32,
    /// Days that dead jobs are kept.
    pub dead_days: u32,
    /// Days that statistics are kept.
    pub stats_days: u32,
}

impl Retention {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let retention = Self {
            finished_days: table.whole("finished_days", 7, 0..=DAYS_MAX),
            dead_days: table.whole("dead_days", 90, 1..=DAYS_MAX),
            stats_days: table.whole("stats_days", 30, 1..=DAYS_MAX),
        };
        table.finish();
        retention
    }
}
