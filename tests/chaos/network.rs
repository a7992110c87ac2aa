//! The way between worker and server: silent, half open, slow.

use std::time::{Duration, Instant};

use crate::support::clock;
use crate::support::crew::{Crew, Worker};
use crate::support::invariants::Allowed;
use crate::support::load::Load;
use crate::support::oracle::Evidence;
use crate::support::proxy::{Line, Proxy};
use crate::support::run::{Run, percentile};
use crate::support::site::Site;

/// Two workers reach the server by themselves, two through the proxy.
async fn crew_of_four(site: &Site, proxy: &Proxy) -> Crew {
    let mut crew = Crew::new(site);
    crew.start(site, 2).await;
    crew.order.url = proxy.url(&site.database);
    crew.order.direct_url = proxy.url(&site.database);
    crew.start(site, 2).await;
    crew
}

/// Black hole: half of the crew is cut off while every socket stays open. The proxy stands in for a dead link;
/// its kernel still acknowledges what it is sent, so that only the program's own time limits can notice.
#[tokio::test(flavor = "multi_thread")]
async fn d04_workers_that_are_cut_off_stop_their_jobs_before_others_may_take_them() {
    let Some(run) = Run::begin_if_asked("D04") else { return };
    let site = Site::shared(&run).await;
    let proxy = Proxy::start(site.socket(), run.rng("proxy")).await;
    let mut crew = crew_of_four(&site, &proxy).await;
    let (mut stops, mut again) = (Vec::new(), Vec::new());
    for _ in 0..run.size(1, 5) {
        let load = Load {
            long_percent: 100,
            long_ms: 9_000..12_000,
            sql_percent: 0,
            fail_percent: 0,
            ..Load::usual(60)
        };
        load.put_in(&run, &site).await;
        site.until("(select count(*) >= 56 from rowcrew.jobs where state = 'running')").await;
        let cut_at = clock::now();
        proxy.set_line(Line::Silent);
        tokio::time::sleep(Duration::from_secs(run.size(20, 30))).await;
        proxy.set_line(Line::Open);
        site.drained().await;
        let evidence = Evidence::gather(&site, &crew).await;
        let cut_off: Vec<u32> = crew.workers[2..].iter().map(Worker::pid).collect();
        let mine = evidence.executions();
        let running =
            mine.iter().filter(|one| one.start < cut_at && one.end > cut_at && cut_off.contains(&one.pid));
        for one in running {
            stops.push(clock::ms(cut_at, one.end));
            let next = mine.iter().find(|other| other.job == one.job && other.start > one.start);
            again.extend(next.map(|next| clock::ms(cut_at, next.start)));
        }
    }
    crew.stop().await;
    let evidence = Evidence::gather(&site, &crew).await;
    evidence.hold(&Allowed::default());
    run.note("executions cut off", stops.len());
    assert!(!again.is_empty(), "no job was taken over");
    // A handler that would have ended by itself within that time may do so.
    let worst = percentile(&mut stops, 100.0);
    run.figure(
        "cut to the end of all its handlers, worst ms",
        format!("{worst:.0}"),
        worst <= 8_500.0,
        "<= 8500: 6 s after the last beat, which is at most 2 s old",
    );
    let worst = percentile(&mut again, 100.0);
    run.figure("cut to start elsewhere, worst ms", format!("{worst:.0}"), worst <= 19_000.0, "<= 19000");
    run.end();
}

/// Half-open listener: what it is told no longer arrives, and nothing closes.
#[tokio::test(flavor = "multi_thread")]
async fn d05_a_listener_gone_deaf_costs_the_poll_interval_and_is_replaced() {
    let run = Run::begin("D05");
    let site = Site::shared(&run).await;
    let proxy = Proxy::start(site.socket(), run.rng("proxy")).await;
    let mut crew = Crew::new(&site);
    crew.order.url = proxy.url(&site.database);
    crew.order.direct_url = proxy.url(&site.database);
    crew.start(&site, 1).await;
    let listeners =
        "select array_agg(pid order by pid) from pg_stat_activity where datname = current_database()
        and query like 'listen %'";
    let deaf: Option<Vec<i32>> = site.one(listeners).await;
    let client = site.client().await;
    let cut_at = clock::now();
    proxy.set_line(Line::SilentListeners(Instant::now()));
    let insert = async {
        let mut ids: Vec<i64> = Vec::new();
        for _ in 0..run.size(8, 40) {
            let row =
                client.query_one("insert into rowcrew.jobs (kind) values ('nap') returning id", &[]).await;
            ids.push(row.expect("a job").get(0));
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        ids
    };
    // The deaf one may still be there, for all the server knows.
    let watch = async {
        let mut replaced = None;
        while replaced.is_none() && clock::ms(cut_at, clock::now()) < 60_000.0 {
            let now: Option<Vec<i32>> = site.one(listeners).await;
            let fresh = now.iter().flatten().any(|pid| !deaf.iter().flatten().any(|old| old == pid));
            replaced = fresh.then(|| clock::ms(cut_at, clock::now()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        replaced
    };
    let (ids, replaced) = tokio::join!(insert, watch);
    site.drained().await;
    crew.stop().await;
    // The server does not know that the deaf connection has no other end any more.
    proxy.reset_all();
    site.until(
        "not exists (select from pg_locks where locktype = 'advisory' and database =
        (select oid from pg_database where datname = current_database()))",
    )
    .await;
    let evidence = Evidence::gather(&site, &crew).await;
    evidence.hold(&Allowed::default());
    let waited = "select extract(epoch from c.claimed_at - e.at)::float8 * 1000
        from chaos.log e join chaos.log c on c.job = e.job and c.what = 'claimed'
        where e.what = 'enqueued' and e.job = any ($1)";
    let rows = client.query(waited, &[&ids]).await.expect("waits");
    let mut waits: Vec<f64> = rows.iter().map(|row| row.get(0)).collect();
    let worst = percentile(&mut waits, 100.0);
    run.figure(
        "insert to claim while deaf, worst ms",
        format!("{worst:.0}"),
        worst <= 1_100.0,
        "<= 1100: the poll interval",
    );
    let replaced = replaced.expect("a new listener");
    run.figure("deaf to listening again, ms", format!("{replaced:.0}"), replaced <= 10_000.0, "<= 10000");
    run.end();
}

/// Slow link: 200 ms each way.
#[tokio::test(flavor = "multi_thread")]
async fn d06_a_slow_link_makes_no_worker_look_lost_and_full_batches_make_up_for_it() {
    let run = Run::begin("D06");
    let site = Site::shared(&run).await;
    let proxy = Proxy::start(site.socket(), run.rng("proxy")).await;
    let mut crew = Crew::new(&site);
    crew.order.url = proxy.url(&site.database);
    crew.order.direct_url = proxy.url(&site.database);
    crew.order.slots = 100;
    crew.start(&site, 2).await;
    proxy.set_delay(Duration::from_millis(200));
    let jobs = run.size(600, 10_000);
    let load = Load { long_percent: 0, sql_percent: 0, fail_percent: 0, batch: 500, ..Load::usual(jobs) };
    let began = clock::now();
    load.put_in(&run, &site).await;
    site.drained().await;
    let rate = jobs as f64 / clock::ms(began, clock::now()) * 1e3;
    let lost: i64 = site.one("select count(*) from rowcrew.events where action = 'rescue'").await;
    proxy.set_delay(Duration::ZERO);
    crew.stop().await;
    Evidence::gather(&site, &crew).await.hold(&Allowed::default());
    // Two workers with 100 slots each; a claim of what is free takes one round trip of 0.4 s or more.
    let ceiling = 2.0 * 100.0 / 0.41;
    run.figure(
        "jobs/s",
        format!("{rate:.0} of {ceiling:.0}"),
        rate >= ceiling / 2.0,
        ">= half of slots a round trip",
    );
    run.figure("workers taken for lost", lost, lost == 0, "0");
    assert_eq!(lost, 0, "a live worker was taken for lost");
    run.end();
}
