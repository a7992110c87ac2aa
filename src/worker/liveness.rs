//! Shows that this worker lives, watches the others, and hears what is said to the crew.
//!
//! On an OS thread of its own with connections of its own, so that no handler can starve it. A worker is
//! lost when two signs agree: the server has freed the lock that both of its connections held, in two looks
//! in a row; or its beat has not changed for long. Beats are compared with each other as they are seen and
//! timed by the watcher's own clock, so that no clock that is set can make a live worker look lost.

mod connections;
mod crowded;
mod news;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use self::connections::CONNECT_PAUSE;
use super::held::StopReason;
use super::silence::stop_when_silent;
use super::watcher::{LOOK_EVERY, Watcher};
use super::{DatabaseWay, Shared, Signal, Stopping};
use crate::store::{Beat, Error, Moment, Notice, Observed, Private, Registration};

/// Between two beats.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// So many beats after one another, the jobs held are looked up: a notice of a cancellation may not have been heard.
const BEATS_A_LOOK: u32 = 5;
/// How long a rescue may take; as above. One that takes longer is found done, or done again.
const RESCUE_MAX: Duration = Duration::from_secs(4);
/// How often the paused kinds are read. So long a worker that hears no notices may go on with a kind; one that does
/// reads them for those that nobody told of, changed by hand.
const KINDS_EVERY: Duration = Duration::from_secs(5);
const KINDS_HEARD_EVERY: Duration = Duration::from_secs(30);
/// Without being heard for so long the listener is sent a notice of its own.
const LISTENER_CHECK: Duration = Duration::from_secs(5);

/// The running thread.
pub(super) struct Alive {
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Alive {
    /// Stops the beat; the caller takes the worker from the crew.
    pub(super) fn end(self) {
        let _ = self.end.send(());
        // The thread only drops two connections; it is not waited for if it hangs on one.
        drop(self.thread);
    }
}

/// Starts the thread.
pub(super) fn start(
    shared: Arc<Shared>,
    registration: Registration,
    lock_key: i64,
    signals: mpsc::UnboundedSender<Signal>,
    stopping: watch::Receiver<Stopping>,
) -> Alive {
    let (end, ended) = oneshot::channel();
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else {
            tracing::error!("no runtime for the liveness thread");
            return;
        };
        let (beaten, heard) = watch::channel(Instant::now());
        let mut life = Life {
            shared,
            registration,
            lock_key,
            signals,
            stopping,
            beater: None,
            listener: None,
            beaten,
            beats: 0,
            watcher: Watcher::new(),
            was_connected: false,
            connect_at: Instant::now(),
            patience: None,
        };
        runtime.block_on(async {
            tokio::spawn(stop_when_silent(life.shared.clone(), life.signals.clone(), heard));
            tokio::select! {
                _ = ended => {}
                () = life.go_on() => {}
            }
        });
        runtime.shutdown_background();
    };
    let thread =
        std::thread::Builder::new().name("liveness".to_owned()).spawn(body).expect("a thread can be started");
    Alive { end, thread }
}

struct Life {
    shared: Arc<Shared>,
    registration: Registration,
    lock_key: i64,
    signals: mpsc::UnboundedSender<Signal>,
    stopping: watch::Receiver<Stopping>,
    /// Beats, watches and rescues.
    beater: Option<Private>,
    /// Hears notices.
    listener: Option<Private>,
    /// When the last beat that went through was sent.
    beaten: watch::Sender<Instant>,
    beats: u32,
    watcher: Watcher,
    was_connected: bool,
    /// After a try that failed, the next comes not before this.
    connect_at: Instant,
    /// It will step aside when it could not claim for so long.
    patience: Option<Duration>,
}

impl Life {
    async fn go_on(&mut self) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut next_beat = Instant::now();
        let mut next_check = Instant::now() + LISTENER_CHECK;
        let mut next_watch = Instant::now();
        let mut next_kinds = Instant::now();
        let shared = self.shared.clone();
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = tokio::time::sleep_until(self.connect_at.into()), if self.is_cut() => {}
                () = shared.pauses.unwritten() => {
                    self.write_pauses().await;
                    continue;
                }
                notice = hear(&mut self.listener) => {
                    next_check = Instant::now() + LISTENER_CHECK;
                    if let Some(notice) = notice {
                        self.heard(notice).await;
                        continue;
                    }
                    // Cut off: back at once, before others see the lock gone twice.
                    self.listener = None;
                }
            }
            if self.connect().await {
                // At once, or soon after the last try: nothing is claimed before a beat goes through.
                next_beat -= BEAT_EVERY.saturating_sub(CONNECT_PAUSE);
            }
            self.make_room().await;
            if self.beater.is_some() && Instant::now() >= next_beat {
                next_beat = Instant::now() + BEAT_EVERY;
                self.beat().await;
            }
            if Instant::now() >= next_watch {
                self.watch().await;
                next_watch = Instant::now() + self.watcher.pause(self.shared.crew.load(Ordering::Relaxed));
            }
            if Instant::now() >= next_kinds {
                next_kinds = Instant::now() + if self.hears() { KINDS_HEARD_EVERY } else { KINDS_EVERY };
                self.write_pauses().await;
                self.read_pauses().await;
            }
            if Instant::now() >= next_check {
                next_check = Instant::now() + LISTENER_CHECK;
                self.check_listener().await;
                self.shared.store.close_idle();
            }
        }
    }

    /// Whether notices reach this worker.
    fn hears(&self) -> bool {
        self.listener.is_some() && self.shared.store.has_sessions()
    }

    async fn beat(&mut self) {
        let Some(beater) = &self.beater else { return };
        // A primary that was demoted is left at once, by all connections of this process. Sessions of ours find it by
        // the beat itself.
        if !self.shared.store.has_sessions() {
            match tokio::time::timeout(BEAT_EVERY, beater.check_writable()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return self.database_lost(&error),
                Err(_) => return self.beat_failed(None),
            }
        }
        let sent_at = Instant::now();
        let running = self.shared.running.load(Ordering::Relaxed) as i32;
        let state = if *self.stopping.borrow() == Stopping::No { "running" } else { "draining" };
        let id = self.shared.worker_id();
        let locked = self.hears();
        let blocking = self.shared.blocking.as_ref().map(|pool| pool.figures().to_string());
        let kinds_down: Vec<&str> = self.shared.registry.kinds_down().collect();
        let beat = Beat {
            running,
            state,
            locked,
            lock_key: self.lock_key,
            blocking: blocking.as_deref(),
            kinds_down: &kinds_down,
        };
        match tokio::time::timeout(BEAT_EVERY, beater.store.beat(id, &beat)).await {
            Ok(Ok(Some((clock, crew)))) => {
                self.shared.crew.store(crew.max(1) as u32, Ordering::Relaxed);
                self.beaten(sent_at, clock).await;
            }
            Ok(Ok(None)) => self.enter_again().await,
            Ok(Err(error)) if error.is_read_only() => self.database_lost(&error),
            Ok(Err(error)) => self.beat_failed(Some(&error)),
            Err(_) => self.beat_failed(None),
        }
    }

    /// What was opened leads to the wrong server.
    fn database_lost(&mut self, error: &Error) {
        self.beat_failed(Some(error));
        self.listener = None;
    }

    fn beat_failed(&mut self, error: Option<&Error>) {
        match error {
            Some(error) => self.shared.database_failed(DatabaseWay::Beat, error),
            None => self.no_answer("liveness", BEAT_EVERY),
        }
        self.beater = None;
    }

    async fn beaten(&mut self, sent_at: Instant, clock: Moment) {
        self.shared.aside.store(false, Ordering::Relaxed);
        self.beaten.send_replace(sent_at);
        self.shared.entered.cancel();
        self.shared.tally.set_clock(clock);
        self.shared.database_works(DatabaseWay::Beat);
        self.beats = (self.beats + 1) % BEATS_A_LOOK;
        if self.beats == 0 {
            self.stop_cancelled().await;
        }
    }

    /// The others have given this worker's jobs away: stop them, and begin again under a new id.
    async fn enter_again(&mut self) {
        if !self.shared.aside.load(Ordering::Relaxed) {
            tracing::warn!(
                worker.id = self.shared.worker_id(),
                "this worker was taken for lost; its jobs are given up"
            );
        }
        self.give_up_claims();
        let Some(beater) = &self.beater else { return };
        let sent_at = Instant::now();
        match tokio::time::timeout(BEAT_EVERY, beater.store.register(&self.registration)).await {
            Ok(Ok((id, lock_key))) => {
                self.shared.worker_id.store(id, Ordering::SeqCst);
                // What was claimed in the old name until this moment.
                self.give_up_claims();
                self.lock_key = lock_key;
                self.shared.aside.store(false, Ordering::Relaxed);
                self.beaten.send_replace(sent_at);
                tracing::info!(worker.id = id, "worker started again");
                // The new lock is taken with new connections.
                self.beater = None;
                self.listener = None;
            }
            Ok(Err(error)) => self.beat_failed(Some(&error)),
            Err(_) => self.beat_failed(None),
        }
    }

    fn give_up_claims(&self) {
        self.shared.stop_everything(StopReason::ClaimLost);
        self.signal(Signal::ClaimsLost);
    }

    fn signal(&self, signal: Signal) {
        let _ = self.signals.send(signal);
    }

    /// A listener that hears nothing may be deaf, or listen to a primary that was demoted while the beat was already
    /// elsewhere: it is asked whether it still answers, and whether its server takes writes.
    async fn check_listener(&mut self) {
        let Some(listener) = &self.listener else { return };
        match tokio::time::timeout(BEAT_EVERY, listener.check_writable()).await {
            Ok(Ok(())) => {}
            _ => self.listener = None,
        }
    }

    /// Looks at the others and rescues the lost. Who is alone, by the last beat, has nobody to look at.
    async fn watch(&mut self) {
        let Some(beater) = &self.beater else { return };
        if self.shared.crew.load(Ordering::Relaxed) <= 1 {
            self.watcher.look(Instant::now(), self.shared.worker_id(), &[]);
            return;
        }
        let observed = match tokio::time::timeout(BEAT_EVERY, beater.store.observe()).await {
            Ok(Ok(observed)) => observed,
            Ok(Err(error)) => return self.beat_failed(Some(&error)),
            Err(_) => return self.beat_failed(None),
        };
        self.shared.crew.store(observed.len().max(1) as u32, Ordering::Relaxed);
        for lost in self.watcher.look(Instant::now(), self.shared.worker_id(), &observed) {
            self.rescue(lost).await;
        }
    }

    async fn rescue(&mut self, lost: Observed) {
        let Some(beater) = &self.beater else { return };
        match tokio::time::timeout(RESCUE_MAX, beater.store.rescue(lost)).await {
            Ok(Ok(Some(rescued))) => {
                tracing::warn!(
                    worker.id = lost.id,
                    worker.name = rescued.name,
                    given_back = rescued.given_back,
                    buried = rescued.buried,
                    "a worker was lost; its jobs are given back"
                );
                let _ = beater.store.ring().await;
                self.signal(Signal::Back);
            }
            // It lives, or somebody was quicker.
            Ok(Ok(None)) => {}
            Ok(Err(error)) => self.beat_failed(Some(&error)),
            Err(_) => self.beat_failed(None),
        }
    }
}

async fn hear(listener: &mut Option<Private>) -> Option<Notice> {
    match listener {
        Some(listener) => listener.next_notice().await,
        None => std::future::pending().await,
    }
}
