//! A standby takes over, and the old primary stays up.

use std::pin::pin;
use std::time::Duration;

use tokio_postgres::Client;

use crate::support::clock;
use crate::support::crew::Crew;
use crate::support::invariants::Allowed;
use crate::support::load::Load;
use crate::support::oracle::Evidence;
use crate::support::run::Run;
use crate::support::site::{Site, connect};
use crate::support::standby::Standby;

/// Promotion under load, with synchronous replication: whatever was acknowledged is on both.
#[tokio::test(flavor = "multi_thread")]
async fn d03_a_standby_that_is_promoted_under_load_has_every_job_and_all_workers_follow_it() {
    let run = Run::begin("D03");
    let mut site = Site::own(&run, &[]).await;
    let Some(standby) = Standby::of(site.cluster()).await else {
        println!("D03: skipped, this Postgres came without pg_basebackup");
        return;
    };
    site.exec("alter system set synchronous_standby_names = '*'").await;
    site.exec("select pg_reload_conf()").await;
    site.until("(select count(*) = 1 from pg_stat_replication where sync_state = 'sync')").await;
    let old_url = site.url();
    site.is_found_at(format!(
        "host={},{} user=postgres dbname=postgres target_session_attrs=read-write",
        site.cluster().socket_dir().display(),
        standby.folder.display()
    ));
    let mut crew = Crew::new(&site);
    crew.start(&site, run.size(2, 4)).await;
    let pause = Duration::from_millis(run.size(60, 100));
    // More than fits in before the promotion.
    let producers = Load { pause, batch: 20, ..Load::usual(run.size(1_200, 20_000)) }.produce(&run, &site);
    tokio::time::sleep(Duration::from_millis(run.rng("promotion").u64(800..1_500))).await;

    // Both before the promotion: a moment later the old primary cannot commit any more.
    let old = connect(&old_url).await;
    old.batch_execute("alter system set default_transaction_read_only = on").await.expect("a setting");
    connect(&standby.url()).await.batch_execute("select pg_promote()").await.expect("a promotion");
    let promoted_at = clock::now();
    old.batch_execute("select pg_reload_conf()").await.expect("a server that is read-only");
    // What hangs in a commit that no standby will confirm is cut off, as by the restart that a demotion is; whoever
    // is idle finds out by himself.
    let old_too = connect(&old_url).await;
    let cuts = tokio::spawn(async move {
        let hanging = "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'";
        while old_too.batch_execute(hanging).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let work = async {
        for producer in producers {
            producer.await.expect("a producer that is done");
        }
        site.drained().await;
    };
    let (left_after, stuck) = connections_left(&old, promoted_at, work).await;
    assert!(crew.workers.iter_mut().all(|worker| !worker.has_ended()), "a worker ended");
    cuts.abort();
    let lost: i64 = site.one("select count(*) from rowcrew.events where action = 'rescue'").await;
    crew.stop().await;
    let evidence = Evidence::gather(&site, &crew).await;
    evidence.hold(&Allowed::default());
    run.note("jobs", evidence.acked.len());
    let claims = evidence.transitions.iter().filter(|one| one.what == "claimed");
    let first = claims.map(|one| one.at).find(|at| *at > promoted_at).expect("a claim after the promotion");
    let first = clock::ms(promoted_at, first);
    run.figure("promoted to first claim, ms", format!("{first:.0}"), first <= 5_000.0, "<= 5000");
    run.figure(
        "last connection to the old primary gone after, ms",
        format!("{left_after:.0}"),
        stuck == 0 && left_after <= 30_000.0,
        "<= 30000",
    );
    assert_eq!(stuck, 0, "connections to the old primary");
    run.figure("workers taken for lost", lost, lost == 0, "0");
    assert_eq!(lost, 0, "a live worker was taken for lost");
    run.end();
}

/// How many ms after the promotion the last connection of a worker was seen at the old primary, during the work or after
/// it, and how many are left in the end.
async fn connections_left(old: &Client, promoted_at: i64, work: impl Future<Output = ()>) -> (f64, i64) {
    let (mut work, mut done, mut left_after, mut stuck) = (pin!(work), false, 0.0, i64::MAX);
    while !done || (stuck > 0 && clock::ms(promoted_at, clock::now()) < 60_000.0) {
        let left = "select count(*) from pg_stat_activity where application_name = 'rowcrew'";
        stuck = old.query_one(left, &[]).await.expect("a count").get(0);
        if stuck > 0 {
            left_after = clock::ms(promoted_at, clock::now());
        }
        let look_again = Duration::from_millis(20);
        if done {
            tokio::time::sleep(look_again).await;
        } else {
            done = tokio::time::timeout(look_again, &mut work).await.is_ok();
        }
    }
    (left_after, stuck)
}
