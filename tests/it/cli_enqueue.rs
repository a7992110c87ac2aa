//! `rowcrew enqueue` for one job.

use crate::support::{Db, Output, rowcrew_on, spawn};

fn enqueue(db: &Db, args: &[&str]) -> Output {
    rowcrew_on(db, &[&["enqueue"], args].concat(), b"")
}

#[tokio::test]
async fn cli_enqueue_sets_every_column_and_prints_the_id() {
    let db = Db::new().await;
    let out = enqueue(
        &db,
        &[
            "a.kind",
            r#"{"n": 12345678901234567890123}"#,
            "--queue",
            "mail",
            "--priority",
            "high",
            "--run-at",
            "in 10m",
            "--max-attempts",
            "7",
            "--timeout",
            "30s",
            "--expires-at",
            "2100-01-01T00:00:00Z",
            "--group-key",
            "g",
            "--tag",
            "x",
            "--tag",
            "y",
            "--meta",
            r#"{"m": 1}"#,
            "--backoff",
            r#"{"type": "fixed", "delay_ms": 5}"#,
        ],
    );
    assert_eq!(out.code, Some(0), "{out:?}");
    let id: i64 = out.stdout.trim().parse().expect("an id");
    let same: bool = db
        .one(&format!(
            "select (kind, payload::text, queue, priority, max_attempts, timeout, expires_at, group_key, tags, meta,
                 backoff) = ('a.kind', '{{\"n\": 12345678901234567890123}}', 'mail', 2, 7, interval '30 s',
                 timestamptz '2100-01-01T00:00:00Z', 'g', array['x', 'y'], '{{\"m\": 1}}'::jsonb,
                 '{{\"type\": \"fixed\", \"delay_ms\": 5}}'::jsonb)
                 and run_at = created_at + interval '10 minutes'
             from rowcrew.jobs where id = {id}"
        ))
        .await;
    assert!(same);
}

#[tokio::test]
async fn cli_enqueue_tells_whether_the_unique_key_was_taken() {
    let db = Db::new().await;
    let args = ["k", "--unique-key", "u", "--json"];
    let first = enqueue(&db, &args).json();
    let second = enqueue(&db, &args).json();
    assert_eq!(first["existing"], false);
    assert_eq!((&second["id"], &second["existing"]), (&first["id"], &true.into()));
    let third = enqueue(&db, &["other", "--unique-key", "u", "--json"]).json();
    assert_eq!(third["existing"], false);
}

#[tokio::test]
async fn cli_enqueue_takes_the_queue_of_the_kinds_handler_and_an_unknown_kind_too() {
    let db = Db::new().await;
    let path = std::env::temp_dir().join(format!("{}.toml", db.name));
    std::fs::write(&path, "[handlers.nap]\ntype = \"sleep\"\nqueue = \"naps\"").expect("a file");
    let config = ["--config", path.to_str().expect("UTF-8")];
    for (kind, queue) in [("nap", "naps"), ("nobody.knows", "default")] {
        let out = enqueue(&db, &[&config[..], &[kind]].concat());
        assert!(out.ok, "{out:?}");
        assert_eq!(
            db.one::<String>(&format!("select queue from rowcrew.jobs where kind = '{kind}'")).await,
            queue
        );
    }
    assert!(enqueue(&db, &[&config[..], &["nap", "--queue", "other"]].concat()).ok);
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.jobs where queue = 'other'").await, 1);
    std::fs::remove_file(path).expect("removed");
}

#[tokio::test]
async fn cli_enqueue_names_the_place_of_a_fault_and_inserts_nothing() {
    let db = Db::new().await;
    let big = format!("\"{}\"", "x".repeat(1024 * 1024));
    for (args, code, word) in [
        (&["k", r#"{"a": tru}"#][..], 2, "line 1, column 10"),
        (&["k", r#"{"a": "\u0000"}"#], 2, "column 8: has a NUL"),
        (&["k", "--priority", "-1"], 2, "expected 0 (first) to 9 (last)"),
        (&["k", "--run-at", "tomorrow"], 2, "RFC 3339"),
        (&["k", "--max-attempts", "0"], 2, "1..=10000"),
        (&["k", "--timeout", "8d"], 2, "1ms to 7d"),
        (&["k", "--meta", "{"], 2, "column 1"),
        (&["k", "--backoff", r#"{"type": "fixed"}"#], 2, "delay_ms"),
        (&["k", "--unique-key", ""], 1, "1 to 500 characters"),
        (&["", "{}"], 2, "1 to 200 characters"),
        (&[], 2, "KIND"),
    ] {
        let out = enqueue(&db, args);
        assert_eq!(out.code, Some(code), "{args:?}: {out:?}");
        assert!(out.stderr.contains(word), "{args:?}: {out:?}");
    }
    let out = rowcrew_on(&db, &["enqueue", "k", "-"], big.as_bytes());
    assert_eq!(out.code, Some(1), "{out:?}");
    assert!(out.stderr.contains("limits.payload_bytes_max"), "{out:?}");
    let out = rowcrew_on(&db, &["enqueue", "k", "-"], b"[1,\n 2,\n x]");
    assert_eq!((out.code, out.stderr.contains("line 3, column 2")), (Some(1), true), "{out:?}");
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.jobs").await, 0);
}

#[tokio::test]
async fn cli_says_that_the_tables_are_missing() {
    let db = Db::empty().await;
    for args in [
        &["enqueue", "k"][..],
        &["jobs", "list"],
        &["stats"],
        &["queues", "list"],
        &["enqueue", "k", "--from", "-"],
    ] {
        let out = rowcrew_on(&db, args, b"{}\n");
        assert_eq!(out.code, Some(1), "{out:?}");
        assert!(out.stderr.contains("rowcrew migrate"), "{args:?}: {out:?}");
    }
}

#[tokio::test]
async fn cli_verbs_work_in_a_schema_of_any_name() {
    let db = Db::empty().await;
    let in_schema = |args: &[&str]| {
        let out = rowcrew_on(&db, &[args, &["--schema", "It's \"Q\""]].concat(), b"{}\n");
        assert!(out.ok, "{args:?}: {out:?}");
        out
    };
    in_schema(&["migrate"]);
    let id = in_schema(&["enqueue", "k", "--unique-key", "u", "--delay", "1h"]).stdout;
    let id = id.trim();
    assert_eq!(in_schema(&["enqueue", "k", "--unique-key", "u", "--json"]).json()["existing"], true);
    in_schema(&["enqueue", "k", "--from", "-"]);
    in_schema(&["jobs", "retry", id]);
    in_schema(&["jobs", "show", id]);
    assert_eq!(in_schema(&["jobs", "list", "--json"]).json().as_array().map(Vec::len), Some(2));
    in_schema(&["dead", "list"]);
    in_schema(&["dead", "revive", "--kind", "k"]);
    in_schema(&["dead", "discard", "--kind", "k", "--yes"]);
    in_schema(&["queues", "set", "default", "--retention", "0"]);
    in_schema(&["queues", "list"]);
    in_schema(&["stats"]);
    in_schema(&["workers"]);
    in_schema(&["queues", "purge", "default", "--yes"]);
}

#[tokio::test]
async fn cli_enqueue_whose_connection_is_cut_at_the_commit_inserts_the_job_exactly_once() {
    let db = Db::new().await;
    // A commit that takes as long as the test wants.
    db.exec(
        "create function public.waits() returns trigger language plpgsql as
            $$ begin perform pg_advisory_xact_lock_shared(7); return null; end $$;
        create constraint trigger waits after insert on rowcrew.jobs deferrable initially deferred
            for each row execute function public.waits();
        select pg_advisory_lock(7)",
    )
    .await;
    let child = spawn(&db, &["enqueue", "noop", "--json"]);
    let commits = "datname = current_database() and wait_event = 'advisory' and query like '%commit%'";
    db.until(&format!("exists (select from pg_stat_activity where {commits})")).await;
    db.rows(&format!("select pg_terminate_backend(pid, 5000) from pg_stat_activity where {commits}")).await;
    db.until(&format!("exists (select from pg_stat_activity where {commits})")).await;
    db.exec("select pg_advisory_unlock(7)").await;
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ids: Vec<i64> = db.all("select id from rowcrew.jobs").await;
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["id"].as_i64().map(|id| vec![id]), Some(ids));
}
