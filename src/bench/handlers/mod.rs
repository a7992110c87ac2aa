//! Jobs of each type of handler, against bare loops that do the same without a queue.
//!
//! Each type has a floor of its own, measured in the same round: the same children at the end of bare pipes, a bare
//! loop of spawns, of calls, of statements. No floor but that of `noop` claims or finishes anything, so the others
//! are also put together with what a no-op job costs in the same worker.

mod calls;
mod children;
mod floors;
mod kinds;

use anyhow::ensure;

use self::kinds::Kind;
use super::report::{Goal, Report, Row};
use super::rig::Rig;
use super::workers::WorkerKind;

/// Long-lived children of `process`.
const CHILDREN: usize = 2;
/// Jobs in the hand of each: enough that its next line is there when it has written an answer.
const IN_HAND: usize = 100;
/// Calls at once, as many as the handler keeps connections.
const CALLS: usize = 64;
/// Connections of `sql`, as a worker has them by default.
const CONNECTIONS: usize = 4;
/// Jobs before those that count, at most: then children are up, connections open, plans made.
const WARM_UP: i64 = 500;
/// A worker that adds a quarter to the time of its floor reaches this part of its rate.
const GOAL: Goal = Goal::AtLeast(0.8);

/// How many runs a round has: each kind, and the floors of all but one.
pub(super) const RUNS: usize = 2 * Kind::ALL.len() - 1;

/// What the kinds and their floors work with.
struct Stage {
    program: children::Program,
    server: calls::Server,
    /// Spawns at once.
    spawns: usize,
}

/// What a worker came to.
struct Drained {
    jobs_per_second: f64,
    /// Of the worker's own processor time, its children not counted.
    processor_us_per_job: f64,
    memory_mb: f64,
}

pub(super) async fn run(rig: &Rig<'_>) -> anyhow::Result<Report> {
    let mut report = Report::new("handlers");
    rig.keep_finished(false).await?;
    rig.exec("drop table if exists bench_rows; create table bench_rows (n bigint not null)").await?;
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    let stage = Stage {
        program: children::Program::find(),
        server: calls::Server::start().await?,
        spawns: 2 * processors,
    };
    report.grid.extend(Kind::ALL.iter().map(|kind| Row::new(kind.name())));
    for round in 1..=rig.settings.rounds {
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            if kind.has_floor() {
                rig.begin(round, &format!("floor of {}", kind.name()));
                report.measure(&kind.floor(), stage.floor(rig, kind).await?);
            }
            rig.begin(round, kind.name());
            let drained = drained(rig, &stage, kind).await?;
            report.measure(&kind.rate(), drained.jobs_per_second);
            let row = &mut report.grid[at];
            row.measure("worker's CPU us a job", drained.processor_us_per_job);
            row.measure("its resident memory at most, MB", drained.memory_mb);
        }
    }
    judge(&mut report);
    for kind in Kind::ALL {
        report.notes.push(format!("{}: {} jobs a run; {}", kind.name(), kind.jobs(rig), stage.words(kind)));
    }
    report.notes.push(format!("the calls of all runs came over {} connections", stage.server.connections()));
    rig.exec("drop table bench_rows").await?;
    Ok(report)
}

fn judge(report: &mut Report) {
    for kind in Kind::ALL.into_iter().filter(|kind| kind.has_floor()) {
        let (rate, floor) = (kind.rate(), kind.floor());
        report.ratio(&format!("{} / floor", kind.name()), &rate, &floor, GOAL);
        if kind != Kind::Noop {
            let both = format!("{}: its floor and a no-op job in turn, jobs/s", kind.name());
            report.in_turn(&both, &floor, &Kind::Noop.rate());
            report.ratio(&format!("{} / floor and no-op job", kind.name()), &rate, &both, GOAL);
        }
    }
    let (kept, spawned) = (Kind::Process.rate(), Kind::Spawned.rate());
    report.ratio("process / the same program spawned for each job", &kept, &spawned, None);
}

/// Runs the jobs of a kind in one worker that has run some before.
async fn drained(rig: &Rig<'_>, stage: &Stage, kind: Kind) -> anyhow::Result<Drained> {
    let handlers = stage.config(kind);
    let jobs = kind.jobs(rig);
    let dead_before = dead(rig, kind).await?;
    let warm_up = (jobs / 4).clamp(1, WARM_UP);
    fill(rig, kind, warm_up).await?;
    let mut workers = rig
        .workers_of(1, stage.at_once(kind), &WorkerKind { handlers: &handlers, ..WorkerKind::default() })
        .await?;
    rig.drain(&mut workers, warm_up).await?;
    fill(rig, kind, jobs).await?;
    let before = workers.processor_us(0)?;
    let run = rig.drain(&mut workers, jobs).await?;
    let processor_us = workers.processor_us(0)? - before;
    let failed = dead(rig, kind).await? - dead_before;
    ensure!(failed == 0, "{failed} jobs of kind {} failed: see rowcrew.dead_jobs", kind.name());
    Ok(Drained {
        jobs_per_second: run.rate,
        processor_us_per_job: processor_us / jobs as f64,
        memory_mb: workers.peak_memory_mb(0)?,
    })
}

async fn fill(rig: &Rig<'_>, kind: Kind, jobs: i64) -> anyhow::Result<()> {
    // One attempt: a job that fails is found out, not tried again.
    let insert = format!(
        "insert into rowcrew.jobs (kind, payload, max_attempts) \
         select '{}', {}, 1 from generate_series(1, {jobs}) as n",
        kind.name(),
        kind.payload()
    );
    rig.fill_by(&insert).await
}

async fn dead(rig: &Rig<'_>, kind: Kind) -> anyhow::Result<i64> {
    let count = "select count(*) from rowcrew.dead_jobs where kind = $1";
    Ok(rig.client.query_one(count, &[&kind.name()]).await?.get(0))
}
