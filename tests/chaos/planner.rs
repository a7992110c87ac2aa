//! A planner that is led astray.

use std::time::Duration;

use crate::support::crew::Crew;
use crate::support::invariants::Allowed;
use crate::support::load::Load;
use crate::support::oracle::Evidence;
use crate::support::run::{Run, percentile};
use crate::support::site::Site;

/// What the database is set to, one round each; those of our sessions' own settings win, the others do not.
const ROUNDS: [&[(&str, &str)]; 3] = [
    &[],
    &[
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("enable_material", "off"),
        ("enable_sort", "off"),
    ],
    &[("plan_cache_mode", "force_generic_plan"), ("enable_nestloop", "off"), ("enable_memoize", "off")],
];
/// Nothing is left but what is not due.
const DONE: &str = "not exists (select from rowcrew.jobs where kind <> 'later')";
/// The most jobs of one claim.
const CLAIM_MAX: usize = 1_000;

/// Milliseconds of each claim, by the server's log.
fn claims_ms(log: &str) -> Vec<f64> {
    let names =
        ["-- Takes due jobs of the worker's kinds for it", "-- As job_claim, for workers that take turns"];
    let took = |line: &str| line.split("duration: ").nth(1)?.split(" ms").next()?.parse::<f64>().ok();
    let is_claim = |line: &&str| names.iter().any(|name| line.contains(name)) && line.contains(" execute ");
    log.lines().filter(is_claim).filter_map(took).collect()
}

/// A million jobs that are not due.
async fn backlog(run: &Run, site: &Site) {
    let jobs = run.size(20_000, 1_000_000);
    site.exec(&format!(
        "insert into rowcrew.jobs (kind, priority, run_at) select 'later', n % 10, now() + interval '1 day'
        from generate_series(1, {jobs}) n"
    ))
    .await;
}

async fn set(site: &Site, settings: &[(&str, &str)]) {
    site.exec("alter database postgres reset all").await;
    for (name, value) in settings {
        site.exec(&format!("alter database postgres set {name} = {value}")).await;
    }
}

/// Without what this suite notes of each job that is claimed: several times what the claim itself costs.
async fn stop_noting(site: &Site) {
    for (table, trigger) in [("jobs", "note"), ("finished_jobs", "finished"), ("dead_jobs", "dead")] {
        site.exec(&format!("drop trigger chaos_{trigger} on rowcrew.{table}")).await;
    }
}

/// As many jobs as `load` has, and as fast.
async fn put_in_unnoted(site: &Site, load: &Load) {
    let insert = format!(
        "insert into rowcrew.jobs (kind, payload) select 'nap', jsonb_build_object('ms', 1 + n % 19)
        from generate_series(1, {}) n",
        load.batch
    );
    for _ in 0..load.jobs / load.batch {
        site.exec(&insert).await;
        tokio::time::sleep(load.pause / 2).await;
    }
}

/// Statistics of the empty table, a large backlog, and ways to join that are switched off.
#[tokio::test(flavor = "multi_thread")]
async fn d08_no_settings_and_no_statistics_make_a_claim_slow_or_larger_than_it_was_to_be() {
    let run = Run::begin("D08");
    let logged =
        [("log_min_duration_statement", "0"), ("log_parameter_max_length", "0"), ("autovacuum", "off")];
    let site = Site::own(&run, &logged).await;
    // As after a migration: analyzed when there was nothing, and never again.
    site.exec("analyze rowcrew.jobs, rowcrew.claims, rowcrew.workers, rowcrew.finished_jobs").await;
    let pause = Duration::from_millis(20);
    let load = Load { long_percent: 0, sql_percent: 5, pause, ..Load::usual(run.size(700, 20_000)) };
    backlog(&run, &site).await;
    let mut crew = Crew::new(&site);
    for settings in ROUNDS {
        set(&site, settings).await;
        crew.start(&site, 2).await;
        load.put_in(&run, &site).await;
        site.until(DONE).await;
        crew.stop().await;
    }
    site.exec("delete from rowcrew.jobs").await;
    let evidence = Evidence::gather(&site, &crew).await;
    evidence.hold(&Allowed { by_hand: true, ..Allowed::default() });
    let mut sizes = std::collections::HashMap::new();
    for one in evidence.transitions.iter().filter(|one| one.what == "claimed") {
        *sizes.entry(one.claim).or_insert(0) += 1;
    }
    let largest = sizes.values().copied().max().unwrap_or(0);
    run.figure("jobs of the largest claim", largest, largest <= CLAIM_MAX, "<= 1000");
    assert!(largest <= CLAIM_MAX, "a claim took more than its limit");

    stop_noting(&site).await;
    site.exec("truncate rowcrew.jobs").await;
    backlog(&run, &site).await;
    for settings in ROUNDS {
        set(&site, settings).await;
        crew.start(&site, 2).await;
        let before = site.server_log().len();
        put_in_unnoted(&site, &load).await;
        site.until(DONE).await;
        crew.stop().await;
        let mut took = claims_ms(&site.server_log()[before..]);
        assert!(!took.is_empty(), "no claim in the server's log");
        let names: Vec<&str> = settings.iter().map(|(name, _)| *name).collect();
        run.note("claim, p50 ms", format!("{:.1}", percentile(&mut took, 50.0)));
        let p99 = percentile(&mut took, 99.0);
        let what = format!("claim, p99 ms of {} ({})", took.len(), names.join(", "));
        run.figure(&what, format!("{p99:.1}"), p99 < 5.0, "< 5");
    }
    run.end();
}
