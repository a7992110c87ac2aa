//! Benchmarks: rowcrew against what the same server, in the same run, does without it.
//!
//! Machines are noisy, so nothing here is judged by a rate alone. Each bench has contenders that run in
//! turn, round by round; a figure is the ratio of two of them in one round, reported with its least, middle
//! and largest value. The references are raw loops through the driver, which is why this floor may use it.

mod backlog;
mod bloat;
mod concurrency;
mod disk;
mod drain;
mod enqueue;
mod forms;
mod latency;
mod pooler;
mod reference;
mod replicas;
mod report;
mod rig;

use std::path::PathBuf;

pub use report::{Figure, Goal, Report, Row};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bench {
    /// No-op jobs from a full queue, against the same claims and finishes in bare SQL and a textbook worker.
    Drain,
    /// Single-row inserts beside idle workers, against the table without its trigger.
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
    /// Other ways to claim and finish on tables of their own, against the engine's.
    Forms,
    /// What a large backlog takes on disk, and how fast it gets there.
    Disk,
}

impl Bench {
    /// All of them, in the order of `bench all`, which leaves out the last two.
    pub const ALL: [Self; 10] = [
        Self::Drain,
        Self::Enqueue,
        Self::Latency,
        Self::Concurrency,
        Self::Bloat,
        Self::Backlog,
        Self::Replicas,
        Self::Pooler,
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
            Self::Forms => "forms",
            Self::Disk => "disk",
        }
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
    /// How large the backlog of `backlog` and `disk` is.
    pub backlog: i64,
    /// Only forms with this in their names, beside the engine's.
    pub forms: String,
}

/// Runs one bench; `progress` hears what is going on.
pub async fn run(
    bench: Bench,
    settings: &Settings,
    progress: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<Report> {
    let rig = rig::Rig::start(settings, progress).await?;
    let report = match bench {
        Bench::Drain => drain::run(&rig).await,
        Bench::Enqueue => enqueue::run(&rig).await,
        Bench::Latency => latency::run(&rig).await,
        Bench::Concurrency => concurrency::run(&rig).await,
        Bench::Bloat => bloat::run(&rig).await,
        Bench::Backlog => backlog::run(&rig).await,
        Bench::Replicas => replicas::run(&rig).await,
        Bench::Pooler => pooler::run(&rig).await,
        Bench::Forms => forms::run(&rig).await,
        Bench::Disk => disk::run(&rig).await,
    };
    rig.stop();
    report
}
