//! A SQL handler whose connection breaks: no attempt is charged, and its effect happens once.

use crate::support::{Crew, Db, OwnServer};

/// Sleeps so many seconds with its effect done and not committed.
const CONFIG: &str = r#"
    [log]
    level = "info,rowcrew::worker::attempt=debug"
    [worker]
    concurrency = 10
    sql_connections = 2
    [handlers.effect]
    type = "sql"
    statement = "with done as (insert into public.effects values (($1 ->> 'n')::int)) select pg_sleep(($1 ->> 's')::float)"
"#;

/// At work on a handler's statement.
const AT_WORK: &str = "from pg_stat_activity where query like 'with done as%' and state = 'active'";

async fn insert(db: &Db, n: i32, seconds: f64) -> i64 {
    db.insert("effect", &format!(r#"{{"n": {n}, "s": {seconds}}}"#)).await
}

/// Every job was done at its first attempt, and no effect happened twice.
async fn unharmed(db: &Db, jobs: i64) {
    db.until("not exists (select from rowcrew.jobs)").await;
    let counts = "select (count(*) filter (where state = 'completed' and attempts = 1 and errors is null)) from rowcrew.finished_jobs";
    assert_eq!(db.one::<i64>(counts).await, jobs);
    assert_eq!(db.one::<i64>("select count(*) from effects").await, jobs);
    assert_eq!(db.one::<i64>("select count(distinct n) from effects").await, jobs);
}

#[tokio::test]
async fn a_sql_handler_whose_connection_is_terminated_runs_again_at_no_cost() {
    let db = Db::new().await;
    db.exec("create table effects (n int)").await;
    let worker = Crew::start(&db, CONFIG).await;
    insert(&db, 1, 2.0).await;
    let mut cut = 0;
    while cut < 2 {
        db.until(&format!("exists (select {AT_WORK} and datname = current_database())")).await;
        let terminate =
            format!("select count(pg_terminate_backend(pid)) {AT_WORK} and datname = current_database()");
        cut += db.one::<i64>(&terminate).await;
        db.until("exists (select from rowcrew.jobs where state = 'available' and last_error like '%57P01%')")
            .await;
        let waits: bool = db.one("select attempts = 0 and retry_at > now() from rowcrew.jobs").await;
        assert!(waits, "no attempt is charged, and there is a pause");
    }
    unharmed(&db, 1).await;
    assert_eq!(worker.log().matches("is made again at no cost").count(), 2, "{}", worker.log());
}

#[tokio::test]
async fn sql_handlers_under_which_the_server_restarts_run_again_at_no_cost() {
    let mut server = OwnServer::start().await;
    server.exec("create table effects (n int)").await;
    let _worker = Crew::start(&server, CONFIG).await;
    for n in 0..6 {
        insert(&server, n, 1.0).await;
    }
    server.until(&format!("(select count(*) = 2 {AT_WORK})")).await;
    server.crash();
    server.recover().await;
    unharmed(&server, 6).await;
}

#[tokio::test]
async fn waiting_for_a_connection_costs_a_sql_handler_neither_an_attempt_nor_its_time() {
    let db = Db::new().await;
    db.exec("create table effects (n int)").await;
    let config = CONFIG.replace("sql_connections = 2", "sql_connections = 1");
    let _worker = Crew::start(&db, &config).await;
    // The last one waits for longer than it may run.
    db.exec(
        "insert into rowcrew.jobs (kind, payload, timeout)
        select 'effect', jsonb_build_object('n', n, 's', 0.6), interval '1 s' from generate_series(1, 5) n",
    )
    .await;
    unharmed(&db, 5).await;
}

#[tokio::test]
async fn a_statement_that_breaks_its_connection_each_time_comes_to_its_end() {
    let db = Db::new().await;
    let statement = "select pg_terminate_backend(pg_backend_pid())";
    let config = format!(
        "[log]\nlevel = \"info,rowcrew::worker::attempt=debug\"\n[handlers.effect]\ntype = \"sql\"\nstatement = \"{statement}\"\nbackoff = {{ type = \"fixed\", delay_ms = 10 }}"
    );
    let worker = Crew::start(&db, &config).await;
    db.exec("insert into rowcrew.jobs (kind, max_attempts) values ('effect', 2)").await;
    db.until("exists (select from rowcrew.dead_jobs where attempts = 2 and last_error like '%57P01%')").await;
    assert_eq!(worker.log().matches("is made again at no cost").count(), 3, "{}", worker.log());
}
