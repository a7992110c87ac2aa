//! `rowcrew enqueue --from`: a file of jobs, all of them or none.

use std::fmt::Write as _;

use crate::support::{Db, Output, rowcrew_on};

fn import(db: &Db, args: &[&str], input: &str) -> Output {
    rowcrew_on(db, &[&["enqueue"], args].concat(), input.as_bytes())
}

async fn count(db: &Db) -> i64 {
    db.one("select count(*) from rowcrew.jobs").await
}

#[tokio::test]
async fn cli_import_puts_in_every_line_of_a_file() {
    let db = Db::new().await;
    let path = std::env::temp_dir().join(format!("{}.jsonl", db.name));
    let mut lines = String::new();
    for n in 0..100_000 {
        let _ = writeln!(lines, "{{\"n\": {n}}}");
    }
    std::fs::write(&path, lines).expect("a file");
    let from = path.to_str().expect("UTF-8");
    let out = import(&db, &["bulk", "--from", from, "--queue", "q", "--delay", "1h", "--json"], "");
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(out.json()["enqueued"], 100_000, "{out:?}");
    let right: bool = db
        .one(
            "select count(distinct payload ->> 'n') = 100000 and min(queue) = 'q' and min(priority) = 5
                 and min(run_at) = max(run_at) and min(run_at) between now() + interval '50 min' and now() + interval '1 h'
             from rowcrew.jobs where kind = 'bulk'",
        )
        .await;
    assert!(right);
}

#[tokio::test]
async fn cli_import_reads_the_columns_of_each_row() {
    let db = Db::new().await;
    let rows = concat!(
        "\u{feff}{\"kind\": \"a\", \"payload\": [1], \"priority\": \"low\", \"run_at\": \"infinity\", \"unique_key\": \"u\"}\n",
        "\n",
        "{\"timeout\": \"5s\", \"tags\": [\"t\"], \"backoff\": {\"type\": \"fixed\", \"delay_ms\": 1}, \"meta\": {\"m\": 1}}"
    );
    let out = import(&db, &["base", "--rows", "--from", "-", "--priority", "0"], rows);
    assert!(out.ok, "{out:?}");
    let seen: Vec<String> = db
        .all(
            "select format('%s %s %s %s %s %s %s %s %s', kind, payload, priority, run_at = 'infinity', unique_key, timeout,
                 tags, backoff ->> 'delay_ms', meta) from rowcrew.jobs order by id",
        )
        .await;
    assert_eq!(seen, ["a [1] 8 t u    ", "base {} 0 f  00:00:05 {t} 1 {\"m\": 1}"]);
}

#[tokio::test]
async fn cli_import_names_the_faulty_line_and_leaves_nothing_behind() {
    let db = Db::new().await;
    let big = format!("\"{}\"", "x".repeat(1024 * 1024));
    let endless = "x".repeat(8 * 1024 * 1024);
    for (third, words) in [
        ("{\"a\": tru}", &["line 3, column 10"][..]),
        ("\"\\u0000\"", &["line 3, column 2", "NUL"]),
        ("1e999999", &["line 3"]),
        (big.as_str(), &["line 3", "limits.payload_bytes_max"]),
        (endless.as_str(), &["line 3 is longer"]),
    ] {
        let out = import(&db, &["k", "--from", "-"], &format!("{{}}\n\n{third}\n{{}}\n"));
        assert_eq!(out.code, Some(1), "{out:?}");
        for word in words.iter().chain(&["nothing was enqueued"]) {
            assert!(out.stderr.contains(word), "{word}: {}", out.stderr);
        }
        assert_eq!(count(&db).await, 0);
    }
    let row = "{\"kind\": \"k\", \"unique_key\": \"u\"}\n";
    let out = import(&db, &["--rows", "--from", "-"], &format!("{row}{{\"kind\": \"k\"}}\n{row}"));
    assert!(out.stderr.contains("line 3") && out.stderr.contains("unique_key"), "{out:?}");
    let out = import(&db, &["--rows", "--from", "-"], "{\"kind\": \"k\", \"prio\": 1}\n");
    assert!(out.stderr.contains("line 1") && out.stderr.contains("unknown field `prio`"), "{out:?}");
    let out = import(&db, &["k", "--from", "/no/such/file"], "");
    assert_eq!((out.code, out.stderr.contains("/no/such/file")), (Some(1), true), "{out:?}");
    assert_eq!(count(&db).await, 0);
}

#[tokio::test]
async fn cli_import_finds_a_fault_far_behind_at_its_line() {
    let db = Db::new().await;
    let mut lines = "\n{}\n".repeat(12_000);
    lines.push_str("1e999999\n");
    let out = import(&db, &["k", "--from", "-"], &lines);
    assert!(out.stderr.contains("line 24001"), "{out:?}");
    assert_eq!(count(&db).await, 0);
}

#[tokio::test]
async fn cli_import_finds_out_what_became_of_a_commit_that_was_not_answered() {
    let db = Db::new().await;
    db.exec(
        "create function die() returns trigger language plpgsql as
             'begin perform pg_terminate_backend(pg_backend_pid()); return null; end';
         create constraint trigger die after insert on rowcrew.jobs deferrable initially deferred
             for each row execute function die()",
    )
    .await;
    let out = import(&db, &["k", "--from", "-"], "{}\n");
    assert_eq!(out.code, Some(1), "{out:?}");
    assert!(out.stderr.contains("nothing was enqueued"), "{out:?}");
    assert_eq!(count(&db).await, 0);
}
