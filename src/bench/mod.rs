//! Benchmarks: rowcrew against what the same server, in the same run, does without it.
//!
//! Machines are noisy, so nothing here is judged by a rate alone. Each bench has contenders that run in
//! turn, round by round; a figure is the ratio of two of them in one round, reported with its least, middle
//! and largest value. The references are raw loops through the driver, which is why this floor may use it.

mod backlog;
mod bloat;
mod chart;
mod concurrency;
mod disk;
mod drain;
mod enqueue;
mod forms;
mod handlers;
mod latency;
mod pooler;
mod reference;
mod replicas;
mod report;
mod rig;
mod steady;
mod watch;
mod workers;

use std::path::PathBuf;
use std::time::Duration;

pub use chart::draw;
pub use report::{Axis, Figure, Goal, Line, Panel, Report, Row};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bench {
    /// No-op jobs from a full queue, against the same claims and finishes in bare SQL and a textbook worker.
    Drain,
    /// Single-row inserts beside idle workers, against the table without its trigger; and the ways to put many in.
    Enqueue,
    /// From an insert's commit to the handler's start in an idle worker, against bare NOTIFY and SELECT.
    Latency,
    /// Thousands of jobs at once in one process: rate, memory, connections.
    Concurrency,
    /// A drain while a snapshot from before pins every dead row, against one without.
    Bloat,
    /// A drain with millions waiting or scheduled beside it, against one without.
    Backlog,
    /// Several processes on one database, against one.
    Replicas,
    /// Through PgBouncer in transaction mode, against a direct connection.
    Pooler,
    /// A constant trickle for minutes, while long transactions pin every dead row: the claims at the end
    /// against those at the start.
    Steady,
    /// Jobs of each type of handler, against bare loops of what they do.
    Handlers,
    /// Other ways to claim and finish on tables of their own, against the engine's.
    Forms,
    /// What a large backlog takes on disk, and how fast it gets there.
    Disk,
}

impl Bench {
    /// All of them, in the order of `bench all`, which leaves out the last two.
    pub const ALL: [Self; 12] = [
        Self::Drain,
        Self::Enqueue,
        Self::Latency,
        Self::Concurrency,
        Self::Bloat,
        Self::Backlog,
        Self::Replicas,
        Self::Pooler,
        Self::Steady,
        Self::Handlers,
        Self::Forms,
        Self::Disk,
    ];

    /// Whether it judges this machine and this build; the others stand behind choices already made.
    pub fn has_goals(self) -> bool {
        !matches!(self, Self::Forms | Self::Disk)
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Enqueue => "enqueue",
            Self::Latency => "latency",
            Self::Concurrency => "concurrency",
            Self::Bloat => "bloat",
            Self::Backlog => "backlog",
            Self::Replicas => "replicas",
            Self::Pooler => "pooler",
            Self::Steady => "steady",
            Self::Handlers => "handlers",
            Self::Forms => "forms",
            Self::Disk => "disk",
        }
    }

    /// How many runs it makes.
    pub fn runs(self, settings: &Settings) -> usize {
        let a_round = match self {
            Self::Drain => 6,
            Self::Enqueue => 2 + enqueue::Way::ALL.len(),
            Self::Latency | Self::Pooler => 2,
            Self::Concurrency => 1,
            Self::Bloat | Self::Backlog => 3,
            Self::Replicas => settings.workers.len(),
            Self::Handlers => handlers::RUNS,
            Self::Steady => return 1,
            // They say for themselves how far they are.
            Self::Forms | Self::Disk => return 0,
        };
        a_round * settings.rounds
    }
}

/// How it is measured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This program, to start workers as processes.
    pub program: PathBuf,
    /// A folder for their configuration.
    pub scratch: PathBuf,
    /// A migrated-to database to use; without it, or for `pooler`, a private server is started.
    pub url: Option<String>,
    /// Where its binaries are, for a private server.
    pub binaries: crate::embedded::Binaries,
    /// How often each contender runs.
    pub rounds: usize,
    /// Jobs of one run.
    pub jobs: i64,
    /// Size of a payload in bytes.
    pub payload_bytes: usize,
    /// The part of the jobs that fails once before it succeeds, 0 to 1.
    pub error_rate: f64,
    /// The numbers of processes that `replicas` tries.
    pub workers: Vec<usize>,
    /// Jobs at once, for `concurrency`.
    pub at_once: i64,
    /// How long each handler of `concurrency` waits.
    pub nap: Duration,
    /// How large the backlog of `backlog` is.
    pub backlog: i64,
    /// Inserting clients of `enqueue`.
    pub clients: usize,
    /// How long a run takes that ends by the clock: the inserting clients, the textbook worker.
    pub time: Duration,
    /// Inserts that `latency` times.
    pub inserts: usize,
    /// How long `steady` takes.
    pub steady_time: Duration,
    /// Jobs a second that `steady` puts in.
    pub steady_rate: u32,
    /// Only forms with this in their names, beside the engine's.
    pub forms: String,
}

/// What a bench says while it goes on.
#[derive(Debug)]
pub enum Progress<'a> {
    /// Something between the runs.
    Doing(&'a str),
    /// The next run begins: the round (from 1) and the contender.
    Run(usize, &'a str),
    /// About so many jobs are left in the run.
    Left(u64),
}

/// Hears what a bench says.
pub type Listener<'a> = &'a (dyn Fn(Progress<'_>) + Sync);

/// Sets a database that is not the bench's own as it shall be left, however the benches ended. The jobs and the
/// settings of the queue `default` that were in it are gone.
pub async fn restore(settings: &Settings) -> anyhow::Result<()> {
    match &settings.url {
        Some(url) => rig::connect(url).await?.batch_execute(rig::RESTORE).await.map_err(Into::into),
        None => Ok(()),
    }
}

/// Runs one bench.
pub async fn run(bench: Bench, settings: &Settings, listener: Listener<'_>) -> anyhow::Result<Report> {
    let rig = rig::Rig::start(settings, listener).await?;
    let report = match bench {
        Bench::Drain => drain::run(&rig).await,
        Bench::Enqueue => Box::pin(enqueue::run(&rig)).await,
        Bench::Latency => latency::run(&rig).await,
        Bench::Concurrency => concurrency::run(&rig).await,
        Bench::Bloat => bloat::run(&rig).await,
        Bench::Backlog => backlog::run(&rig).await,
        Bench::Replicas => replicas::run(&rig).await,
        Bench::Pooler => pooler::run(&rig).await,
        Bench::Steady => steady::run(&rig).await,
        Bench::Handlers => handlers::run(&rig).await,
        Bench::Forms => forms::run(&rig).await,
        Bench::Disk => disk::run(&rig).await,
    };
    debug_assert!(
        report.is_err() || [0, bench.runs(settings)].contains(&rig.runs_begun()),
        "{} made {} runs",
        bench.name(),
        rig.runs_begun()
    );
    rig.stop();
    report
}
