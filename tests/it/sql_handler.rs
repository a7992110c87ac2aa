//! SQL handlers: checked before the first job, in a role of their own, and in a database other than the queue's.

use std::time::Duration;

use crate::support::{Crew, Db, Scratch};

/// What `rowcrew work` says when it does not start.
async fn refusal(db: &Db, config: &str) -> String {
    let mut crew = Crew::spawn(db, config);
    let (status, _) = crew.ended(Duration::from_mins(1)).await;
    assert_eq!(status.code(), Some(1), "{}", crew.log());
    crew.log()
}

#[tokio::test]
async fn a_statement_that_cannot_work_keeps_the_worker_from_starting_and_says_where() {
    let db = Db::new().await;
    let elsewhere = Db::empty().await;
    db.exec("create table ledger (n int)").await;
    let config = format!(
        r#"
        [handlers.good]
        type = "sql"
        statement = "insert into ledger select ($1 ->> 'n')::int"
        [handlers.misspelt]
        type = "sql"
        statement = """
insert into ledger
select m from (values (1)) as v (n)"""
        [handlers.greedy]
        type = "sql"
        statement = "select $1, $2::int"
        [handlers.stranger]
        type = "sql"
        statement = "select 1"
        role = "no such \" role"
        [handlers.far]
        type = "sql"
        statement = "select * from nowhere"
        database_url = "{}"
        "#,
        elsewhere.url
    );
    let said = refusal(&db, &config).await;
    for words in [
        "handlers.misspelt: the statement is refused: column \"m\" does not exist (SQLSTATE 42703)",
        "at line 2, column 8: m from",
        "handlers.greedy: the statement takes 2 parameters: expected $1, the payload, alone",
        "handlers.stranger: the worker's user cannot act in the role \"no such \\\" role\"",
        "handlers.far: the statement is refused: relation \"nowhere\" does not exist (SQLSTATE 42P01)",
    ] {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
    assert!(!said.contains("handlers.good"), "{said}");
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.workers").await, 0);
    assert_eq!(db.one::<i64>("select count(*) from ledger").await, 0, "a check runs nothing");
}

#[tokio::test]
async fn a_sql_handler_with_a_role_has_its_rights_alone_and_the_finish_has_the_workers() {
    let db = Db::new().await;
    let role = format!("role_of_{}", db.name);
    db.exec(&format!(
        "create role {role};
         create table open (who text, at_end text); create table shut (n int);
         grant insert, select, update on open to {role};
         create function at_end() returns trigger language plpgsql as $$
         begin update open set at_end = current_user; return null; end $$;
         create constraint trigger at_end after insert on open deferrable initially deferred
             for each row execute function at_end()"
    ))
    .await;
    let config = format!(
        r#"
        [handlers.may]
        type = "sql"
        statement = "insert into open (who) values (current_user) returning who"
        role = "{role}"
        [handlers.may_not]
        type = "sql"
        statement = "insert into shut values (1)"
        role = "{role}"
        [handlers.not_the_queue]
        type = "sql"
        statement = "delete from rowcrew.jobs"
        "#
    );
    let config = config + &format!("role = \"{role}\"\n");
    // Whoever may not even look at the schema is told so before any job is.
    let said = refusal(&db, &config).await;
    assert!(said.contains("handlers.not_the_queue: ") && said.contains("42501"), "{said}");
    db.exec(&format!("grant usage on schema rowcrew to {role}")).await;
    let _crew = Crew::start(&db, &config).await;
    let may = db.insert("may", "{}").await;
    let may_not = db.insert("may_not", "{}").await;
    let not_the_queue = db.insert("not_the_queue", "{}").await;
    db.until_state(may, "completed").await;
    let result: String =
        db.one(&format!("select result::text from rowcrew.job_status where id = {may}")).await;
    assert_eq!(result, format!(r#"{{"rows": 1, "first": {{"who": "{role}"}}}}"#));
    assert_eq!(db.one::<String>("select at_end from open").await, role, "deferred work has the role too");
    for id in [may_not, not_the_queue] {
        db.until_state(id, "dead").await;
        let why: String = db.one(&format!("select last_error from rowcrew.dead_jobs where id = {id}")).await;
        assert!(why.contains("42501"), "{why}");
    }
}

#[tokio::test]
async fn an_effect_of_a_sql_handler_whose_job_was_taken_over_meanwhile_does_not_happen() {
    let db = Db::new().await;
    db.exec("create table effects (try int)").await;
    // The statement waits for the first to be over; the commit is on its way before the claim is looked at.
    let config = r#"
        [worker]
        sql_connections = 1
        [handlers.effect]
        type = "sql"
        statement = """
insert into public.effects select 1 from (select pg_advisory_xact_lock(4711)) as waited"""
        "#;
    for kept in ["7 days", "0"] {
        db.exec(&format!(
            "delete from effects; insert into rowcrew.queues (name, retention) values ('default', '{kept}')
            on conflict (name) do update set retention = excluded.retention"
        ))
        .await;
        let _crew = Crew::start(&db, config).await;
        db.exec("select pg_advisory_lock(4711)").await;
        db.insert("effect", "{}").await;
        db.until(
            "exists (select from pg_locks where locktype = 'advisory' and objid = 4711 and not granted)",
        )
        .await;
        // As somebody does who takes it for lost.
        db.exec("update rowcrew.jobs set claim_id = nextval('rowcrew.claim_ids')").await;
        db.exec("select pg_advisory_unlock(4711)").await;
        let idle = "not exists (select from pg_stat_activity where query like '%4711%' and state <> 'idle'
            and datname = current_database() and pid <> pg_backend_pid())";
        db.until(idle).await;
        db.until("not exists (select from rowcrew.claims)").await;
        assert_eq!(db.one::<i64>("select count(*) from effects").await, 0, "retention {kept}");
        assert_eq!(db.one::<i64>("select count(*) from rowcrew.jobs where state = 'running'").await, 1);
        db.exec("delete from rowcrew.jobs").await;
        // The connection is as good as before.
        db.insert("effect", "{}").await;
        db.until("not exists (select from rowcrew.jobs)").await;
        assert_eq!(db.one::<i64>("select count(*) from effects").await, 1, "retention {kept}");
    }
}

#[tokio::test]
async fn a_statement_whose_table_is_altered_between_its_jobs_goes_on() {
    let db = Db::new().await;
    db.exec("create table facts (n int); insert into facts values (1)").await;
    let config = r#"
        [worker]
        sql_connections = 1
        [handlers.looks]
        type = "sql"
        statement = "select f.* from public.facts f"
        max_attempts = 1
        "#;
    let _crew = Crew::start(&db, config).await;
    let result = |id: i64| format!("select result::text from rowcrew.job_status where id = {id}");
    let before = db.insert("looks", "{}").await;
    db.until_state(before, "completed").await;
    db.exec("alter table facts add column m int not null default 2").await;
    let after = db.insert("looks", "{}").await;
    db.until_state(after, "completed").await;
    assert_eq!(db.one::<String>(&result(before)).await, r#"{"rows": 1, "first": {"n": 1}}"#);
    assert_eq!(db.one::<String>(&result(after)).await, r#"{"rows": 1, "first": {"m": 2, "n": 1}}"#);
}

#[tokio::test]
async fn a_sql_handler_of_another_database_writes_there_and_finishes_here() {
    let db = Db::new().await;
    let elsewhere = Db::empty().await;
    elsewhere.exec("create table ledger (n int primary key)").await;
    let scratch = Scratch::new();
    std::fs::write(scratch.path("url"), format!("{}\n", elsewhere.url)).expect("a file");
    let config = format!(
        r#"
        [handlers.far]
        type = "sql"
        statement = "insert into ledger select ($1 ->> 'n')::int returning n"
        database_url_file = "{url}"
        connections = 2
        [handlers.slow]
        type = "sql"
        statement = "select pg_sleep(600)"
        database_url_file = "{url}"
        timeout = "300ms"
        max_attempts = 1
        [handlers.away]
        type = "sql"
        statement = "select 1"
        database_url = "postgres://nobody:s3cret@127.0.0.1:1/none"
        max_attempts = 1
        "#,
        url = scratch.path("url")
    );
    let crew = Crew::start(&db, &config).await;
    crew.until_log("at least once").await;
    crew.until_log("could not be checked").await;
    let said = crew.log();
    assert!(said.contains("job.kind=\"far\""), "{said}");
    assert!(said.contains("job.kind=\"away\""), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    let slow = db.insert("slow", "{}").await;
    let away = db.insert("away", "{}").await;
    let twice = "insert into rowcrew.jobs (kind, payload) select 'far', jsonb_build_object('n', least(n, 50)) \
                 from generate_series(1, 51) n";
    db.exec(twice).await;
    db.until("not exists (select from rowcrew.jobs)").await;
    assert_eq!(elsewhere.one::<i64>("select count(*) from ledger").await, 50);
    let result = "select count(*) from rowcrew.finished_jobs where result ->> 'rows' = '1'
        and result -> 'first' ->> 'n' = payload ->> 'n'";
    assert_eq!(db.one::<i64>(result).await, 50);
    let dead =
        "select format('%s %s %s', kind, reason, errors -> -1 ->> 'class') from rowcrew.dead_jobs order by 1";
    assert_eq!(
        db.all::<String>(dead).await,
        ["away exhausted network", "far permanent sql", "slow exhausted timeout"]
    );
    let why = |id: i64| format!("select last_error from rowcrew.dead_jobs where id = {id}");
    let why_away: String = db.one(&why(away)).await;
    assert!(why_away.contains("127.0.0.1") && !why_away.contains("s3cret"), "{why_away}");
    let why_slow: String = db.one(&why(slow)).await;
    assert!(why_slow.contains("57014") || why_slow.contains("timed out"), "{why_slow}");
    let sleeping =
        "not exists (select from pg_stat_activity where query like '%pg_sleep(600)%' and state = 'active'
        and datname = current_database() and pid <> pg_backend_pid())";
    elsewhere.until(sleeping).await;
    let connections = "select count(*) <= 3 from pg_stat_activity
        where application_name = 'rowcrew' and datname = current_database()";
    assert!(elsewhere.one::<bool>(connections).await, "two of far, one of slow");
}

#[tokio::test]
async fn a_first_row_is_kept_with_its_dates_and_json_and_cut_at_the_limit_of_results() {
    let db = Db::new().await;
    db.exec(
        "create table tall (n int, at timestamptz, day date, key uuid, doc json, note text, sum numeric)",
    )
    .await;
    let config = r#"
        [limits]
        result_bytes_max = 1024
        [handlers.put]
        type = "sql"
        statement = """
insert into tall values (1, '2026-01-02 03:04:05.5+00', '2026-01-02', '00112233-4455-6677-8899-aabbccddeeff',
    $1 -> 'doc', repeat('é', ($1 -> 'long')::int), 1.5) returning *"""
        [handlers.odd]
        type = "sql"
        statement = "select '{\"a\": \"\\u0000\"}'::json as doc, 'infinity'::timestamptz as at"
        "#;
    let _crew = Crew::start(&db, config).await;
    let small = db.insert("put", r#"{"doc": {"a": [1, 2.50]}, "long": 2}"#).await;
    let large = db.insert("put", r#"{"doc": null, "long": 1000}"#).await;
    let odd = db.insert("odd", "{}").await;
    for id in [small, large, odd] {
        db.until_state(id, "completed").await;
    }
    let result = |id: i64| format!("select result from rowcrew.job_status where id = {id}");
    let small: serde_json::Value = db.one(&result(small)).await;
    let first = serde_json::json!({
        "n": 1, "at": "2026-01-02T03:04:05.500Z", "day": "2026-01-02", "key": "00112233-4455-6677-8899-aabbccddeeff",
        "doc": {"a": [1, 2.5]}, "note": "éé", "sum": null,
    });
    assert_eq!(small, serde_json::json!({"rows": 1, "first": first}));
    let large: serde_json::Value = db.one(&result(large)).await;
    assert_eq!((&large["rows"], &large["truncated"]), (&1.into(), &true.into()), "{large}");
    assert!(
        large["bytes"].as_u64() > Some(2000) && large["text"].as_str().is_some_and(|text| text.len() <= 1024)
    );
    let odd: serde_json::Value = db.one(&result(odd)).await;
    assert_eq!(odd["first"], serde_json::json!({"doc": r#"{"a": "\u0000"}"#, "at": null}));
}
