//! From the return of an insert to the start of the handler in an idle worker, against bare NOTIFY and SELECT.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};
use tokio_postgres::{AsyncMessage, NoTls};

use super::report::{Axis, Goal, Line, Report};
use super::rig::Rig;
use crate::Success;
use crate::handler::{Context, Handler, Registry, Work};
use crate::worker::{self, Stopping};

/// Inserts before those that count: they warm the connections up.
const WARM_UP: usize = 20;
/// Pause between two inserts: the worker is idle again by then.
const PAUSE: Duration = Duration::from_millis(20);

/// Says when it began.
struct Probe(mpsc::UnboundedSender<Instant>);

impl Handler for Probe {
    fn run(self: Arc<Self>, _: Context) -> Work {
        let _ = self.0.send(Instant::now());
        Box::pin(async { Ok(Success::Done(None)) })
    }
}

pub(super) async fn run(rig: &Rig<'_>) -> anyhow::Result<Report> {
    let mut report = Report::new("latency");
    rig.keep_finished(false).await?;
    rig.exec("update rowcrew.queues set paused_until = null").await?;
    for round in 1..=rig.settings.rounds {
        for who in ["bare NOTIFY", "worker"] {
            rig.begin(round, who);
            let mut times = if who == "worker" { in_worker(rig).await? } else { bare(rig).await? };
            times.sort_unstable();
            report.measure(&format!("{who}, p50 ms"), at(&times, 0.50));
            report.measure(&format!("{who}, p99 ms"), at(&times, 0.99));
            let line = Line { name: who.to_owned(), points: percentiles(&times) };
            report.line(
                "latency: from an insert's commit to the handler's start",
                Axis::Percentile,
                "ms",
                line,
            );
        }
    }
    report.ratio("p50: worker / bare NOTIFY", "worker, p50 ms", "bare NOTIFY, p50 ms", Goal::AtMost(1.5));
    report.ratio("p99: worker / bare NOTIFY", "worker, p99 ms", "bare NOTIFY, p99 ms", Goal::AtMost(3.0));
    Ok(report)
}

fn at(sorted: &[Duration], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part).round() as usize].as_secs_f64() * 1e3
}

/// The curve of all percentiles that so many times can tell.
fn percentiles(sorted: &[Duration]) -> Vec<(f64, f64)> {
    let count = sorted.len() as f64;
    let place = |n: usize| -(1.0 - (n as f64 + 0.5) / count).log10();
    sorted.iter().enumerate().map(|(n, time)| (place(n), time.as_secs_f64() * 1e3)).collect()
}

async fn in_worker(rig: &Rig<'_>) -> anyhow::Result<Vec<Duration>> {
    let (began, mut starts) = mpsc::unbounded_channel();
    let registry = Registry::new().with("probe", Probe(began));
    let settings = worker::Settings {
        program: None,
        name: "bench".to_owned(),
        queues: vec!["default".to_owned()],
        concurrency: 10,
        drain: Duration::from_secs(5),
        poll: Duration::from_secs(1),
        sql_connections: 1,
        blocking_threads: 1,
        keep_finished: false,
    };
    let (stop, stopping) = watch::channel(Stopping::No);
    let working = tokio::spawn(worker::run(rig.store.clone(), registry, settings, stopping));
    let insert = rig.client.prepare("insert into rowcrew.jobs (kind) values ('probe')").await?;
    let mut times = Vec::with_capacity(rig.settings.inserts);
    for n in 0..rig.settings.inserts + WARM_UP {
        tokio::time::sleep(PAUSE).await;
        rig.client.execute(&insert, &[]).await?;
        let committed = Instant::now();
        let started = starts.recv().await.context("the worker ended")?;
        if n >= WARM_UP {
            times.push(started.saturating_duration_since(committed));
        }
    }
    stop.send_replace(Stopping::Drain);
    working.await??;
    Ok(times)
}

/// The least there can be: a trigger's NOTIFY wakes a connection that takes the row with one SELECT.
async fn bare(rig: &Rig<'_>) -> anyhow::Result<Vec<Duration>> {
    rig.exec(
        "drop table if exists bench_rows; create table bench_rows (id bigint generated always as identity primary key); \
         create or replace function bench_notify() returns trigger language plpgsql as \
         $$ begin perform pg_notify('bench_rows', ''); return null; end $$; \
         create trigger notify after insert on bench_rows for each statement execute function bench_notify()",
    )
    .await?;
    let (listener, mut connection) = tokio_postgres::connect(&rig.url, NoTls).await?;
    let (heard, mut notices) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if matches!(message, AsyncMessage::Notification(_)) {
                let _ = heard.send(());
            }
        }
    });
    listener.batch_execute("listen bench_rows").await?;
    let taker = rig.connect().await?;
    let take = taker
        .prepare("delete from bench_rows where id = (select id from bench_rows order by id limit 1 for update skip locked)")
        .await?;
    let (began, mut starts) = mpsc::unbounded_channel();
    let taking = tokio::spawn(async move {
        while notices.recv().await.is_some() {
            if taker.execute(&take, &[]).await.is_ok_and(|rows| rows > 0) {
                let _ = began.send(Instant::now());
            }
        }
    });
    let insert = rig.client.prepare("insert into bench_rows default values").await?;
    let mut times = Vec::with_capacity(rig.settings.inserts);
    for n in 0..rig.settings.inserts + WARM_UP {
        tokio::time::sleep(PAUSE).await;
        rig.client.execute(&insert, &[]).await?;
        let committed = Instant::now();
        let started = starts.recv().await.context("the reference ended")?;
        if n >= WARM_UP {
            times.push(started.saturating_duration_since(committed));
        }
    }
    taking.abort();
    rig.exec("drop table bench_rows; drop function bench_notify()").await?;
    Ok(times)
}
