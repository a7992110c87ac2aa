//! Every statement of the hot path goes by its indexes: whatever the statistics say, with a plan for these
//! values and with one for any, and with any one way to join switched off.

use std::fmt::Write as _;
use std::time::Duration;

use rowcrew::store::sql::{Head, Statement, Statements};
use rustix::process::Signal;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::{Crew, Db};

const MODES: [&str; 2] = ["force_custom_plan", "force_generic_plan"];
/// Those that run for every batch of jobs: no bitmap scans here, which read all matches before the first.
const HOT: [&str; 8] = [
    "job_claim",
    "job_claim_in_turn",
    "job_complete",
    "job_complete_unkept",
    "job_finish",
    "job_discard",
    "job_requeue",
    "job_bury",
];
/// Those that must not depend on one way to join either, though they run more rarely.
const STEADY: [&str; 2] = ["claim_forget", "worker_rescue"];
/// These look at 20,000 or 100,000 rows anyway, which is all there are here: any way to read them is right.
const WIDE: [&str; 4] = ["jobs_list", "stats_read", "doctor_load", "doctor_queues"];
/// For people, once in a while: with the statistics of empty tables these may read all dead letters.
const FOR_PEOPLE: [&str; 3] = ["dead_list", "dead_groups", "dead_discard_many"];
const OFF: [&str; 4] = ["enable_hashjoin", "enable_mergejoin", "enable_material", "enable_sort"];
const WORKER: i64 = 7;
const LIMIT: i64 = 100;

/// What the planner knows of the tables.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Statistics {
    /// Analyzed as they are now.
    Fresh,
    /// Analyzed when they were empty, as after a migration.
    OfEmptyTables,
    /// Analyzed when they were full of dead rows and had no other: each table counts for one row.
    OfDeadRows,
}

const ALL_STATISTICS: [Statistics; 3] =
    [Statistics::Fresh, Statistics::OfEmptyTables, Statistics::OfDeadRows];

/// 24,000 jobs in three queues and ten priorities: due, scheduled, retrying, expiring, 2,000 running; and what
/// surrounds them in a busy database.
async fn seeded(statistics: Statistics) -> Db {
    let db = Db::new().await;
    // Vacuum takes a row for visible to all only when its commit is on disk.
    db.exec("set synchronous_commit = on").await;
    let tables =
        ["jobs", "claims", "workers", "dead_jobs", "finished_jobs", "queue_depths", "job_stats", "events"];
    for table in tables.iter().filter(|table| **table != "finished_jobs") {
        // The server must not come along and analyze by itself.
        db.exec(&format!("alter table rowcrew.{table} set (autovacuum_enabled = false)")).await;
    }
    let analyze = format!("analyze {}", tables.map(|table| format!("rowcrew.{table}")).join(", "));
    if statistics == Statistics::OfDeadRows {
        fill(&db).await;
        db.exec(&tables.map(|table| format!("delete from rowcrew.{table};")).concat()).await;
        db.exec("delete from rowcrew.frontiers; delete from rowcrew.queues").await;
        // All ways look the same to the planner now; the sessions of workers take some of them from it.
        db.exec("set enable_bitmapscan = off; set enable_seqscan = off").await;
    }
    if statistics != Statistics::Fresh {
        db.exec(&analyze).await;
    }
    fill(&db).await;
    if statistics == Statistics::Fresh {
        db.exec(&format!("vacuum {analyze}")).await;
    }
    db
}

async fn fill(db: &Db) {
    db.exec(&format!(
        "insert into rowcrew.jobs (id, kind, payload, queue, priority, run_at, retry_at, expires_at, unique_key, created_at)
         select n, 'kind.' || n % 7, jsonb_build_object('n', n, 'text', repeat('text ', 60)), (array['default', 'mail', 'bulk'])[1 + n % 3], n % 10,
            now() + case when n % 6 = 0 then interval '1 hour' else interval '-1 hour' end + n * interval '1 ms',
            case when n % 50 = 0 then now() + interval '10 minutes' end,
            case when n % 20 = 0 then now() + (n % 40 - 10) * interval '1 minute' end,
            case when n % 10 = 0 then 'key ' || n end,
            now() - interval '2 hours'
         from generate_series(1, 24000) n;
         update rowcrew.jobs set state = 'running', attempts = 1, claimed_by = {WORKER}, claim_id = 1 + id / 100, claimed_at = now()
         where id between 1 and 2000;
         insert into rowcrew.claims (worker_id, batch, claim_id, job_ids)
         select {WORKER}, c, c, array_agg(id) from (select id, claim_id as c from rowcrew.jobs where state = 'running') j group by c;
         insert into rowcrew.claims (worker_id, batch, claim_id, job_ids)
         select 100 + n % 50, n, 1000 + n, array(select generate_series(n, n + 99)) from generate_series(1, 1000) n;
         insert into rowcrew.workers (id, name, pid, version, queues, kinds, concurrency, lock_key)
         select n, 'host ' || n, n, '0.1.0', array['default'], array['kind.1', 'kind.2'], 100, n from generate_series(1, 1000) n;
         insert into rowcrew.dead_jobs (id, kind, payload, queue, priority, run_at, attempts, crashes, created_at, reason, died_at)
         select 100000 + n, 'kind.1', '{{}}', 'mail', 5, now(), 5, 0, now(), 'exhausted', now() - n * interval '6 minutes'
         from generate_series(1, 24000) n;
         insert into rowcrew.finished_jobs (id, kind, payload, queue, priority, run_at, state, attempts, crashes, created_at, finished_at)
         select 200000 + n, 'kind.1', '{{}}', 'mail', 5, now(), 'completed', 1, 0, now(), now() + (n % 9 - 1) * interval '1 day'
         from generate_series(1, 24000) n;
         insert into rowcrew.job_stats (bucket_at, queue, kind, worker_id, completed, wait_buckets, wait_counts)
         select date_bin('10 s', now(), 'epoch') - n / 8 * interval '1 minute', 'mail', 'kind.' || n % 8, n % 2, 9, '{{3}}', '{{9}}'
         from generate_series(1, 24000) n;
         insert into rowcrew.queue_depths (sampled_at, queue, depth)
         select now() - n / 3 * interval '1 minute', (array['default', 'mail', 'bulk'])[1 + n % 3], n from generate_series(1, 24000) n;
         insert into rowcrew.frontiers (queue, priority, kinds, due_at, id)
         select (array['default', 'mail', 'bulk'])[1 + n % 3], n % 10, n % 2, now() + n * interval '1 ms', n from generate_series(1, 24000) n;
         insert into rowcrew.events (at, action, target)
         select now() - n * interval '1 minute', 'retry', 'job ' || n from generate_series(1, 24000) n;
         insert into rowcrew.queues (name, paused_until) values ('mail', null), ('slow', 'infinity')"
    ))
    .await;
}

/// What a worker would send, as SQL: `EXECUTE` takes no sub-selects.
#[allow(clippy::too_many_lines, reason = "a table, one entry a statement")]
fn arguments(name: &str) -> Vec<String> {
    let each = |value: &str| {
        let parts: Vec<String> = (101..=300).map(|id| format!("\"{id}\": {value}")).collect();
        format!("'{{{}}}'", parts.join(", "))
    };
    let list = |of: &mut dyn Iterator<Item = String>| format!("array[{}]", of.collect::<Vec<_>>().join(", "));
    let ids = format!("{}::bigint[]", list(&mut (101..=300).map(|id| id.to_string())));
    let claim_ids = format!("{}::bigint[]", list(&mut (101..=300).map(|id| (1 + id / 100).to_string())));
    let claims = "'{2,3,4}'".to_owned();
    let batches = "'{2,3}'".to_owned();
    let worker = WORKER.to_string();
    match name {
        "job_claim" | "job_claim_in_turn" => {
            let lanes = || ["default", "mail", "bulk"].into_iter().flat_map(|q| (0..=9).map(move |p| (q, p)));
            let kinds = "array['kind.1', 'kind.2', 'kind.3', 'kind.4']".to_owned();
            let queues = list(&mut lanes().map(|(queue, _)| format!("'{queue}'")));
            let priorities = format!("{}::smallint[]", list(&mut lanes().map(|(_, p)| p.to_string())));
            let after_due_at = "array_fill('-infinity'::timestamptz, array[30])".to_owned();
            let after_id = "array_fill(0::bigint, array[30])".to_owned();
            vec![
                worker,
                "999999".into(),
                kinds,
                LIMIT.to_string(),
                queues,
                priorities,
                after_due_at,
                after_id,
            ]
        }
        "job_finish" => {
            let (cancelled, results) = ("'{101}'".to_owned(), each("{\"rows\": 1}"));
            vec![ids, claims, cancelled, results, worker, batches]
        }
        "jobs_take_over" => vec![worker, "999999".into(), ids, claims],
        "job_complete" => vec!["101".into(), "2".into(), r#"'{"rows": 1}'"#.into()],
        "job_complete_unkept" | "job_payload" => vec!["101".into(), "2".into()],
        "job_discard" => vec![ids, claims, worker, batches],
        "job_progress" => {
            let reports = each(r#"{"claim": 2, "progress": {"done": 5}}"#);
            vec![ids, reports]
        }
        "job_requeue" => {
            let how = each(r#"{"wait_ms": 1000, "error": {"attempt": 1}, "message": "no"}"#);
            vec![ids, claims, how, worker, batches]
        }
        "job_bury" => {
            let why = each(r#"{"reason": "exhausted", "error": {"attempt": 1}, "message": "no"}"#);
            vec![ids, claims, why, worker, batches]
        }
        "claims_reclaim" | "depth_sample" | "doctor_load" | "doctor_queues" | "kinds_list"
        | "queues_list" | "stats_read" => vec![],
        "dead_count" => ["'kind.1'", "null", "null", "10000", "null"].map(str::to_owned).to_vec(),
        "dead_groups" => ["null", "'mail'", "null", "null", "50"].map(str::to_owned).to_vec(),
        "dead_discard" => vec!["'{100001, 100002, 100050}'".into()],
        "dead_discard_many" => {
            ["'kind.1'", "null", "'exhausted'", "now()", "5000", "null"].map(str::to_owned).to_vec()
        }
        "dead_edit" => vec!["100007".into(), r#"'{"n": 1}'"#.into(), "1048576".into()],
        "dead_list" => ["null", "'mail'", "null", "50", "null"].map(str::to_owned).to_vec(),
        "dead_revive" => vec!["100007".into()],
        "job_retry" | "job_show" => vec!["4711".into()],
        "job_held" => vec!["4711".into(), "5".into()],
        "jobs_cancelled" => vec![ids, claim_ids],
        "jobs_locked" => vec![ids, claims],
        "jobs_horizon" => vec![i64::MAX.to_string(), "true".into(), "true".into(), "true".into()],
        "jobs_list" => {
            let filters = ["null", "'mail'", "null", "null", "true", "true", "true", "true", "0", "50"];
            [i64::MAX.to_string()].into_iter().chain(filters.map(str::to_owned)).collect()
        }
        "job_expire" => vec!["1000".into()],
        "claim_forget" => vec![worker, "5".into()],
        "dead_prune" => vec!["90".into(), "1000".into()],
        "worker_alone" => vec![worker, "42".into()],
        "worker_beat" => vec![
            worker,
            "10".into(),
            "'running'".into(),
            "true".into(),
            "77".into(),
            r#"'{"threads": 2}'"#.into(),
            "'{kind.1}'".into(),
        ],
        "worker_leave" | "worker_step_aside" => vec![worker],
        "worker_rescue" => vec![worker, "0".into(), "3".into()],
        other => panic!("{other} promises a plan and has no example here"),
    }
}

/// Prepares the statement as `planned` and answers how to execute it, with its example.
async fn prepare(client: &Client, statement: &Statement, mode: &str) -> String {
    prepare_with(client, statement, mode, &arguments(statement.name)).await
}

/// As [`prepare`], with these arguments.
async fn prepare_with(client: &Client, statement: &Statement, mode: &str, arguments: &[String]) -> String {
    let head = Head::of(&statement.text);
    let types: Vec<&str> = head.params.iter().map(|param| param.type_name.as_str()).collect();
    let types = if types.is_empty() { String::new() } else { format!("({})", types.join(", ")) };
    let arguments = if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(", ")) };
    client
        .batch_execute(&format!(
            "deallocate all; set jit = off; set search_path = pg_catalog; set plan_cache_mode = {mode};
             prepare planned {types} as {}",
            statement.text
        ))
        .await
        .unwrap_or_else(|error| panic!("{}: {error:?}", statement.name));
    format!("execute planned {arguments}")
}

/// The first column of what a command answers.
async fn lines(client: &Client, command: &str) -> Vec<String> {
    let answer = client.simple_query(command).await.unwrap_or_else(|error| panic!("{command}: {error:?}"));
    answer
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .collect()
}

async fn plan(client: &Client, statement: &Statement, mode: &str) -> String {
    let execute = prepare(client, statement, mode).await;
    lines(client, &format!("explain (costs off) {execute}")).await.join("\n")
}

/// What is wrong with a plan; empty if nothing is.
fn faults(name: &str, head: &Head, plan: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for scan in &head.plan {
        let index = scan.rsplit(' ').next().unwrap_or(scan);
        let by_bitmap = !HOT.contains(&name) && plan.contains(&format!("Bitmap Index Scan on {index}"));
        if !plan.contains(scan.as_str()) && !by_bitmap {
            faults.push(format!("no {scan}"));
        }
    }
    for table in ["jobs", "finished_jobs", "dead_jobs", "claims", "job_stats"] {
        if table == "job_stats" && head.plan.is_empty() {
            // Its own upkeep, stats_fold and stats_prune, goes through old statistics as a whole.
            continue;
        }
        if plan.contains(&format!("Seq Scan on {table}")) {
            faults.push(format!("Seq Scan on {table}"));
        }
    }
    let unbounded = |scan: &str| !scan.lines().nth(1).is_some_and(|cond| cond.contains("Index Cond: ((id "));
    if !WIDE.contains(&name) && plan.split("using jobs_pkey").skip(1).any(unbounded) {
        faults.push("all of jobs_pkey".to_owned());
    }
    if HOT.contains(&name)
        && plan
            .split("using claims_pkey")
            .skip(1)
            .any(|scan| !scan.lines().nth(1).is_some_and(|cond| cond.contains("batch >=")))
    {
        faults.push("all claims of a worker".to_owned());
    }
    if HOT.contains(&name) && plan.contains("Bitmap") {
        faults.push("a bitmap scan".to_owned());
    }
    faults
}

/// Every fault of every plan of these statements, as one text.
async fn report(client: &Client, names: impl Fn(&str) -> bool, setting: &str) -> String {
    let mut report = String::new();
    for statement in Statements::new("rowcrew").all() {
        let head = Head::of(&statement.text);
        if head.plan.is_empty() || !names(statement.name) {
            continue;
        }
        for mode in MODES {
            let plan = plan(client, statement, mode).await;
            let faults = faults(statement.name, &head, &plan);
            if !faults.is_empty() {
                let name = statement.name;
                let _ = writeln!(report, "\n{name}, {mode}, {setting}: {}\n{plan}", faults.join("; "));
            }
        }
    }
    report
}

#[tokio::test]
async fn every_statement_goes_by_the_indexes_its_head_names() {
    let db = seeded(Statistics::Fresh).await;
    let report = report(&db.client, |name| !WIDE.contains(&name), "analyzed").await;
    assert!(report.is_empty(), "{report}");
}

#[tokio::test]
async fn every_statement_goes_by_its_indexes_with_the_statistics_of_empty_tables() {
    for statistics in [Statistics::OfEmptyTables, Statistics::OfDeadRows] {
        let db = seeded(statistics).await;
        // The count of all jobs may read the table while no vacuum has said which pages all can see.
        let names =
            |name: &str| name != "depth_sample" && !WIDE.contains(&name) && !FOR_PEOPLE.contains(&name);
        let report = report(&db.client, names, &format!("{statistics:?}")).await;
        assert!(report.is_empty(), "{report}");
    }
}

/// COPY and transaction control: commands that the server plans nothing for and cannot explain.
fn has_no_plan(statement: &Statement) -> bool {
    let first = statement.text.lines().find(|line| !line.starts_with("--")).unwrap_or_default();
    ["copy", "begin", "commit", "rollback", "set"]
        .contains(&first.split_whitespace().next().unwrap_or_default())
}

#[tokio::test]
async fn a_statement_that_promises_no_plan_reads_no_table_of_jobs_through() {
    for statistics in ALL_STATISTICS {
        let db = seeded(statistics).await;
        for statement in Statements::new("rowcrew").all() {
            let head = Head::of(&statement.text);
            assert!(
                head.plan.is_empty() || !has_no_plan(statement),
                "{} has no plan to promise",
                statement.name
            );
            if !head.plan.is_empty() || has_no_plan(statement) {
                continue;
            }
            let nulls = vec!["null".to_owned(); head.params.len()];
            let execute = prepare_with(&db.client, statement, "force_generic_plan", &nulls).await;
            let plan = lines(&db.client, &format!("explain (costs off) {execute}")).await.join("\n");
            let faults = faults(statement.name, &head, &plan);
            assert!(faults.is_empty(), "{}, {statistics:?}: {}\n{plan}", statement.name, faults.join("; "));
        }
    }
}

#[tokio::test]
async fn no_one_way_to_join_or_sort_is_needed_for_the_plans_of_the_hot_path() {
    for statistics in ALL_STATISTICS {
        let db = seeded(statistics).await;
        let mut all = String::new();
        for setting in OFF {
            db.exec(&format!("set {setting} = off")).await;
            let names = |name: &str| HOT.contains(&name) || STEADY.contains(&name);
            all += &report(&db.client, names, &format!("{setting} = off, {statistics:?}")).await;
            db.exec(&format!("reset {setting}")).await;
        }
        assert!(all.is_empty(), "{all}");
    }
}

/// What apps and people call all day, each on jobs of [`seeded`].
const CALLS: [&str; 16] = [
    "enqueue('kind.1')",
    "enqueue('kind.1', unique_key => 'new')",
    "enqueue('kind.3', unique_key => 'key 10')",
    r#"enqueue_many('[{"kind": "kind.1"}, {"kind": "kind.3", "unique_key": "key 10"}]')"#,
    "cancel(4711)",
    "cancel(101)",
    "cancel(100007)",
    "cancel(200007)",
    "cancel(999999)",
    "bury(4712)",
    "bury(102)",
    "revive(100007)",
    "why(4711)",
    "why(101)",
    "pause('mail')",
    "resume('slow')",
];
/// For people, once in a while.
const RARE_CALLS: [&str; 2] = ["revive(kind => 'kind.1', at_most => 100)", "purge('mail', 100)"];
/// Rows read by scans through a table, of the tables with more than a few rows. The server keeps counting the
/// transactions of the last second in here until it has reported them.
const READ_THROUGH: &str = "select relname::text, seq_tup_read from pg_stat_xact_user_tables
    where schemaname = 'rowcrew' and seq_tup_read > 0 and relname not in ('workers', 'queues') order by 1";

async fn rows_read(db: &Db) -> Vec<(String, i64)> {
    let rows = db.client.query(READ_THROUGH, &[]).await.expect("the counters of the server");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The tables that a call reads through and their rows, by what the server counts; the call is undone.
async fn read_through(db: &Db, call: &str, settings: &str) -> Vec<(String, i64)> {
    db.exec(&format!("begin; {settings}")).await;
    let before = rows_read(db).await;
    db.exec(&format!("select rowcrew.{call}")).await;
    let mut read = rows_read(db).await;
    for (table, rows) in &mut read {
        *rows -= before.iter().find(|(name, _)| name == table).map_or(0, |(_, rows)| *rows);
    }
    read.retain(|(_, rows)| *rows > 0);
    db.exec("rollback").await;
    read
}

#[tokio::test]
async fn no_function_reads_a_table_of_jobs_through() {
    for statistics in ALL_STATISTICS {
        let db = seeded(statistics).await;
        // The jobs were given their ids.
        db.exec("alter table rowcrew.jobs alter id restart with 1000000").await;
        let rare = if statistics == Statistics::Fresh { &RARE_CALLS[..] } else { &[] };
        for mode in MODES {
            for setting in OFF.iter().chain(&["enable_bitmapscan"]) {
                // Plans made under other settings must not be kept.
                let settings =
                    format!("set local plan_cache_mode = {mode}; set local {setting} = off; discard plans");
                for call in CALLS.iter().chain(rare) {
                    let read = read_through(&db, call, &settings).await;
                    assert_eq!(read, [], "{call}, {mode}, {setting} = off, {statistics:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_function_that_reads_a_table_of_jobs_through_is_noticed() {
    let db = seeded(Statistics::Fresh).await;
    db.exec(
        "create function rowcrew.planted() returns bigint language sql as
         'select count(*) from rowcrew.jobs where progress is not null'",
    )
    .await;
    let read = read_through(&db, "planted()", "set local jit = off").await;
    assert_eq!(read, [("jobs".to_owned(), 24_000)]);
}

#[tokio::test]
async fn a_claim_takes_no_more_than_it_asked_for_whatever_the_plan() {
    let all = Statements::new("rowcrew");
    for statistics in ALL_STATISTICS {
        let db = seeded(statistics).await;
        let others =
            ["enable_nestloop", "enable_indexscan", "enable_bitmapscan", "enable_seqscan", "enable_memoize"];
        for setting in OFF.iter().chain(&others).chain(&["enable_hashagg"]) {
            for mode in MODES {
                db.exec(&format!("begin; set local {setting} = off")).await;
                let execute = prepare(&db.client, &all.job_claim, mode).await;
                let taken = lines(&db.client, &execute).await.len() as i64;
                let marked: i64 =
                    db.one("select count(*) from rowcrew.jobs where claimed_by = 7 and id > 2000").await;
                let recorded: i64 = db
                    .one("select cardinality(job_ids)::bigint from rowcrew.claims where batch = 999999")
                    .await;
                assert_eq!(
                    (taken, marked, recorded),
                    (LIMIT, LIMIT, LIMIT),
                    "{setting} = off, {mode}, {statistics:?}: answered, marked, recorded"
                );
                db.exec("rollback").await;
            }
        }
    }
}

#[tokio::test]
async fn a_plan_without_its_index_is_noticed() {
    let db = seeded(Statistics::Fresh).await;
    db.exec("drop index rowcrew.jobs_ready").await;
    let report = report(&db.client, |name| name == "job_claim", "without its index").await;
    assert!(report.contains("no Index Scan using jobs_ready"), "{report}");
}

#[tokio::test]
async fn a_job_is_found_by_its_id_without_reading_a_table() {
    let db = seeded(Statistics::Fresh).await;
    db.exec("set search_path = pg_catalog").await;
    let plan =
        lines(&db.client, "explain (costs off) select * from rowcrew.job_status where id = 4711").await;
    let plan = plan.join("\n");
    for index in ["jobs_pkey", "dead_jobs_pkey"] {
        assert!(plan.contains(&format!("using {index}")), "{plan}");
    }
    // Five days have rows; empty ones may be read as they like.
    assert!(plan.matches("_shard_id_idx").count() >= 5, "{plan}");
}

/// Rows that the server has read from jobs and from its indexes so far.
const ROWS_READ: &str =
    "select (select seq_tup_read from pg_stat_user_tables where relid = 'rowcrew.jobs'::regclass)::bigint
    + (select sum(idx_tup_read) from pg_stat_user_indexes where relid = 'rowcrew.jobs'::regclass)::bigint";

/// Claims and endings keep their plans, those for people do not.
#[tokio::test]
async fn claims_and_endings_have_the_right_plan_beside_an_empty_table_which_they_keep() {
    let db = Db::new().await;
    db.exec("set enable_seqscan = off; set enable_sort = off; set enable_bitmapscan = off").await;
    for full_of_dead_rows in [false, true] {
        if full_of_dead_rows {
            fill(&db).await;
            db.exec("delete from rowcrew.jobs; analyze rowcrew.jobs; delete from rowcrew.claims; analyze rowcrew.claims").await;
        }
        let report = report(&db.client, |name| HOT.contains(&name), "beside an empty table").await;
        assert!(report.is_empty(), "{report}");
        let all = Statements::new("rowcrew");
        for claim in [&all.job_claim, &all.job_claim_in_turn] {
            let plan = plan(&db.client, claim, "force_generic_plan").await;
            let found = plan.split("Index Scan using jobs_ready").nth(1).and_then(|scan| scan.lines().nth(1));
            for part in ["(queue = lane.queue)", "(priority = lane.priority)", "(ROW(due_at, id) >"] {
                assert!(found.is_some_and(|cond| cond.contains(part)), "{}, {part}: {plan}", claim.name);
            }
            assert!(plan.contains("Tid Scan on jobs"), "{}: {plan}", claim.name);
        }
    }
}

#[tokio::test]
async fn a_worker_that_waited_beside_an_empty_table_keeps_no_plan_made_for_it() {
    const JOBS: i64 = 5_000;
    let db = Db::new().await;
    db.exec("alter table rowcrew.jobs set (autovacuum_enabled = false)").await;
    let mut worker = Crew::start(&db, "[worker]\nconcurrency = 2\n[handlers.noop]\ntype = \"noop\"").await;
    for round in 0..30 {
        // Enough executions for the server to keep a plan, half of them after a vacuum of nothing.
        db.insert("noop", "{}").await;
        db.until("not exists (select from rowcrew.jobs)").await;
        if round == 15 {
            db.exec("vacuum analyze rowcrew.jobs").await;
        }
    }
    db.exec(&format!("insert into rowcrew.jobs (kind) select 'noop' from generate_series(1, {JOBS})")).await;
    db.until("not exists (select from rowcrew.jobs)").await;
    worker.signal(Signal::TERM);
    assert!(worker.ended(Duration::from_secs(30)).await.0.success());
    // A server process reports what it read when it ends, at the latest.
    db.until("not exists (select from pg_stat_activity where application_name like 'rowcrew%' and datname = current_database())").await;
    let read: i64 = db.one(ROWS_READ).await;
    assert!(read < JOBS * 200, "{read} rows read for {JOBS} jobs");
}
