//! Whether the database answers, for one line in the log each time that changes.
//!
//! A server that restarts fails some statements, answers others, and closes connections one by one, and each part of a
//! worker meets it at its own time. All of them tell it here: the first failure is a line, and so is the end, when all
//! that failed has worked since and nothing has failed for a while. What lies between is for the level debug.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Shared;
use crate::store::Error;

/// So long nothing may fail before the database is said to answer again. Shorter tells of every step of a restart.
const CALM: Duration = Duration::from_secs(3);
/// What failed and was not tried again for so long holds up the news no more: a full worker claims nothing for hours.
const UNTRIED: Duration = Duration::from_mins(1);

/// The ways to the database that may fail each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DatabaseWay {
    Beat = 1,
    Claim = 2,
    Finish = 4,
}

/// What is wrong, the worse the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// No answer, or none that helps: it will pass.
    Away,
    /// Somebody must mend it: a password, a right, a table that is gone.
    Refuses,
}

/// Which of a worker's ways to the database fail.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// The only thing that is looked at while all is well.
    any: AtomicBool,
    state: Mutex<Option<State>>,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    /// Ways that have not worked since they failed.
    failing: u8,
    began_at: Instant,
    failed_at: Instant,
    /// When something worked for the first time since.
    works_since: Option<Instant>,
    /// Since when the server has no connection left for claims and endings.
    crowded_since: Option<Instant>,
}

impl Trouble {
    /// Whether there is some, as far as is known.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// For how long the server has had no connection left for claims and endings.
    pub(super) fn crowded_for(&self, now: Instant) -> Option<Duration> {
        if !self.any() {
            return None;
        }
        let since = self.lock().as_ref()?.crowded_since?;
        Some(now.saturating_duration_since(since))
    }

    /// Notes that there was none.
    fn crowded(&self, now: Instant) {
        if let Some(state) = &mut *self.lock() {
            state.crowded_since.get_or_insert(now);
        }
    }

    /// Forgets that there was none: it is tried again.
    pub(super) fn no_longer_crowded(&self) {
        if let Some(state) = &mut *self.lock() {
            state.crowded_since = None;
        }
    }

    /// Notes a failure; answers whether it is news.
    fn failed(&self, way: DatabaseWay, fault: Fault, now: Instant) -> bool {
        let mut place = self.lock();
        self.any.store(true, Ordering::Relaxed);
        let news = place.as_ref().is_none_or(|state| fault > state.fault);
        let state = place.get_or_insert(State {
            fault,
            failing: 0,
            began_at: now,
            failed_at: now,
            works_since: None,
            crowded_since: None,
        });
        state.fault = state.fault.max(fault);
        state.failing |= way as u8;
        state.failed_at = now;
        state.works_since = None;
        news
    }

    /// Notes that a way works; answers how long the trouble lasted when that is the end of it.
    fn works(&self, way: DatabaseWay, now: Instant) -> Option<Duration> {
        if !self.any() {
            return None;
        }
        let mut place = self.lock();
        let state = place.as_mut()?;
        state.failing &= !(way as u8);
        state.crowded_since.take_if(|_| way != DatabaseWay::Beat);
        let works_since = *state.works_since.get_or_insert(now);
        let calm = now.saturating_duration_since(state.failed_at);
        if calm < CALM || (state.failing != 0 && calm < UNTRIED) {
            return None;
        }
        let lasted = works_since.saturating_duration_since(state.began_at);
        *place = None;
        self.any.store(false, Ordering::Relaxed);
        Some(lasted)
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Logs once that the database fails, until all of it works again.
    pub(super) fn database_failed(&self, way: DatabaseWay, error: &Error) {
        let fault = if error.is_transient() { Fault::Away } else { Fault::Refuses };
        let now = Instant::now();
        let news = self.trouble.failed(way, fault, now);
        if error.is_crowded() && way != DatabaseWay::Beat {
            self.trouble.crowded(now);
        }
        if !news {
            tracing::debug!(?way, %error, "the database still fails");
        } else if error.is_crowded() {
            tracing::warn!(%error, "the server has no connection left for this worker, which waits for one");
        } else if fault == Fault::Away {
            tracing::warn!(%error, "the database does not answer; jobs that ended are held back and written later");
        } else {
            tracing::error!(%error, "the database refuses what this worker needs; it goes on trying");
        }
    }

    /// Logs once that the database works again.
    pub(super) fn database_works(&self, way: DatabaseWay) {
        if let Some(lasted) = self.trouble.works(way, Instant::now()) {
            tracing::info!(away_ms = lasted.as_millis() as u64, "the database answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_fails_and_works_in_turns_is_told_of_once() {
        let (trouble, start) = (Trouble::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(trouble.works(DatabaseWay::Beat, at(0)), None);
        assert!(trouble.failed(DatabaseWay::Claim, Fault::Away, at(0)));
        for ms in [500, 1500, 2500] {
            assert_eq!(trouble.works(DatabaseWay::Claim, at(ms)), None, "not for long");
            assert!(!trouble.failed(DatabaseWay::Finish, Fault::Away, at(ms + 100)));
            assert_eq!(trouble.works(DatabaseWay::Finish, at(ms + 200)), None);
        }
        assert!(!trouble.failed(DatabaseWay::Finish, Fault::Away, at(4000)));
        assert_eq!(trouble.works(DatabaseWay::Beat, at(5000)), None);
        assert_eq!(trouble.works(DatabaseWay::Beat, at(9000)), None, "endings cannot be written yet");
        let lasted = trouble.works(DatabaseWay::Finish, at(9001));
        assert_eq!(lasted, Some(Duration::from_secs(5)), "until it answered, not until that was sure");
        assert_eq!(trouble.works(DatabaseWay::Beat, at(9002)), None, "said once");
        assert!(trouble.failed(DatabaseWay::Beat, Fault::Away, at(20_000)), "the next one is told of");
    }

    #[test]
    fn a_database_that_is_back_and_refuses_is_news_and_one_that_goes_away_again_is_not() {
        let (trouble, now) = (Trouble::default(), Instant::now());
        assert!(trouble.failed(DatabaseWay::Claim, Fault::Away, now));
        assert!(trouble.failed(DatabaseWay::Claim, Fault::Refuses, now));
        assert!(!trouble.failed(DatabaseWay::Claim, Fault::Away, now));
        assert!(!trouble.failed(DatabaseWay::Claim, Fault::Refuses, now));
    }

    #[test]
    fn a_worker_that_has_nothing_to_claim_after_an_outage_says_that_it_is_over() {
        let (trouble, start) = (Trouble::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        assert!(trouble.failed(DatabaseWay::Claim, Fault::Away, at(0)));
        assert_eq!(trouble.works(DatabaseWay::Beat, at(2)), None);
        assert_eq!(trouble.works(DatabaseWay::Beat, at(58)), None);
        assert_eq!(trouble.works(DatabaseWay::Beat, at(60)), Some(Duration::from_secs(2)));
    }
}
