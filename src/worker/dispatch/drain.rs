//! The end of a worker: nothing is claimed any more, and what is left ends or goes back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::super::held::StopReason;
use super::super::{Signal, Stopping};
use super::Dispatch;
use super::claims::next_answer;

/// How long handlers may take to stop when their time is over.
const STOP_WAIT: Duration = Duration::from_millis(450);

impl Dispatch {
    /// Claims nothing more, gives back what has not begun, and waits for the rest as long as it may; answers
    /// when that time is over.
    pub(super) async fn drain(
        mut self,
        mut heard: mpsc::UnboundedReceiver<Signal>,
        mut stopping: watch::Receiver<Stopping>,
    ) -> Instant {
        let mut over = Instant::now() + self.shared.settings.drain;
        tracing::info!(
            running = self.running(),
            drain_ms = self.shared.settings.drain.as_millis() as u64,
            "worker drains"
        );
        self.draining = true;
        let mut told_to_stop = false;
        loop {
            let now = Instant::now();
            if *stopping.borrow_and_update() == Stopping::Now {
                over = over.min(now);
            }
            if now >= over && !told_to_stop {
                told_to_stop = true;
                self.shared.leaving.store(true, Ordering::Relaxed);
                self.shared.stopped.cancel();
                self.shared.stop_everything(StopReason::Shutdown);
            }
            self.give_back_waiting();
            if self.claiming.is_empty() && self.running() == 0 {
                return over;
            }
            tokio::select! {
                answer = next_answer(&mut self.claiming) => self.claimed(answer),
                () = self.shared.changed.notified() => {}
                Some(signal) = heard.recv() => self.heard(signal),
                Ok(()) = stopping.changed() => {}
                () = tokio::time::sleep_until(over), if !told_to_stop => {}
                () = tokio::time::sleep_until(over + STOP_WAIT), if told_to_stop => return over,
            }
        }
    }
}
