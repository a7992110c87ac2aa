//! No-op jobs from a full queue: one worker process against bare SQL and the textbook.

use std::time::Duration;

use super::reference::{bare_sql, textbook};
use super::report::{Goal, Report};
use super::rig::Rig;

/// Jobs at once in the worker. No-op handlers need few; the buffer bridges the rest.
pub(super) const CONCURRENCY: i64 = 100;
/// Payload of the comparison with small ones.
const LARGE_BYTES: usize = 1_024;

pub(super) async fn run(rig: &Rig<'_>) -> anyhow::Result<Report> {
    let mut report = Report::new("drain");
    let (jobs, small) = (rig.settings.jobs, rig.settings.payload_bytes);
    let large_jobs = jobs / 2;
    for round in 1..=rig.settings.rounds {
        rig.say(&format!("drain: round {round} of {}", rig.settings.rounds));
        rig.keep_finished(false).await?;
        rig.fill(jobs, small).await?;
        report.measure("bare SQL loop, jobs/s", bare_sql(rig, jobs).await?);
        report.measure("worker, history off, jobs/s", drained(rig, jobs, small).await?);
        report.measure("worker, 1 KB payloads, jobs/s", drained(rig, large_jobs, LARGE_BYTES).await?);
        rig.keep_finished(true).await?;
        report.measure("worker, finished jobs kept, jobs/s", drained(rig, jobs, small).await?);
        rig.fill(jobs.min(50_000), small).await?;
        report.measure("textbook worker, jobs/s", textbook(rig, Duration::from_secs(3)).await?);
        rig.exec("truncate rowcrew.jobs").await?;
    }
    let worker = "worker, history off, jobs/s";
    report.ratio("worker / bare SQL loop", worker, "bare SQL loop, jobs/s", Goal::AtLeast(0.8));
    report.ratio(
        "finished jobs kept / history off",
        "worker, finished jobs kept, jobs/s",
        worker,
        Goal::AtLeast(0.75),
    );
    report.ratio("1 KB / small payloads", "worker, 1 KB payloads, jobs/s", worker, Goal::AtLeast(0.7));
    report.ratio("worker / textbook worker", worker, "textbook worker, jobs/s", Goal::AtLeast(20.0));
    Ok(report)
}

/// Jobs a second of one worker process that was idle before.
pub(super) async fn drained(rig: &Rig<'_>, jobs: i64, payload_bytes: usize) -> anyhow::Result<f64> {
    rig.fill(jobs, payload_bytes).await?;
    let _workers = rig.workers(1, CONCURRENCY).await?;
    rig.drain_rate(jobs).await
}
