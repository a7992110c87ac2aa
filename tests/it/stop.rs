//! A worker that is asked to stop leaves in order and in time, and takes no job with it.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Crew, Db, OwnServer, Scratch, until_gone};

/// What the promised second beyond the drain time may become on a machine with other work.
const SLACK: Duration = Duration::from_secs(2);

const NAP: &str = "[handlers.nap]\ntype = \"sleep\"\n";

/// A command that says when it has begun: a job that is only claimed at a stop is given back.
fn says(scratch: &Scratch, then: &str) -> String {
    let file = scratch.path("begun");
    format!("[handlers.says]\ntype = \"command\"\ncommand = [\"sh\", \"-c\", \"echo $$ > {file}; {then}\"]\n")
}

fn draining(drain_ms: u64) -> String {
    format!("[worker]\ndrain_ms = {drain_ms}\nconcurrency = 4\n{NAP}")
}

#[tokio::test]
async fn a_worker_asked_to_stop_claims_nothing_more_and_lets_running_jobs_end() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let mut worker = Crew::start(&db, &(draining(60_000) + &says(&scratch, "sleep 1"))).await;
    let running = db.insert("says", "{}").await;
    scratch.pids("begun", 1).await;
    worker.signal(Signal::TERM);
    worker.until_log("worker drains").await;
    let too_late = db.insert("nap", r#"{"ms": 0}"#).await;
    let (status, _) = worker.ended(Duration::from_secs(30)).await;
    assert_eq!(status.code(), Some(0));
    assert_eq!(db.state(running).await, "completed");
    assert_eq!(db.state(too_late).await, "available");
    assert_eq!(db.one::<i32>("select attempts from rowcrew.jobs").await, 0);
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.workers").await, 0);
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.claims").await, 0);
}

#[tokio::test]
async fn jobs_that_do_not_end_in_the_drain_time_are_given_back_at_no_cost() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let config = format!(
        r#"{}
        [handlers.stubborn]
        type = "command"
        command = ["sh", "-c", "trap '' TERM; echo $$ > {}; while :; do sleep 0.1; done"]
        [handlers.slow]
        type = "sql"
        statement = "select pg_sleep(600)"
        "#,
        draining(300),
        scratch.path("stubborn")
    );
    let mut worker = Crew::start(&db, &config).await;
    db.insert("nap", r#"{"ms": 600000}"#).await;
    db.insert("stubborn", "{}").await;
    db.insert("slow", "{}").await;
    let stubborn = scratch.pids("stubborn", 1).await[0];
    db.until("exists (select from pg_stat_activity where query like '%pg_sleep(600)%' and state = 'active' and pid <> pg_backend_pid())").await;
    db.until("(select count(*) = 3 from rowcrew.running)").await;
    worker.signal(Signal::TERM);
    let (status, took) = worker.ended(Duration::from_secs(30)).await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_millis(300) + SLACK, "{took:?}");
    until_gone(stubborn).await;
    let untouched =
        "state = 'available' and attempts = 0 and crashes = 0 and errors is null and claimed_by is null";
    let given_back: i64 = db.one(&format!("select count(*) from rowcrew.jobs where {untouched}")).await;
    assert_eq!(given_back, 3, "{}", worker.log());
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.workers").await, 0);
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.claims").await, 0);
}

#[tokio::test]
async fn a_second_signal_stops_a_worker_at_once() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let mut worker = Crew::start(&db, &(draining(600_000) + &says(&scratch, "exec sleep 120"))).await;
    let id = db.insert("says", "{}").await;
    let child = scratch.pids("begun", 1).await[0];
    worker.signal(Signal::TERM);
    worker.until_log("worker drains").await;
    assert!(!worker.has_ended());
    worker.signal(Signal::TERM);
    let (status, took) = worker.ended(Duration::from_secs(30)).await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(1) + SLACK, "{took:?}");
    until_gone(child).await;
    assert_eq!(db.state(id).await, "available");
    assert_eq!(db.one::<i32>("select attempts from rowcrew.jobs").await, 0);
}

#[tokio::test]
async fn a_worker_stops_in_time_though_the_database_is_away_and_its_jobs_run_elsewhere() {
    let mut server = OwnServer::start().await;
    let mut worker = Crew::start(&server, &draining(500)).await;
    let long = server.insert("nap", r#"{"ms": 600000}"#).await;
    // Ends while the database is away, so that its end cannot be written.
    let short = server.insert("nap", r#"{"ms": 700}"#).await;
    server.until("(select count(*) = 2 from rowcrew.running)").await;
    server.crash();
    worker.signal(Signal::TERM);
    let (status, took) = worker.ended(Duration::from_secs(30)).await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_millis(500) + SLACK, "{took:?}; its log:\n{}", worker.log());
    server.recover().await;
    let _next = Crew::start(&server, "[handlers.nap]\ntype = \"echo\"").await;
    server.until_state(long, "completed").await;
    server.until_state(short, "completed").await;
}

#[tokio::test]
async fn jobs_held_in_advance_are_given_back_at_once_and_another_worker_takes_them() {
    let db = Db::new().await;
    let config = format!("{}\n[handlers.quick]\ntype = \"noop\"", draining(600_000));
    // Many quick ones teach the worker to claim ahead of its four slots.
    db.insert_many("quick", "'{}'", 3000).await;
    db.insert_many("nap", r#"'{"ms": 600000}'"#, 300).await;
    let worker = Crew::start(&db, &config).await;
    db.until("not exists (select from rowcrew.jobs where kind = 'quick')").await;
    db.until("(select count(*) > 4 from rowcrew.running)").await;
    worker.signal(Signal::TERM);
    worker.until_log("worker drains").await;
    db.until("(select count(*) = 4 from rowcrew.running)").await;
    let _other = Crew::start(&db, "[handlers.nap]\ntype = \"echo\"").await;
    db.until("(select count(*) = 4 from rowcrew.jobs)").await;
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.finished_jobs where attempts <> 1").await, 0);
}

#[tokio::test]
async fn a_job_whose_end_could_not_be_written_at_a_stop_is_not_lost() {
    let db = Db::new().await;
    let mut worker = Crew::start(&db, &draining(0)).await;
    let id = db.insert("nap", r#"{"ms": 600000}"#).await;
    db.until_state(id, "running").await;
    let other = db.connect().await;
    other.batch_execute("begin; select from rowcrew.jobs for update").await.expect("a lock");
    worker.signal(Signal::TERM);
    let (status, _) = worker.ended(Duration::from_secs(30)).await;
    assert_eq!(status.code(), Some(0));
    // What the worker sent last fails, as if the network had swallowed it.
    let waiting = "pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    db.rows(&format!("select pg_terminate_backend(pid, 5000) from {waiting}")).await;
    other.batch_execute("rollback").await.expect("a rollback");
    let _next = Crew::start(&db, "[handlers.nap]\ntype = \"echo\"").await;
    db.until_state(id, "completed").await;
}

#[tokio::test]
async fn a_worker_that_is_still_starting_stops_when_it_is_asked_to() {
    let db = Db::new().await;
    db.exec(
        "create function enter_slowly() returns trigger language plpgsql as $$
            begin
                perform pg_sleep(600);
                return new;
            end $$;
         create trigger slowly before insert on rowcrew.workers for each row execute function enter_slowly()",
    )
    .await;
    let mut worker = Crew::spawn(&db, NAP);
    db.until(
        "exists (select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database())",
    )
    .await;
    worker.signal(Signal::TERM);
    let (status, _) = worker.ended(Duration::from_secs(20)).await;
    assert_eq!(status.code(), Some(0), "{}", worker.log());
    assert!(worker.log().contains("asked to stop before the worker had started"));
}
