//! Behind a transaction-mode pooler, with the server itself in reach or not.

use crate::support::{Crew, Db, Pooler};

const HANDLERS: &str = r#"
    [handlers.noop]
    type = "noop"
    [handlers.nap]
    type = "sleep"
    [handlers.fail]
    type = "fail"
    [handlers.effect]
    type = "sql"
    statement = "insert into public.effects select ($1 ->> 'n')::int"
"#;

/// What the statement writes to; a worker looks for it when it starts.
const EFFECTS: &str = "create table effects (n int)";

/// Jobs that complete, are retried, die, and have an effect.
async fn mixed_work(db: &Db) {
    db.exec(
        r#"insert into rowcrew.jobs (kind, payload, backoff) select
            case n % 4 when 0 then 'noop' when 1 then 'nap' when 2 then 'fail' else 'effect' end,
            jsonb_build_object('n', n, 'ms', n % 20, 'times', 1, 'class', case when n % 8 = 2 then 'permanent' else 'transient' end),
            '{"type": "fixed", "delay_ms": 10}'
        from generate_series(1, 800) n"#,
    )
    .await;
    db.until("not exists (select from rowcrew.jobs)").await;
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.finished_jobs").await, 700);
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.dead_jobs").await, 100);
    assert_eq!(db.one::<i64>("select count(distinct n) from effects").await, 200);
    assert_eq!(db.one::<i64>("select count(*) from effects").await, 200);
}

/// A role that every setting of is meant badly.
async fn hostile_defaults(db: &Db) {
    for setting in [
        "statement_timeout = '500ms'",
        "lock_timeout = '10ms'",
        "idle_in_transaction_session_timeout = '200ms'",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_read_only = on",
        "search_path = public",
        "timezone = 'Asia/Kathmandu'",
        "datestyle = 'German'",
    ] {
        db.exec(&format!("alter database {} set {setting}", db.name)).await;
    }
}

#[tokio::test]
async fn work_goes_through_a_pooler_whatever_the_defaults_of_the_database_are() {
    let db = Db::new().await;
    db.exec(EFFECTS).await;
    let Some(pooler) = Pooler::before(&db).await else { return };
    hostile_defaults(&db).await;
    let config = format!(
        "database_url = \"{}\"\ndirect_url = \"{}\"\n[database]\nprepare = false\n{HANDLERS}",
        pooler.url, db.url
    );
    let worker = Crew::start_configured(&db, &config).await;
    mixed_work(&db).await;
    assert!(!worker.log().contains("WARN"), "{}", worker.log());
}

#[tokio::test]
async fn a_worker_that_reaches_only_a_pooler_says_what_it_cannot_do_and_works_on() {
    let db = Db::new().await;
    db.exec(EFFECTS).await;
    let Some(pooler) = Pooler::before(&db).await else { return };
    let config = format!(
        "database_url = \"{0}\"\ndirect_url = \"{0}\"\n[database]\nprepare = false\n{HANDLERS}",
        pooler.url
    );
    let worker = Crew::spawn_configured(&db, &config);
    worker.until_log("a transaction-mode pooler is between this worker and the database").await;
    mixed_work(&db).await;
    // Nothing of it stays behind in sessions that are others' too.
    assert_eq!(db.one::<i64>("select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())").await, 0);
    assert!(db.one::<bool>("select bool_and(locked_at is null) from rowcrew.workers").await);
}

#[tokio::test]
async fn work_goes_on_whatever_the_defaults_of_the_database_are() {
    let db = Db::new().await;
    db.exec(EFFECTS).await;
    hostile_defaults(&db).await;
    let _worker = Crew::start(&db, HANDLERS).await;
    mixed_work(&db).await;
}
