//! Workers are killed, frozen, poisoned and stopped.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::crew::Crew;
use crate::support::load::Load;
use crate::support::oracle::{Allowed, Evidence};
use crate::support::run::{Run, blows, percentile};
use crate::support::site::Site;

/// Kill storm: a random one of four workers is killed again and again, and another starts in its place.
#[tokio::test(flavor = "multi_thread")]
async fn c01_workers_that_are_killed_lose_nothing_and_their_jobs_start_again_in_about_a_second() {
    let run = Run::begin("C01");
    let site = Site::shared(&run).await;
    let mut crew = Crew::new(&site);
    crew.start(&site, 4).await;
    let producers = Load { pause: Duration::from_millis(run.size(30, 150)), ..Load::usual(run.size(2_000, 60_000)) }.produce(&run, &site);
    let schedule = blows(&mut run.rng("kills"), run.size(3, 50), 4, 500..2_500, 500..2_000);
    let mut restarts: Vec<(tokio::time::Instant, usize)> = Vec::new();
    for blow in schedule {
        let until = tokio::time::Instant::now() + blow.after;
        while let Some(at) = restarts.iter().map(|(at, _)| *at).min().filter(|at| *at < until) {
            tokio::time::sleep_until(at).await;
            let due = restarts.iter().position(|(when, _)| *when == at).expect("the one that is due");
            crew.replace(restarts.swap_remove(due).1);
        }
        tokio::time::sleep_until(until).await;
        if restarts.iter().all(|(_, index)| *index != blow.victim) {
            crew.kill(blow.victim);
            restarts.push((until + blow.lasts, blow.victim));
        }
    }
    for (at, index) in restarts {
        tokio::time::sleep_until(at).await;
        crew.replace(index);
    }
    for producer in producers {
        producer.await.expect("a producer that is done");
    }
    site.drained().await;
    crew.stop().await;
    let evidence = Evidence::gather(&site, &crew).await;
    evidence.hold(&Allowed::default());

    let mut orphans = evidence.restarts_ms();
    run.note("kills", evidence.deaths.len());
    run.note("jobs", evidence.acked.len());
    run.note("executions cut short", orphans.len());
    assert!(!orphans.is_empty(), "nothing ran when the workers were killed");
    let p50 = percentile(&mut orphans, 50.0);
    run.figure("kill to start again, p50 ms", format!("{p50:.0}"), p50 < 1_200.0, "< 1200");
    let p99 = percentile(&mut orphans, 99.0);
    run.figure("kill to start again, p99 ms", format!("{p99:.0}"), p99 < 2_000.0, "< 2000");
    run.end();
}
