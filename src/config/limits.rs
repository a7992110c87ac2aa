//! `[limits]`: how large one job may be.

use serde::Serialize;

use super::table::Table;

/// Below this a payload can hardly say anything; above the maximum, jobs should name a file instead.
const BYTES: std::ops::RangeInclusive<usize> = 1024..=64 * 1024 * 1024;

/// The sizes a job may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Bytes of a payload. Held by the table, so `rowcrew migrate` must run for a change to count.
    pub payload_bytes_max: usize,
    /// Bytes of a result.
    pub result_bytes_max: usize,
}

impl Limits {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let limits = Self {
            payload_bytes_max: table.whole("payload_bytes_max", 1024 * 1024, BYTES),
            result_bytes_max: table.whole("result_bytes_max", 1024 * 1024, BYTES),
        };
        table.finish();
        limits
    }
}
