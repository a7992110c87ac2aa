//! When a failed job is tried again, how often, and when it is given up.

use crate::support::{Crew, Db};

/// A failing kind with these further settings, and a worker for it.
async fn failing(settings: &str) -> (Db, Crew) {
    let db = Db::new().await;
    let crew = Crew::start(&db, &format!("[handlers.fail]\ntype = \"fail\"\n{settings}\n")).await;
    (db, crew)
}

/// The wait in milliseconds that was written after the last failure.
async fn wait_ms(db: &Db, id: i64) -> f64 {
    db.until(&format!(
        "exists (select from rowcrew.jobs where id = {id} and state = 'available' and retry_at is not null)"
    ))
    .await;
    db.one(&format!(
        "select (extract(epoch from retry_at - (errors -> -1 ->> 'at')::timestamptz) * 1000)::float8
        from rowcrew.jobs where id = {id}"
    ))
    .await
}

/// Lets the job's next attempt begin now, and waits until it has failed too.
async fn next_attempt(db: &Db, id: i64) {
    let attempts: i32 = db.one(&format!("select attempts from rowcrew.jobs where id = {id}")).await;
    db.exec(&format!("update rowcrew.jobs set retry_at = now() where id = {id}")).await;
    db.until(&format!(
        "not exists (select from rowcrew.jobs where id = {id} and (attempts = {attempts} or state = 'running'))"
    ))
    .await;
}

/// The written wait is counted from when it is written, a little after the failure.
fn assert_wait(found: f64, expected_ms: u32) {
    let expected = f64::from(expected_ms);
    assert!((expected - 5.0..expected + 5_000.0).contains(&found), "waits {found} ms, not {expected}");
}

#[tokio::test]
async fn the_waits_of_the_handlers_backoff_grow_up_to_their_limit() {
    let (db, _crew) = failing(
        "max_attempts = 9\nbackoff = { type = \"exponential\", base_ms = 20000, factor = 3.0, max_ms = 100000, jitter = \"none\" }",
    )
    .await;
    let id = db.insert("fail", "{}").await;
    for expected in [20_000, 60_000, 100_000, 100_000] {
        assert_wait(wait_ms(&db, id).await, expected);
        assert_eq!(db.state(id).await, "retrying");
        next_attempt(&db, id).await;
    }
}

#[tokio::test]
async fn a_jobs_own_backoff_is_stronger_than_its_handlers() {
    let (db, _crew) = failing("max_attempts = 9\nbackoff = { type = \"fixed\", delay_ms = 1 }").await;
    let own = |backoff: &str| {
        format!("insert into rowcrew.jobs (kind, backoff) values ('fail', '{backoff}') returning id")
    };
    let fixed: i64 = db.one(&own(r#"{"type": "fixed", "delay_ms": 30000}"#)).await;
    let custom: i64 = db.one(&own(r#"{"type": "custom", "delays_ms": [10000, 50000]}"#)).await;
    for (id, waits) in [(fixed, [30_000, 30_000, 30_000]), (custom, [10_000, 50_000, 50_000])] {
        for expected in waits {
            assert_wait(wait_ms(&db, id).await, expected);
            next_attempt(&db, id).await;
        }
    }
}

#[tokio::test]
async fn a_job_is_given_up_when_its_next_attempt_would_come_too_late() {
    let (db, _crew) = failing(
        "max_attempts = 99\nbackoff = { type = \"fixed\", delay_ms = 60000, give_up_after_ms = 30000 }",
    )
    .await;
    let by_config = db.insert("fail", "{}").await;
    let by_row: i64 = db
        .one(
            r#"insert into rowcrew.jobs (kind, backoff)
            values ('fail', '{"type": "fixed", "delay_ms": 1, "give_up_after_ms": 300}') returning id"#,
        )
        .await;
    for id in [by_config, by_row] {
        db.until_state(id, "dead").await;
    }
    let dead = db.rows("select id, reason, attempts from rowcrew.dead_jobs order by id").await;
    assert_eq!(
        (dead[0].get::<_, i64>(0), dead[0].get::<_, &str>(1), dead[0].get::<_, i32>(2)),
        (by_config, "exhausted", 1)
    );
    assert_eq!((dead[1].get::<_, i64>(0), dead[1].get::<_, &str>(1)), (by_row, "exhausted"));
}

#[tokio::test]
async fn a_jobs_own_number_of_attempts_is_stronger_than_its_handlers() {
    let (db, _crew) = failing("max_attempts = 2\nbackoff = { type = \"fixed\", delay_ms = 1 }").await;
    let by_config = db.insert("fail", "{}").await;
    let one: i64 =
        db.one("insert into rowcrew.jobs (kind, max_attempts) values ('fail', 1) returning id").await;
    let four: i64 =
        db.one("insert into rowcrew.jobs (kind, max_attempts) values ('fail', 4) returning id").await;
    db.until("not exists (select from rowcrew.jobs)").await;
    let dead = db
        .rows("select id, attempts, jsonb_array_length(errors), reason from rowcrew.dead_jobs order by id")
        .await;
    let dead: Vec<(i64, i32, i32)> = dead.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(dead, [(by_config, 2, 2), (one, 1, 1), (four, 4, 4)]);
    assert_eq!(db.all::<String>("select distinct reason from rowcrew.dead_jobs").await, ["exhausted"]);
}

#[tokio::test]
async fn an_attempt_ends_at_its_timeout_and_the_jobs_own_is_stronger() {
    let db = Db::new().await;
    let config = r#"
        [handlers.quick]
        type = "sleep"
        timeout = "100ms"
        max_attempts = 2
        backoff = { type = "fixed", delay_ms = 1 }
        [handlers.slow]
        type = "sleep"
        timeout = "1h"
        max_attempts = 1
    "#;
    let _crew = Crew::start(&db, config).await;
    let by_config = db.insert("quick", r#"{"ms": 600000}"#).await;
    let row = |kind: &str, ms: u32, timeout: &str| {
        format!(
            "insert into rowcrew.jobs (kind, payload, timeout) values ('{kind}', '{{\"ms\": {ms}}}', '{timeout}') returning id"
        )
    };
    let shorter: i64 = db.one(&row("slow", 600_000, "0.1 s")).await;
    let longer: i64 = db.one(&row("quick", 400, "1 min")).await;
    db.until("not exists (select from rowcrew.jobs)").await;
    assert_eq!(db.state(longer).await, "completed");
    let dead = db
        .rows(
            "select id, reason, errors -> -1 ->> 'class', jsonb_array_length(errors) from rowcrew.dead_jobs order by id",
        )
        .await;
    let dead: Vec<(i64, &str, &str, i32)> =
        dead.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    assert_eq!(dead, [(by_config, "exhausted", "timeout", 2), (shorter, "exhausted", "timeout", 1)]);
}

#[tokio::test]
async fn a_job_that_expires_while_it_runs_is_dead_as_expired_whatever_runs_it() {
    let db = Db::new().await;
    let config = r#"
        [handlers.nap]
        type = "sleep"
        [handlers.child]
        type = "command"
        command = ["sleep", "120"]
        [handlers.query]
        type = "sql"
        statement = "select pg_sleep(120)"
        [handlers.late]
        type = "noop"
    "#;
    let _crew = Crew::start(&db, config).await;
    db.exec(
        r#"insert into rowcrew.jobs (kind, payload, expires_at)
        select kind, '{"ms": 600000}', now() + interval '0.5 s' from unnest(array['nap', 'child', 'query']) kind;
        insert into rowcrew.jobs (kind, expires_at) values ('late', now() - interval '1 s')"#,
    )
    .await;
    db.until("not exists (select from rowcrew.jobs)").await;
    let dead = db.rows("select kind, attempts, reason from rowcrew.dead_jobs order by kind").await;
    let dead: Vec<(&str, i32, &str)> = dead.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let expired = |kind, attempts| (kind, attempts, "expired");
    assert_eq!(dead, [expired("child", 1), expired("late", 0), expired("nap", 1), expired("query", 1)]);
    let classes = "select distinct errors -> -1 ->> 'class' from rowcrew.dead_jobs where attempts = 1";
    assert_eq!(db.all::<String>(classes).await, ["expired"]);
}
