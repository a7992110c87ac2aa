//! Keeps a seat taken: starts a child, and another one when it has ended, with a pause where starting does not help.

use std::sync::Arc;
use std::time::Duration;

use super::super::child::Group;
use super::Launch;
use super::child::{self, Life};
use super::pool::Pool;

/// The pause after the first child that ended without an answer; each further one doubles it.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause while children do not even start: whatever is wrong is for a person to mend.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest pause after children that ended with a job in hand: it may be the jobs.
const PAUSE_MAX_IN_HAND: Duration = Duration::from_secs(1);

/// How many children in a row ended without an answer.
#[derive(Default)]
struct Restarts {
    in_vain: u32,
}

/// Keeps the seat taken until the pool closes.
pub(super) async fn keep(pool: Arc<Pool>, seat: usize, launch: Arc<Launch>) {
    let mut restarts = Restarts::default();
    while !pool.closing.is_cancelled() {
        let life = match Group::spawn(launch.command(seat + 1), None) {
            Ok(group) => child::live(&pool, seat, &launch, group).await,
            Err(fault) => Life::not_begun(launch.command.not_started(&fault)),
        };
        if pool.closing.is_cancelled() {
            return;
        }
        let pause = restarts.pause_after(&life, fastrand::f64());
        if let Some(fault) = &life.fault {
            tracing::error!(
                handler.kind = launch.kind,
                process.number = seat + 1,
                jobs_failed = life.in_hand,
                next_start_ms = pause.as_millis() as u64,
                "{fault}"
            );
        }
        if !pause.is_zero() {
            pool.doubt();
            let fault = life.fault.as_deref().unwrap_or("it ended");
            pool.give_back_waiting(pause, &format!("waits for a child process: {fault}"));
            let _ = tokio::time::timeout(pause, pool.closing.cancelled()).await;
        }
    }
}

impl Restarts {
    /// How long to wait before the next start; `random` is 0 to 1.
    fn pause_after(&mut self, life: &Life, random: f64) -> Duration {
        if life.asked {
            return Duration::ZERO;
        }
        if life.answers > 0 {
            self.in_vain = 0;
            return Duration::ZERO;
        }
        let longest = if life.in_hand > 0 { PAUSE_MAX_IN_HAND } else { PAUSE_MAX };
        let pause = PAUSE_MIN.saturating_mul(1 << self.in_vain.min(16)).min(longest);
        self.in_vain += 1;
        pause.mul_f64(0.5 + random / 2.0)
    }
}

impl Life {
    fn not_begun(fault: String) -> Self {
        Self { answers: 0, in_hand: 0, asked: false, fault: Some(fault) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(answers: u64, in_hand: usize) -> Life {
        Life { answers, in_hand, asked: false, fault: None }
    }

    #[test]
    fn children_that_do_not_start_are_tried_less_and_less_often() {
        let mut restarts = Restarts::default();
        let pauses: Vec<_> = (0..12).map(|_| restarts.pause_after(&life(0, 0), 1.0).as_millis()).collect();
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[11], 30_000);
        assert_eq!(
            restarts.pause_after(&life(1, 0), 1.0),
            Duration::ZERO,
            "one that worked is replaced at once"
        );
        assert_eq!(restarts.pause_after(&life(0, 0), 0.0).as_millis(), 50);
    }

    #[test]
    fn jobs_that_end_their_child_hold_up_the_others_for_a_second_at_most() {
        let mut restarts = Restarts::default();
        let pauses = (0..40).map(|_| restarts.pause_after(&life(0, 1), 1.0).as_millis());
        assert_eq!(pauses.max(), Some(1000));
        let asked = Life { asked: true, ..life(0, 1) };
        assert_eq!(restarts.pause_after(&asked, 1.0), Duration::ZERO);
    }
}
