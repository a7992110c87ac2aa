//! What an insert may hold: what is refused is refused by name, and what is odd but allowed is never lost.

use rowcrew::store::sql::Statements;

use crate::support::{Crew, Db, rowcrew};

const NOOP: &str = "[handlers.noop]\ntype = \"noop\"";

#[tokio::test]
async fn a_row_that_cannot_be_run_is_refused_by_a_constraint_that_names_the_fault() {
    let db = Db::new().await;
    let good = db.insert("noop", "{}").await;
    let refusals = [
        ("priority", "-1", "23514", Some("jobs_priority_range")),
        ("priority", "10", "23514", Some("jobs_priority_range")),
        ("max_attempts", "0", "23514", Some("jobs_max_attempts_range")),
        ("max_attempts", "-1", "23514", Some("jobs_max_attempts_range")),
        ("max_attempts", "2147483647", "23514", Some("jobs_max_attempts_range")),
        ("timeout", "'-1 second'", "23514", Some("jobs_timeout_range")),
        ("timeout", "'0'", "23514", Some("jobs_timeout_range")),
        ("timeout", "'8 days'", "23514", Some("jobs_timeout_range")),
        ("queue", "''", "23514", Some("jobs_queue_length")),
        ("queue", "repeat('q', 201)", "23514", Some("jobs_queue_length")),
        ("unique_key", "''", "23514", Some("jobs_unique_key_length")),
        ("group_key", "''", "23514", Some("jobs_group_key_length")),
        ("state", "'completed'", "23514", Some("jobs_state_known")),
        ("backoff", r#"'{"type": "linear"}'"#, "23514", Some("jobs_backoff_type")),
        ("backoff", "'{}'", "23514", Some("jobs_backoff_type")),
        ("backoff", r#"'"fixed"'"#, "23514", Some("jobs_backoff_type")),
        ("backoff", "'5'", "23514", Some("jobs_backoff_type")),
        ("backoff", "'null'", "23514", Some("jobs_backoff_type")),
        ("payload", "'{\"a\": '", "22P02", None),
        ("payload", r#"'{"a": "\u0000"}'"#, "22P05", None),
        ("payload", "null", "23502", None),
        ("payload", "to_jsonb(repeat('x', 1048577))", "23514", Some("jobs_payload_bytes")),
    ];
    for (column, value, state, constraint) in refusals {
        let sql = format!("insert into rowcrew.jobs (kind, {column}) values ('noop', {value})");
        let (code, named) = db.refusal(&sql).await;
        assert_eq!((code.as_str(), named.as_deref()), (state, constraint), "{sql}");
    }
    for (kind, state, constraint) in [
        ("''", "23514", Some("jobs_kind_length")),
        ("repeat('k', 201)", "23514", Some("jobs_kind_length")),
        ("null", "23502", None),
    ] {
        let sql = format!("insert into rowcrew.jobs (kind) values ({kind})");
        let (code, named) = db.refusal(&sql).await;
        assert_eq!((code.as_str(), named.as_deref()), (state, constraint), "{sql}");
    }
    assert_eq!(db.all::<i64>("select id from rowcrew.jobs").await, [good], "and nothing else came in");
}

#[tokio::test]
async fn values_at_their_limits_are_taken_and_run() {
    let db = Db::new().await;
    let ids: Vec<i64> = db
        .all(
            r#"insert into rowcrew.jobs (kind, priority, max_attempts, timeout, backoff, payload) values
               ('noop', 0, 1, '1 microsecond', '{"type": "fixed", "delay_ms": 1}', 'null'),
               ('noop', 9, 10000, '7 days', '{"type": "exponential"}', '[1]'),
               ('noop', 5, null, null, null, to_jsonb(repeat('x', 1048000)))
               returning id"#,
        )
        .await;
    let _worker = Crew::start(&db, NOOP).await;
    db.until("not exists (select from rowcrew.jobs)").await;
    for id in &ids[1..] {
        assert_eq!(db.state(*id).await, "completed");
    }
    // A try of a microsecond may be over before it is begun; the job must end all the same.
    assert!(["completed", "dead"].contains(&db.state(ids[0]).await.as_str()));
}

#[tokio::test]
async fn the_limit_of_the_payload_is_a_setting_that_migrate_applies() {
    let db = Db::new().await;
    let big = "insert into rowcrew.jobs (kind, payload) values ('noop', to_jsonb(repeat('x', 3000)))";
    db.exec(big).await;
    let migrate = |bytes: u32| {
        let file = std::env::temp_dir().join(format!("rowcrew-limit-{}-{bytes}.toml", std::process::id()));
        std::fs::write(&file, format!("[limits]\npayload_bytes_max = {bytes}")).expect("a file");
        let path = file.to_str().expect("UTF-8");
        let output = rowcrew(&["migrate", "--config", path, "--database-url", &db.url]);
        std::fs::remove_file(&file).expect("the file");
        assert!(output.ok, "{}", output.stderr);
    };
    migrate(2048);
    assert_eq!(db.refusal(big).await.1.as_deref(), Some("jobs_payload_bytes"));
    migrate(4096);
    db.exec(big).await;
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.jobs").await, 2, "the first one stayed");
}

#[tokio::test]
async fn a_job_parked_at_infinity_waits_and_says_so_and_one_at_minus_infinity_runs_at_once() {
    let db = Db::new().await;
    let _worker = Crew::start(&db, NOOP).await;
    let parked: i64 =
        db.one("insert into rowcrew.jobs (kind, run_at) values ('noop', 'infinity') returning id").await;
    let early: i64 =
        db.one("insert into rowcrew.jobs (kind, run_at) values ('noop', '-infinity') returning id").await;
    let after = db.insert("noop", "{}").await;
    for id in [early, after] {
        db.until(&format!(
            "exists (select from rowcrew.finished_jobs where id = {id} and state = 'completed')"
        ))
        .await;
    }
    assert_eq!(db.state(parked).await, "scheduled");
    let why: String = db.one(&format!("select rowcrew.why({parked})")).await;
    assert_eq!(why, format!("Job {parked} is parked: its run_at is infinity. Set run_at to run it."));
    let blocked: String = db.one(&format!("select reason from rowcrew.blocked where id = {parked}")).await;
    assert_eq!(blocked, "parked: run_at is infinity");
    db.exec(&format!("update rowcrew.jobs set run_at = now() where id = {parked}")).await;
    db.until("not exists (select from rowcrew.jobs)").await;
    assert_eq!(db.state(parked).await, "completed");
}

#[tokio::test]
async fn a_worker_buries_a_job_whose_time_is_over_without_running_it() {
    let db = Db::new().await;
    let late: i64 = db
        .one("insert into rowcrew.jobs (kind, expires_at) values ('noop', now() - interval '1 s') returning id")
        .await;
    let in_time: i64 = db
        .one("insert into rowcrew.jobs (kind, expires_at) values ('noop', now() + interval '1 h') returning id")
        .await;
    let _worker = Crew::start(&db, NOOP).await;
    db.until("not exists (select from rowcrew.jobs)").await;
    assert_eq!(db.state(in_time).await, "completed");
    let row = db.rows("select id, reason, attempts, last_error from rowcrew.dead_jobs").await;
    assert_eq!(row.len(), 1);
    assert_eq!((row[0].get::<_, i64>(0), row[0].get::<_, i32>(2)), (late, 0), "it cost no attempt");
    assert_eq!(row[0].get::<_, String>(1), "expired");
    assert!(row[0].get::<_, String>(3).contains("expire"));
}

#[tokio::test]
async fn the_duty_buries_what_expired_before_it_was_begun_and_nothing_else() {
    let db = Db::new().await;
    let statements = Statements::new("rowcrew");
    db.exec(
        "insert into rowcrew.jobs (id, kind, queue, expires_at, state, run_at, last_error) values
         (1, 'a', 'default', now() - interval '1 ms', 'available', now(), null),
         (2, 'a', 'default', now() + interval '1 hour', 'available', now(), null),
         (3, 'a', 'default', now() - interval '1 day', 'available', 'infinity', 'boom'),
         (4, 'b', 'mail', now() - interval '1 day', 'waiting', now(), null),
         (5, 'b', 'mail', now() - interval '1 day', 'running', now(), null),
         (6, 'b', 'mail', null, 'available', now(), null)",
    )
    .await;
    let run = || async {
        let rows = db.client.query(&statements.job_expire.text, &[&10_i64]).await.expect("the duty");
        let mut counts: Vec<(String, String, i64)> =
            rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
        counts.sort();
        counts
    };
    let told = |queue: &str, kind: &str, jobs| (queue.to_owned(), kind.to_owned(), jobs);
    assert_eq!(run().await, [told("default", "a", 2), told("mail", "b", 1)]);
    assert_eq!(run().await, [], "a second time there is nothing to do");
    assert_eq!(db.all::<i64>("select id from rowcrew.jobs order by id").await, [2, 5, 6]);
    assert_eq!(
        db.all::<String>(
            "select id || ' ' || reason || ': ' || last_error from rowcrew.dead_jobs order by id"
        )
        .await,
        [
            "1 expired: expired before it was begun",
            "3 expired: expired before it was begun again; the last try failed: boom",
            "4 expired: expired before it was begun",
        ]
    );
    assert_eq!(
        db.all::<String>("select queue || ' ' || dead from rowcrew.job_stats order by 1").await,
        ["default 2", "mail 1"],
        "and they are counted"
    );
}

#[tokio::test]
async fn a_unique_key_admits_one_unfinished_job_of_a_kind() {
    let db = Db::new().await;
    let insert = "insert into rowcrew.jobs (kind, unique_key) values ('noop', 'u')";
    let first: i64 = db.one(&format!("{insert} returning id")).await;
    let (code, constraint) = db.refusal(insert).await;
    assert_eq!((code.as_str(), constraint.as_deref()), ("23505", Some("jobs_unique_key")));
    db.exec(&format!("{insert} on conflict do nothing")).await;
    let enqueue = "select rowcrew.enqueue('noop', unique_key => 'u')";
    assert_eq!(db.one::<i64>(enqueue).await, first, "enqueue answers the job that is there");
    let other: i64 = db.one("select rowcrew.enqueue('other', unique_key => 'u')").await;
    assert_eq!(db.all::<i64>("select id from rowcrew.jobs order by id").await, [first, other]);
    let _worker = Crew::start(&db, NOOP).await;
    db.until(&format!("not exists (select from rowcrew.jobs where id = {first})")).await;
    assert_ne!(db.one::<i64>(enqueue).await, first, "a finished job gives its key free");
}

#[tokio::test]
async fn enqueue_refuses_what_an_insert_refuses_and_fills_in_what_is_null() {
    let db = Db::new().await;
    for (arguments, constraint) in [
        ("''", "jobs_kind_length"),
        ("'noop', priority => 10", "jobs_priority_range"),
        ("'noop', backoff => '{}'", "jobs_backoff_type"),
        ("'noop', to_jsonb(repeat('x', 1048577))", "jobs_payload_bytes"),
    ] {
        let refusal = db.refusal(&format!("select rowcrew.enqueue({arguments})")).await;
        assert_eq!(refusal.1.as_deref(), Some(constraint), "{arguments}");
    }
    db.exec("select rowcrew.enqueue('noop', null, null, null, null)").await;
    let same: bool = db
        .one("select payload = '{}' and queue = 'default' and priority = 5 and run_at = created_at from rowcrew.jobs")
        .await;
    assert!(same);
}

#[tokio::test]
async fn enqueue_many_takes_all_of_an_array_or_nothing() {
    let db = Db::new().await;
    for (jobs, code) in [
        (r#"'[{"kind": "a"}, {"kind": "b", "pirority": 1}]'"#, "22023"),
        (r#"'{"kind": "a"}'"#, "22023"),
        ("'null'", "22023"),
        ("null", "22023"),
        ("'[1]'", "22023"),
        (r#"'[{"kind": "a"}, {}]'"#, "23502"),
        (r#"'[{"kind": "a"}, {"kind": "b", "priority": 77}]'"#, "23514"),
        (r#"'[{"kind": "a", "run_at": "tomorrow-ish"}]'"#, "22007"),
    ] {
        let sql = format!("select rowcrew.enqueue_many({jobs})");
        assert_eq!(db.refusal(&sql).await.0, code, "{sql}");
    }
    let unknown = r#"select rowcrew.enqueue_many('[{"kind": "b", "pirority": 1}]')"#;
    let error = db.client.batch_execute(unknown).await.expect_err("an unknown field");
    assert_eq!(error.as_db_error().expect("db").message(), "enqueue_many: a job has no field pirority");
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.jobs").await, 0);

    let ids: Vec<i64> = db
        .all(
            r#"select rowcrew.enqueue_many('[{"kind": "a", "unique_key": "u", "tags": ["x"]},
               {"kind": "a", "unique_key": "u"}, {"kind": "b", "queue": "mail", "timeout": "5 s"}]')"#,
        )
        .await;
    let there: Vec<i64> = db.all("select id from rowcrew.jobs order by id").await;
    assert_eq!((ids.len(), &ids), (2, &there), "the second with the key is left out");
    assert_eq!(db.all::<i64>("select rowcrew.enqueue_many('[]')").await, [0_i64; 0]);
}

#[tokio::test]
async fn an_id_that_does_not_exist_is_answered_not_an_error_and_leaves_no_event() {
    let db = Db::new().await;
    assert_eq!(db.one::<String>("select rowcrew.cancel(4711)").await, "unknown");
    assert!(!db.one::<bool>("select rowcrew.bury(4711)").await);
    assert!(!db.one::<bool>("select rowcrew.revive(4711)").await);
    let why: String = db.one("select rowcrew.why(4711)").await;
    assert_eq!(why, "There is no job 4711: it never was, or its time to be kept is over.");
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.events").await, 0);
}

#[tokio::test]
async fn a_kind_that_nobody_serves_waits_at_no_cost_and_can_be_seen() {
    let db = Db::new().await;
    let _worker = Crew::start(&db, NOOP).await;
    let waits = db.insert("nobody", "{}").await;
    let runs = db.insert("noop", "{}").await;
    db.until(&format!("not exists (select from rowcrew.jobs where id = {runs})")).await;
    let row = &db.rows("select id, state, attempts from rowcrew.jobs").await[0];
    assert_eq!(row.get::<_, i64>(0), waits);
    assert_eq!((row.get::<_, &str>(1), row.get::<_, i32>(2)), ("available", 0));
    let why: String = db.one(&format!("select rowcrew.why({waits})")).await;
    assert!(why.contains("no live worker serves kind nobody"), "{why}");
    let blocked: Vec<i64> = db.all("select id from rowcrew.blocked").await;
    assert_eq!(blocked, [waits]);
}

#[tokio::test]
async fn a_role_that_may_only_insert_enqueues_and_wakes_a_worker() {
    let db = Db::new().await;
    let role = format!("app_{}", db.name);
    db.exec(&format!(
        "create role {role}; grant usage on schema rowcrew to {role}; grant insert on rowcrew.jobs to {role}"
    ))
    .await;
    let _worker = Crew::start(&db, NOOP).await;
    let app = db.connect().await;
    app.batch_execute(&format!("set role {role}; insert into rowcrew.jobs (kind) values ('noop')"))
        .await
        .expect("an insert");
    db.until("exists (select from rowcrew.finished_jobs)").await;
    let refused = app.batch_execute("select from rowcrew.jobs").await.expect_err("no right to read");
    assert_eq!(refused.code().expect("a code").code(), "42501");
    db.exec(&format!("drop owned by {role}; drop role {role}")).await;
}
