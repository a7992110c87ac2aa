//! Statements whose request or answer is lost on the way.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::NoTls;

use crate::support::crew::Crew;
use crate::support::invariants::Allowed;
use crate::support::load::Load;
use crate::support::oracle::Evidence;
use crate::support::proxy::{Cut, Fault, Proxy};
use crate::support::run::Run;
use crate::support::site::Site;

/// What a worker sends, and how many of a hundred of each are cut: beats are few, and a worker without three
/// of them in a row stops its jobs.
const OF_WORKERS: [(&str, u32); 7] = [
    ("job_claim", 10),
    ("job_finish", 20),
    ("job_requeue", 20),
    ("worker_beat", 30),
    ("wake_arm", 5),
    ("claim_forget", 10),
    ("commit", 10),
];

fn faults(cut: Cut, each: usize) -> Vec<Fault> {
    OF_WORKERS.map(|(statement, percent)| Fault { statement, cut, percent, left: each }).to_vec()
}

/// Lost replies: the server has done what it was asked, and the worker never hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn d15_what_the_server_did_without_being_heard_is_neither_lost_nor_done_twice() {
    let run = Run::begin("D15");
    let site = Site::shared(&run).await;
    let proxy = Proxy::start(site.socket(), run.rng("proxy")).await;
    let mut crew = Crew::new(&site);
    crew.order.url = proxy.url(&site.database);
    crew.order.direct_url = proxy.url(&site.database);
    crew.start(&site, run.size(2, 4)).await;
    // Many small groups: each is a claim and a finish that can be cut.
    let jobs = run.size(500, 30_000);
    let small = Load {
        batch: 3,
        pause: Duration::from_millis(5),
        long_percent: 0,
        fail_percent: 20,
        ..Load::usual(jobs)
    };
    for (cut, name) in
        [(Cut::Reply, "reply"), (Cut::MidReply(9), "part of the reply"), (Cut::Request, "request")]
    {
        proxy.break_statements(&faults(cut, run.size(20, 1_000)));
        small.put_in(&run, &site).await;
        site.drained().await;
        let counts = OF_WORKERS.map(|(statement, _)| format!("{statement} {}", proxy.broken(statement)));
        run.note(&format!("cut so far, {name} included"), counts.join(", "));
    }
    assert!(proxy.broken("job_claim") > 0 && proxy.broken("job_finish") > 0);
    proxy.break_statements(&[]);
    site.until("not exists (select from rowcrew.claims where job_ids <> '{}')").await;
    crew.stop().await;
    // A connection that was cut and whose worker stopped jobs may overlap; nothing here is cut off for long.
    let evidence = Evidence::gather(&site, &crew).await;
    evidence.hold(&Allowed::default());
    evidence.report_unstarted(&run);
    run.end();
}

/// A producer that hears no answer sends the same key again.
#[tokio::test(flavor = "multi_thread")]
async fn d15_an_enqueue_with_a_key_that_is_sent_until_it_is_answered_makes_one_job() {
    let run = Run::begin("D15k");
    let site = Site::shared(&run).await;
    let proxy = Proxy::start(site.socket(), run.rng("proxy")).await;
    let fault = |cut| Fault { statement: "select rowcrew.enqueue", cut, percent: 50, left: usize::MAX };
    let mut keys = BTreeMap::new();
    let wanted = run.size(60, 2_000);
    for n in 0..wanted {
        proxy.break_statements(&[fault(if n % 2 == 0 { Cut::Reply } else { Cut::Request })]);
        let key = format!("key {n}");
        keys.insert(key.clone(), false);
        // One in ten gives up, and may or may not have a job.
        for _ in 0..if n % 10 == 0 { 1 } else { 100 } {
            let (client, connection) =
                tokio_postgres::connect(&proxy.url(&site.database), NoTls).await.expect("a way");
            tokio::spawn(connection);
            let sql = format!("select rowcrew.enqueue('nap', unique_key => '{key}')");
            if client.simple_query(&sql).await.is_ok() {
                keys.insert(key.clone(), true);
                break;
            }
        }
    }
    run.note("enqueues cut", proxy.broken("select rowcrew.enqueue"));
    let mut crew = Crew::new(&site);
    crew.start(&site, 1).await;
    site.drained().await;
    crew.stop().await;
    let evidence = Evidence { keys, ..Evidence::gather(&site, &crew).await };
    evidence.hold(&Allowed::default());
    let jobs = evidence.transitions.iter().filter(|one| one.what == "enqueued").count();
    run.figure("jobs for so many keys", format!("{jobs} of {wanted}"), jobs <= wanted, "at most one each");
    run.end();
}
