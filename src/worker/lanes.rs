//! Where the next claim begins in each lane (the jobs of one queue and one priority).
//!
//! A worker remembers the place of the last job it took from each lane and looks only behind it: the entries
//! of jobs that are running or gone then cost nothing, however many a long snapshot keeps from being removed.
//! What appears before that place (a transaction that committed late, a retry, a revival, a job given back)
//! is found by a sweep from the start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Job;
use crate::store::{Claimed, Lane, Moment};

/// The least and the longest time between two sweeps while jobs flow. A job before the cursor waits for at
/// most the longer one; when nothing is found behind the cursors, a sweep follows at once.
const SWEEP_MIN: Duration = Duration::from_millis(25);
const SWEEP_MAX: Duration = Duration::from_secs(2);
/// Sweeps take at most this part of the time: one in so many.
const SWEEP_SHARE: u32 = 20;

/// The start of everything.
const START: (Moment, i64) = (Moment::NEG_INFINITY, 0);

/// The lanes of one worker, queue by queue, and in each queue by priority.
pub(super) struct Lanes {
    all: Vec<Lane>,
    per_queue: usize,
    next_sweep: Instant,
}

impl Lanes {
    pub(super) fn new(queues: &[String]) -> Self {
        let lane = |queue: &String| {
            let queue: Arc<str> = queue.as_str().into();
            (0..=9).map(move |priority| Lane { queue: queue.clone(), priority, after: START })
        };
        Self { all: queues.iter().flat_map(lane).collect(), per_queue: 10, next_sweep: Instant::now() }
    }

    /// The lanes for the next claim, and whether it is a sweep. Each claim begins with another queue, so that
    /// none of them starves the others.
    pub(super) fn next(&mut self) -> (Vec<Lane>, bool) {
        self.all.rotate_left(self.per_queue);
        let sweep = Instant::now() >= self.next_sweep;
        let mut lanes = self.all.clone();
        if sweep {
            for lane in &mut lanes {
                lane.after = START;
            }
        }
        (lanes, sweep)
    }

    /// Notes what a claim brought.
    ///
    /// A cursor moves behind the jobs taken, and never back: what a sweep found before it changes nothing.
    ///
    /// `crew` workers sweep: together they take no more of the time than one alone.
    pub(super) fn claimed(&mut self, jobs: &[Claimed], asked: usize, sweep: bool, took: Duration, crew: u32) {
        let is_of = |lane: &Lane, job: &Job| lane.priority == job.priority && lane.queue == job.queue;
        let mut at = 0;
        for one in jobs {
            // Neighbours are mostly of one lane.
            if !is_of(&self.all[at], &one.job) {
                let Some(lane) = self.all.iter().position(|lane| is_of(lane, &one.job)) else { continue };
                at = lane;
            }
            self.all[at].after = self.all[at].after.max(one.place);
        }
        if sweep && jobs.len() == asked {
            self.next_sweep = Instant::now() + (took * SWEEP_SHARE * crew).clamp(SWEEP_MIN, SWEEP_MAX);
        } else if jobs.len() < asked {
            // There is nothing more behind the cursors, or anywhere: the next look is at everything.
            self.sweep_next();
        }
    }

    /// Something may have come back before the cursors.
    pub(super) fn sweep_next(&mut self) {
        self.next_sweep = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(queue: &str, priority: i16, place: (i64, i64)) -> Claimed {
        let mut job = crate::worker::verdict::testing::job(1, 0);
        job.queue = queue.into();
        job.priority = priority;
        Claimed { job: Arc::new(job), place: (Moment(place.0), place.1) }
    }

    fn after(lanes: &Lanes, queue: &str, priority: i16) -> (Moment, i64) {
        lanes.all.iter().find(|l| &*l.queue == queue && l.priority == priority).expect("a lane").after
    }

    #[test]
    fn a_cursor_moves_behind_what_was_taken_and_never_back() {
        let mut lanes = Lanes::new(&["a".to_owned(), "b".to_owned()]);
        lanes.claimed(&[claimed("a", 5, (10, 1)), claimed("a", 5, (9, 7))], 2, true, Duration::ZERO, 1);
        lanes.claimed(&[claimed("a", 5, (3, 3))], 1, true, Duration::ZERO, 1);
        assert_eq!(after(&lanes, "a", 5), (Moment(10), 1));
        assert_eq!(after(&lanes, "a", 4), START);
        assert_eq!(after(&lanes, "b", 5), START);
    }

    #[test]
    fn a_claim_that_comes_back_short_is_followed_by_a_sweep() {
        let mut lanes = Lanes::new(&["a".to_owned()]);
        assert!(lanes.next().1, "the first look is at everything");
        lanes.claimed(&[claimed("a", 5, (10, 1))], 1, true, Duration::from_secs(9), 1);
        let (some, sweep) = lanes.next();
        assert!(!sweep);
        assert!(some.iter().any(|lane| lane.after == (Moment(10), 1)));
        lanes.claimed(&[], 1, false, Duration::ZERO, 1);
        assert!(lanes.next().1);
    }

    #[test]
    fn each_claim_begins_with_another_queue() {
        let mut lanes = Lanes::new(&["a".to_owned(), "b".to_owned()]);
        let first = lanes.next().0[0].queue.clone();
        assert_ne!(lanes.next().0[0].queue, first);
    }
}
