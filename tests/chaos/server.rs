//! The server crashes, and its backends are killed.

use std::time::{Duration, Instant};

use crate::support::clock;
use crate::support::crew::Crew;
use crate::support::invariants::Allowed;
use crate::support::load::Load;
use crate::support::oracle::Evidence;
use crate::support::run::{Run, blows, percentile};
use crate::support::site::Site;

/// Workers taken for lost.
async fn rescues(site: &Site) -> i64 {
    site.one("select count(*) from rowcrew.events where action = 'rescue'").await
}

/// Crash restarts: the server ends at once and comes back, again and again, under load.
#[tokio::test(flavor = "multi_thread")]
async fn d01_a_server_that_crashes_again_and_again_loses_nothing_and_no_worker_is_taken_for_lost() {
    let run = Run::begin("D01");
    let site = Site::own(&run, &[]).await;
    let mut crew = Crew::new(&site);
    crew.start(&site, run.size(2, 4)).await;
    let pause = Duration::from_millis(run.size(40, 100));
    let producers =
        Load { pause, long_percent: 2, ..Load::usual(run.size(1_200, 40_000)) }.produce(&run, &site);
    let mut back = Vec::new();
    for blow in blows(&mut run.rng("crashes"), run.size(2, 20), 1, 1_000..3_000, 0..300) {
        tokio::time::sleep(blow.after).await;
        site.cluster().crash().expect("a crash");
        tokio::time::sleep(blow.lasts).await;
        site.cluster().recover().expect("a server that starts again");
        back.push(clock::now());
        // There may be nothing left to claim, and then the figure would tell of the load.
        let due = "insert into rowcrew.jobs (kind) select 'nap' from generate_series(1, 10)";
        site.client().await.batch_execute(due).await.expect("jobs");
    }
    for producer in producers {
        producer.await.expect("a producer that is done");
    }
    site.drained().await;
    // The bell works again: a job is started when it is inserted, not when it is looked for.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let wakes = wakes_ms(&site, run.size(5, 50)).await;
    for worker in &mut crew.workers {
        assert!(!worker.has_ended(), "a worker ended");
    }
    let lost = rescues(&site).await;
    crew.stop().await;
    let evidence = Evidence::gather(&site, &crew).await;
    evidence.hold(&Allowed::default());
    let claims: Vec<i64> =
        evidence.transitions.iter().filter(|t| t.what == "claimed").map(|t| t.at).collect();
    let first = |at: &i64| claims.iter().find(|claim| **claim > *at).map(|claim| clock::ms(*at, *claim));
    let mut firsts: Vec<f64> = back.iter().filter_map(first).collect();
    let worst = percentile(&mut firsts, 100.0);
    run.note("restarts", back.len());
    run.figure("server back to first claim, worst ms", format!("{worst:.0}"), worst <= 1_000.0, "<= 1000");
    run.figure("workers taken for lost", lost, lost == 0, "0");
    assert_eq!(lost, 0, "a live worker was taken for lost");
    let mut wakes = wakes;
    let p99 = percentile(&mut wakes, 99.0);
    run.figure("wake after it, p99 ms", format!("{p99:.1}"), p99 < 50.0, "< 50");
    run.end();
}

/// Milliseconds from the commit of an insert to the claim, one job at a time into an idle crew.
async fn wakes_ms(site: &Site, count: usize) -> Vec<f64> {
    let client = site.client().await;
    let mut ids = Vec::new();
    for _ in 0..count {
        let row = client.query_one("insert into rowcrew.jobs (kind) values ('nap') returning id", &[]).await;
        ids.push(row.expect("a job").get::<_, i64>(0));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    site.drained().await;
    let waited = "select extract(epoch from c.claimed_at - e.at)::float8 * 1000
        from chaos.log e join chaos.log c on c.job = e.job and c.what = 'claimed'
        where e.what = 'enqueued' and e.job = any ($1)";
    client.query(waited, &[&ids]).await.expect("waits").iter().map(|row| row.get(0)).collect()
}

/// Backend kills: any backend of the workers, the private ones among them.
#[tokio::test(flavor = "multi_thread")]
async fn d02_backends_that_are_killed_all_the_time_cost_no_job_and_make_no_worker_look_lost() {
    let run = Run::begin("D02");
    let site = Site::shared(&run).await;
    let mut crew = Crew::new(&site);
    crew.start(&site, run.size(2, 4)).await;
    let load = Load { long_percent: 2, ..Load::usual(run.size(800, 20_000)) };
    let began = Instant::now();
    load.put_in(&run, &site).await;
    site.drained().await;
    let calm = load.jobs as f64 / began.elapsed().as_secs_f64();

    let mut rng = run.rng("kills");
    let client = site.client().await;
    let began = Instant::now();
    let producers = load.produce(&run, &site);
    let mut killed = 0;
    while site.one::<bool>("select exists (select from rowcrew.jobs)").await
        || !producers.iter().all(tokio::task::JoinHandle::is_finished)
    {
        let workers = "select pid from pg_stat_activity where datname = current_database()
            and application_name = 'rowcrew' order by pid";
        let pids: Vec<i32> =
            client.query(workers, &[]).await.expect("pids").iter().map(|row| row.get(0)).collect();
        if let Some(pid) = rng.choice(&pids) {
            client.execute("select pg_terminate_backend($1)", &[pid]).await.expect("a kill");
            killed += 1;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let stormy = load.jobs as f64 / began.elapsed().as_secs_f64();
    let lost = rescues(&site).await;
    crew.stop().await;
    Evidence::gather(&site, &crew).await.hold(&Allowed::default());
    run.note("backends killed", killed);
    let ratio = stormy / calm;
    run.figure(
        "throughput in the storm",
        format!("{stormy:.0}/s of {calm:.0}/s = {ratio:.2}"),
        ratio >= 0.7,
        ">= 0.70",
    );
    run.figure("workers taken for lost", lost, lost == 0, "0");
    assert_eq!(lost, 0, "a live worker was taken for lost");
    run.end();
}
