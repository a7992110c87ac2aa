//! When a worker looks again that finds nothing, and when it asks to be woken.

use std::time::{Duration, Instant};

/// The first pause after a look that found nothing; each further one doubles.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// So often in a row a worker may be woken for nothing before it becomes patient; in a large crew as often as it has
/// workers, for of so many jobs that come one by one each may have one.
const MISSES_FREE: u32 = 4;
/// How often all workers together look for nothing, at most, while they are woken for jobs that none of them has; and
/// the part of the time, one in so many, that these looks take at most.
const VAIN_LOOK_EVERY: Duration = Duration::from_millis(25);
const VAIN_LOOK_SHARE: u32 = 20;
/// How fast what a look is thought to take may rise: by a quarter and so much each time. It falls at once, for it is the
/// server's work that counts, not how long that waited.
const LOOK_RISES: Duration = Duration::from_micros(100);

/// The pauses of a worker that finds nothing.
pub(super) struct Idle {
    longest: Duration,
    pause: Option<Duration>,
    /// When the bell was set.
    armed_at: Option<Instant>,
    /// Until then it does not look: it has been woken for nothing too often.
    rests_until: Option<Instant>,
    /// Times that it was woken for nothing, soon after its last look, since it found something.
    misses: u32,
    /// What a look for nothing takes.
    look_takes: Duration,
}

impl Idle {
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            longest,
            pause: None,
            armed_at: None,
            rests_until: None,
            misses: 0,
            look_takes: Duration::ZERO,
        }
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
    /// A worker that is woken again and again for jobs of others looks not at once but some time after its last look.
    /// It sets the bell only after a time without one: while others do, it hears that jobs come in anyway.
    ///
    /// `crew`: workers there are.
    pub(super) fn woken(&mut self, crew: u32) -> (Duration, bool) {
        if let Some(left) = self.rest() {
            self.armed_at = None;
            return (left, false);
        }
        let since = match self.armed_at {
            Some(at) => at.elapsed(),
            // It has found something since, and looks again when it has room.
            None if !self.is_patient(crew) => return (Duration::ZERO, false),
            None => Duration::ZERO,
        };
        self.called();
        let patience = self.patience(crew);
        if since >= patience {
            return (Duration::ZERO, false);
        }
        self.misses = self.misses.saturating_add(1);
        if self.is_patient(crew) { self.rest_for(patience, since) } else { (Duration::ZERO, false) }
    }

    /// A look, which took so long, found nothing. Answers how long to wait before the next one, and whether that sets the
    /// bell.
    pub(super) fn nothing(&mut self, crew: u32, took: Duration) -> (Duration, bool) {
        self.look_takes = took.min(self.look_takes * 5 / 4 + LOOK_RISES);
        if let Some(left) = self.rest() {
            return (left, self.armed_at.is_some());
        }
        if self.armed_at.is_none() {
            let patience = if self.is_patient(crew) { self.patience(crew) } else { Duration::ZERO };
            return self.rest_for(patience, Duration::ZERO);
        }
        let next = self.pause.map_or(PAUSE_MIN, |pause| pause * 2).min(self.longest);
        self.pause = Some(next);
        (next, false)
    }

    fn is_patient(&self, crew: u32) -> bool {
        self.misses > crew.max(MISSES_FREE)
    }

    /// Begins a rest, of which some has passed.
    fn rest_for(&mut self, patience: Duration, since: Duration) -> (Duration, bool) {
        // Between nothing and twice as long: many hear the same bell, and some of them should look soon.
        let time = (2 * patience).mul_f64(fastrand::f64()).min(self.longest).saturating_sub(since);
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

    /// How long it waits in the mean between two looks while it is woken for nothing: the longer the more workers there
    /// are, for each bell wakes all of them, and the longer a look takes.
    fn patience(&self, crew: u32) -> Duration {
        (VAIN_LOOK_EVERY.max(self.look_takes * VAIN_LOOK_SHARE) * crew.max(1)).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of these, with looks that take no time.
    const CREW: u32 = 20;
    const PATIENCE: Duration = Duration::from_millis(500);

    fn idle() -> Idle {
        Idle::new(Duration::from_secs(1))
    }

    fn nothing(idle: &mut Idle) -> (Duration, bool) {
        idle.nothing(CREW, Duration::ZERO)
    }

    fn rest_after_a_bell(idle: &mut Idle) -> Duration {
        idle.called();
        idle.armed_at = Some(Instant::now());
        let (rest, arm) = idle.woken(CREW);
        assert!(arm);
        rest
    }

    #[test]
    fn an_idle_worker_sets_the_bell_looks_once_more_and_then_pauses_longer_and_longer() {
        let mut idle = idle();
        assert_eq!(nothing(&mut idle), (Duration::ZERO, true));
        let pauses: Vec<_> =
            (0..10).map(|_| nothing(&mut idle)).map(|(pause, armed)| (pause.as_millis(), armed)).collect();
        assert_eq!(pauses[..3], [(5, false), (10, false), (20, false)]);
        assert_eq!(pauses[9], (1000, false));
    }

    #[test]
    fn workers_that_are_woken_for_nothing_look_the_less_often_the_more_they_are_and_the_longer_it_takes() {
        let mut idle = idle();
        let each = |idle: &Idle| [0, 1, 32, 1_000].map(|crew| idle.patience(crew).as_millis());
        assert_eq!(each(&idle), [25, 25, 800, 1_000]);
        for _ in 0..3 {
            idle.nothing(1, Duration::from_secs(1));
        }
        assert_eq!(each(&idle)[1], 25, "a look that waited says little");
        for _ in 0..20 {
            idle.nothing(1, Duration::from_millis(2));
        }
        assert_eq!(each(&idle), [40, 40, 1_000, 1_000]);
        idle.nothing(1, Duration::from_micros(500));
        assert_eq!(each(&idle), [25, 25, 800, 1_000]);
    }

    #[test]
    fn a_worker_woken_for_the_jobs_of_others_looks_at_once_as_often_only_as_its_crew_is_large() {
        let mut idle = idle();
        for _ in 0..=CREW {
            assert_eq!(idle.woken(CREW), (Duration::ZERO, false));
            assert_eq!(nothing(&mut idle), (Duration::ZERO, true));
        }
        let rests: Vec<_> = (0..1_000).map(|_| rest_after_a_bell(&mut idle)).collect();
        let mean = rests.iter().sum::<Duration>() / 1_000;
        assert!(mean > PATIENCE * 3 / 4 && mean < PATIENCE * 5 / 4, "{mean:?}");
        assert!(rests.iter().any(|rest| *rest < PATIENCE / 10), "of many that hear a bell some look soon");
        let longest = rests.iter().max().expect("rests");
        assert!(*longest <= Duration::from_secs(1), "{longest:?} is longer than the poll interval");
        idle.found();
        assert_eq!(idle.woken(CREW), (Duration::ZERO, false));
    }

    #[test]
    fn a_worker_that_rests_does_not_look_for_bells_nor_set_one_when_others_do() {
        let mut idle = idle();
        idle.misses = 100;
        while rest_after_a_bell(&mut idle) < PATIENCE / 2 {}
        assert!(nothing(&mut idle).1, "an answer on its way changes nothing");
        let (left, arm) = idle.woken(CREW);
        assert!(!arm && left > PATIENCE / 4);
        assert!(!nothing(&mut idle).1);
        idle.rests_until = Some(Instant::now());
        assert!(nothing(&mut idle).1, "it rests again, and listens");
    }

    #[test]
    fn bells_during_the_work_of_a_busy_worker_do_not_make_it_rest() {
        let mut idle = idle();
        nothing(&mut idle);
        idle.found();
        for _ in 0..100 {
            assert_eq!(idle.woken(CREW), (Duration::ZERO, false));
        }
        assert_eq!(nothing(&mut idle), (Duration::ZERO, true));
    }

    #[test]
    fn a_worker_that_is_woken_for_nothing_now_and_then_looks_at_once() {
        let mut idle = idle();
        for _ in 0..100 {
            idle.armed_at = Instant::now().checked_sub(PATIENCE);
            assert_eq!(idle.woken(CREW), (Duration::ZERO, false));
            assert_eq!(nothing(&mut idle), (Duration::ZERO, true), "and sets the bell at once");
        }
    }
}
