//! Every way to put jobs in wakes an idle worker, and none of them costs work for each row.

use std::time::{Duration, Instant};

use futures_util::SinkExt as _;
use serde_json::Value;

use crate::support::{Crew, Db, rowcrew_on};

/// Its poll alone would take a minute.
const PATIENT: &str = "[worker]\npoll_ms = 60000\n[handlers.noop]\ntype = \"noop\"";

async fn copy(db: &Db, rows: &'static str) {
    let sink = db.client.copy_in("copy rowcrew.jobs (kind) from stdin").await.expect("a copy");
    let mut sink = std::pin::pin!(sink);
    sink.send(bytes::Bytes::from_static(rows.as_bytes())).await.expect("a row");
    sink.close().await.expect("the end");
}

#[tokio::test]
async fn an_idle_worker_is_woken_by_an_insert_a_copy_a_function_and_the_command_line() {
    let db = Db::new().await;
    let _crew = Crew::start(&db, PATIENT).await;
    let ways = ["insert", "copy", "enqueue", "enqueue_many", "cli", "cli --from"];
    for (n, way) in ways.iter().enumerate() {
        db.until("(select last_value = 0 from rowcrew.wake_gate)").await;
        let began = Instant::now();
        match *way {
            "insert" => db.exec("insert into rowcrew.jobs (kind) values ('noop')").await,
            "copy" => copy(&db, "noop\n").await,
            "enqueue" => db.exec("select rowcrew.enqueue('noop')").await,
            "enqueue_many" => db.exec(r#"select rowcrew.enqueue_many('[{"kind": "noop"}]')"#).await,
            "cli" => assert!(rowcrew_on(&db, &["enqueue", "noop"], b"").ok),
            _ => assert!(rowcrew_on(&db, &["enqueue", "noop", "--from", "-"], b"{}\n").ok),
        }
        db.until(&format!("(select count(*) = {} from rowcrew.finished_jobs)", n + 1)).await;
        assert!(began.elapsed() < Duration::from_secs(30), "{way}: the worker was not woken");
    }
}

#[tokio::test]
async fn an_insert_of_many_rows_runs_one_trigger_once() {
    let db = Db::new().await;
    let plan: Value = db
        .one(
            "explain (analyze, format json) insert into rowcrew.jobs (kind) select 'k' from generate_series(1, 5000)",
        )
        .await;
    let triggers: Vec<(&str, i64)> = plan[0]["Triggers"]
        .as_array()
        .expect("the triggers that ran")
        .iter()
        .map(|one| {
            (one["Trigger Name"].as_str().expect("a name"), one["Calls"].as_f64().expect("calls") as i64)
        })
        .collect();
    assert_eq!(triggers, [("jobs_ring", 1)]);
    // Nor is there one that this insert did not need: row triggers (bit 1), rules, foreign keys.
    let for_each_row: i64 = db
        .one(
            "select (select count(*) from pg_trigger where tgrelid = 'rowcrew.jobs'::regclass and tgtype & 1 = 1)
                + (select count(*) from pg_rewrite where ev_class = 'rowcrew.jobs'::regclass)
                + (select count(*) from pg_constraint where conrelid = 'rowcrew.jobs'::regclass and contype = 'f')",
        )
        .await;
    assert_eq!(for_each_row, 0);
}
