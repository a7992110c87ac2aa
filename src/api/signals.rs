//! Stops a worker when the process is told to.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::worker::Stopping;

/// Listens to SIGTERM and SIGINT from now on: the first one drains, the second one stops at once. Ends after it.
pub(crate) fn stop_on_signals(
    stop: watch::Sender<Stopping>,
) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        for next in [Stopping::Drain, Stopping::Now] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop.send_replace(next);
        }
    })
}
