//! Bounds the calls at once to one host, so that a slow host is not pressed harder and does not take all slots.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a job waits for its turn in the worker before it goes back to the queue and leaves its slot to others.
const WAIT: Duration = Duration::from_secs(1);
/// How long it stays there, at no cost of an attempt: from this to twice as much, so that they come back spread.
const BACK_FOR: Duration = Duration::from_secs(2);
/// Hosts remembered, from which on those that nobody calls are forgotten.
const HOSTS_MAX: usize = 256;

/// What became of the wait for a turn.
pub(super) enum Turn {
    /// Go on; the permit is held until the reply is read.
    Now(Option<OwnedSemaphorePermit>),
    /// Not now: after this time.
    Later(Duration),
}

/// The turns at each host of one handler.
#[derive(Debug)]
pub(super) struct Slots {
    per_host: Option<usize>,
    hosts: Mutex<HashMap<String, Weak<Semaphore>>>,
    /// When a host last asked for quiet, and until when.
    quiet: Mutex<Option<(Instant, Instant)>>,
}

impl Slots {
    pub(super) fn new(per_host: Option<usize>) -> Self {
        Self { per_host, hosts: Mutex::default(), quiet: Mutex::default() }
    }

    /// Waits for a turn at a host.
    pub(super) async fn turn(&self, host: impl FnOnce() -> String) -> Turn {
        let Some(per_host) = self.per_host else { return Turn::Now(None) };
        let began = Instant::now();
        let slots = self.slots_of(&host(), per_host);
        let Ok(permit) = tokio::time::timeout(WAIT, slots.acquire_owned()).await else {
            return Turn::Later(BACK_FOR.mul_f64(1.0 + fastrand::f64()));
        };
        // Those that waited behind a call that was answered with "not now" are not sent after it. One that begins
        // later is: somebody may have said meanwhile that calls may go on.
        let quiet = *self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        match quiet {
            Some((said, until)) if said > began && until > Instant::now() => {
                Turn::Later(until - Instant::now())
            }
            _ => Turn::Now(permit.ok()),
        }
    }

    /// The server asked not to be called for so long.
    pub(super) fn quiet_for(&self, time: Duration) {
        let now = Instant::now();
        *self.quiet.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, now + time));
    }

    fn slots_of(&self, host: &str, per_host: usize) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slots) = hosts.get(host).and_then(Weak::upgrade) {
            return slots;
        }
        if hosts.len() >= HOSTS_MAX {
            hosts.retain(|_, slots| slots.strong_count() > 0);
        }
        let slots = Arc::new(Semaphore::new(per_host));
        hosts.insert(host.to_owned(), Arc::downgrade(&slots));
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_too_long_for_a_host_comes_back_later_and_other_hosts_are_free() {
        let slots = Slots::new(Some(1));
        let first = slots.turn(|| "a".to_owned()).await;
        assert!(matches!(first, Turn::Now(Some(_))));
        assert!(matches!(slots.turn(|| "b".to_owned()).await, Turn::Now(Some(_))));
        let Turn::Later(wait) = slots.turn(|| "a".to_owned()).await else { panic!("the only slot is taken") };
        assert!((BACK_FOR..=BACK_FOR * 2).contains(&wait));
        drop(first);
        assert!(matches!(slots.turn(|| "a".to_owned()).await, Turn::Now(Some(_))));
    }

    #[tokio::test]
    async fn who_waits_behind_a_call_that_was_asked_for_quiet_is_not_sent() {
        let slots = Arc::new(Slots::new(Some(1)));
        let first = slots.turn(|| "a".to_owned()).await;
        let waiting = tokio::spawn({
            let slots = slots.clone();
            async move { slots.turn(|| "a".to_owned()).await }
        });
        // It holds the semaphore as well once it waits.
        while slots.hosts.lock().expect("no panic")["a"].strong_count() < 2 {
            tokio::task::yield_now().await;
        }
        slots.quiet_for(Duration::from_mins(1));
        drop(first);
        let Turn::Later(wait) = waiting.await.expect("no panic") else { panic!("it was sent") };
        assert!(wait > Duration::from_secs(50));
        assert!(
            matches!(slots.turn(|| "a".to_owned()).await, Turn::Now(Some(_))),
            "one that begins later is sent"
        );
    }

    #[test]
    fn hosts_that_nobody_calls_are_forgotten() {
        let slots = Slots::new(Some(1));
        let kept = slots.slots_of("kept", 1);
        for n in 0..10_000 {
            slots.slots_of(&n.to_string(), 1);
        }
        assert!(slots.hosts.lock().expect("no panic").len() <= HOSTS_MAX + 1);
        assert!(Arc::ptr_eq(&kept, &slots.slots_of("kept", 1)));
    }
}
