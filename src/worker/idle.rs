//! When a worker looks again that finds nothing, and when it asks to be woken.

use std::time::{Duration, Instant};

/// The first pause after a look that found nothing; each further one doubles.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// So often in a row a worker may be woken for nothing before it becomes patient.
const MISSES_FREE: u32 = 4;
/// How often all workers together look for nothing, at most, while they are woken for jobs that none of them has; and
/// the part of the time, one in so many, that these looks take at most.
const VAIN_LOOK_EVERY: Duration = Duration::from_millis(25);
const VAIN_LOOK_SHARE: u32 = 20;

/// The pauses of a worker that finds nothing.
pub(super) struct Idle {
    longest: Duration,
    pause: Option<Duration>,
    /// When the bell was set.
    armed_at: Option<Instant>,
    /// Until then it does not look: it has been woken for nothing too often.
    rests_until: Option<Instant>,
    /// Times in a row that it was woken for nothing.
    misses: u32,
}

impl Idle {
    pub(super) fn new(longest: Duration) -> Self {
        Self { longest, pause: None, armed_at: None, rests_until: None, misses: 0 }
    }

    /// Something was found: look again at once.
    pub(super) fn found(&mut self) {
        self.called();
        self.misses = 0;
    }

    /// Jobs are back, or may be: look at once.
    pub(super) fn called(&mut self) {
        self.pause = None;
        self.armed_at = None;
        self.rests_until = None;
    }

    /// Somebody rang. Answers how long to wait before the next look, and whether that sets the bell.
    ///
    /// A worker that is woken again and again for jobs of others looks not at once but `patience` after its last look.
    /// It sets the bell only after a time without one: while others do, it hears that jobs come in anyway.
    pub(super) fn woken(&mut self, patience: Duration) -> (Duration, bool) {
        if let Some(left) = self.rest() {
            self.armed_at = None;
            return (left, false);
        }
        let patience = patience.min(self.longest);
        let since = match self.armed_at {
            Some(at) => at.elapsed(),
            // It has found something since, and looks again when it has room.
            None if !self.is_patient() => return (Duration::ZERO, false),
            None => Duration::ZERO,
        };
        self.called();
        let Some(left) = patience.checked_sub(since) else {
            self.misses = 0;
            return (Duration::ZERO, false);
        };
        self.misses += 1;
        if self.is_patient() { self.rest_for(left) } else { (Duration::ZERO, false) }
    }

    /// Nothing was found. Answers how long to wait before the next look, and whether that sets the bell.
    pub(super) fn nothing(&mut self, patience: Duration) -> (Duration, bool) {
        if let Some(left) = self.rest() {
            return (left, self.armed_at.is_some());
        }
        let patience = if self.is_patient() { patience.min(self.longest) } else { Duration::ZERO };
        if self.armed_at.is_none() {
            return self.rest_for(patience);
        }
        let next = self.pause.map_or(PAUSE_MIN, |pause| pause * 2).min(self.longest);
        self.pause = Some(next);
        (next, false)
    }

    fn is_patient(&self) -> bool {
        self.misses > MISSES_FREE
    }

    fn rest_for(&mut self, time: Duration) -> (Duration, bool) {
        // In step all would look at the same moment.
        let time = time.mul_f64(1.0 - fastrand::f64() / 4.0);
        let until = Instant::now() + time;
        self.rests_until = Some(until);
        self.armed_at = Some(until);
        (time, true)
    }

    /// What is left of the rest.
    fn rest(&self) -> Option<Duration> {
        let left = self.rests_until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

/// How long a worker waits between two looks while it is woken for nothing: the longer the more workers there are, for
/// each bell wakes all of them, and the longer a look takes.
pub(super) fn patience(crew: u32, look_takes: Duration) -> Duration {
    VAIN_LOOK_EVERY.max(look_takes * VAIN_LOOK_SHARE) * crew.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(500);

    #[test]
    fn an_idle_worker_sets_the_bell_looks_once_more_and_then_pauses_longer_and_longer() {
        let mut idle = Idle::new(Duration::from_secs(1));
        assert_eq!(idle.nothing(PATIENCE), (Duration::ZERO, true));
        let pauses: Vec<_> = (0..10)
            .map(|_| idle.nothing(PATIENCE))
            .map(|(pause, armed)| (pause.as_millis(), armed))
            .collect();
        assert_eq!(pauses[..3], [(5, false), (10, false), (20, false)]);
        assert_eq!(pauses[9], (1000, false));
    }

    #[test]
    fn workers_that_are_woken_for_nothing_look_the_less_often_the_more_they_are_and_the_longer_it_takes() {
        let each = |crew, look_ms| patience(crew, Duration::from_millis(look_ms)).as_millis();
        assert_eq!([each(0, 0), each(1, 0), each(32, 0), each(4, 5)], [25, 25, 800, 4 * 20 * 5]);
    }

    #[test]
    fn a_worker_woken_for_the_jobs_of_others_looks_at_once_for_the_first_times_only() {
        let mut idle = Idle::new(Duration::from_secs(1));
        for _ in 0..=MISSES_FREE {
            assert_eq!(idle.woken(PATIENCE), (Duration::ZERO, false));
            assert_eq!(idle.nothing(PATIENCE), (Duration::ZERO, true));
        }
        let (rest, arm) = idle.woken(PATIENCE);
        assert!(arm && rest <= PATIENCE && rest > PATIENCE / 2, "{rest:?}");
        assert!(idle.nothing(PATIENCE).1, "an answer on its way changes nothing");
        let (left, arm) = idle.woken(PATIENCE);
        assert!(!arm && left <= rest && left > rest / 2, "a bell in between: it need not set one");
        assert!(!idle.nothing(PATIENCE).1);
        idle.rests_until = Some(Instant::now());
        let (rest, arm) = idle.nothing(Duration::from_secs(9));
        assert!(arm && rest <= Duration::from_secs(1), "it rests again, and listens");
        idle.found();
        assert_eq!(idle.woken(PATIENCE), (Duration::ZERO, false));
    }

    #[test]
    fn bells_during_the_work_of_a_busy_worker_do_not_make_it_rest() {
        let mut idle = Idle::new(Duration::from_secs(1));
        idle.nothing(PATIENCE);
        idle.found();
        for _ in 0..100 {
            assert_eq!(idle.woken(PATIENCE), (Duration::ZERO, false));
        }
        assert_eq!(idle.nothing(PATIENCE), (Duration::ZERO, true));
    }

    #[test]
    fn a_worker_that_is_woken_for_nothing_now_and_then_looks_at_once() {
        let mut idle = Idle::new(Duration::from_secs(1));
        for _ in 0..100 {
            idle.armed_at = Instant::now().checked_sub(PATIENCE);
            assert_eq!(idle.woken(PATIENCE), (Duration::ZERO, false));
            assert_eq!(idle.nothing(PATIENCE), (Duration::ZERO, true), "and sets the bell at once");
        }
    }
}
