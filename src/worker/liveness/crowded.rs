//! A server that has no connection left: workers that cannot claim make room for others, in two steps.
//!
//! A crew of which each worker holds what it got and waits for more would wait for ever. So the notices go first, which
//! a worker can do without; and one that holds no job leaves the crew for a while.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{BEAT_EVERY, Life};

/// Without a connection to claim over for so long (half of it to all of it, so that a crew does not step aside as one),
/// a worker steps aside.
const CROWDED_MAX: Duration = Duration::from_secs(5);
/// How long it stays away, at most; half of it at least.
const ASIDE: Duration = Duration::from_secs(5);
/// Between two tries to connect to a server that has no connection left.
pub(super) const CROWDED_PAUSE: Duration = Duration::from_secs(2);

impl Life {
    /// Whether notices are worth a connection: not while there is none to claim over.
    pub(super) fn may_listen(&self) -> bool {
        self.shared.trouble.crowded_for(Instant::now()).is_none()
    }

    /// Gives back connections that others may do something with, while this worker cannot.
    pub(super) async fn make_room(&mut self) {
        let Some(crowded_for) = self.shared.trouble.crowded_for(Instant::now()) else {
            self.patience = None;
            return;
        };
        self.listener = None;
        let patience = CROWDED_MAX.mul_f64(0.5 + fastrand::f64() / 2.0);
        let patience = *self.patience.get_or_insert(patience);
        if crowded_for >= patience && self.shared.held.claims().is_empty() {
            self.step_aside().await;
        }
    }

    async fn step_aside(&mut self) {
        let Some(beater) = &self.beater else { return };
        // First: a claim that still arrives is given back, and not begun in a name that is struck out.
        self.shared.aside.store(true, Ordering::Relaxed);
        let left = beater.store.step_aside(self.shared.worker_id());
        match tokio::time::timeout(BEAT_EVERY, left).await {
            Ok(Ok(true)) => {
                tracing::info!(
                    worker.id = self.shared.worker_id(),
                    "the server has no connection left to claim jobs over; this worker steps aside for others, and \
                     comes back in a few seconds. See max_connections, and the limits of the role and the database"
                );
                self.shared.trouble.no_longer_crowded();
                self.patience = None;
                self.beater = None;
                self.connect_at = Instant::now() + ASIDE.mul_f64(0.5 + fastrand::f64() / 2.0);
            }
            // The end of a job waits to be written.
            Ok(Ok(false)) => {
                self.shared.aside.store(false, Ordering::Relaxed);
                self.shared.changed.notify_one();
            }
            // Whether it left is not known: the next beat tells.
            Ok(Err(error)) => self.beat_failed(Some(&error)),
            Err(_) => self.beat_failed(None),
        }
    }
}
