//! What the crew and people say to a worker: jobs to stop, kinds that are paused.

use super::super::Signal;
use super::super::held::StopReason;
use super::{BEAT_EVERY, Life};
use crate::store::Notice;

impl Life {
    pub(super) async fn heard(&mut self, notice: Notice) {
        match notice {
            Notice::Wake => self.signal(Signal::Wake),
            Notice::Back => self.signal(Signal::Back),
            Notice::Cancel => self.stop_cancelled().await,
            Notice::Kinds => self.read_pauses().await,
        }
    }

    /// Reads which kinds are paused.
    pub(super) async fn read_pauses(&mut self) {
        let Some(beater) = &self.beater else { return };
        let asked_at = self.shared.pauses.version();
        match tokio::time::timeout(BEAT_EVERY, beater.store.paused_kinds()).await {
            Ok(Ok(paused)) => {
                if self.shared.pauses.learn(asked_at, paused) {
                    self.shared.changed.notify_one();
                }
            }
            Ok(Err(error)) => self.beat_failed(Some(&error)),
            Err(_) => self.beat_failed(None),
        }
    }

    /// Tells the others which kinds our handlers were told to pause; what fails is written a second later.
    pub(super) async fn write_pauses(&mut self) {
        for told in self.shared.pauses.to_write() {
            let Some(beater) = &self.beater else { return };
            let write = beater.store.hold_kind(&told.kind, told.left, &told.reason);
            match tokio::time::timeout(BEAT_EVERY, write).await {
                Ok(Ok(_)) => self.shared.pauses.written(&told.kind),
                Ok(Err(error)) => self.beat_failed(Some(&error)),
                Err(_) => self.beat_failed(None),
            }
        }
    }

    /// Stops those of our jobs that were cancelled, buried or taken.
    pub(super) async fn stop_cancelled(&mut self) {
        let held = self.shared.held.claims();
        let Some(beater) = self.beater.as_ref().filter(|_| !held.is_empty()) else { return };
        match tokio::time::timeout(BEAT_EVERY, beater.store.to_stop(&held)).await {
            Ok(Ok(jobs)) => {
                for (id, cancelled) in jobs {
                    let reason = if cancelled { StopReason::Cancelled } else { StopReason::ClaimLost };
                    self.shared.held.stop(id, reason);
                }
                self.shared.changed.notify_one();
            }
            Ok(Err(error)) => self.beat_failed(Some(&error)),
            Err(_) => self.beat_failed(None),
        }
    }
}
