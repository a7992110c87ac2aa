//! What it costs to wake workers.

use std::time::{Duration, Instant};

use futures_util::future::{join_all, poll_fn};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls, Statement};

use crate::support::crew::Crew;
use crate::support::invariants::Allowed;
use crate::support::oracle::Evidence;
use crate::support::run::{Run, percentile};
use crate::support::site::Site;

const INSERT: &str = "insert into rowcrew.jobs (kind) values ('of others')";

/// Inserts by all clients within that time, one row each. Nothing runs them: they cost what inserts cost.
async fn inserts(clients: &[(Client, Statement)], time: Duration) -> u32 {
    let began = Instant::now();
    let one = async |(client, insert): &(Client, Statement)| {
        let mut done = 0;
        while began.elapsed() < time {
            client.execute(insert, &[]).await.expect("an insert");
            done += 1;
        }
        done
    };
    join_all(clients.iter().map(one)).await.into_iter().sum()
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
    let (clients, time) = (run.size(16, 64), Duration::from_millis(run.size(200, 3_000)));
    let connect = async |_| {
        let client = site.client().await;
        let insert = client.prepare(INSERT).await.expect("SQL");
        (client, insert)
    };
    let clients = join_all((0..clients).map(connect)).await;
    let (mut with, mut without) = (0, 0);
    // One round that does not count warms everything up; the others by turns, so that both see the same machine.
    for round in 0..=run.size(4, 10) {
        for (trigger, sum) in [("enable", &mut with), ("disable", &mut without)] {
            site.exec(&format!("alter table rowcrew.jobs {trigger} trigger jobs_ring")).await;
            let done = inserts(&clients, time).await;
            *sum += if round == 0 { 0 } else { done };
        }
    }
    drop(clients);
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
    run.note("inserts with and without the bell", format!("{with}, {without}"));
    let ratio = f64::from(with) / f64::from(without);
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
