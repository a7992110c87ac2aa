//! One run of one scenario: its seed, its size, and the figures it came to.

use std::fmt::Display;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What a scenario draws its schedule from and reports to.
pub(crate) struct Run {
    pub id: &'static str,
    pub seed: u64,
    pub long: bool,
    began: Instant,
    missed: Mutex<Vec<String>>,
}

impl Run {
    /// Prints the seed. The whole schedule is a function of it: `ROWCREW_CHAOS_SEED=n` runs it again.
    pub(crate) fn begin(id: &'static str) -> Self {
        let long = std::env::var("ROWCREW_CHAOS").is_ok_and(|form| form == "long");
        let given =
            std::env::var("ROWCREW_CHAOS_SEED").ok().map(|text| text.parse().expect("a whole number"));
        // `cargo test` shall not fail today and pass tomorrow: without a word, the short form has one seed.
        let seed = given.unwrap_or_else(|| if long { fastrand::u64(..1_000_000) } else { 1 });
        println!("{id}: ROWCREW_CHAOS_SEED={seed}{}", if long { " ROWCREW_CHAOS=long" } else { "" });
        Self { id, seed, long, began: Instant::now(), missed: Mutex::default() }
    }

    /// For a scenario that takes too long for `cargo test`: `ROWCREW_CHAOS=all` runs it in its short form,
    /// `ROWCREW_CHAOS=long` in its long one.
    pub(crate) fn begin_if_asked(id: &'static str) -> Option<Self> {
        if std::env::var("ROWCREW_CHAOS").is_ok_and(|form| form == "all" || form == "long") {
            return Some(Self::begin(id));
        }
        println!("{id}: not in the short form; ROWCREW_CHAOS=all or =long runs it");
        None
    }

    /// Random numbers for one use; uses with different names do not share them.
    pub(crate) fn rng(&self, name: &str) -> fastrand::Rng {
        let mixed = name.bytes().fold(self.seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
        });
        fastrand::Rng::with_seed(mixed)
    }

    /// One of two sizes.
    pub(crate) fn size<T>(&self, short: T, long: T) -> T {
        if self.long { long } else { short }
    }

    /// Reports something that has no limit.
    pub(crate) fn note(&self, what: &str, measured: impl Display) {
        println!("{} [{:>6.1} s] {what}: {measured}", self.id, self.began.elapsed().as_secs_f64());
    }

    /// Reports a figure beside its limit. The long form fails when it misses; the short form, which runs among
    /// all other tests, does not judge times and rates.
    pub(crate) fn figure(&self, what: &str, measured: impl Display, holds: bool, limit: &str) {
        let verdict = if holds { "holds" } else { "MISSED" };
        self.note(what, format!("{measured} ({limit}): {verdict}"));
        if !holds {
            self.missed.lock().expect("no panic").push(format!("{what}: {measured}, not {limit}"));
        }
    }

    /// The end: figures missed in the long form are failures.
    pub(crate) fn end(self) {
        let missed = self.missed.into_inner().expect("no panic");
        assert!(
            !self.long || missed.is_empty(),
            "{} with seed {}: {}",
            self.id,
            self.seed,
            missed.join("; ")
        );
    }
}

/// One blow of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blow {
    /// After the blow before it.
    pub after: Duration,
    /// Whom it strikes.
    pub victim: usize,
    /// How long until it is over.
    pub lasts: Duration,
}

/// So many blows against so many victims, their times drawn from ranges in milliseconds.
pub(crate) fn blows(
    rng: &mut fastrand::Rng,
    count: usize,
    victims: usize,
    after_ms: std::ops::Range<u64>,
    lasts_ms: std::ops::Range<u64>,
) -> Vec<Blow> {
    let mut blow = || Blow {
        after: Duration::from_millis(rng.u64(after_ms.clone())),
        victim: rng.usize(..victims),
        lasts: Duration::from_millis(rng.u64(lasts_ms.clone())),
    };
    (0..count).map(|_| blow()).collect()
}

/// The value that so many percent do not exceed; `NaN` of none.
pub(crate) fn percentile(values: &mut [f64], percent: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get(((last as f64) * percent / 100.0).ceil() as usize).copied().unwrap_or(f64::NAN)
}

#[test]
fn a_schedule_is_a_function_of_its_seed() {
    let run = |seed| Run { seed, ..Run::begin("seed") };
    let schedule = |seed| blows(&mut run(seed).rng("kills"), 50, 4, 100..1000, 500..2000);
    assert_eq!(schedule(7), schedule(7));
    assert_ne!(schedule(7), schedule(8));
    assert_ne!(run(7).rng("kills").u64(..), run(7).rng("load").u64(..));
}
