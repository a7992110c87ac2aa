//! Thousands of waiting handlers at once in one process: rate, memory and connections.

use super::report::{Goal, Report};
use super::rig::Rig;

/// How long each handler waits, in milliseconds: the length of a slow call.
const NAP_MS: i64 = 3_500;

pub(super) async fn run(rig: &Rig<'_>) -> anyhow::Result<Report> {
    let mut report = Report::new("concurrency");
    let at_once = rig.settings.at_once;
    // Several turns of all slots: the rate is that of a steady state, not of one wave.
    let jobs = at_once * 4;
    rig.keep_finished(false).await?;
    for round in 1..=rig.settings.rounds {
        rig.say(&format!("concurrency: round {round} of {}", rig.settings.rounds));
        rig.exec(&format!(
            "insert into rowcrew.jobs (kind, payload) select 'sleep', '{{\"ms\": {NAP_MS}}}' from generate_series(1, {jobs})"
        ))
        .await?;
        rig.exec("vacuum analyze rowcrew.jobs").await?;
        rig.exec("select rowcrew.pause('default')").await?;
        let workers = rig.workers(1, at_once).await?;
        report.measure("jobs/s", rig.drain_rate(jobs).await?);
        let pid = workers.pids()[0];
        report.measure("resident memory at most, MB", peak_memory_mb(pid)?);
        let connections = "select count(*) from pg_stat_activity where application_name = 'rowcrew'";
        report.measure("connections", rig.client.query_one(connections, &[]).await?.get::<_, i64>(0) as f64);
    }
    let ideal = at_once as f64 * 1e3 / NAP_MS as f64;
    report
        .notes
        .push(format!("{at_once} at once, {NAP_MS} ms each: {ideal:.0} jobs/s is the most there can be"));
    report.absolute("jobs/s", Goal::AtLeast(ideal * 0.9625));
    report.absolute("resident memory at most, MB", Goal::AtMost(100.0));
    report.absolute("connections", Goal::AtMost(12.0));
    Ok(report)
}

/// The peak of a process's resident memory.
fn peak_memory_mb(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    let kb: f64 = line.split_whitespace().next().unwrap_or("0").parse()?;
    Ok(kb / 1024.0)
}
