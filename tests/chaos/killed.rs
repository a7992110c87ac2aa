//! Workers are killed, frozen, poisoned and stopped.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::clock;
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

/// Zombies: workers are frozen for longer than anybody waits for them, and come back with results.
#[tokio::test(flavor = "multi_thread")]
async fn c02_a_worker_that_was_frozen_cannot_end_a_job_that_was_given_away() {
    let run = Run::begin("C02");
    let site = Site::shared(&run).await;
    let mut crew = Crew::new(&site);
    crew.start(&site, 4).await;
    let mut rng = run.rng("victims");
    let rounds = run.size(1, 30);
    let mut thawed = Vec::new();
    for _ in 0..rounds {
        // More than all slots hold, of which some end while their worker is frozen.
        let load = Load { long_percent: 60, long_ms: 1_000..6_000, sql_percent: 0, fail_percent: 5, ..Load::usual(120) };
        load.put_in(&run, &site).await;
        site.until("(select count(*) >= 40 from rowcrew.jobs where state = 'running')").await;
        let first = rng.usize(..4);
        let victims = [first, (first + rng.usize(1..4)) % 4];
        for victim in victims {
            crew.workers[victim].signal(Signal::STOP);
        }
        tokio::time::sleep(Duration::from_secs(run.size(18, 25))).await;
        for victim in victims {
            crew.workers[victim].signal(Signal::CONT);
            thawed.push((crew.workers[victim].pid(), clock::now()));
        }
        site.drained().await;
    }
    crew.stop().await;
    let evidence = Evidence::gather(&site, &crew).await;
    // From the moment of the thaw to that of the self-stop both may run.
    let allowed = Allowed { overlap: Duration::from_secs(30), ..Allowed::default() };
    evidence.hold(&allowed);
    let executions = evidence.executions();
    let of_zombie = |(pid, at): &(u32, i64)| {
        let ran_on = executions.iter().filter(|one| one.pid == *pid && one.start < *at && one.end > *at);
        ran_on.map(|one| clock::ms(*at, one.end)).collect::<Vec<_>>()
    };
    let mut ran_on: Vec<f64> = thawed.iter().flat_map(of_zombie).collect();
    let stale = zombies(&evidence);
    run.note("rounds", rounds);
    run.note("jobs", evidence.acked.len());
    run.note("executions of jobs that were given away", stale);
    assert!(stale > 0, "nothing was given away: nothing was shown");
    let worst = percentile(&mut ran_on, 100.0);
    run.figure("thaw to the end of its handlers, worst ms", format!("{worst:.0}"), worst <= 1_000.0, "<= 1000");
    run.end();
}

/// Executions of which the job was claimed anew before they ended.
fn zombies(evidence: &Evidence) -> usize {
    let mut last = std::collections::HashMap::new();
    for one in evidence.transitions.iter().filter(|one| one.what == "claimed") {
        last.insert(one.job, one.claim);
    }
    evidence.executions().iter().filter(|one| last[&one.job] != Some(one.claim) && one.killed_at.is_none()).count()
}
