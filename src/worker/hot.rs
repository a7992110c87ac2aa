//! The pure parts that every job passes, opened for `benches/hot.rs` and for nothing else.

use std::time::Duration;

use super::lanes::Lanes;
use super::tally::{Attempt, Tally};
use crate::store::{Fate, Lane};

/// Attempts of one kind that ended.
pub struct Attempts(Vec<Attempt>);

/// So many of them, no two of which took the same time.
pub fn attempts(count: u64) -> Attempts {
    let attempt = |n| Attempt {
        queue: "default".into(),
        kind: "noop".into(),
        waited: Duration::from_micros(n * 37),
        ran: Duration::from_micros(n * 11),
    };
    Attempts((0..count).map(attempt).collect())
}

/// Counts them, and makes the rows to write.
pub fn tally(attempts: &Attempts) -> serde_json::Value {
    let tally = Tally::default();
    tally.count(attempts.0.iter().map(|attempt| (attempt, &Fate::Completed(None))));
    tally.rows()
}

/// The cursors of a worker that serves some queues.
pub struct Cursors(Lanes);

impl Cursors {
    /// Before anything was claimed.
    pub fn new(queues: &[String]) -> Self {
        Self(Lanes::new(queues))
    }

    /// The lanes of the next claim.
    pub fn next_lanes(&mut self) -> Vec<Lane> {
        self.0.next().0
    }
}
