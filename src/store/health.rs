//! What is known of the server: whether it answers and takes writes.
//!
//! While it does not, one caller at a time looks whether it does again, in pauses that grow and vary, and all
//! others wait for that one: a process with many jobs asks a server that comes back no more than once a pause. The
//! worker's beat, which keeps a connection of its own, looks by itself, and what it finds counts for all.
//! Connections from before an outage are not used after it: they may lead to a server that is no longer the
//! primary, and answers.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::connect::connect_error;
use super::pools::Pools;
use super::{Error, Store};

/// Bounds of the pause between two looks. The longest is how late a server that is back may be noticed; 50 workers that
/// look and beat with it open less than 300 connections a second to a server that starts.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Shared by all pools of a process.
#[derive(Default)]
pub(super) struct Health {
    down: AtomicBool,
    /// Connections opened before this moment are not used any more.
    cut_at: Mutex<Option<Instant>>,
    /// A server was found that takes no writes (any more).
    demoted: AtomicBool,
    /// Connections opened before this moment lead to a server that this process has left for another.
    left_at: watch::Sender<Option<Instant>>,
    /// Held by the one who looks.
    looking: tokio::sync::Mutex<()>,
    /// The server is back.
    back: Notify,
    pub(super) pools: Pools,
}

impl Health {
    /// The server was found to be away, or not the one to write to.
    pub(super) fn lost(&self) {
        *self.cut_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        if !self.down.swap(true, Ordering::SeqCst) {
            tracing::debug!("the server is looked for");
        }
    }

    /// The server takes no writes: as [`Health::lost`], and what is still open on it is worth nothing.
    pub(super) fn demoted(&self) {
        self.demoted.store(true, Ordering::SeqCst);
        self.lost();
    }

    /// Waits until this process has left the server that a connection opened at this moment leads to.
    pub(super) async fn left(&self, opened_at: Instant) {
        let mut left_at = self.left_at.subscribe();
        let left = left_at.wait_for(|left| left.is_some_and(|left| opened_at <= left)).await;
        left.expect("the sender lives as long as its health");
    }

    /// The server is back.
    fn found(&self) {
        if self.down.swap(false, Ordering::SeqCst) {
            tracing::debug!("the server is found");
        }
        if self.demoted.swap(false, Ordering::SeqCst) {
            self.left_at.send_replace(*self.cut_at.lock().unwrap_or_else(PoisonError::into_inner));
        }
        self.back.notify_waiters();
        let cut_at = *self.cut_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cut_at) = cut_at {
            self.pools.close_older(cut_at);
        }
    }

    /// Whether a connection opened at this moment may be used.
    pub(super) fn admits(&self, opened_at: Instant) -> bool {
        self.cut_at.lock().unwrap_or_else(PoisonError::into_inner).is_none_or(|cut| opened_at > cut)
    }
}

impl Store {
    /// Passes at once while the server is well; else when it is again, or with the reason why it is not.
    pub(super) async fn until_well(&self, at_most: Duration) -> Result<(), Error> {
        let health = &self.shared.health;
        if !health.down.load(Ordering::SeqCst) {
            return Ok(());
        }
        let began = Instant::now();
        let Ok(_looking) = tokio::time::timeout(at_most, health.looking.lock()).await else {
            return Err(
                self.no_connection("it has been away for a while, and is being looked for".to_owned())
            );
        };
        let mut pause = PAUSE_MIN;
        loop {
            // Before the look at the flag, so that whoever finds it from then on is heard.
            let back = health.back.notified();
            if !health.down.load(Ordering::SeqCst) {
                return Ok(());
            }
            let look_and_pause = async {
                match self.look().await {
                    Ok(()) => health.found(),
                    // Somebody must mend the settings: no reason to hold anybody up.
                    Err(error) if !error.is_transient() => return Err(error),
                    Err(error) if began.elapsed() + pause > at_most => return Err(error),
                    Err(_) => tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await,
                }
                Ok(())
            };
            tokio::select! {
                done = look_and_pause => done?,
                () = back => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// A connection of `direct_url` has found a server that takes writes: is it the one that the pools look for?
    pub(super) fn seen(&self) {
        let health = &self.shared.health;
        if self.shared.one_way && health.down.load(Ordering::SeqCst) {
            health.found();
        }
    }

    /// Opens one connection and asks whether it may write.
    async fn look(&self) -> Result<(), Error> {
        let (client, connection) =
            self.shared.pooled.connect().await.map_err(|error| connect_error(&self.shared.server, error))?;
        let driver = tokio::spawn(connection);
        let limit = self.shared.settings.connect_timeout;
        let asked = tokio::time::timeout(
            limit,
            super::session::takes_writes(&client, &self.statements.server_writable.text),
        )
        .await;
        driver.abort();
        match asked {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Error::ReadOnly { server: self.shared.server.clone() }),
            Ok(Err(source)) => Err(Error::Statement { statement: "server_writable", source }),
            Err(_) => Err(Error::NoAnswer { statement: "server_writable", seconds: limit.as_secs() }),
        }
    }

    /// Draws the consequences of an error.
    pub(super) fn note(&self, error: &Error) {
        match error {
            error if error.is_read_only() => self.shared.health.demoted(),
            error if error.is_outage() => self.shared.health.lost(),
            _ => {}
        }
    }
}
