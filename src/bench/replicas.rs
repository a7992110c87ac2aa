//! Several worker processes on one database, against one.

use super::drain::CONCURRENCY;
use super::report::{Goal, Report};
use super::rig::Rig;

/// From this number of processes on, the lower goal holds.
const MANY: usize = 16;

pub(super) async fn run(rig: &Rig<'_>) -> anyhow::Result<Report> {
    let mut report = Report::new("replicas");
    let (jobs, bytes) = (rig.settings.jobs, rig.settings.payload_bytes);
    rig.keep_finished(false).await?;
    for round in 1..=rig.settings.rounds {
        for &count in &rig.settings.workers {
            rig.begin(round, &name(count));
            rig.fill(jobs, bytes).await?;
            // All of them are in the crew, and idle, before the clock starts.
            let mut workers = rig.workers(count, CONCURRENCY).await?;
            report.ran(&name(count), "jobs", rig.drain(&mut workers, jobs).await?);
        }
    }
    for &count in rig.settings.workers.iter().filter(|count| **count > 1) {
        let goal = Goal::AtLeast(if count >= MANY { 0.7 } else { 0.9 });
        report.ratio(&format!("{count} processes / 1"), &rate(count), &rate(1), goal);
    }
    Ok(report)
}

fn name(count: usize) -> String {
    if count == 1 { "1 process".to_owned() } else { format!("{count} processes") }
}

fn rate(count: usize) -> String {
    format!("{}, jobs/s", name(count))
}
