//! Thousands of waiting handlers at once in one process: rate, memory and connections.

use super::report::{Goal, Report};
use super::rig::Rig;

pub(super) async fn run(rig: &Rig<'_>) -> anyhow::Result<Report> {
    let mut report = Report::new("concurrency");
    let at_once = rig.settings.at_once;
    let nap_ms = rig.settings.nap.as_millis();
    // Several turns of all slots: the rate is that of a steady state, not of one wave.
    let jobs = at_once * 4;
    rig.keep_finished(false).await?;
    for round in 1..=rig.settings.rounds {
        rig.begin(round, &format!("{at_once} jobs at once"));
        rig.exec(&format!(
            "insert into rowcrew.jobs (kind, payload) select 'sleep', '{{\"ms\": {nap_ms}}}' from generate_series(1, {jobs})"
        ))
        .await?;
        rig.exec("vacuum analyze rowcrew.jobs").await?;
        rig.exec("select rowcrew.pause('default')").await?;
        let mut workers = rig.workers(1, at_once).await?;
        report.ran("worker", "jobs", rig.drain(&mut workers, jobs).await?);
        report.measure("resident memory at most, MB", workers.peak_memory_mb(0)?);
        let connections = "select count(*) from pg_stat_activity where application_name = 'rowcrew'";
        report.measure("connections", rig.client.query_one(connections, &[]).await?.get::<_, i64>(0) as f64);
    }
    let ideal = at_once as f64 * 1e3 / nap_ms as f64;
    report
        .notes
        .push(format!("{at_once} at once, {nap_ms} ms each: {ideal:.0} jobs/s is the most there can be"));
    report.absolute("worker, jobs/s", Goal::AtLeast(ideal * 0.9625));
    report.absolute("resident memory at most, MB", Goal::AtMost(100.0));
    report.absolute("connections", Goal::AtMost(12.0));
    Ok(report)
}
