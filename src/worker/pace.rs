//! How many jobs to hold in advance, and whether claims take turns.

use std::time::{Duration, Instant};

use crate::store::Claimed;

/// Jobs held in advance are those that will begin within this time, or within that of so many claims where these
/// take long: enough to bridge a claim, and not so many that a neighbour with free hands is kept waiting.
const AHEAD: Duration = Duration::from_millis(100);
const AHEAD_CLAIMS: u32 = 2;
/// However long claims take.
const AHEAD_TIME_MAX: Duration = Duration::from_millis(500);
/// The most jobs held in advance, however short they are.
const AHEAD_MAX: usize = 4_000;
/// The most bytes of payloads held in advance, by what the last claims brought; one claim brings no more either.
const AHEAD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Over how long the rate of starts is measured.
const WINDOW: Duration = Duration::from_millis(50);
/// After a turn that did not come, claims are made out of turn for so long.
const NO_TURNS: Duration = Duration::from_secs(5);

/// Measures how fast jobs begin because others have ended.
pub(super) struct Pace {
    window_began: Instant,
    starts: usize,
    /// How many ran when the window began.
    running: usize,
    per_second: f64,
    /// How long a claim takes now, the wait for its turn included.
    claim_takes: Duration,
    /// Bytes of a payload, in the mean.
    payload_bytes: usize,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            window_began: Instant::now(),
            starts: 0,
            running: 0,
            per_second: 0.0,
            claim_takes: Duration::ZERO,
            payload_bytes: 0,
        }
    }

    pub(super) fn started(&mut self) {
        self.starts += 1;
    }

    /// Notes how long a claim took, and what it brought.
    pub(super) fn claimed(&mut self, took: Duration, jobs: &[Claimed]) {
        self.claim_takes = (self.claim_takes + took) / 2;
        if !jobs.is_empty() {
            let bytes = jobs.iter().map(|one| one.job.payload.len()).sum::<usize>() / jobs.len();
            // Fast to rise, slow to fall: a few small ones prove nothing.
            self.payload_bytes = bytes.max((self.payload_bytes * 7 + bytes) / 8);
        }
    }

    /// The most jobs whose payloads are worth holding, or bringing in one claim.
    pub(super) fn fit(&self) -> usize {
        (AHEAD_BYTES_MAX / self.payload_bytes.max(1)).max(1)
    }

    /// How many jobs beyond the free slots are worth holding now, while so many run.
    pub(super) fn ahead(&mut self, running: usize) -> usize {
        let passed = self.window_began.elapsed();
        if passed >= WINDOW {
            // Those that only fill free slots say nothing of what comes after them: many long ones at once would have
            // as many held that begin when these end, while neighbours are idle.
            let ended = (self.running + self.starts).saturating_sub(running);
            let rate = ended as f64 / passed.as_secs_f64();
            self.running = running;
            // Half the old rate: fast to rise, and gone within a second of quiet.
            self.per_second = f64::midpoint(self.per_second, rate);
            self.starts = 0;
            self.window_began = Instant::now();
        }
        let time = (self.claim_takes * AHEAD_CLAIMS).clamp(AHEAD, AHEAD_TIME_MAX);
        ((self.per_second * time.as_secs_f64()) as usize).min(AHEAD_MAX).min(self.fit())
    }
}

/// Whether claims take turns with those of other workers.
///
/// While there is more to do than the crew can take, claims that run beside each other only get in each other's
/// way: each walks over what the others have just taken, and while it does, they take more.
#[derive(Default)]
pub(super) struct Turns {
    /// The last claim came back full: there is more.
    backlog: bool,
    none_until: Option<Instant>,
}

impl Turns {
    /// Whether the next claim waits for its turn.
    pub(super) fn taken(&self, crew: u32) -> bool {
        self.backlog && crew > 1 && self.none_until.is_none_or(|until| Instant::now() >= until)
    }

    pub(super) fn claimed(&mut self, full: bool) {
        self.backlog = full;
    }

    /// Somebody was stopped in the middle of a turn.
    pub(super) fn waited_in_vain(&mut self) {
        self.none_until = Some(Instant::now() + NO_TURNS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_take_turns_while_there_is_a_backlog_and_others_to_share_it_with() {
        let mut turns = Turns::default();
        assert!(!turns.taken(32));
        turns.claimed(true);
        assert!(turns.taken(2));
        assert!(!turns.taken(1));
        turns.waited_in_vain();
        assert!(!turns.taken(2), "who holds a turn for ever stops nobody");
        turns.claimed(false);
        assert!(!turns.taken(32));
    }

    #[test]
    fn large_payloads_are_held_in_small_numbers() {
        let claimed = |bytes: usize| {
            let mut job = crate::worker::verdict::testing::job(1, 0);
            job.payload = "x".repeat(bytes).into();
            [Claimed { job: job.into(), place: (crate::store::Moment(0), 1) }]
        };
        let mut pace = Pace::new();
        pace.per_second = 100_000.0;
        assert_eq!(pace.ahead(0), AHEAD_MAX);
        pace.claimed(Duration::ZERO, &claimed(1024 * 1024));
        assert_eq!((pace.fit(), pace.ahead(0)), (16, 16));
        pace.claimed(Duration::ZERO, &claimed(10));
        assert!(pace.fit() < 20, "one small one proves nothing");
        pace.claimed(Duration::ZERO, &claimed(64 * 1024 * 1024));
        assert_eq!(pace.fit(), 1);
    }

    #[test]
    fn more_is_held_in_advance_where_claims_take_long() {
        let held = |took| {
            let mut pace = Pace::new();
            pace.per_second = 1_000.0;
            (0..20).for_each(|_| pace.claimed(took, &[]));
            pace.ahead(0)
        };
        assert_eq!(held(Duration::from_millis(1)), 100);
        assert!((395..=400).contains(&held(Duration::from_millis(200))));
        assert_eq!(held(Duration::from_secs(9)), 500);
    }

    #[test]
    fn many_long_jobs_that_begin_at_once_have_none_held_that_would_wait_for_their_end() {
        let mut pace = Pace::new();
        for _ in 0..100 {
            pace.started();
        }
        pace.window_began -= WINDOW;
        assert_eq!(pace.ahead(100), 0, "they fill free slots");
        for _ in 0..100 {
            pace.started();
        }
        pace.window_began -= WINDOW;
        assert!(pace.ahead(100) > 50, "as many have ended");
    }
}
