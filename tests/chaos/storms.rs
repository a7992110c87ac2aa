//! Many at once: writers who touch the same rows, producers of the same keys, workers who all start together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Barrier;

use crate::support::clock;
use crate::support::crew::Crew;
use crate::support::invariants::Allowed;
use crate::support::load::Load;
use crate::support::oracle::Evidence;
use crate::support::run::Run;
use crate::support::site::{Site, connect};

/// What people and the crew do to many rows, each drawn at random; `$ids` and `$id` are jobs among 200.
const OPERATIONS: [&str; 12] = [
    "select rowcrew.cancel(j) from unnest('$ids'::bigint[]) j",
    "select rowcrew.cancel($id)",
    "select rowcrew.revive(kind => 'nap', at_most => 50)",
    "select rowcrew.revive(j) from unnest('$ids'::bigint[]) j",
    "select rowcrew.bury($id)",
    "select rowcrew.purge('default', 20)",
    "with mine as (select id from rowcrew.jobs where id = any ('$ids') and state = 'available' order by id for update)
        update rowcrew.jobs set priority = $priority where id = any (array(select id from mine))",
    "insert into rowcrew.jobs (kind, payload) select 'nap', '{\"ms\": 1}' from generate_series(1, 40)",
    "select rowcrew.pause('default'), rowcrew.resume('default')",
    "select rowcrew.enqueue('nap', '{\"ms\": 1}', unique_key => 'u' || $priority)",
    "select count(*) from rowcrew.job_status where id = any ('$ids')",
    "select rowcrew.why($id)",
];

/// Deadlock storm: people do whatever they can to the same jobs that workers claim, finish, retry and rescue.
#[tokio::test(flavor = "multi_thread")]
async fn d09_random_bulk_operations_beside_a_busy_crew_never_deadlock() {
    let run = Run::begin("D09");
    let site = Site::shared(&run).await;
    let mut crew = Crew::new(&site);
    crew.start(&site, 2).await;
    let until = Instant::now() + Duration::from_secs(run.size(6, 60));
    let writer = |number: usize| {
        let (mut rng, url) = (run.rng(&format!("writer {number}")), site.url());
        tokio::spawn(async move {
            let client = connect(&url).await;
            let (mut done, mut failed) = (0_usize, Vec::new());
            while Instant::now() < until {
                let last = client.query_one("select last_value from rowcrew.jobs_id_seq", &[]).await;
                let last: i64 = last.expect("the last id").get(0);
                let id = |rng: &mut fastrand::Rng| (last - rng.i64(0..200)).max(1);
                let mut ids: Vec<String> = (0..rng.usize(2..100)).map(|_| id(&mut rng).to_string()).collect();
                // One transaction that calls a function for each of many jobs takes them in the order it names.
                ids.sort_unstable_by_key(|id| id.parse::<i64>().unwrap_or(0));
                ids.dedup();
                let sql = OPERATIONS[rng.usize(..OPERATIONS.len())]
                    .replace("$ids", &format!("{{{}}}", ids.join(",")))
                    .replace("$id", &id(&mut rng).to_string())
                    .replace("$priority", &rng.u32(0..10).to_string());
                match client.batch_execute(&sql).await {
                    Ok(()) => done += 1,
                    Err(error) => failed.push(format!("{sql}: {error:?}")),
                }
            }
            (done, failed)
        })
    };
    let writers: Vec<_> = (0..8).map(writer).collect();
    let mut rng = run.rng("kills");
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let victim = rng.usize(..2);
        crew.kill(victim);
        crew.replace(victim);
    }
    let (mut done, mut failed) = (0, Vec::new());
    for writer in writers {
        let (more, errors) = writer.await.expect("a writer that is done");
        done += more;
        failed.extend(errors);
    }
    site.exec("select rowcrew.resume('default')").await;
    site.drained().await;
    crew.stop().await;
    Evidence::gather(&site, &crew).await.hold(&Allowed { by_hand: true, ..Allowed::default() });
    let log = site.server_log();
    let deadlocks = log.lines().filter(|line| line.contains("deadlock detected")).count();
    run.note("operations", done);
    run.figure("deadlocks in the server's log", deadlocks, deadlocks == 0, "0");
    run.figure("operations that failed", failed.len(), failed.is_empty(), "0");
    assert_eq!(deadlocks, 0, "{}", around(&log, "deadlock detected"));
    assert!(failed.is_empty(), "{}", failed[..failed.len().min(5)].join("\n"));
    run.end();
}

/// The lines of a log after the first that says this.
fn around(log: &str, words: &str) -> String {
    let from = log.lines().position(|line| line.contains(words)).unwrap_or(0);
    log.lines().skip(from).take(40).collect::<Vec<_>>().join("\n")
}

/// Unique races: producers of the same keys, singly and in bulk, some of which roll back.
#[tokio::test(flavor = "multi_thread")]
async fn x03_producers_of_the_same_keys_make_one_job_for_each_and_never_none() {
    let run = Run::begin("X03");
    let site = Site::shared(&run).await;
    let (producers, keys, rounds) = (run.size(16, 64), run.size(25, 100), run.size(3, 20));
    for round in 0..rounds {
        let barrier = Arc::new(Barrier::new(producers));
        let answered = Arc::new(AtomicUsize::new(0));
        let produce = |number: usize| {
            let (mut rng, url) = (run.rng(&format!("{round} {number}")), site.url());
            let (barrier, answered) = (barrier.clone(), answered.clone());
            tokio::spawn(async move {
                let client = connect(&url).await;
                let mut order: Vec<usize> = (0..keys).collect();
                rng.shuffle(&mut order);
                barrier.wait().await;
                for chunk in order.chunks(if number.is_multiple_of(2) { 1 } else { 10 }) {
                    let rolled_back = rng.u32(..100) < 30;
                    let sql = match chunk {
                        [key] => format!("select rowcrew.enqueue('nap', unique_key => '{round} {key}')"),
                        keys => {
                            let jobs = keys
                                .iter()
                                .map(|key| format!(r#"{{"kind": "nap", "unique_key": "{round} {key}"}}"#));
                            format!("select rowcrew.enqueue_many('[{}]')", jobs.collect::<Vec<_>>().join(","))
                        }
                    };
                    let end = if rolled_back { "rollback" } else { "commit" };
                    client
                        .batch_execute(&format!("begin; {sql}; {end}"))
                        .await
                        .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
                    if !rolled_back {
                        answered.fetch_add(chunk.len(), Ordering::Relaxed);
                    }
                }
            })
        };
        let all: Vec<_> = (0..producers).map(produce).collect();
        for one in all {
            one.await.expect("a producer that is done");
        }
        let made: i64 = site.one("select count(*) from rowcrew.jobs").await;
        assert_eq!(
            made,
            keys as i64,
            "{} enqueues of {keys} keys were answered",
            answered.load(Ordering::Relaxed)
        );
        let single: i64 = site.one("select count(distinct unique_key) from rowcrew.jobs").await;
        assert_eq!(single, made);
        site.exec("delete from rowcrew.jobs").await;
    }
    let log = site.server_log();
    let deadlocks = log.matches("deadlock detected").count();
    run.note("producers, keys, rounds", format!("{producers}, {keys}, {rounds}"));
    run.figure("deadlocks", deadlocks, deadlocks == 0, "0");
    assert_eq!(deadlocks, 0, "{}", around(&log, "deadlock detected"));
    run.end();
}

/// Connection storm: more workers than the server has room for start at once.
#[tokio::test(flavor = "multi_thread")]
async fn d11_more_workers_than_there_are_connections_all_live_on_and_leave_room_for_people() {
    let run = Run::begin("D11");
    let site = Site::own(&run, &[("max_connections", "50"), ("superuser_reserved_connections", "10")]).await;
    site.exec("create role crew login; grant all on all tables in schema rowcrew to crew; grant all on all sequences
        in schema rowcrew to crew; grant usage on schema rowcrew, chaos to crew; grant all on all tables in schema chaos to crew;
        grant create on schema rowcrew to crew; alter table rowcrew.finished_jobs owner to crew;
        grant all on all sequences in schema chaos to crew").await;
    let mut crew = Crew::new(&site);
    crew.order.url = site.url().replace("postgres@", "crew@");
    crew.order.direct_url = crew.order.url.clone();
    let count = run.size(20, 100);
    let began = clock::now();
    for _ in 0..count {
        let worker = crew.spawn();
        crew.workers.push(worker);
    }
    let load = Load { sql_percent: 0, long_percent: 0, ..Load::usual(run.size(500, 5_000)) };
    load.put_in(&run, &site).await;
    site.drained().await;
    let drained = clock::ms(began, clock::now());
    tokio::time::sleep(Duration::from_secs(run.size(1, 5))).await;
    let ended = crew.workers.iter_mut().filter_map(|worker| worker.has_ended().then_some(())).count();
    let serving: i64 =
        site.one("select count(*) from rowcrew.workers where beat_at > now() - interval '6 s'").await;
    let connections: i64 = site.one("select count(*) from pg_stat_activity where usename = 'crew'").await;
    crew.workers.clear();
    run.note("workers, of whom so many serve at a time", format!("{count}, {serving}"));
    run.note("connections of theirs", connections);
    run.figure("all jobs done, ms", format!("{drained:.0}"), drained <= 60_000.0, "<= 60000");
    run.figure("workers that ended", ended, ended == 0, "0");
    assert_eq!(ended, 0, "{}", crew.log().lines().rev().take(5).collect::<Vec<_>>().join("\n"));
    run.end();
}

/// Retry storm: whatever jobs need is down for a while, and then comes back.
#[tokio::test(flavor = "multi_thread")]
async fn x07_jobs_that_fail_together_do_not_come_back_together() {
    let run = Run::begin("X07");
    let site = Site::shared(&run).await;
    let mut crew = Crew::new(&site);
    crew.order.slots = 100;
    crew.start(&site, 2).await;
    let jobs = run.size(1_000, 20_000);
    // Three failures each, with the backoff that jobs have by default, begun at 1 s (or sooner, not to take long).
    let base_ms: i64 = run.size(300, 1_000);
    let backoff = format!(r#"{{"type": "exponential", "base_ms": {base_ms}}}"#);
    site.exec(&format!(
        "insert into rowcrew.jobs (kind, payload, backoff) select 'nap', '{{\"ms\": 1, \"fails\": 3}}', '{backoff}'
        from generate_series(1, {jobs})"
    ))
    .await;
    site.drained().await;
    crew.stop().await;
    let evidence = Evidence::gather(&site, &crew).await;
    evidence.hold(&Allowed::default());
    let retries: Vec<i64> = evidence
        .transitions
        .iter()
        .filter(|one| one.what == "claimed" && one.attempts > 1)
        .map(|one| one.at)
        .collect();
    let (first, last) = (retries[0], retries[retries.len() - 1]);
    let step = |at: i64| ((at - first) / (base_ms * 1_000_000)) as usize;
    let mut steps = vec![0_u32; step(last) + 1];
    for at in &retries {
        steps[step(*at)] += 1;
    }
    let peak = steps.iter().max().copied().unwrap_or(0);
    let mean = retries.len() as f64 / steps.len() as f64;
    run.note("retries", format!("{} in {} times {base_ms} ms", retries.len(), steps.len()));
    let ratio = f64::from(peak) / mean;
    run.figure(
        "peak of retries in such a time / mean",
        format!("{peak}/{mean:.0} = {ratio:.1}"),
        ratio <= 3.0,
        "<= 3",
    );
    run.end();
}
