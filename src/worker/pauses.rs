//! The kinds that this worker may not begin now.
//!
//! What the database says is read every second, and at once when somebody pauses or resumes a kind. What a handler
//! was told counts here at once and is written down until the database has it, for the other workers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The end of a pause; `None` is when somebody resumes the kind.
type Until = Option<Instant>;

/// A pause that ends less than so much later than the known one is the same pause: all jobs that run at once are
/// told to wait, and one of them speaks for all.
const SAME: Duration = Duration::from_secs(1);

/// Shared by the parts of one worker.
#[derive(Default)]
pub(super) struct Pauses {
    inner: Mutex<Inner>,
    /// Whether there are any: a worker without pauses asks for every job.
    any: AtomicBool,
    /// Counts the changes.
    version: AtomicU64,
    unwritten: Notify,
}

#[derive(Default)]
struct Inner {
    /// As the database has them.
    known: HashMap<Arc<str>, Until>,
    /// What handlers here were told and the database does not have yet.
    told: HashMap<Arc<str>, (Until, String)>,
}

/// A pause that is to be written.
pub(super) struct Told {
    pub(super) kind: Arc<str>,
    /// What is left of it; `None` disables the kind.
    pub(super) left: Option<Duration>,
    pub(super) reason: String,
}

impl Pauses {
    /// Whether jobs of this kind may not begin.
    pub(super) fn hold(&self, kind: &str) -> bool {
        self.any() && self.lock().until(kind, Instant::now()).is_some()
    }

    /// Whether any kind is paused.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Changes whenever a kind is paused or resumed.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// Takes in what the database said, asked at that version: an answer that was overtaken says nothing. Answers
    /// whether a kind was paused or resumed.
    pub(super) fn learn(&self, asked_at: u64, paused: Vec<(String, Option<Duration>)>) -> bool {
        let now = Instant::now();
        let mut inner = self.lock();
        if self.version() != asked_at {
            return false;
        }
        let known: HashMap<Arc<str>, Until> =
            paused.into_iter().map(|(kind, left)| (kind.into(), left.map(|left| now + left))).collect();
        let changed =
            known.len() != inner.known.len() || known.keys().any(|kind| !inner.known.contains_key(kind));
        inner.known = known;
        self.changed(&inner, changed);
        changed
    }

    /// Pauses a kind here because a handler was told so, for a time or (`None`) until it is resumed; answers
    /// whether that is new.
    pub(super) fn told(&self, kind: &Arc<str>, wait: Option<Duration>, reason: &str) -> bool {
        let now = Instant::now();
        let until = wait.map(|wait| now + wait);
        let mut inner = self.lock();
        let same = inner.until(kind, now).is_some_and(|known| match (known, until) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(known), Some(until)) => until < known + SAME,
        });
        if same {
            return false;
        }
        inner.told.insert(kind.clone(), (until, reason.to_owned()));
        self.changed(&inner, true);
        self.unwritten.notify_one();
        true
    }

    /// Waits until there is something to write.
    pub(super) async fn unwritten(&self) {
        self.unwritten.notified().await;
    }

    /// What is to be written; what is over meanwhile is forgotten.
    pub(super) fn to_write(&self) -> Vec<Told> {
        let now = Instant::now();
        let mut inner = self.lock();
        inner.told.retain(|_, (until, _)| until.is_none_or(|until| until > now));
        let told = |(kind, (until, reason)): (&Arc<str>, &(Until, String))| Told {
            kind: kind.clone(),
            left: until.map(|until| until - now),
            reason: reason.clone(),
        };
        inner.told.iter().map(told).collect()
    }

    /// The database has it: the next answer of it will say so.
    pub(super) fn written(&self, kind: &str) {
        let mut inner = self.lock();
        if let Some((kind, (until, _))) = inner.told.remove_entry(kind) {
            inner.known.insert(kind, until);
            // Answers that are on their way do not know of it.
            self.changed(&inner, true);
        }
    }

    fn changed(&self, inner: &Inner, changed: bool) {
        self.any.store(!inner.known.is_empty() || !inner.told.is_empty(), Ordering::Relaxed);
        if changed {
            self.version.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The pause of a kind that holds now, the longer one of the two.
    fn until(&self, kind: &str, now: Instant) -> Option<Until> {
        let both = [self.known.get(kind).copied(), self.told.get(kind).map(|(until, _)| *until)];
        let hold = both.into_iter().flatten().filter(|until| until.is_none_or(|until| until > now));
        hold.max_by_key(|until| (until.is_none(), *until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Option<Duration> = Some(Duration::from_mins(1));

    #[test]
    fn what_a_handler_is_told_counts_at_once_and_is_written_once() {
        let (pauses, mail) = (Pauses::default(), Arc::from("mail"));
        assert!(!pauses.hold("mail"));
        assert!(pauses.told(&mail, MINUTE, "429"));
        assert!(pauses.hold("mail") && !pauses.hold("other"));
        assert!(!pauses.told(&mail, MINUTE, "429"), "a hundred jobs are told the same");
        assert!(!pauses.told(&mail, Some(Duration::from_secs(5)), "429"), "and none shortens it");
        let asked_at = pauses.version();
        assert_eq!(pauses.to_write().len(), 1);
        pauses.written("mail");
        assert!(pauses.hold("mail") && pauses.to_write().is_empty());
        assert!(!pauses.learn(asked_at, vec![]), "an answer from before");
        assert!(pauses.hold("mail"));
        assert!(pauses.told(&mail, None, "410"), "for good is longer than any time");
        assert!(pauses.to_write()[0].left.is_none());
    }

    #[test]
    fn what_the_database_says_replaces_what_it_said() {
        let pauses = Pauses::default();
        assert!(!pauses.learn(pauses.version(), vec![]));
        assert!(pauses.learn(pauses.version(), vec![("a".into(), None), ("b".into(), MINUTE)]));
        assert!(pauses.hold("a") && pauses.hold("b") && pauses.any());
        assert!(!pauses.learn(pauses.version(), vec![("b".into(), MINUTE), ("a".into(), MINUTE)]));
        assert!(pauses.learn(pauses.version(), vec![("b".into(), Some(Duration::ZERO))]));
        assert!(!pauses.hold("a") && !pauses.hold("b"), "b is over");
        assert!(pauses.learn(pauses.version(), vec![]) && !pauses.any());
    }
}
