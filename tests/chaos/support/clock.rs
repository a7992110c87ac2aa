//! One clock for all processes of the machine, which nobody sets.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`: the same in every process of this machine.
pub(crate) fn now() -> i64 {
    read(ClockId::Monotonic)
}

/// Add it to a moment of the wall clock (nanoseconds since 1970) to place it on [`now`]'s scale.
pub(crate) fn from_wall() -> i64 {
    // The smallest of a few: a task switch between the two readings only ever makes it larger.
    (0..5).map(|_| now() - read(ClockId::Realtime)).max().expect("five readings")
}

fn read(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Milliseconds between two moments.
pub(crate) fn ms(from: i64, to: i64) -> f64 {
    (to - from) as f64 / 1e6
}

/// As nanoseconds.
pub(crate) fn nanos(time: Duration) -> i64 {
    time.as_nanos() as i64
}
