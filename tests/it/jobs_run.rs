//! The main way of a job: in by plain SQL, run by the handler its kind names, found again by its id.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Crew, Db};

const CONFIG: &str = r#"
    [handlers.noop]
    type = "noop"
    [handlers.echo]
    type = "echo"
    [handlers.fail]
    type = "fail"
    max_attempts = 3
    backoff = { type = "fixed", delay_ms = 1 }
"#;

#[tokio::test]
async fn a_row_inserted_with_plain_sql_is_run_and_its_result_kept() {
    let db = Db::new().await;
    let _worker = Crew::start(&db, CONFIG).await;
    let id = db.insert("echo", r#"{"a": 1}"#).await;
    db.until(&format!("exists (select from rowcrew.job_status where id = {id} and state = 'completed')"))
        .await;
    let result: String =
        db.one(&format!("select result::text from rowcrew.job_status where id = {id}")).await;
    assert_eq!(result, r#"{"a": 1}"#);
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.jobs").await, 0);
}

#[tokio::test]
async fn a_failing_job_is_retried_and_then_buried_with_all_its_errors() {
    let db = Db::new().await;
    let _worker = Crew::start(&db, CONFIG).await;
    let recovers = db.insert("fail", r#"{"class": "transient", "times": 2}"#).await;
    let dies = db.insert("fail", r#"{"class": "transient"}"#).await;
    let poison = db.insert("fail", r#"{"class": "permanent"}"#).await;
    db.until("not exists (select from rowcrew.jobs)").await;
    assert_eq!(db.state(recovers).await, "completed");
    let dead = db
        .rows("select id, reason, attempts, jsonb_array_length(errors) from rowcrew.dead_jobs order by id")
        .await;
    let dead: Vec<(i64, String, i32, i32)> =
        dead.iter().map(|r| (r.get(0), r.get(1), r.get(2), r.get(3))).collect();
    assert_eq!(dead, [(dies, "exhausted".to_owned(), 3, 3), (poison, "permanent".to_owned(), 1, 1)]);
}

#[tokio::test]
async fn large_payloads_come_when_their_jobs_begin_and_reach_every_sort_of_handler_whole() {
    let db = Db::new().await;
    let config = r#"
        [limits]
        result_bytes_max = 4000000
        [handlers.echo]
        type = "echo"
        [handlers.cat]
        type = "command"
        command = ["cat"]
        [handlers.child]
        type = "process"
        command = ["sh", "-c", "while read -r line; do p=${line#*payload\\\":}; id=${line#*:}; echo \"{\\\"id\\\":${id%%,*},\\\"ok\\\":${p%?}}\"; done"]
        [handlers.sql]
        type = "sql"
        statement = "select $1::jsonb as whole"
    "#;
    // What compresses little, what compresses well, and what lies on both sides of the limit of a claim.
    db.exec(
        "create table given as
            select n, kind, jsonb_build_object('n', n, 'text', case n % 4
                when 0 then (select string_agg(md5(n::text || m), '') from generate_series(1, 3000) m)
                when 1 then repeat('word ', 100000)
                when 2 then (select string_agg(md5(n::text || m), '') from generate_series(1, 500) m)
                else 'short' end) as payload
            from generate_series(1, 10) n, unnest('{echo,cat,child,sql}'::text[]) kind",
    )
    .await;
    let _worker = Crew::start(&db, config).await;
    db.exec("insert into rowcrew.jobs (kind, payload) select kind, payload from given").await;
    db.until("not exists (select from rowcrew.jobs)").await;
    let whole = "select count(*) from given g join rowcrew.finished_jobs f on f.kind = g.kind
        and case g.kind when 'sql' then f.result #> '{first,whole}' else f.result end = g.payload";
    assert_eq!(db.one::<i64>(whole).await, 40);
}

#[tokio::test]
async fn a_backlog_of_one_kind_is_not_walked_again_and_again_in_search_of_others() {
    const BACKLOG: i64 = 20_000;
    let db = Db::new().await;
    db.exec(&format!(
        "insert into rowcrew.jobs (kind) select 'few at once' from generate_series(1, {BACKLOG});
         analyze rowcrew.jobs"
    ))
    .await;
    let limited = "[handlers.'few at once']\ntype = 'noop'\nconcurrency = 5\n";
    let read = "select pg_stat_get_tuples_returned('rowcrew.jobs_ready'::regclass)";
    let before: i64 = db.one(read).await;
    let mut worker = Crew::start(&db, &format!("{CONFIG}{limited}")).await;
    db.until("(select count(*) > 15000 from rowcrew.finished_jobs)").await;
    // The server counts what a session has read when it ends.
    worker.signal(Signal::TERM);
    worker.ended(Duration::from_secs(20)).await;
    db.until("not exists (select from pg_stat_activity where application_name = 'rowcrew' and datname = current_database())")
        .await;
    let walked = db.one::<i64>(read).await - before;
    assert!(walked < 15 * BACKLOG, "{walked} entries");
}
