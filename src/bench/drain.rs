//! No-op jobs from a full queue: one worker process against bare SQL and the textbook.

use super::reference::{bare_sql, textbook};
use super::report::{Goal, Report};
use super::rig::Rig;
use super::watch::Run;

/// Jobs at once in the worker. No-op handlers need few; the buffer bridges the rest.
pub(super) const CONCURRENCY: i64 = 100;
/// Payload of the comparison with small ones.
const LARGE_BYTES: usize = 1_024;
/// Jobs of which the textbook worker takes what it can in its time.
const TEXTBOOK_JOBS: i64 = 50_000;

pub(super) async fn run(rig: &Rig<'_>) -> anyhow::Result<Report> {
    let mut report = Report::new("drain");
    let (jobs, small) = (rig.settings.jobs, rig.settings.payload_bytes);
    let large_jobs = jobs / 2;
    for round in 1..=rig.settings.rounds {
        rig.keep_finished(false).await?;
        rig.begin(round, "bare SQL loop");
        rig.fill(jobs, small).await?;
        report.ran("bare SQL loop", "jobs", bare_sql(rig, jobs).await?);
        rig.begin(round, "worker, history off");
        report.ran("worker, history off", "jobs", drained(rig, jobs, small).await?);
        rig.begin(round, "bare SQL loop, 1 KB payloads");
        rig.fill(large_jobs, LARGE_BYTES).await?;
        report.ran("bare SQL loop, 1 KB payloads", "jobs", bare_sql(rig, large_jobs).await?);
        rig.begin(round, "worker, 1 KB payloads");
        report.ran("worker, 1 KB payloads", "jobs", drained(rig, large_jobs, LARGE_BYTES).await?);
        rig.begin(round, "worker, finished jobs kept");
        rig.keep_finished(true).await?;
        report.ran("worker, finished jobs kept", "jobs", drained(rig, jobs, small).await?);
        rig.begin(round, "textbook worker");
        rig.fill(jobs.min(TEXTBOOK_JOBS), small).await?;
        report.ran("textbook worker", "jobs", textbook(rig, rig.settings.time).await?);
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
    let large = "worker, 1 KB payloads, jobs/s";
    report.ratio("1 KB / small payloads", large, worker, Goal::AtLeast(0.7));
    report.ratio(
        "1 KB payloads: worker / bare SQL loop",
        large,
        "bare SQL loop, 1 KB payloads, jobs/s",
        Goal::AtLeast(0.8),
    );
    report.ratio("worker / textbook worker", worker, "textbook worker, jobs/s", Goal::AtLeast(20.0));
    Ok(report)
}

/// A drain by one worker process that was idle before.
pub(super) async fn drained(rig: &Rig<'_>, jobs: i64, payload_bytes: usize) -> anyhow::Result<Run> {
    rig.fill(jobs, payload_bytes).await?;
    let mut workers = rig.workers(1, CONCURRENCY).await?;
    rig.drain(&mut workers, jobs).await
}
