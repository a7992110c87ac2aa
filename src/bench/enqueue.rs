//! Putting jobs in: single rows by many clients beside idle workers, against the same table without its
//! trigger; and many rows in every way there is, against a COPY into a bare table of the same columns.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{Json, Type};

use super::report::{Goal, Report};
use super::rig::Rig;
use super::watch::{Curve, Run};
use crate::store::NewJob;

/// Rows of one statement, where a way has statements.
const BATCH: i64 = 1_000;
/// The table's columns with nothing that checks, indexes or rings, but for its primary key.
const BARE_TABLE: &str = "drop table if exists bench_rows; create table bench_rows \
    (like rowcrew.jobs including defaults including identity including generated, primary key (id, shard))";

/// A way to put many jobs in. Each is one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    BareCopy,
    Copy,
    Library,
    Values,
    EnqueueMany,
}

pub(super) async fn run(rig: &Rig<'_>) -> anyhow::Result<Report> {
    let mut report = Report::new("enqueue");
    for round in 1..=rig.settings.rounds {
        // The workers listen and have nothing to do: no handler has the kind of these jobs.
        let workers = rig.workers(2, 10).await?;
        for (name, trigger) in [("with the trigger", "enable"), ("without it", "disable")] {
            rig.begin(round, name);
            rig.exec(&format!("truncate rowcrew.jobs; alter table rowcrew.jobs {trigger} trigger jobs_ring"))
                .await?;
            report.ran(name, "inserts", single_rows(rig).await?);
        }
        drop(workers);
        rig.exec(&format!("alter table rowcrew.jobs enable trigger jobs_ring; {BARE_TABLE}")).await?;
        for way in Way::ALL {
            rig.begin(round, way.name());
            rig.exec("truncate rowcrew.jobs, bench_rows; checkpoint").await?;
            let began = Instant::now();
            way.put_in(rig, rig.settings.jobs).await?;
            report.measure(&way.measured(), rig.settings.jobs as f64 / began.elapsed().as_secs_f64());
        }
        rig.exec("truncate rowcrew.jobs; drop table bench_rows").await?;
    }
    report.ratio(
        "single rows with / without the trigger",
        "with the trigger, inserts/s",
        "without it, inserts/s",
        Goal::AtLeast(0.9),
    );
    for way in &Way::ALL[1..] {
        let name = format!("{} / {}", way.name(), Way::BareCopy.name());
        report.ratio(&name, &way.measured(), &Way::BareCopy.measured(), None);
    }
    Ok(report)
}

/// Inserts by all clients, for as long as a run takes.
async fn single_rows(rig: &Rig<'_>) -> anyhow::Result<Run> {
    let (time, done) = (rig.settings.time, Arc::new(AtomicU64::new(0)));
    let mut loops = Vec::new();
    for _ in 0..rig.settings.clients {
        let client = rig.connect().await?;
        let insert = client.prepare("insert into rowcrew.jobs (kind) values ('parked')").await?;
        let done = done.clone();
        loops.push(async move {
            let began = Instant::now();
            while began.elapsed() < time {
                done.fetch_add(client.execute(&insert, &[]).await?, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    let mut curve = Curve::begin();
    let tasks: Vec<_> = loops.into_iter().map(tokio::spawn).collect();
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    while began.elapsed() < time {
        ticks.tick().await;
        curve.done(done.load(Ordering::Relaxed) as f64);
    }
    for task in tasks {
        task.await??;
    }
    let rate = done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    Ok(Run { rate, curve: curve.points() })
}

impl Way {
    pub(super) const ALL: [Self; 5] =
        [Self::BareCopy, Self::Copy, Self::Library, Self::Values, Self::EnqueueMany];

    fn name(self) -> &'static str {
        match self {
            Self::BareCopy => "COPY into a bare table",
            Self::Copy => "COPY into jobs",
            Self::Library => "import of the library (COPY)",
            Self::Values => "inserts of 1,000 rows",
            Self::EnqueueMany => "enqueue_many of 1,000 rows",
        }
    }

    fn measured(self) -> String {
        format!("{}, rows/s", self.name())
    }

    async fn put_in(self, rig: &Rig<'_>, rows: i64) -> anyhow::Result<()> {
        let payload =
            format!(r#"{{"pad": "{}"}}"#, "x".repeat(rig.settings.payload_bytes.saturating_sub(11)));
        match self {
            Self::BareCopy => copy(rig, "bench_rows", &payload, rows).await,
            Self::Copy => copy(rig, "rowcrew.jobs", &payload, rows).await,
            Self::Library => {
                let mut import = rig.store.import().await?;
                let job = NewJob { kind: "parked".to_owned(), payload, ..NewJob::default() };
                for line in 1..=rows as u64 {
                    import.push(&job, line).await?;
                }
                import.finish().await?;
                Ok(())
            }
            Self::Values => {
                let row = format!("('parked', '{payload}')");
                rig.exec("begin").await?;
                for batch in batches(rows) {
                    let values = vec![row.as_str(); batch].join(", ");
                    rig.exec(&format!("insert into rowcrew.jobs (kind, payload) values {values}")).await?;
                }
                rig.exec("commit").await
            }
            Self::EnqueueMany => {
                let job = format!(r#"{{"kind": "parked", "payload": {payload}}}"#);
                let call = "select count(*) from rowcrew.enqueue_many($1::text::jsonb)";
                let call = rig.client.prepare(call).await?;
                rig.exec("begin").await?;
                for batch in batches(rows) {
                    let jobs = format!("[{}]", vec![job.as_str(); batch].join(", "));
                    rig.client.execute(&call, &[&jobs]).await?;
                }
                rig.exec("commit").await
            }
        }
    }
}

/// The sizes of statements that have so many rows together.
fn batches(rows: i64) -> impl Iterator<Item = usize> {
    (0..rows).step_by(BATCH as usize).map(move |done| BATCH.min(rows - done) as usize)
}

/// One binary COPY through the driver.
async fn copy(rig: &Rig<'_>, table: &str, payload: &str, rows: i64) -> anyhow::Result<()> {
    let payload: &RawValue = serde_json::from_str(payload)?;
    let sink =
        rig.client.copy_in(&format!("copy {table} (kind, payload) from stdin (format binary)")).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &[Type::TEXT, Type::JSONB]));
    for _ in 0..rows {
        writer.as_mut().write(&[&"parked", &Json(payload)]).await?;
    }
    writer.finish().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_make_up_all_rows() {
        assert_eq!(batches(2_500).collect::<Vec<_>>(), [1_000, 1_000, 500]);
        assert_eq!(batches(7).collect::<Vec<_>>(), [7]);
    }
}
