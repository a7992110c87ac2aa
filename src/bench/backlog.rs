//! Drains beside a large backlog: millions waiting behind the jobs that are drained, or scheduled for later.

use std::time::Instant;

use super::drain::CONCURRENCY;
use super::report::{Goal, Report};
use super::rig::{LOOK_EVERY, Rig};
use super::watch::Run;

pub(super) async fn run(rig: &Rig<'_>) -> anyhow::Result<Report> {
    let mut report = Report::new("backlog");
    let (jobs, many) = (rig.settings.jobs, rig.settings.backlog);
    rig.keep_finished(false).await?;
    for round in 1..=rig.settings.rounds {
        rig.begin(round, "alone");
        report.ran("alone", "jobs", beside(rig, jobs, None).await?);
        rig.begin(round, "many waiting");
        report.ran("many waiting", "jobs", beside(rig, jobs, Some(("9", "now()", many))).await?);
        rig.begin(round, "many scheduled");
        let scheduled = ("5", "now() + interval '1 day'", many / 10);
        report.ran("many scheduled", "jobs", beside(rig, jobs, Some(scheduled)).await?);
    }
    report.notes.push(format!("{many} waiting, {} scheduled", many / 10));
    let alone = "alone, jobs/s";
    report.ratio("many waiting / alone", "many waiting, jobs/s", alone, Goal::AtLeast(0.9));
    report.ratio("many scheduled / alone", "many scheduled, jobs/s", alone, Goal::AtLeast(0.9));
    Ok(report)
}

/// Drains the jobs of priority 5 while others stand beside them; priority 9 and those of another day do not count.
async fn beside(rig: &Rig<'_>, jobs: i64, others: Option<(&str, &str, i64)>) -> anyhow::Result<Run> {
    rig.exec("truncate rowcrew.jobs").await?;
    if let Some((priority, run_at, many)) = others {
        // Put in first, so that they fill the table before the jobs that count. Those waiting have the last
        // priority: they are run only when the jobs that count are gone, and the bench is over then.
        rig.exec(&format!(
            "insert into rowcrew.jobs (kind, queue, priority, run_at) \
             select 'noop', 'default', {priority}, {run_at} from generate_series(1, {many})"
        ))
        .await?;
    }
    rig.fill(jobs, rig.settings.payload_bytes).await?;
    let mut workers = rig.workers(1, CONCURRENCY).await?;
    let last: i64 =
        rig.client.query_one("select max(id) from rowcrew.jobs where shard = 0", &[]).await?.get(0);
    let left = rig
        .client
        .prepare(
            "select exists (select from rowcrew.jobs where shard = 0 and queue = 'default' and priority = 5 \
                and due_at <= now() and id > $1::bigint - 5000)",
        )
        .await?;
    rig.watched(async {
        let began = Instant::now();
        rig.exec("select rowcrew.resume('default')").await?;
        loop {
            let looked = Instant::now();
            if !rig.client.query_one(&left, &[&last]).await?.get::<_, bool>(0) {
                return Ok(jobs as f64 / (looked - began).as_secs_f64());
            }
            workers.check()?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await
}
