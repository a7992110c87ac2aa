//! Stops a worker's jobs when no beat of it goes through: before anyone may take them over.
//!
//! A task of its own, because the beat waits for the network: looked at only between such waits, six seconds
//! of silence were noticed after up to ten.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::held::StopReason;
use super::{Shared, Signal};

/// Without a beat that went through for so long, this worker stops its jobs.
pub(super) const SELF_STOP: Duration = Duration::from_secs(6);

/// Goes on until the sender is gone; what it sends are the moments at which beats were sent that went through.
pub(super) async fn stop_when_silent(
    shared: Arc<Shared>,
    signals: mpsc::UnboundedSender<Signal>,
    mut beaten: watch::Receiver<Instant>,
) {
    loop {
        let beaten_at = *beaten.borrow_and_update();
        *shared.beaten_at.lock().unwrap_or_else(PoisonError::into_inner) = beaten_at;
        // Nothing was begun while too much time had passed.
        shared.changed.notify_one();
        let silent_at = beaten_at + SELF_STOP;
        tokio::select! {
            // A beat that went through is worth more than the time that passed.
            biased;
            changed = beaten.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(silent_at.into()) => {
                let jobs = shared.held.claims().len();
                // Who has none stops nothing, and the rest of the worker tells of the outage.
                if jobs > 0 {
                    tracing::warn!(
                        jobs,
                        "no beat reached the database for {} s; this worker stops its jobs",
                        SELF_STOP.as_secs()
                    );
                }
                shared.silent.store(true, Ordering::Relaxed);
                shared.stop_everything(StopReason::ClaimLost);
                let _ = signals.send(Signal::ClaimsLost);
                if beaten.changed().await.is_err() {
                    return;
                }
                if jobs > 0 && !shared.trouble.any() {
                    tracing::info!("the database hears this worker again");
                }
                shared.silent.store(false, Ordering::Relaxed);
            }
        }
    }
}
