//! Where the next claim begins in each lane (the jobs of one queue and one priority).
//!
//! A worker remembers the place of the last job it took from each lane and looks only behind it: the entries
//! of jobs that are running or gone then cost nothing, however many a long snapshot keeps from being removed.
//! A look that took less than it might have has seen all that was due: the next begins a little before its moment, so that
//! a backlog of kinds that this worker does not run is not walked each time.
//! What appears before that place is found in two ways. A transaction that committed a little later than its
//! neighbours: by beginning a little before the cursor, where there is time to. All else (a long transaction, a
//! retry, a revival, a job given back): by a sweep from the start, which is the dearer the more is pinned.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Job;
use crate::store::{Claimed, Lane, Moment};

/// The least and the longest time between two sweeps. A job before the cursor waits for at most the longer one.
const SWEEP_MIN: Duration = Duration::from_millis(25);
const SWEEP_MAX: Duration = Duration::from_secs(10);
/// Sweeps take at most this part of the time: one in so many.
const SWEEP_SHARE: u32 = 50;
/// From here on a sweep is slow: jobs that have just come do not wait for it.
const SWEEP_SLOW: Duration = Duration::from_millis(5);
/// However often somebody says that jobs came back, so long is left between two sweeps.
const SWEEP_CALLED: Duration = Duration::from_millis(250);
/// How far before the cursor a claim begins that does not follow a full one: longer than commits of small
/// transactions overtake each other, and short enough that what was taken in this time costs little to pass.
const NEAR: Duration = Duration::from_millis(250);

/// The start of everything.
const START: (Moment, i64) = (Moment::NEG_INFINITY, 0);

/// How a claim looked for jobs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// The most jobs it might take.
    pub(super) asked: usize,
    pub(super) sweep: bool,
    /// How often cursors had gone back when it was sent.
    pub(super) age: u32,
    /// By the database's clock, not later than when it looked; `None` if that is not known.
    pub(super) at: Option<Moment>,
}

/// The lanes of one set of kinds, queue by queue, and in each queue by priority.
pub(super) struct Lanes {
    all: Vec<Lane>,
    per_queue: usize,
    last_sweep: Instant,
    next_sweep: Instant,
    sweep_takes: Duration,
    /// One is on its way: the claims beside it look for the jobs that have just come.
    sweeping: bool,
    /// Jobs have come back since the last sweep began.
    called: bool,
    /// The last claim brought all it asked for: behind it there is more.
    full: bool,
    /// A little before the moment of the last look that has seen all that was due: the next need not begin earlier.
    seen: Moment,
    /// How often cursors have gone back: what was sent before the last time moves them no more.
    age: u32,
}

impl Lanes {
    pub(super) fn new(queues: &[String]) -> Self {
        let lane = |queue: &String| {
            let queue: Arc<str> = queue.as_str().into();
            (0..=9).map(move |priority| Lane { queue: queue.clone(), priority, after: START })
        };
        let (all, now) = (queues.iter().flat_map(lane).collect(), Instant::now());
        Self {
            all,
            per_queue: 10,
            last_sweep: now,
            next_sweep: now,
            sweep_takes: Duration::ZERO,
            sweeping: false,
            called: false,
            full: false,
            seen: Moment::NEG_INFINITY,
            age: 0,
        }
    }

    /// How often cursors have gone back.
    pub(super) fn age(&self) -> u32 {
        self.age
    }

    /// The lanes for the next claim, and whether it is a sweep. Each claim begins with another queue, so that
    /// none of them starves the others.
    pub(super) fn next(&mut self) -> (Vec<Lane>, bool) {
        self.all.rotate_left(self.per_queue);
        let sweep = self.is_sweep_due();
        if sweep {
            self.sweeping = true;
            self.called = false;
        }
        let mut lanes = self.all.clone();
        for lane in &mut lanes {
            match lane.after {
                _ if sweep => lane.after = START,
                (due_at, _) if !self.full && due_at > Moment::NEG_INFINITY => {
                    lane.after = (due_at.before(NEAR).max(self.seen), 0);
                }
                _ => {}
            }
        }
        (lanes, sweep)
    }

    /// Whether the next claim is a sweep beside which others should go on.
    pub(super) fn sweeps_slowly(&self) -> bool {
        !self.full && self.sweep_takes >= SWEEP_SLOW && self.is_sweep_due()
    }

    fn is_sweep_due(&self) -> bool {
        !self.sweeping && Instant::now() >= self.next_sweep
    }

    /// Notes what a claim brought.
    ///
    /// A cursor moves behind the jobs taken. It goes back to what a sweep found if there may be more behind that: a queue
    /// that is resumed, an insert of a million rows that took a minute.
    ///
    /// `crew` workers sweep: together they take no more of the time than one alone.
    pub(super) fn claimed(&mut self, jobs: &[Claimed], look: Look, took: Duration, crew: u32) {
        self.full = jobs.len() == look.asked;
        if look.sweep && self.full {
            self.go_back(jobs);
        } else if look.age == self.age {
            self.each_place(jobs, |after, place| *after = place.max(*after));
            if let Some(at) = look.at.filter(|_| !self.full) {
                self.seen = self.seen.max(at.before(NEAR));
                for lane in &mut self.all {
                    lane.after = lane.after.max((self.seen, 0));
                }
            }
        }
        if look.sweep {
            self.sweep_takes = took;
            let wait = (took * SWEEP_SHARE * crew).clamp(SWEEP_MIN, SWEEP_MAX);
            self.swept(if self.called { wait.min(SWEEP_CALLED) } else { wait });
        }
    }

    /// Behind the jobs that a sweep took there may be more, before the cursors.
    fn go_back(&mut self, jobs: &[Claimed]) {
        let before: Vec<_> = self.all.iter().map(|lane| lane.after).collect();
        self.each_place(jobs, |after, _| *after = START);
        self.each_place(jobs, |after, place| *after = place.max(*after));
        if self.all.iter().zip(before).any(|(lane, before)| lane.after < before) {
            self.age += 1;
            self.seen = Moment::NEG_INFINITY;
        }
    }

    /// The cursor of each job's lane, and the job's place.
    fn each_place(&mut self, jobs: &[Claimed], mut of: impl FnMut(&mut (Moment, i64), (Moment, i64))) {
        let is_of = |lane: &Lane, job: &Job| lane.priority == job.priority && lane.queue == job.queue;
        let mut at = 0;
        for one in jobs {
            // Neighbours are mostly of one lane.
            if !is_of(&self.all[at], &one.job) {
                let Some(lane) = self.all.iter().position(|lane| is_of(lane, &one.job)) else { continue };
                at = lane;
            }
            of(&mut self.all[at].after, one.place);
        }
    }

    /// A sweep came to nothing.
    pub(super) fn sweep_failed(&mut self) {
        self.swept(SWEEP_CALLED);
    }

    fn swept(&mut self, next_in: Duration) {
        self.sweeping = false;
        self.last_sweep = Instant::now();
        self.next_sweep = self.last_sweep + next_in;
    }

    /// Jobs may have come back before the cursors.
    pub(super) fn sweep_next(&mut self) {
        self.called = true;
        self.next_sweep = self.next_sweep.min(self.last_sweep + SWEEP_CALLED);
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

    fn look(asked: usize, sweep: bool) -> Look {
        Look { asked, sweep, age: 0, at: None }
    }

    fn after(lanes: &Lanes, queue: &str, priority: i16) -> (Moment, i64) {
        lanes.all.iter().find(|l| &*l.queue == queue && l.priority == priority).expect("a lane").after
    }

    #[test]
    fn a_cursor_moves_behind_what_was_taken_and_not_back_for_little() {
        let mut lanes = Lanes::new(&["a".to_owned(), "b".to_owned()]);
        lanes.claimed(&[claimed("a", 5, (10, 1)), claimed("a", 5, (9, 7))], look(2, true), Duration::ZERO, 1);
        lanes.claimed(&[claimed("a", 5, (3, 3))], look(2, true), Duration::ZERO, 1);
        assert_eq!(after(&lanes, "a", 5), (Moment(10), 1));
        assert_eq!(after(&lanes, "a", 4), START);
        assert_eq!(after(&lanes, "b", 5), START);
    }

    #[test]
    fn a_claim_after_a_full_one_begins_at_the_cursor_and_after_a_short_one_a_little_before() {
        let mut lanes = Lanes::new(&["a".to_owned()]);
        assert!(lanes.next().1, "the first look is at everything");
        assert!(!lanes.next().1, "and the one beside it is not");
        let place = (NEAR.as_micros() as i64 + 10, 7);
        lanes.claimed(&[claimed("a", 5, place)], look(1, true), Duration::from_secs(9), 1);
        let began = |lanes: &mut Lanes| {
            let (some, sweep) = lanes.next();
            assert!(!sweep, "the last one took long");
            some.iter().find(|lane| lane.priority == 5).expect("a lane").after
        };
        assert_eq!(began(&mut lanes), (Moment(place.0), 7));
        lanes.claimed(&[], look(1, false), Duration::ZERO, 1);
        assert_eq!(began(&mut lanes), (Moment(10), 0));
        assert_eq!(lanes.next().0[0].after, START, "a lane from which nothing was taken");
        lanes.sweep_next();
        assert!(lanes.next_sweep <= lanes.last_sweep + SWEEP_CALLED, "not in five seconds only");
    }

    #[test]
    fn jobs_that_come_back_during_a_sweep_are_swept_for_once_more_when_it_is_over() {
        let mut lanes = Lanes::new(&["a".to_owned()]);
        assert!(lanes.next().1);
        lanes.sweep_next();
        assert!(!lanes.next().1, "one sweep at a time");
        lanes.claimed(&[], look(1, true), Duration::from_secs(9), 1);
        assert!(lanes.next_sweep <= lanes.last_sweep + SWEEP_CALLED, "not in ten seconds only");
        lanes.next_sweep = Instant::now();
        assert!(lanes.next().1);
        lanes.sweep_failed();
        assert!(lanes.next_sweep <= lanes.last_sweep + SWEEP_CALLED && !lanes.sweeping);
    }

    #[test]
    fn a_look_that_has_seen_all_that_was_due_is_not_made_again_from_the_start() {
        let mut lanes = Lanes::new(&["a".to_owned()]);
        assert!(lanes.next().1);
        let now = Moment(10 * NEAR.as_micros() as i64);
        let looked = Look { at: Some(now), ..look(5, true) };
        lanes.claimed(&[claimed("a", 5, (3, 3))], looked, Duration::from_secs(9), 1);
        let (next, sweep) = lanes.next();
        assert!(!sweep && next.iter().all(|lane| lane.after == (now.before(NEAR), 0)));
        let full = Look { at: Some(now.after(NEAR)), ..look(1, false) };
        lanes.claimed(&[claimed("a", 5, (4, 4))], full, Duration::ZERO, 1);
        assert_eq!(after(&lanes, "a", 5), (now.before(NEAR), 0), "there is more");
    }

    #[test]
    fn a_sweep_that_finds_as_much_as_it_may_take_sends_the_cursors_back_to_that() {
        let mut lanes = Lanes::new(&["a".to_owned(), "b".to_owned()]);
        let jobs = [claimed("a", 5, (100, 1)), claimed("b", 5, (100, 2))];
        lanes.claimed(&jobs, look(3, false), Duration::ZERO, 1);
        lanes.claimed(
            &[claimed("a", 5, (30, 1)), claimed("a", 5, (20, 2))],
            look(2, true),
            Duration::ZERO,
            1,
        );
        assert_eq!(after(&lanes, "a", 5), (Moment(30), 1));
        assert_eq!(after(&lanes, "b", 5), (Moment(100), 2), "nothing was found before it");
        // A claim that was under way meanwhile began behind it.
        lanes.claimed(&[claimed("a", 5, (110, 1))], look(1, false), Duration::ZERO, 1);
        assert_eq!(after(&lanes, "a", 5), (Moment(30), 1));
        let later = Look { age: lanes.age(), ..look(1, false) };
        lanes.claimed(&[claimed("a", 5, (40, 1))], later, Duration::ZERO, 1);
        assert_eq!(after(&lanes, "a", 5), (Moment(40), 1));
    }

    #[test]
    fn each_claim_begins_with_another_queue() {
        let mut lanes = Lanes::new(&["a".to_owned(), "b".to_owned()]);
        let first = lanes.next().0[0].queue.clone();
        assert_ne!(lanes.next().0[0].queue, first);
    }
}
