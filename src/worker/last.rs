//! What a worker does last: it writes the ends of its jobs, stops its handlers, and leaves the crew.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Shared, Stopping};
use crate::handler::Registry;
use crate::store::Error;

/// How long after the drain time the last endings may be written. Together with leaving, less than the second
/// that a stop may take beyond the drain time.
const LAST_WRITES: Duration = Duration::from_millis(750);
/// How long leaving the crew may take, in the worst case and at most.
const LEAVE_MIN: Duration = Duration::from_millis(200);
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// Ends what handlers keep running between jobs, while the last endings are written. What takes too long ends
/// with the process.
pub(super) fn stop_handlers(registry: Registry) -> JoinHandle<()> {
    tokio::spawn(async move {
        let _ = tokio::time::timeout(LAST_WRITES, registry.stop()).await;
    })
}

/// Waits until every ending is written, while the time to drain is not long over; answers when that is.
pub(super) async fn writes(
    shared: &Shared,
    mut finisher: JoinHandle<()>,
    mut over: Instant,
    mut stopping: watch::Receiver<Stopping>,
) -> Instant {
    loop {
        if *stopping.borrow_and_update() == Stopping::Now {
            over = over.min(Instant::now());
        }
        tokio::select! {
            _ = &mut finisher => return over,
            Ok(()) = stopping.changed() => {}
            () = tokio::time::sleep_until(over + LAST_WRITES) => {
                shared.gave_up.store(true, Ordering::Relaxed);
                tracing::warn!("not every ending could be written in time; these jobs run again elsewhere");
                return over;
            }
        }
    }
}

/// Takes this worker from the crew, in the time that is left.
pub(super) async fn leave(shared: &Shared, over: Instant) {
    let left = (over + LAST_WRITES + LEAVE_MIN).saturating_duration_since(Instant::now());
    let last_words = async {
        let _ = shared.store.flush_stats(shared.worker_id(), &shared.tally.rows()).await;
        let given_back = shared.store.leave(shared.worker_id()).await?;
        if given_back > 0 {
            tracing::info!(given_back, "jobs that could not be ended in time are given back");
            let _ = shared.store.ring().await;
        }
        Ok::<_, Error>(())
    };
    if let Ok(Ok(())) = tokio::time::timeout(left.clamp(LEAVE_MIN, LEAVE_MAX), last_words).await {
        tracing::info!(worker.id = shared.worker_id(), "worker stopped");
    } else {
        tracing::warn!(
            worker.id = shared.worker_id(),
            "worker stopped, but could not say so in the database"
        );
    }
}
