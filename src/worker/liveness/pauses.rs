//! Reads which kinds are paused, and writes what our handlers were told.

use super::{BEAT_EVERY, Life};

impl Life {
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
}
