//! Opens the two connections of the beat and the notices, and opens them again.

use std::time::{Duration, Instant};

use super::super::{DatabaseWay, Shared, Signal};
use super::Life;
use super::crowded::CROWDED_PAUSE;
use crate::store::{Error, Private};

/// How long a connection may take to open: with a beat before and one after it less than others wait to take over.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Pause after a connection that was refused, as long as that of the pools: whoever finds the server first tells the others.
pub(super) const CONNECT_PAUSE: Duration = Duration::from_millis(500);
/// Between two connections of the beat that do open; less than others wait before they believe that a lock is gone.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

impl Life {
    pub(super) fn is_cut(&self) -> bool {
        let deaf = self.listener.is_none() && self.may_listen();
        deaf || self.beater.as_ref().is_none_or(Private::is_closed)
    }

    /// Opens what is closed; each connection holds the lock from its first moment. Answers whether the beat has a new one.
    pub(super) async fn connect(&mut self) -> bool {
        let mut beats_anew = false;
        if Instant::now() < self.connect_at {
            return beats_anew;
        }
        let may_listen = self.may_listen();
        for listens in [false, true] {
            let place = if listens { &mut self.listener } else { &mut self.beater };
            let is_open = place.as_ref().is_some_and(|private| !private.is_closed());
            if is_open || (listens && !may_listen) {
                continue;
            }
            *place = None;
            match tokio::time::timeout(CONNECT_MAX, open(&self.shared, self.lock_key, listens)).await {
                Ok(Ok(private)) if !listens => {
                    self.beater = Some(private);
                    beats_anew = true;
                    // Should what follows fail each time, that makes no storm of connections.
                    self.connect_at = Instant::now() + RECONNECT_PAUSE;
                    if std::mem::replace(&mut self.was_connected, true) {
                        self.watcher.was_cut(Instant::now());
                    }
                }
                Ok(Ok(private)) => {
                    self.listener = Some(private);
                    // What was said meanwhile was not heard.
                    self.signal(Signal::Back);
                    self.stop_cancelled().await;
                    self.read_pauses().await;
                }
                Ok(Err(error)) => {
                    self.shared.database_failed(DatabaseWay::Beat, &error);
                    let waits = error.is_crowded() && (listens || !self.shared.store.make_room_for_beat());
                    self.connect_later(if waits { CROWDED_PAUSE } else { CONNECT_PAUSE });
                    break;
                }
                Err(_) => {
                    self.no_answer("connect", CONNECT_MAX);
                    self.connect_later(CONNECT_PAUSE);
                    break;
                }
            }
        }
        beats_anew
    }

    pub(super) fn no_answer(&self, statement: &'static str, within: Duration) {
        let error = Error::NoAnswer { statement, seconds: within.as_secs() };
        self.shared.database_failed(DatabaseWay::Beat, &error);
    }

    /// A fleet whose server is away does not come back to it in step.
    fn connect_later(&mut self, pause: Duration) {
        self.connect_at = Instant::now() + pause.mul_f64(0.5 + fastrand::f64() / 2.0);
    }
}

async fn open(shared: &Shared, lock_key: i64, listens: bool) -> Result<Private, Error> {
    let private = shared.store.open_private().await?;
    private.check_writable().await?;
    private.hold_lock(lock_key).await?;
    if listens {
        private.listen().await?;
    }
    Ok(private)
}
