//! The forms of claim and finish that the engine's choices were made from, side by side in one run.
//!
//! Bare loops through the driver on tables of their own: durable commits, no handlers. All forms run once in
//! each round, and a form's ratio is to the first one in the same round.

mod drive;
mod form;
mod sql;

use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio_postgres::Client;

use self::drive::Drained;
use self::form::{ENGINE, FORMS, Form};
use super::report::{Report, Row};
use super::rig::Rig;

/// Payloads of more bytes than this in sum are cut to fewer jobs.
const BYTES_MAX: i64 = 200_000_000;
/// How long the server may take to end a session.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// What one run of a form came to.
struct Run {
    drained: Drained,
    wal_bytes_per_job: f64,
    /// The part of the updates that touched no index; `None` where nothing is updated.
    heap_only: Option<f64>,
}

pub(super) async fn run(rig: &Rig<'_>) -> anyhow::Result<Report> {
    let mut report = Report::new("forms");
    let chosen: Vec<&Form> = FORMS
        .iter()
        .filter(|form| form.name == ENGINE.name || form.name.contains(&rig.settings.forms))
        .collect();
    ensure!(
        chosen.len() > 1 || rig.settings.forms.is_empty(),
        "no form has {:?} in its name",
        rig.settings.forms
    );
    report.grid.extend(chosen.iter().map(|form| Row::new(form.name)));
    for round in 1..=rig.settings.rounds {
        let mut reference = None;
        for (at, form) in chosen.iter().enumerate() {
            rig.say(crate::bench::Progress::Doing(&format!(
                "forms: round {round} of {}: {}",
                rig.settings.rounds, form.name
            )));
            let run = measure(rig, form).await?;
            let jobs_per_second = run.drained.jobs_per_second;
            let reference = *reference.get_or_insert(jobs_per_second);
            let row = &mut report.grid[at];
            row.measure("jobs/s", jobs_per_second);
            row.measure("to the engine's", jobs_per_second / reference);
            if let Some(us) = run.drained.processor_us_per_job {
                row.measure("server CPU us a job", us);
            }
            row.measure("WAL bytes a job", run.wal_bytes_per_job);
            if let Some(share) = run.heap_only {
                row.measure("heap-only %", share * 100.0);
            }
        }
    }
    rig.exec("drop schema forms cascade").await?;
    report.notes.push(format!(
        "{} jobs of {} bytes, batches of {}, {} sessions, fillfactor {}, unless said",
        rig.settings.jobs, rig.settings.payload_bytes, ENGINE.batch, ENGINE.sessions, ENGINE.fillfactor
    ));
    Ok(report)
}

async fn measure(rig: &Rig<'_>, form: &Form) -> anyhow::Result<Run> {
    let bytes = form.payload_bytes.unwrap_or(rig.settings.payload_bytes);
    let jobs = rig.settings.jobs.min(BYTES_MAX / bytes.max(1) as i64);
    rig.exec(&sql::tables(form)).await?;
    let holder = if form.pinned { Some(pinned(rig, form, jobs, bytes).await?) } else { None };
    fill(rig, jobs, bytes).await?;
    let before = wal_bytes(&rig.client).await?;
    let drained = drive::drain(rig, form, jobs).await?;
    let wal_bytes_per_job = (wal_bytes(&rig.client).await? - before) as f64 / jobs as f64;
    drop(holder);
    check_empty(rig, form).await?;
    Ok(Run { drained, wal_bytes_per_job, heap_only: heap_only(rig).await? })
}

/// Takes a snapshot, and drains as many jobs as will be measured while it is held.
async fn pinned(rig: &Rig<'_>, form: &Form, jobs: i64, bytes: usize) -> anyhow::Result<Client> {
    let holder = rig.connect().await?;
    holder.batch_execute("begin isolation level repeatable read; select from forms.jobs").await?;
    fill(rig, jobs, bytes).await?;
    drive::drain(rig, form, jobs).await?;
    Ok(holder)
}

/// Puts jobs in. The checkpoint comes before them, as in a queue that is worked off soon after it fills.
async fn fill(rig: &Rig<'_>, jobs: i64, bytes: usize) -> anyhow::Result<()> {
    rig.exec("checkpoint").await?;
    // Letters by chance: the server must not compress them to nothing.
    let pad: String = (0..bytes.saturating_sub(24)).map(|_| fastrand::alphanumeric()).collect();
    rig.client.execute(sql::FILL, &[&pad, &jobs]).await?;
    rig.exec("vacuum analyze forms.jobs").await
}

async fn wal_bytes(client: &Client) -> anyhow::Result<i64> {
    let lsn = "select (pg_current_wal_insert_lsn() - '0/0')::bigint";
    Ok(client.query_one(lsn, &[]).await?.get(0))
}

/// A form that leaves something behind was not measured.
async fn check_empty(rig: &Rig<'_>, form: &Form) -> anyhow::Result<()> {
    let left = "select (select count(*) from forms.jobs) + (select count(*) from forms.flying) \
        + (select count(*) from forms.batches) + (select count(*) from forms.claims)";
    let left: i64 = rig.client.query_one(left, &[]).await?.get(0);
    ensure!(left == 0, "{} left {left} rows behind", form.name);
    Ok(())
}

/// Sessions report their counts when they end, at the latest.
async fn heap_only(rig: &Rig<'_>) -> anyhow::Result<Option<f64>> {
    let busy = "select exists (select from pg_stat_activity where application_name = 'forms')";
    let began = Instant::now();
    while rig.client.query_one(busy, &[]).await?.get::<_, bool>(0) {
        ensure!(began.elapsed() < GONE_WITHIN, "a session does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let row = rig.client.query_one(sql::UPDATES, &[]).await?;
    let (updates, heap_only): (i64, i64) = (row.get(0), row.get(1));
    Ok((updates > 0).then(|| heap_only as f64 / updates as f64))
}
