//! Calls to the database that are late, dropped or not heard, at every await of the store: needs the feature `chaos`.

use crate::support::crew::Crew;
use crate::support::invariants::Allowed;
use crate::support::load::Load;
use crate::support::oracle::Evidence;
use crate::support::run::Run;
use crate::support::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn d16_calls_that_are_dropped_at_any_await_leave_no_transaction_and_no_job_without_an_owner() {
    let run = Run::begin("D16");
    let site = Site::shared(&run).await;
    let mut crew = Crew::new(&site);
    crew.order.strikes = Some((run.seed, 50));
    crew.start(&site, 2).await;
    let load = Load {
        batch: 4,
        long_percent: 0,
        fail_percent: 15,
        sql_percent: 20,
        ..Load::usual(run.size(600, 40_000))
    };
    load.put_in(&run, &site).await;
    site.drained().await;
    site.until("not exists (select from rowcrew.claims where job_ids <> '{}')").await;
    let open =
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
        and state like 'idle in transaction%' and now() - state_change > interval '1 s'";
    let open: i64 = site.one(open).await;
    let struck = crew.said("chaos: ");
    crew.stop().await;
    let evidence = Evidence::gather(&site, &crew).await;
    evidence.hold(&Allowed::default());
    run.note("calls struck", struck);
    assert!(struck > 0, "nothing was struck");
    run.figure("open transactions", open, open == 0, "0");
    assert_eq!(open, 0);
    evidence.report_unstarted(&run);
    run.end();
}
