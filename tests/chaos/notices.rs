//! What it costs to wake workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::poll_fn;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::support::crew::Crew;
use crate::support::invariants::Allowed;
use crate::support::oracle::Evidence;
use crate::support::run::{Run, percentile};
use crate::support::site::{Site, connect};

/// Inserts a second by so many clients, one row each time. Nothing runs them: they cost what inserts cost.
async fn inserts_a_second(site: &Site, clients: usize, time: Duration) -> f64 {
    let done = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let insert = || {
        let (done, url) = (done.clone(), site.url());
        tokio::spawn(async move {
            let client = connect(&url).await;
            let sql =
                client.prepare("insert into rowcrew.jobs (kind) values ('of others')").await.expect("SQL");
            while began.elapsed() < time {
                client.execute(&sql, &[]).await.expect("an insert");
                done.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let clients: Vec<_> = (0..clients).map(|_| insert()).collect();
    for client in clients {
        client.await.expect("a client that is done");
    }
    done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}

/// Everything that is said on the crew's channel.
async fn overhear(site: &Site) -> mpsc::UnboundedReceiver<String> {
    let (client, mut connection) = tokio_postgres::connect(&site.url(), NoTls).await.expect("a connection");
    let (said, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notice) = message {
                let _ = said.send(notice.payload().to_owned());
            }
        }
    });
    client.batch_execute("listen rowcrew_jobs").await.expect("a listener");
    // The connection ends with its client.
    tokio::spawn(async move {
        std::future::pending::<()>().await;
        drop(client);
    });
    heard
}

/// Cost of notices: many inserters beside many idle workers, with and without the trigger that rings.
#[tokio::test(flavor = "multi_thread")]
async fn d13_inserts_beside_idle_workers_cost_what_they_cost_without_them_and_wake_them_at_once() {
    let run = Run::begin("D13");
    let site = Site::shared(&run).await;
    let mut crew = Crew::new(&site);
    crew.start(&site, run.size(4, 32)).await;
    let mut heard = overhear(&site).await;
    let (clients, time) = (run.size(16, 64), Duration::from_millis(run.size(300, 5_000)));
    let (mut with, mut without) = (0.0, 0.0);
    for _ in 0..run.size(3, 6) {
        for (trigger, sum) in [("enable", &mut with), ("disable", &mut without)] {
            site.exec(&format!("alter table rowcrew.jobs {trigger} trigger jobs_ring")).await;
            *sum += inserts_a_second(&site, clients, time).await;
        }
    }
    site.exec("alter table rowcrew.jobs enable trigger jobs_ring; delete from rowcrew.jobs").await;
    // Idle again: they have looked in vain, and sleep.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (client, mut ids) = (site.client().await, Vec::new());
    for _ in 0..run.size(10, 200) {
        let row = client.query_one("insert into rowcrew.jobs (kind) values ('nap') returning id", &[]).await;
        ids.push(row.expect("a job").get::<_, i64>(0));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    site.drained().await;
    crew.stop().await;
    Evidence::gather(&site, &crew).await.hold(&Allowed { by_hand: true, ..Allowed::default() });
    let waited = "select extract(epoch from c.claimed_at - e.at)::float8 * 1000
        from chaos.log e join chaos.log c on c.job = e.job and c.what = 'claimed'
        where e.what = 'enqueued' and e.job = any ($1)";
    let rows = client.query(waited, &[&ids]).await.expect("waits");
    let mut waits: Vec<f64> = rows.iter().map(|row| row.get(0)).collect();
    let ratio = with / without;
    run.figure("inserts a second with / without the bell", format!("{ratio:.2}"), ratio >= 0.95, ">= 0.95");
    let (p50, p99) = (percentile(&mut waits, 50.0), percentile(&mut waits, 99.0));
    run.figure("insert to claim, idle, p50 ms", format!("{p50:.1}"), p50 < 5.0, "< 5");
    run.figure("insert to claim, idle, p99 ms", format!("{p99:.1}"), p99 < 20.0, "< 20");
    heard.close();
    let (mut notices, mut longest) = (0, 0);
    while let Some(notice) = heard.recv().await {
        notices += 1;
        longest = longest.max(notice.len());
    }
    run.note("notices", notices);
    assert!(notices > 0, "nobody was woken");
    run.figure("bytes of the longest notice", longest, longest <= 64, "<= 64");
    assert!(longest <= 64, "a notice of {longest} bytes");
    run.end();
}
