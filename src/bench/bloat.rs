//! A drain while a snapshot, taken before the jobs were put in, keeps every dead row and index entry.

use super::drain::drained;
use super::report::{Goal, Report};
use super::rig::Rig;

pub(super) async fn run(rig: &Rig<'_>) -> anyhow::Result<Report> {
    let mut report = Report::new("bloat");
    let (jobs, bytes) = (rig.settings.jobs, rig.settings.payload_bytes);
    rig.keep_finished(false).await?;
    for round in 1..=rig.settings.rounds {
        rig.begin(round, "no snapshot");
        report.ran("no snapshot", "jobs", drained(rig, jobs, bytes).await?);
        let holder = rig.connect().await?;
        holder
            .batch_execute("begin isolation level repeatable read; select count(*) from rowcrew.jobs")
            .await?;
        rig.begin(round, "snapshot held");
        report.ran("snapshot held", "jobs", drained(rig, jobs, bytes).await?);
        rig.begin(round, "snapshot held, second drain");
        report.ran("snapshot held, second drain", "jobs", drained(rig, jobs, bytes).await?);
        holder.batch_execute("rollback").await?;
        rig.exec("vacuum rowcrew.jobs").await?;
    }
    let plain = "no snapshot, jobs/s";
    report.ratio("snapshot held / without", "snapshot held, jobs/s", plain, Goal::AtLeast(0.8));
    report.ratio(
        "second drain under it / without",
        "snapshot held, second drain, jobs/s",
        plain,
        Goal::AtLeast(0.8),
    );
    Ok(report)
}
