//! Decides from what is seen of the other workers which of them are lost. Knows no database and sets no clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::WorkerId;
use crate::store::Observed;

/// Between two looks at the others. Two looks find a killed worker within about a second.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The longest pause between two looks, which a large crew shares. Well below the time after which silence counts.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A lock that is gone in two looks this far apart is gone for good; a worker whose connections were cut takes
/// it again in less.
const UNLOCKED_FOR: Duration = Duration::from_millis(450);
/// A beat unchanged for so long, with the lock gone: lost.
const SILENT_UNLOCKED: Duration = Duration::from_secs(10);
/// A beat unchanged for so long, with the lock held (stopped, or cut off): lost.
const SILENT_LOCKED: Duration = Duration::from_secs(15);
/// A longer gap between two looks means that the watcher itself stood still, and perhaps everybody did.
const GAP_MAX: Duration = Duration::from_secs(5);
/// After the watcher's own connection was cut, a lock that is gone proves nothing for so long: what cut it may
/// have cut those of all others, who are as busy as we are coming back.
const CUT_GRACE: Duration = Duration::from_secs(3);

/// What is remembered of the others.
pub(super) struct Watcher {
    seen: HashMap<WorkerId, Seen>,
    looked_at: Option<Instant>,
    locks_count_from: Option<Instant>,
}

struct Seen {
    beat: i64,
    changed_at: Instant,
    /// The first look in a row without its lock.
    unlocked_at: Option<Instant>,
}

impl Watcher {
    pub(super) fn new() -> Self {
        Self { seen: HashMap::new(), looked_at: None, locks_count_from: None }
    }

    /// The watcher's own connection was cut: what was seen before proves nothing.
    pub(super) fn was_cut(&mut self, now: Instant) {
        self.seen.clear();
        self.locks_count_from = Some(now + CUT_GRACE);
    }

    /// How long to wait before the next look. A crew shares them: together they look eight times a second or less,
    /// and whoever has seen a lock gone looks again at once.
    pub(super) fn pause(&self, crew: u32) -> Duration {
        if self.seen.values().any(|seen| seen.unlocked_at.is_some()) {
            return Duration::ZERO;
        }
        // A little less than so many ticks, so that none is missed by a hair.
        (LOOK_EVERY * (crew / 4)).saturating_sub(LOOK_EVERY / 10).min(PAUSE_MAX)
    }

    /// Takes in one look at everybody, and answers who is lost.
    pub(super) fn look(&mut self, now: Instant, own: WorkerId, all: &[Observed]) -> Vec<Observed> {
        if self.looked_at.replace(now).is_some_and(|last| now - last > GAP_MAX) {
            self.was_cut(now);
        }
        self.seen.retain(|id, _| all.iter().any(|one| one.id == *id));
        all.iter().copied().filter(|one| one.id != own && self.is_lost(now, *one)).collect()
    }

    fn is_lost(&mut self, now: Instant, one: Observed) -> bool {
        let seen =
            self.seen.entry(one.id).or_insert(Seen { beat: one.beat, changed_at: now, unlocked_at: None });
        if seen.beat != one.beat {
            seen.beat = one.beat;
            seen.changed_at = now;
        }
        let counts = one.provable && self.locks_count_from.is_none_or(|from| now >= from);
        if one.locked || !counts {
            seen.unlocked_at = None;
        } else if now - *seen.unlocked_at.get_or_insert(now) >= UNLOCKED_FOR {
            return true;
        }
        now - seen.changed_at > if one.locked { SILENT_LOCKED } else { SILENT_UNLOCKED }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crew_shares_its_looks_and_who_has_seen_a_lock_gone_looks_again_at_once() {
        let mut watcher = Watcher::new();
        let pauses = [1, 2, 7, 8, 12, 500].map(|crew| watcher.pause(crew).as_millis());
        assert_eq!(pauses, [0, 0, 450, 950, 1_450, 2_000]);
        watcher.look(Instant::now(), 1, &[GONE]);
        assert_eq!(watcher.pause(500), Duration::ZERO);
    }

    const LIVES: Observed = Observed { id: 2, beat: 1, locked: true, provable: true };
    const GONE: Observed = Observed { locked: false, ..LIVES };

    /// Looks at one worker at each of these moments (in ms); answers when it was first taken for lost.
    fn lost_at(watch: &mut Watcher, start: Instant, looks: &[(u64, Observed)]) -> Option<u64> {
        let lost = |(ms, one): &(u64, Observed)| {
            let now = start + Duration::from_millis(*ms);
            (!watch.look(now, 1, &[Observed { id: 1, ..GONE }, *one]).is_empty()).then_some(*ms)
        };
        looks.iter().find_map(lost)
    }

    fn every_half_second(one: Observed, until_ms: u64) -> Vec<(u64, Observed)> {
        (0..=until_ms / 500).map(|n| (n * 500, one)).collect()
    }

    #[test]
    fn a_worker_whose_lock_is_gone_in_two_looks_half_a_second_apart_is_lost() {
        let now = Instant::now();
        assert_eq!(lost_at(&mut Watcher::new(), now, &[(0, GONE), (100, GONE), (200, GONE)]), None);
        assert_eq!(lost_at(&mut Watcher::new(), now, &[(0, GONE), (500, GONE)]), Some(500));
        assert_eq!(lost_at(&mut Watcher::new(), now, &[(0, GONE), (400, LIVES), (800, GONE)]), None);
    }

    #[test]
    fn a_lock_from_before_the_server_started_proves_nothing_but_silence_does() {
        let looks = every_half_second(Observed { provable: false, ..GONE }, 12_000);
        assert_eq!(lost_at(&mut Watcher::new(), Instant::now(), &looks), Some(10_500));
    }

    #[test]
    fn a_frozen_worker_that_holds_its_lock_is_lost_after_fifteen_seconds() {
        let looks = every_half_second(LIVES, 20_000);
        assert_eq!(lost_at(&mut Watcher::new(), Instant::now(), &looks), Some(15_500));
    }

    #[test]
    fn a_watcher_that_stood_still_takes_nobody_for_lost_at_once() {
        let looks =
            [(0, LIVES), (500, LIVES), (30_000, LIVES), (30_500, GONE), (31_500, GONE), (32_000, LIVES)];
        assert_eq!(lost_at(&mut Watcher::new(), Instant::now(), &looks), None);
    }

    #[test]
    fn a_watcher_whose_connection_was_cut_gives_the_others_time_to_come_back() {
        let now = Instant::now();
        let mut watch = Watcher::new();
        assert_eq!(lost_at(&mut watch, now, &[(0, GONE)]), None);
        watch.was_cut(now);
        assert_eq!(lost_at(&mut watch, now, &every_half_second(GONE, 6_000)), Some(3_500));
    }
}
