//! What a backlog takes on disk, table and indexes, and how fast it gets there.

use std::time::Instant;

use super::report::{Report, Row};
use super::rig::Rig;

/// Jobs of one insert.
const CHUNK: i64 = 100_000;

/// A relation of the table of jobs and its size.
const SIZES: &str = "
    select 'table'::text, pg_table_size('rowcrew.jobs')
    union all
    (select indexrelid::regclass::text, pg_relation_size(indexrelid)
    from pg_index where indrelid = 'rowcrew.jobs'::regclass order by indexrelid)";

pub(super) async fn run(rig: &Rig<'_>) -> anyhow::Result<Report> {
    let mut report = Report::new("disk");
    let (jobs, bytes) = (rig.settings.backlog, rig.settings.payload_bytes);
    let names = ["enqueued first half, jobs/s", "enqueued second half, jobs/s"];
    for fillfactor in [45, 100] {
        rig.exec(&format!("truncate rowcrew.jobs; alter table rowcrew.jobs set (fillfactor = {fillfactor})"))
            .await?;
        for half in names {
            rig.say(crate::bench::Progress::Doing(&format!("disk: fillfactor {fillfactor}, {half}")));
            report
                .measure(&format!("fillfactor {fillfactor}: {half}"), enqueued(rig, jobs / 2, bytes).await?);
        }
        rig.exec("vacuum analyze rowcrew.jobs").await?;
        sizes(rig, jobs, fillfactor, &mut report).await?;
    }
    rig.exec("truncate rowcrew.jobs; alter table rowcrew.jobs set (fillfactor = 45)").await?;
    report.notes.push(format!("{jobs} jobs of {bytes} bytes"));
    Ok(report)
}

/// Inserts jobs in chunks; answers how many a second.
async fn enqueued(rig: &Rig<'_>, jobs: i64, bytes: usize) -> anyhow::Result<f64> {
    let insert = "insert into rowcrew.jobs (kind, queue, payload) \
        select 'noop', 'parked', jsonb_build_object('n', n, 'pad', $1::text) from generate_series(1, $2::int8) n";
    let pad: String = (0..bytes.saturating_sub(24)).map(|_| fastrand::alphanumeric()).collect();
    let began = Instant::now();
    let mut left = jobs;
    while left > 0 {
        let chunk = left.min(CHUNK);
        rig.client.execute(insert, &[&pad, &chunk]).await?;
        left -= chunk;
    }
    Ok(jobs as f64 / began.elapsed().as_secs_f64())
}

async fn sizes(rig: &Rig<'_>, jobs: i64, fillfactor: u8, report: &mut Report) -> anyhow::Result<()> {
    let mut total = 0;
    let mut row = |name: &str, bytes: i64| {
        let mut row = Row::new(&format!("fillfactor {fillfactor}: {name}"));
        row.measure("MB", bytes as f64 / 1e6);
        row.measure("bytes a job", bytes as f64 / jobs as f64);
        report.grid.push(row);
    };
    for found in rig.client.query(SIZES, &[]).await? {
        let (name, bytes): (String, i64) = (found.get(0), found.get(1));
        total += bytes;
        row(name.trim_start_matches("rowcrew."), bytes);
    }
    row("all", total);
    Ok(())
}
