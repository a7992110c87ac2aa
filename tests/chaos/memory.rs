//! What workers keep: the memory of large payloads, and whatever might grow with time.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::support::crew::Crew;
use crate::support::invariants::Allowed;
use crate::support::load::Load;
use crate::support::oracle::Evidence;
use crate::support::run::Run;
use crate::support::site::Site;

const MIB: u64 = 1024 * 1024;

/// Puts so many jobs in whose payloads are of this size, and notes them as acknowledged.
async fn put_in(site: &Site, jobs: usize, bytes: u64) {
    let sql = format!(
        "insert into rowcrew.jobs (kind, payload) select 'nap', jsonb_build_object('ms', 5, 'pad', repeat('x', {bytes}))
        from generate_series(1, {jobs}) returning id"
    );
    let ids: Vec<String> = site.rows(&sql).await.iter().map(|row| row.get::<_, i64>(0).to_string()).collect();
    let mut acked = OpenOptions::new().append(true).create(true).open(site.path("acked")).expect("a file");
    acked.write_all((ids.join("\n") + "\n").as_bytes()).expect("the file takes it");
}

/// Memory: payloads of a megabyte in workers that may have 256 MiB, and some of many in workers that may have more.
#[tokio::test(flavor = "multi_thread")]
async fn c06_large_payloads_do_not_fill_a_workers_memory() {
    let run = Run::begin("C06");
    let site = Site::shared(&run).await;
    let mut crew = Crew::new(&site);
    crew.start(&site, 2).await;
    crew.workers.iter().for_each(|worker| worker.limit_memory(Some(256 * MIB)));
    let before = crew.status("VmHWM");
    put_in(&site, run.size(100, 2_000), MIB).await;
    site.drained().await;
    let of_small = crew.status("VmHWM") / 1024;
    crew.workers.iter().for_each(|worker| worker.limit_memory(None));
    put_in(&site, run.size(3, 20), 32 * MIB).await;
    put_in(&site, run.size(50, 1_000), MIB).await;
    let refused = site
        .client()
        .await
        .batch_execute(
            "insert into rowcrew.jobs (kind, payload) values ('nap', to_jsonb(repeat('x', 70000000)))",
        )
        .await;
    site.drained().await;
    let of_large = crew.status("VmHWM") / 1024;
    let ended = crew.workers.iter_mut().filter_map(|worker| worker.has_ended().then_some(())).count();
    run.note("peak before, MiB", before / 1024);
    run.figure("workers that ended", ended, ended == 0, "0");
    assert_eq!(ended, 0, "{}", crew.log().lines().rev().take(5).collect::<Vec<_>>().join("\n"));
    run.figure("peak of a worker, payloads of 1 MiB", format!("{of_small} MiB"), of_small < 200, "< 200 MiB");
    run.figure("peak of a worker, some of 32 MiB", format!("{of_large} MiB"), of_large < 200, "< 200 MiB");
    crew.stop().await;
    Evidence::gather(&site, &crew).await.hold(&Allowed::default());
    let dead: i64 = site.one("select count(*) from rowcrew.dead_jobs").await;
    run.figure("jobs that died", dead, dead == 0, "0");
    let constraint = refused.expect_err("larger than the limit");
    let constraint = constraint.as_db_error().and_then(|error| error.constraint().map(str::to_owned));
    assert_eq!(constraint.as_deref(), Some("jobs_payload_bytes"));
    run.end();
}

/// What is counted while a soak goes on; what of it grows with the jobs that were done is a leak.
struct Sample {
    at: f64,
    memory_mb: f64,
    files: usize,
    threads: u64,
    connections: i64,
    dead_rows: i64,
}

impl Sample {
    async fn take(site: &Site, crew: &Crew, began: Instant) -> Self {
        let connections = "select count(*) from pg_stat_activity where datname = current_database()
            and application_name = 'rowcrew'";
        let dead_rows = "select n_dead_tup from pg_stat_user_tables where relid = 'rowcrew.jobs'::regclass";
        Self {
            at: began.elapsed().as_secs_f64(),
            memory_mb: crew.status("VmRSS") as f64 / 1024.0,
            files: crew.open_files(),
            threads: crew.status("Threads"),
            connections: site.one(connections).await,
            dead_rows: site.one(dead_rows).await,
        }
    }
}

/// One of the counts of a sample.
type Count = fn(&Sample) -> i64;

/// Megabytes an hour by which memory grows: the slope of the straight line nearest to all samples.
fn slope(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (at, memory) = (mean(&|one| one.at), mean(&|one| one.memory_mb));
    let together: f64 = samples.iter().map(|one| (one.at - at) * (one.memory_mb - memory)).sum();
    let alone: f64 = samples.iter().map(|one| (one.at - at).powi(2)).sum();
    together / alone * 3_600.0
}

/// Soak: a steady load for long.
#[tokio::test(flavor = "multi_thread")]
async fn x08_a_worker_that_runs_on_and_on_keeps_nothing() {
    let run = Run::begin("X08");
    let site = Site::shared(&run).await;
    let mut crew = Crew::new(&site);
    crew.start(&site, run.size(2, 4)).await;
    // Two producers: a thousand jobs a second.
    let load = Load {
        pause: Duration::from_millis(100),
        long_percent: 1,
        ..Load::usual(run.size(4_000, 1_800_000))
    };
    let began = Instant::now();
    let producers = load.produce(&run, &site);
    let (warm, every) = (run.size(1.5, 120.0), Duration::from_millis(run.size(100, 2_000)));
    let mut samples = Vec::new();
    while !producers.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(every).await;
        let sample = Sample::take(&site, &crew, began).await;
        if sample.at >= warm {
            samples.push(sample);
        }
    }
    site.drained().await;
    let rate = load.jobs as f64 / began.elapsed().as_secs_f64();
    crew.stop().await;
    Evidence::gather(&site, &crew).await.hold(&Allowed::default());
    assert!(samples.len() > 5, "{} samples", samples.len());
    run.note("jobs a second", format!("{rate:.0}"));
    let (first, last) = samples.split_at(samples.len() / 2);
    let most = |of: &[Sample], what: Count| of.iter().map(what).max().unwrap_or(0);
    let flat: [(&str, Count, i64); 3] = [
        ("open files", |one| one.files as i64, 3),
        ("threads", |one| one.threads as i64, 1),
        ("connections", |one| one.connections, 3),
    ];
    for (what, of, more) in flat {
        let (before, after) = (most(first, of), most(last, of));
        let limit = format!("no more than {more} more");
        run.figure(what, format!("{before}, then {after}"), after <= before + more, &limit);
        assert!(after <= before + more, "{what} grow: {before}, then {after}");
    }
    let slope = slope(&samples);
    let last_mb = samples.last().map_or(0.0, |one| one.memory_mb);
    let memory = format!("{slope:.1} at {last_mb:.0} MB");
    if run.long {
        run.figure("memory, MB an hour", memory, slope < 1.0, "< 1");
    } else {
        // Seconds tell nothing of hours.
        run.note("memory, MB an hour", memory);
    }
    let dead = most(&samples, |one| one.dead_rows);
    run.figure("dead rows of jobs at most", dead, dead <= 200_000, "<= 200000");
    run.end();
}
