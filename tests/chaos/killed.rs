//! Workers are killed, frozen, poisoned and stopped.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::clock;
use crate::support::crew::Crew;
use crate::support::invariants::Allowed;
use crate::support::load::Load;
use crate::support::oracle::Evidence;
use crate::support::run::{Run, blows, percentile};
use crate::support::site::Site;

/// Kill storm: a random one of four workers is killed again and again, and another starts in its place.
#[tokio::test(flavor = "multi_thread")]
async fn c01_workers_that_are_killed_lose_nothing_and_their_jobs_start_again_in_about_a_second() {
    let run = Run::begin("C01");
    let site = Site::shared(&run).await;
    let mut crew = Crew::new(&site);
    // As by default: a crew that has no free slot lets jobs wait that were given back.
    crew.order.slots = 100;
    crew.start(&site, 4).await;
    let producers =
        Load { pause: Duration::from_millis(run.size(30, 150)), ..Load::usual(run.size(2_000, 60_000)) }
            .produce(&run, &site);
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

    let (mut inside, mut beside) = evidence.restarts_ms();
    let mut orphans = [inside.clone(), beside.clone()].concat();
    run.note("kills", evidence.deaths.len());
    run.note("jobs", evidence.acked.len());
    run.note("executions cut short", orphans.len());
    for (which, some) in [("in workers", &mut inside), ("beside them, not killed", &mut beside)] {
        let (p50, p99) = (percentile(some, 50.0), percentile(some, 99.0));
        run.note(which, format!("{}, p50 {p50:.0} ms, p99 {p99:.0} ms", some.len()));
    }
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
        let load = Load {
            long_percent: 60,
            long_ms: 1_000..6_000,
            sql_percent: 0,
            fail_percent: 5,
            ..Load::usual(120)
        };
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
    run.figure(
        "thaw to the end of its handlers, worst ms",
        format!("{worst:.0}"),
        worst <= 1_000.0,
        "<= 1000",
    );
    run.end();
}

/// Executions of which the job was claimed anew before they ended.
fn zombies(evidence: &Evidence) -> usize {
    let mut last = std::collections::HashMap::new();
    for one in evidence.transitions.iter().filter(|one| ["claimed", "handed"].contains(&&*one.what)) {
        last.insert(one.job, one.claim);
    }
    evidence
        .executions()
        .iter()
        .filter(|one| last[&one.job] != Some(one.claim) && one.killed_at.is_none())
        .count()
}

/// Poison: jobs that take their worker down, among many that do not. A supervisor starts workers again.
#[tokio::test(flavor = "multi_thread")]
async fn c05_jobs_that_take_their_workers_down_are_buried_after_three_crashes_and_blame_nobody_else() {
    Box::pin(poisoned(Run::begin("C05"), true)).await;
}

/// The same in programs that cannot give a job a process of its own.
#[tokio::test(flavor = "multi_thread")]
async fn c05w_the_same_where_the_last_try_of_a_job_has_its_whole_worker_for_itself() {
    Box::pin(poisoned(Run::begin("C05w"), false)).await;
}

async fn poisoned(run: Run, own_processes: bool) {
    let site = Site::shared(&run).await;
    let mut crew = Crew::new(&site);
    crew.order.own_processes = own_processes;
    crew.start(&site, 2).await;
    let load = Load { long_percent: 0, fail_percent: 0, ..Load::usual(run.size(400, 5_000)) };
    let poisons: i64 = run.size(2, 5);
    let producers = load.produce(&run, &site);
    site.exec(&format!("insert into rowcrew.jobs (kind) select 'abort' from generate_series(1, {poisons})"))
        .await;
    let mut restarts = 0;
    while site.one::<bool>("select exists (select from rowcrew.jobs)").await
        || !producers.iter().all(tokio::task::JoinHandle::is_finished)
    {
        restarts += crew.restart_ended();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    crew.restart_ended();
    site.until("not exists (select from rowcrew.claims where job_ids <> '{}')").await;
    crew.stop().await;
    let evidence = Evidence::gather(&site, &crew).await;
    evidence.hold(&Allowed::default());
    let dead = site.rows("select kind, reason, crashes from rowcrew.dead_jobs").await;
    let dead: Vec<(String, String, i32)> =
        dead.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let right =
        dead.iter().filter(|(kind, reason, crashes)| kind == "abort" && reason == "crashed" && *crashes == 3);
    let right = right.count() as i64;
    run.figure(
        "poison jobs dead after exactly 3 crashes",
        format!("{right} of {poisons}"),
        right == poisons,
        "all",
    );
    let innocent = dead.len() as i64 - right;
    run.figure("others dead", innocent, innocent == 0, "0");
    assert_eq!((right, innocent), (poisons, 0), "{dead:?}");
    let most = 3 * poisons as usize;
    run.figure("restarts of workers", restarts, restarts <= most, &format!("<= {most}"));
    run.end();
}

/// Rolling restart: every worker is asked to stop again and again, with jobs that outlast its patience.
#[tokio::test(flavor = "multi_thread")]
async fn c07_workers_that_are_asked_to_stop_end_in_time_and_give_back_what_they_hold_at_no_cost() {
    let run = Run::begin("C07");
    let site = Site::shared(&run).await;
    let mut crew = Crew::new(&site);
    let drain = run.size(1_000, 5_000);
    crew.order.drain_ms = drain;
    // Room for what is given back: how long it waits for a free slot is not the question here.
    crew.order.slots = run.size(64, 400);
    let count = run.size(2, 4);
    crew.start(&site, count).await;
    let long_ms = run.size(1_500..2_500, 7_500..8_500);
    let load = Load {
        long_percent: 10,
        long_ms,
        fail_percent: 0,
        pause: Duration::from_millis(100),
        ..Load::usual(run.size(400, 10_000))
    };
    let producers = load.produce(&run, &site);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (mut ends, mut rounds) = (Vec::new(), 0);
    while rounds < run.size(2, 25) {
        for index in 0..count {
            crew.workers[index].signal(Signal::TERM);
            ends.push(crew.workers[index].ended(Duration::from_mins(1)).await);
            crew.replace(index);
            // A supervisor gives the new one a moment before it stops the next.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        rounds += 1;
    }
    for producer in producers {
        producer.await.expect("a producer that is done");
    }
    site.drained().await;
    crew.stop().await;
    let evidence = Evidence::gather(&site, &crew).await;
    evidence.hold(&Allowed::default());
    let good = ends.iter().filter(|(status, _)| status.success()).count();
    run.figure("exits with 0", format!("{good} of {}", ends.len()), good == ends.len(), "all");
    assert_eq!(good, ends.len(), "a worker that was asked to stop failed");
    let mut took: Vec<f64> = ends.iter().map(|(_, took)| took.as_secs_f64() * 1e3).collect();
    let (worst, limit) = (percentile(&mut took, 100.0), drain as f64 + 1_000.0);
    run.figure("signal to exit, worst ms", format!("{worst:.0}"), worst <= limit, &format!("<= {limit:.0}"));
    let charged =
        evidence.transitions.iter().filter(|one| one.what == "completed" && one.attempts > 1).count();
    run.figure("jobs that were charged an attempt", charged, charged == 0, "0");
    assert_eq!(charged, 0, "giving back a job cost an attempt");
    let mut again = given_back_ms(&evidence);
    run.note("jobs given back", again.len());
    let p99 = percentile(&mut again, 99.0);
    run.figure("given back to claimed again, p99 ms", format!("{p99:.0}"), p99 <= 500.0, "<= 500");
    run.end();
}

/// Of each job that was given back: milliseconds to its next claim.
fn given_back_ms(evidence: &Evidence) -> Vec<f64> {
    let mut back = std::collections::HashMap::new();
    let mut again = Vec::new();
    for one in &evidence.transitions {
        match one.what.as_str() {
            "returned" => back.extend([(one.job, one.at)]),
            "claimed" => again.extend(back.remove(&one.job).map(|at| clock::ms(at, one.at))),
            _ => {}
        }
    }
    again
}
