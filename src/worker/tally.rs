//! Counts what a worker does, in buckets of ten seconds, and makes the rows it writes of them.
//!
//! A row always holds the whole bucket, so that writing it again after a lost answer changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::store::{Fate, Moment};

/// Seconds of one bucket; `job_stats` and its views rely on it.
const BUCKET_SECS: i64 = 10;
/// The last histogram bucket: 0.1 ms * 2^(160/4) is over three years.
const HISTOGRAM_MAX: i16 = 160;

/// The counts of one worker.
#[derive(Default)]
pub(super) struct Tally {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The database's clock, and when it was read.
    clock: Option<(Moment, Instant)>,
    buckets: BTreeMap<i64, HashMap<Lane, Counts>>,
}

#[derive(PartialEq, Eq, Hash, Clone)]
struct Lane {
    queue: Arc<str>,
    kind: Arc<str>,
}

#[derive(Default)]
struct Counts {
    completed: u64,
    failed: u64,
    retried: u64,
    dead: u64,
    cancelled: u64,
    wait: Histogram,
    run: Histogram,
}

#[derive(Default)]
struct Histogram {
    total_ms: f64,
    buckets: BTreeMap<i16, u64>,
}

/// One attempt that ended.
pub(super) struct Attempt {
    pub(super) queue: Arc<str>,
    pub(super) kind: Arc<str>,
    pub(super) waited: Duration,
    pub(super) ran: Duration,
}

impl Tally {
    /// Takes over the database's clock, which alone decides what belongs in which bucket.
    pub(super) fn set_clock(&self, clock: Moment) {
        self.lock().clock = Some((clock, Instant::now()));
    }

    /// The database's clock now, if it was ever read: a little late, never early.
    pub(super) fn database_now(&self) -> Option<Moment> {
        let (clock, read) = self.lock().clock?;
        Some(clock.after(read.elapsed()))
    }

    /// Counts attempts that have been written.
    pub(super) fn count<'a>(&self, ended: impl Iterator<Item = (&'a Attempt, &'a Fate)>) {
        let mut inner = self.lock();
        let bucket = inner.now() / BUCKET_SECS * BUCKET_SECS;
        let lanes = inner.buckets.entry(bucket).or_default();
        let mut ended = ended.peekable();
        // Neighbours are mostly of one lane, which is looked up once for all of them.
        while let Some((first, _)) = ended.peek() {
            let lane = Lane { queue: first.queue.clone(), kind: first.kind.clone() };
            let counts = lanes.entry(lane.clone()).or_default();
            while let Some((attempt, fate)) =
                ended.next_if(|(next, _)| next.kind == lane.kind && next.queue == lane.queue)
            {
                counts.add(attempt, fate);
            }
        }
    }

    /// The rows to write now: those of every bucket not yet written for good.
    pub(super) fn rows(&self) -> Value {
        let inner = self.lock();
        let rows = inner
            .buckets
            .iter()
            .flat_map(|(bucket, lanes)| lanes.iter().map(|(lane, counts)| counts.row(*bucket, lane)));
        Value::Array(rows.collect())
    }

    /// Forgets buckets that were over before what was just written was read.
    pub(super) fn written(&self) {
        let mut inner = self.lock();
        let current = inner.now() / BUCKET_SECS * BUCKET_SECS;
        // One bucket longer, because the clock may have been corrected a little backwards.
        inner.buckets.retain(|bucket, _| *bucket >= current - BUCKET_SECS);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn now(&self) -> i64 {
        match self.clock {
            Some((clock, read)) => clock.after(read.elapsed()).unix_micros() / 1_000_000,
            None => chrono::Utc::now().timestamp(),
        }
    }
}

impl Counts {
    fn add(&mut self, attempt: &Attempt, fate: &Fate) {
        match fate {
            Fate::Completed(_) => self.completed += 1,
            Fate::Cancelled => self.cancelled += 1,
            Fate::Retry { .. } => {
                self.failed += 1;
                self.retried += 1;
            }
            Fate::Buried { .. } => {
                self.failed += 1;
                self.dead += 1;
            }
            // Neither did anything that counts.
            Fate::Snoozed { .. } | Fate::Deferred { .. } | Fate::Released => return,
        }
        self.wait.add(attempt.waited);
        self.run.add(attempt.ran);
    }

    fn row(&self, bucket: i64, lane: &Lane) -> Value {
        let (wait_buckets, wait_counts) = self.wait.arrays();
        let (run_buckets, run_counts) = self.run.arrays();
        json!({
            "bucket_at": chrono::DateTime::from_timestamp(bucket, 0),
            "queue": &*lane.queue, "kind": &*lane.kind,
            "completed": self.completed, "failed": self.failed, "retried": self.retried, "dead": self.dead,
            "cancelled": self.cancelled, "wait_ms": self.wait.total_ms, "run_ms": self.run.total_ms,
            "wait_buckets": wait_buckets, "wait_counts": wait_counts,
            "run_buckets": run_buckets, "run_counts": run_counts,
        })
    }
}

impl Histogram {
    fn add(&mut self, time: Duration) {
        self.total_ms += time.as_secs_f64() * 1e3;
        *self.buckets.entry(bucket_of(time)).or_default() += 1;
    }

    fn arrays(&self) -> (Vec<i16>, Vec<u64>) {
        self.buckets.iter().unzip()
    }
}

/// The smallest b with time <= 0.1 ms * 2^(b/4), as `rowcrew.bucket_ms` reads it.
fn bucket_of(time: Duration) -> i16 {
    let tenths = time.as_secs_f64() * 1e4;
    if tenths <= 1.0 { 0 } else { ((tenths.log2() * 4.0).ceil() as i16).min(HISTOGRAM_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_stands_for_its_times_within_nine_percent() {
        for micros in [150_u64, 999, 12_345, 3_500_000, 900_000_000] {
            let time = Duration::from_micros(micros);
            let stands_for = 0.1 * 2_f64.powf((f64::from(bucket_of(time)) - 0.5) / 4.0);
            let ratio = stands_for / (time.as_secs_f64() * 1e3);
            assert!((0.91..1.095).contains(&ratio), "{micros} us: {ratio}");
        }
        assert_eq!(bucket_of(Duration::ZERO), 0);
        assert_eq!(bucket_of(Duration::MAX), HISTOGRAM_MAX);
    }

    #[test]
    fn a_row_holds_all_of_its_bucket_and_leaves_when_that_is_over() {
        let tally = Tally::default();
        let attempt = Attempt {
            queue: "q".into(),
            kind: "k".into(),
            waited: Duration::from_millis(1),
            ran: Duration::from_millis(2),
        };
        tally.set_clock(Moment(1_000_000));
        tally.count([(&attempt, &Fate::Completed(None))].into_iter());
        tally.count([(&attempt, &Fate::Cancelled)].into_iter());
        let rows = tally.rows();
        assert_eq!(rows[0]["completed"], 1);
        assert_eq!(rows[0]["cancelled"], 1);
        assert_eq!(rows[0]["bucket_at"], "2000-01-01T00:00:00Z");
        tally.written();
        assert_eq!(tally.rows(), rows, "the bucket still fills");
        tally.set_clock(Moment(25_000_000));
        tally.written();
        assert_eq!(tally.rows(), json!([]));
    }
}
