//! What SQL handlers write stands there once, whatever is killed in the middle of it.

use std::time::Duration;

use crate::support::crew::Crew;
use crate::support::invariants::Allowed;
use crate::support::load::Load;
use crate::support::oracle::Evidence;
use crate::support::run::Run;
use crate::support::site::Site;

/// What strikes next.
#[derive(Clone, Copy)]
enum Strike {
    Worker,
    Server,
}

/// The ledger has no unique index: nothing but the transaction of effect and finish keeps a line from standing there
/// twice.
#[tokio::test(flavor = "multi_thread")]
async fn s01_effects_of_sql_handlers_happen_once_though_workers_and_the_server_are_killed() {
    let run = Run::begin("S01");
    let site = Site::own(&run, &[]).await;
    let mut crew = Crew::new(&site);
    crew.order.effect_ms = 20;
    crew.start(&site, 4).await;
    let indexes: i64 =
        site.one("select count(*) from pg_index where indrelid = 'chaos.effects'::regclass").await;
    assert_eq!(indexes, 0, "the ledger would refuse a second line by itself");
    let jobs = run.size(1_000, 20_000);
    let pause = Duration::from_millis(run.size(400, 150));
    let load = Load { sql_percent: 100, long_percent: 0, fail_percent: 0, pause, ..Load::usual(jobs) };
    let producers = load.produce(&run, &site);
    let mut rng = run.rng("strikes");
    let mut strikes = [vec![Strike::Worker; run.size(3, 20)], vec![Strike::Server; run.size(1, 5)]].concat();
    rng.shuffle(&mut strikes);
    for strike in &strikes {
        tokio::time::sleep(Duration::from_millis(rng.u64(300..1_200))).await;
        // So that there is something in the middle of which to strike.
        site.until("exists (select from rowcrew.jobs where state = 'running')").await;
        match strike {
            Strike::Worker => {
                let victim = rng.usize(..crew.workers.len());
                crew.kill(victim);
                crew.replace(victim);
            }
            Strike::Server => {
                site.cluster().crash().expect("a crash");
                site.cluster().recover().expect("a server that starts again");
            }
        }
        // One that found no server at its start has ended; a supervisor starts it again.
        crew.restart_ended();
    }
    for producer in producers {
        producer.await.expect("a producer that is done");
    }
    crew.restart_ended();
    site.drained().await;
    crew.stop().await;
    let evidence = Evidence::gather(&site, &crew).await;
    evidence.hold(&Allowed::default());

    let count = async |sql: &str| site.one::<i64>(sql).await;
    let completed = count("select count(*) from rowcrew.finished_jobs where state = 'completed'").await;
    let lines = count("select count(*) from chaos.effects").await;
    let distinct = count("select count(distinct job) from chaos.effects").await;
    let again = count("select count(*) from rowcrew.finished_jobs where attempts > 1").await;
    run.note("workers killed", strikes.iter().filter(|strike| matches!(strike, Strike::Worker)).count());
    run.note(
        "immediate restarts of the server",
        strikes.iter().filter(|strike| matches!(strike, Strike::Server)).count(),
    );
    run.note("jobs acknowledged", evidence.acked.len());
    run.note("jobs completed", completed);
    run.note("of which begun more than once", again);
    run.note("jobs dead", count("select count(*) from rowcrew.dead_jobs").await);
    run.figure("lines in the ledger", lines, lines == completed, "as many as completed jobs");
    run.figure("lines twice", lines - distinct, lines == distinct, "0");
    assert_eq!((lines, distinct), (completed, completed));
    assert!(again > 0, "nothing ran when the workers were killed: nothing was shown");
    run.end();
}
