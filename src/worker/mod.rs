//! The worker: claims jobs, runs them, writes how they ended, and leaves in order.
//!
//! A job's way: `dispatch` claims it into a buffer and starts it, `attempt` runs it, `finisher` writes its
//! end. `liveness`, on a thread of its own, keeps the worker known to live, watches the others, and hears
//! what is said to it.

mod attempt;
mod blocking;
mod broken;
mod check;
mod desk;
mod dispatch;
mod enter;
mod finisher;
mod held;
#[doc(hidden)]
pub mod hot;
mod idle;
mod lanes;
mod last;
mod liveness;
mod other_database;
mod own_process;
mod pace;
mod pauses;
mod payloads;
mod progress;
mod silence;
mod tally;
mod trouble;
mod verdict;
mod watcher;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::handler::Registry;
use crate::store::{Ending, Error, Fate, Registration, Store};
use crate::{Job, JobId, WorkerId};

pub use enter::unless_stopped;
pub use other_database::SqlElsewhere;
pub(crate) use own_process::stop_at_end_of_stdin;

use broken::Broken;
use enter::enter;
use finisher::Ended;
use held::{Held, StopReason};
use own_process::{Handed, Purpose};
use pauses::Pauses;
use tally::Tally;
use trouble::{DatabaseWay, Trouble};

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
    /// Connections for SQL handlers, and for the transactions of Rust handlers, at most.
    pub sql_connections: usize,
    /// Threads for blocking handlers at most.
    pub blocking_threads: usize,
    /// Whether finished jobs are kept at all.
    pub keep_finished: bool,
    /// This program, if it comes to [`run`] again when it is started again with the same arguments: then jobs that a
    /// worker was lost with run in processes beside it, and one that two were lost with has one of its own. Without it,
    /// the latter has the whole worker for itself.
    pub program: Option<PathBuf>,
}

impl Settings {
    /// Whether this process was started for jobs that a worker was lost with, and is to do nothing else.
    pub fn is_for_handed_jobs(&self) -> bool {
        Purpose::of_this_process(self).is_some()
    }

    /// As those of a worker that is handed jobs.
    fn for_handed(mut self, purpose: &Purpose) -> Self {
        self.name = format!("{} ({purpose})", self.name);
        self.queues.clear();
        if purpose.last_try.is_some() {
            self.concurrency = 1;
            self.sql_connections = 1;
        }
        self
    }
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

/// What all parts of one worker share.
struct Shared {
    settings: Settings,
    store: Store,
    /// Claims and endings, through connections of their own, which keep their plans.
    hot: Store,
    /// For handlers that write in one transaction with the finish; connects when it is first used.
    sql_store: Store,
    /// Where a handler needs it.
    blocking: Option<blocking::Blocking>,
    /// How far jobs are, as their handlers say it.
    reports: progress::Reports,
    registry: Registry,
    /// For payloads that come when their jobs begin.
    room: payloads::Room,
    worker_id: AtomicI64,
    held: Held,
    tally: Tally,
    pauses: Pauses,
    /// A slot became free, or something else changed that the dispatcher should look at.
    changed: Arc<Notify>,
    running: AtomicU64,
    /// Workers that were seen at the last look, this one included.
    crew: AtomicU32,
    stale: AtomicU64,
    /// Endings that cannot be written now, held until they can.
    refused: AtomicU64,
    /// Those of them whose jobs somebody has locked.
    locked: AtomicU64,
    /// Jobs whose connection broke under them.
    broken: Broken,
    /// What is known of the database, for the log.
    trouble: Trouble,
    /// A beat has gone through: should this worker die now, the others see it at once by its lock.
    entered: CancellationToken,
    /// The time to drain is over: the last endings are written, and wait for nobody.
    leaving: AtomicBool,
    /// The same for those who wait for processes of jobs.
    stopped: CancellationToken,
    gave_up: AtomicBool,
    /// No beat goes through: others may take this worker for lost, so it claims nothing.
    silent: AtomicBool,
    /// It has left the crew for a while.
    aside: AtomicBool,
    /// When the last beat that went through was sent.
    beaten_at: Mutex<std::time::Instant>,
}

/// What the worker hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    /// There may be jobs.
    Wake,
    /// There may be jobs where this worker has already looked.
    Back,
    /// Jobs that are held and not begun must be given up.
    ClaimsLost,
}

/// Runs a worker until it is asked to stop, and returns when its last job is written or given back.
pub async fn run(
    store: Store,
    registry: Registry,
    settings: Settings,
    stopping: watch::Receiver<Stopping>,
) -> Result<(), Error> {
    match Purpose::of_this_process(&settings) {
        Some(purpose) => {
            let (orders, stopping) = own_process::orders(stopping);
            let handed = Handed { last_try: purpose.last_try.is_some(), orders };
            let registry = registry.only(&purpose.kinds);
            Box::pin(work(store, registry, settings.for_handed(&purpose), stopping, Some(handed))).await
        }
        None => Box::pin(work(store, registry, settings, stopping, None)).await,
    }
}

async fn work(
    store: Store,
    registry: Registry,
    settings: Settings,
    stopping: watch::Receiver<Stopping>,
    handed: Option<Handed>,
) -> Result<(), Error> {
    let sql_store = store.for_transactions(settings.sql_connections)?;
    // What somebody has locked must not hold up the rest of the worker.
    let hot = store.for_hot_path(finisher::LOCK_WAIT)?;
    let store = store.with_lock_timeout(finisher::LOCK_WAIT)?;
    // A few jobs have nothing hot, and need not have another connection.
    let hot = if handed.is_some() { store.clone() } else { hot };
    let registration = Registration {
        name: settings.name.clone(),
        queues: settings.queues.clone(),
        kinds: registry.iter().map(|(kind, _)| kind.to_string()).collect(),
        concurrency: settings.concurrency as i32,
    };
    let poll = handed.is_none().then_some(settings.poll);
    let entering = Box::pin(enter(&store, &registry, &registration, poll));
    // Who was handed jobs has to give them back, and must be in the crew for that.
    let entered = if handed.is_some() {
        Some(entering.await?)
    } else {
        unless_stopped(stopping.clone(), entering).await?
    };
    let Some((pauses, worker_id, lock_key)) = entered else { return Ok(()) };
    let blocking = registry.has_blocking().then(|| blocking::Blocking::new(settings.blocking_threads));
    tracing::info!(worker.id = worker_id, queues = ?settings.queues, kinds = ?registration.kinds, "worker started");
    let shared = Arc::new(Shared {
        settings,
        hot,
        store,
        sql_store,
        blocking,
        reports: progress::Reports::default(),
        registry,
        room: payloads::Room::default(),
        worker_id: AtomicI64::new(worker_id),
        held: Held::default(),
        tally: Tally::default(),
        changed: Arc::default(),
        pauses,
        running: AtomicU64::new(0),
        crew: AtomicU32::new(1),
        stale: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        locked: AtomicU64::new(0),
        broken: Broken::default(),
        trouble: Trouble::default(),
        entered: CancellationToken::new(),
        leaving: AtomicBool::new(false),
        stopped: CancellationToken::new(),
        gave_up: AtomicBool::new(false),
        silent: AtomicBool::new(false),
        aside: AtomicBool::new(false),
        beaten_at: Mutex::new(std::time::Instant::now()),
    });
    shared.registry.start(&shared.changed);
    let (signals, heard) = mpsc::unbounded_channel();
    let alive = liveness::start(shared.clone(), registration, lock_key, signals, stopping.clone());
    let (ended, to_write) = mpsc::unbounded_channel();
    let finisher = tokio::spawn(finisher::run(shared.clone(), to_write, ended.downgrade()));
    let flusher = tokio::spawn(flush(shared.clone()));
    let reporter = tokio::spawn(progress::run(shared.clone()));
    // A task like those of the jobs it starts, so that they start on its own thread.
    let dispatch = tokio::spawn(dispatch::run(shared.clone(), heard, ended, stopping.clone(), handed));
    let over = dispatch.await.expect("the dispatcher does not panic");
    let handlers = last::stop_handlers(shared.registry.clone());
    // The channel closes with the last job: what it holds is written, then the finisher ends.
    let over = last::writes(&shared, finisher, over, stopping).await;
    flusher.abort();
    reporter.abort();
    alive.end();
    last::leave(&shared, over).await;
    let _ = handlers.await;
    Ok(())
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

    /// Whether a trace of this job is kept when it is finished.
    fn keeps(&self, job: &Job) -> bool {
        self.settings.keep_finished && job.keep
    }

    fn ending(&self, job: &Job, fate: Fate) -> Ending {
        Ending { id: job.id, claim_id: job.claim_id, fate, keep: self.keeps(job) }
    }

    /// Counts results that came after the claim was taken over, and says so once for each group; `among` are
    /// the jobs of the group.
    fn count_stale(&self, count: usize, among: impl Iterator<Item = JobId>) {
        self.stale.fetch_add(count as u64, Ordering::Relaxed);
        tracing::warn!(count, among = ?among.take(10).collect::<Vec<_>>(),
            "results dropped: their jobs were taken over, cancelled or buried meanwhile");
    }

    /// Whether the process is about to end and waits for nothing more.
    fn gives_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed)
    }

    /// Whether the others may take this worker for lost.
    /// By the clock as well: a process that was frozen knows it at once, before anybody has told it.
    fn is_silent(&self) -> bool {
        self.is_silent_at(std::time::Instant::now())
    }

    fn is_silent_at(&self, now: std::time::Instant) -> bool {
        let beaten_at = *self.beaten_at.lock().unwrap_or_else(PoisonError::into_inner);
        let told = self.silent.load(Ordering::Relaxed) || self.aside.load(Ordering::Relaxed);
        told || now.saturating_duration_since(beaten_at) >= silence::SELF_STOP
    }

    /// Acts on what the liveness thread says.
    fn stop_everything(&self, reason: StopReason) {
        self.held.stop_all(reason);
        self.changed.notify_one();
    }
}
