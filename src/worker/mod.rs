//! The worker: claims jobs, runs them, writes how they ended, and leaves in order.
//!
//! A job's way: `dispatch` claims it into a buffer and starts it, `attempt` runs it, `finisher` writes its
//! end. `liveness`, on a thread of its own, keeps the worker known to live, watches the others, and hears
//! what is said to it.

mod attempt;
mod dispatch;
mod finisher;
mod held;
mod lanes;
mod liveness;
mod pace;
mod silence;
mod tally;
mod verdict;
mod watcher;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::handler::Registry;
use crate::store::{Ending, Error, Fate, Registration, Store};
use crate::{Job, JobId, WorkerId};

use finisher::Ended;
use held::{Held, StopReason};
use tally::Tally;

/// What a worker is told to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What it calls itself; the host's name as a rule.
    pub name: String,
    /// The queues it serves, the most urgent first.
    pub queues: Vec<String>,
    /// Jobs it runs at once at most.
    pub concurrency: usize,
    /// How long running jobs may go on after it was asked to stop.
    pub drain: Duration,
    /// The longest pause between looks for jobs.
    pub poll: Duration,
    /// Connections for SQL handlers at most.
    pub sql_connections: usize,
    /// Whether finished jobs are kept at all.
    pub keep_finished: bool,
}

/// How a worker is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stopping {
    /// It shall go on.
    No,
    /// It shall claim nothing more, let running jobs end within the drain time, and give the rest back.
    Drain,
    /// It shall give everything back at once.
    Now,
}

/// How often counts are written.
const FLUSH_EVERY: Duration = Duration::from_secs(2);
/// How long after the drain time the last endings may be written. Together with leaving, less than the second
/// that a stop may take beyond the drain time.
const LAST_WRITES: Duration = Duration::from_millis(750);
/// How long leaving the crew may take, in the worst case and at most.
const LEAVE_MIN: Duration = Duration::from_millis(200);
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// What all parts of one worker share.
struct Shared {
    settings: Settings,
    store: Store,
    /// Through connections of their own, which keep the plan of the claim.
    claims: Store,
    sql_store: Option<Store>,
    registry: Registry,
    worker_id: AtomicI64,
    held: Held,
    tally: Tally,
    /// A slot became free, or something else changed that the dispatcher should look at.
    changed: Notify,
    running: AtomicU64,
    stale: AtomicU64,
    /// Endings that the database refuses, held until it takes them.
    refused: AtomicU64,
    /// The database has been failing since; one line in the log for each change.
    database_down: AtomicBool,
    gave_up: AtomicBool,
    /// No beat goes through: others may take this worker for lost, so it claims nothing.
    silent: AtomicBool,
}

/// Runs a worker until it is asked to stop, and returns when its last job is written or given back.
pub async fn run(
    store: Store,
    registry: Registry,
    settings: Settings,
    stopping: watch::Receiver<Stopping>,
) -> Result<(), Error> {
    store.check_ready().await?;
    let sql_store = registry.has_sql().then(|| store.with_pool_of(settings.sql_connections)).transpose()?;
    let registration = Registration {
        name: settings.name.clone(),
        queues: settings.queues.clone(),
        kinds: registry.iter().map(|(kind, _)| kind.to_string()).collect(),
        concurrency: settings.concurrency as i32,
    };
    let (worker_id, lock_key) = store.register(&registration).await?;
    tracing::info!(worker.id = worker_id, queues = ?settings.queues, kinds = ?registration.kinds, "worker started");
    let shared = Arc::new(Shared {
        settings,
        claims: store.for_claims()?,
        store,
        sql_store,
        registry,
        worker_id: AtomicI64::new(worker_id),
        held: Held::default(),
        tally: Tally::default(),
        changed: Notify::new(),
        running: AtomicU64::new(0),
        stale: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        database_down: AtomicBool::new(false),
        gave_up: AtomicBool::new(false),
        silent: AtomicBool::new(false),
    });
    let (signals, heard) = mpsc::unbounded_channel();
    let alive = liveness::start(shared.clone(), registration, lock_key, signals, stopping.clone());
    let (ended, to_write) = mpsc::unbounded_channel();
    let finisher = tokio::spawn(finisher::run(shared.clone(), to_write, ended.downgrade()));
    let flusher = tokio::spawn(flush(shared.clone()));
    let over = dispatch::run(shared.clone(), heard, ended, stopping.clone()).await;
    // The channel closes with the last job: what it holds is written, then the finisher ends.
    let over = last_writes(&shared, finisher, over, stopping).await;
    flusher.abort();
    alive.end();
    leave(&shared, over).await;
    Ok(())
}

/// Waits until every ending is written, while the time to drain is not long over; answers when that is.
async fn last_writes(
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
async fn leave(shared: &Shared, over: Instant) {
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

/// Writes the counts every few seconds.
async fn flush(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(FLUSH_EVERY);
    let mut last = serde_json::Value::Null;
    loop {
        ticks.tick().await;
        let rows = shared.tally.rows();
        // Nothing new costs no statement.
        if rows == last || rows.as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        match shared.store.flush_stats(shared.worker_id(), &rows).await {
            Ok(()) => {
                shared.tally.written();
                last = rows;
            }
            Err(error) => tracing::debug!(%error, "statistics are written later"),
        }
    }
}

impl Shared {
    fn worker_id(&self) -> WorkerId {
        self.worker_id.load(Ordering::SeqCst)
    }

    fn sql_store(&self) -> &Store {
        self.sql_store.as_ref().unwrap_or(&self.store)
    }

    /// Whether a trace of this job is kept when it is finished.
    fn keeps(&self, job: &Job) -> bool {
        self.settings.keep_finished && job.keep
    }

    fn ending(&self, job: &Job, fate: Fate) -> Ending {
        Ending { id: job.id, claim_id: job.claim_id, fate, keep: self.keeps(job) }
    }

    /// Counts results that came after the claim was taken over, and says so once for each group.
    fn count_stale(&self, jobs: &[JobId]) {
        self.stale.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        tracing::warn!(jobs = ?&jobs[..jobs.len().min(10)], count = jobs.len(),
            "results dropped: these jobs were taken over, cancelled or buried meanwhile");
    }

    /// Logs once that the database fails, until it works again.
    fn database_failed(&self, error: &Error) {
        if !self.database_down.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the database does not answer; jobs that ended are held back and written later");
        }
    }

    fn database_works(&self) {
        if self.database_down.swap(false, Ordering::Relaxed) {
            tracing::info!("the database answers again");
        }
    }

    /// Whether the process is about to end and waits for nothing more.
    fn gives_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed)
    }

    /// Whether the others may take this worker for lost.
    fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// Acts on what the liveness thread says.
    fn stop_everything(&self, reason: StopReason) {
        self.held.stop_all(reason);
        self.changed.notify_one();
    }
}
