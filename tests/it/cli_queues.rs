//! `rowcrew queues`, `workers` and `stats`.

use std::io::{BufRead, BufReader};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Crew, Db, Output, rowcrew_on, spawn};

fn cli(db: &Db, args: &[&str]) -> Output {
    rowcrew_on(db, args, b"")
}

#[tokio::test]
async fn cli_queues_are_paused_resumed_and_set() {
    let db = Db::new().await;
    assert!(cli(&db, &["queues", "pause", "mail"]).stdout.contains("until it is resumed"));
    assert_eq!(db.one::<String>("select paused_until::text from rowcrew.queues").await, "infinity");
    assert!(cli(&db, &["queues", "pause", "mail", "--for", "10m"]).ok);
    let near = "select paused_until between now() + interval '5 min' and now() + interval '10 min' from rowcrew.queues";
    assert!(db.one::<bool>(near).await);
    assert!(
        cli(&db, &["queues", "pause", "mail", "--until", "2100-01-01T00:00:00Z"])
            .stdout
            .contains("2100-01-01 00:00:00Z")
    );
    assert!(cli(&db, &["queues", "resume", "mail"]).stdout.contains("is resumed"));
    assert!(cli(&db, &["queues", "resume", "mail"]).stdout.contains("was not paused"));
    assert!(cli(&db, &["queues", "set", "mail", "--retention", "0"]).ok);
    assert_eq!(cli(&db, &["queues", "list", "--json"]).json()[0]["retention_seconds"], 0);
    assert!(cli(&db, &["queues", "set", "mail", "--retention", "default"]).ok);
    assert!(db.one::<bool>("select retention is null from rowcrew.queues").await);
    assert_eq!(cli(&db, &["queues", "set", "mail", "--retention", "5d"]).code, Some(2));
    assert_eq!(cli(&db, &["queues", "pause", "mail", "--for", "soon"]).code, Some(2));
}

#[tokio::test]
async fn cli_queues_purge_deletes_all_of_one_queue_but_the_running() {
    let db = Db::new().await;
    db.exec(
        "insert into rowcrew.jobs (kind, queue) select 'k', 'mail' from generate_series(1, 25000);
         insert into rowcrew.jobs (kind, queue) values ('k', 'other');
         update rowcrew.jobs set state = 'running' where id = 1",
    )
    .await;
    let out = cli(&db, &["queues", "purge", "mail"]);
    assert_eq!((out.code, out.stderr.contains("--yes")), (Some(2), true), "{out:?}");
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.jobs").await, 25_001);
    assert!(cli(&db, &["queues", "purge", "mail", "--yes"]).stdout.contains("24999 jobs deleted"));
    assert_eq!(db.all::<String>("select queue from rowcrew.jobs order by id").await, ["mail", "other"]);
    assert!(cli(&db, &["queues", "purge", "mail", "--yes"]).stdout.contains(" 0 jobs deleted"));
}

#[tokio::test]
async fn cli_stats_and_workers_show_the_crew_and_the_kinds_nobody_serves() {
    let db = Db::new().await;
    assert_eq!(cli(&db, &["workers", "--json"]).json(), serde_json::json!([]));
    let _worker = Crew::start(&db, "[handlers.noop]\ntype = \"noop\"").await;
    db.insert("noop", "{}").await;
    db.insert("nobody\u{1b}", "{}").await;
    db.exec("insert into rowcrew.jobs (id, kind) values (77, 'nobody'); select rowcrew.bury(77)").await;
    db.until("exists (select from rowcrew.job_stats where completed > 0)").await;
    let stats = cli(&db, &["stats", "--json"]).json();
    assert_eq!((&stats["workers"], &stats["dead"]), (&1.into(), &1.into()), "{stats}");
    assert_eq!(stats["unserved"], serde_json::json!([{"kind": "nobody\u{1b}", "jobs": 1}]));
    assert_eq!(stats["queues"][0]["queue"], "default");
    let kinds: Vec<_> =
        stats["kinds"].as_array().expect("an array").iter().map(|kind| &kind["kind"]).collect();
    assert_eq!(kinds, ["nobody", "noop"], "one whose job was buried by hand, and one that is served");
    let text = cli(&db, &["stats"]).stdout;
    for word in ["workers alive: 1", "dead jobs: 1", "no live worker serves kind nobody", "WAIT P50", "KIND"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(cli(&db, &["workers"]).stdout.contains("noop"));
    assert_eq!(cli(&db, &["workers", "--json"]).json()[0]["kinds"], serde_json::json!(["noop"]));
}

#[tokio::test]
async fn cli_stats_watch_prints_a_line_a_look_until_it_is_interrupted() {
    let db = Db::new().await;
    let mut watch = spawn(&db, &["stats", "--watch", "1", "--json"]);
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    for _ in 0..2 {
        let line = lines.next().expect("a line").expect("UTF-8");
        let stats: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(stats["workers"], 0);
    }
    kill_process(Pid::from_raw(watch.id() as i32).expect("a pid"), Signal::INT).expect("a signal");
    assert_eq!(watch.wait().expect("it ends").code(), Some(0));
}

#[tokio::test]
async fn cli_stats_watch_ends_with_its_reader() {
    let db = Db::new().await;
    let mut watch = spawn(&db, &["stats", "--watch", "1"]);
    drop(watch.stdout.take());
    assert_eq!(watch.wait().expect("it ends").code(), Some(0));
}
