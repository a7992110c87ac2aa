//! Single-row inserts by many clients beside idle workers, against the same table without its trigger.

use std::time::{Duration, Instant};

use super::report::{Goal, Report};
use super::rig::Rig;

/// Inserting clients.
const CLIENTS: usize = 64;
/// How long each run takes.
const TIME: Duration = Duration::from_secs(5);

pub(super) async fn run(rig: &Rig<'_>) -> anyhow::Result<Report> {
    let mut report = Report::new("enqueue");
    for round in 1..=rig.settings.rounds {
        rig.say(&format!("enqueue: round {round} of {}", rig.settings.rounds));
        // The workers listen and have nothing to do: they serve another queue.
        let workers = rig.workers(2, 10).await?;
        for (name, trigger) in
            [("with the trigger, inserts/s", "enable"), ("without it, inserts/s", "disable")]
        {
            rig.exec(&format!("truncate rowcrew.jobs; alter table rowcrew.jobs {trigger} trigger jobs_ring"))
                .await?;
            report.measure(name, single_rows(rig).await?);
        }
        drop(workers);
        rig.exec("truncate rowcrew.jobs; alter table rowcrew.jobs enable trigger jobs_ring").await?;
        for (name, sql) in BULK {
            let began = Instant::now();
            rig.exec(&sql.replace("$N", &rig.settings.jobs.to_string())).await?;
            report.measure(name, rig.settings.jobs as f64 / began.elapsed().as_secs_f64());
            rig.exec("truncate rowcrew.jobs").await?;
        }
    }
    report.ratio(
        "single rows with / without the trigger",
        "with the trigger, inserts/s",
        "without it, inserts/s",
        Goal::AtLeast(0.9),
    );
    Ok(report)
}

const BULK: [(&str, &str); 2] = [
    (
        "one insert of many rows, rows/s",
        "insert into rowcrew.jobs (kind) select 'parked' from generate_series(1, $N)",
    ),
    (
        "enqueue_many, rows/s",
        "select count(*) from rowcrew.enqueue_many((select jsonb_agg(jsonb_build_object('kind', 'parked')) from generate_series(1, $N)))",
    ),
];

async fn single_rows(rig: &Rig<'_>) -> anyhow::Result<f64> {
    let mut loops = Vec::new();
    for _ in 0..CLIENTS {
        let client = rig.connect().await?;
        let insert = client.prepare("insert into rowcrew.jobs (kind) values ('parked')").await?;
        loops.push(async move {
            let began = Instant::now();
            let mut rows = 0_u64;
            while began.elapsed() < TIME {
                rows += client.execute(&insert, &[]).await?;
            }
            anyhow::Ok(rows as f64 / began.elapsed().as_secs_f64())
        });
    }
    let tasks: Vec<_> = loops.into_iter().map(tokio::spawn).collect();
    let mut rate = 0.0;
    for task in tasks {
        rate += task.await??;
    }
    Ok(rate)
}
