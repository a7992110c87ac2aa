//! `rowcrew doctor`: every warning that a test can bring about without harm to its neighbours, and `--tune`.

use serde_json::Value;

use crate::support::{Crew, Db, Output, rowcrew, rowcrew_on};

fn doctor(db: &Db, more: &[&str]) -> Output {
    rowcrew_on(db, &[&["doctor", "--json"], more].concat(), b"")
}

/// The findings of one check, as "level: found -> advice".
fn findings(output: &Output, check: &str) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line = |finding: &Value| {
        format!("{}: {} -> {}", text(&finding["level"]), text(&finding["found"]), text(&finding["advice"]))
    };
    let checks = output.json()["checks"].as_array().expect("an array").clone();
    checks.iter().filter(|finding| finding["check"] == check).map(line).collect()
}

/// The only finding of a check, which must be this bad and say this.
#[track_caller]
fn says(output: &Output, check: &str, level: &str, words: &[&str]) {
    let found = findings(output, check);
    let hit = found
        .iter()
        .any(|line| line.starts_with(&format!("{level}: ")) && words.iter().all(|word| line.contains(word)));
    assert!(hit, "{check} should {level} of {words:?}: {found:?}\n{output:?}");
}

#[tokio::test]
async fn doctor_finds_nothing_wrong_with_a_fresh_database() {
    let db = Db::new().await;
    let output = doctor(&db, &[]);
    assert_eq!(output.code, Some(0), "{output:?}");
    for check in [
        "server",
        "schema",
        "rights",
        "pooler",
        "clock",
        "connections",
        "notices",
        "transactions",
        "vacuum",
        "indexes",
        "workers",
        "queues",
    ] {
        says(&output, check, "ok", &[]);
    }
    let fsync: String = db.one("show fsync").await;
    let level = if fsync == "on" { "ok" } else { "warn" };
    says(&output, "durability", level, &["fsync"]);
    let strict = rowcrew_on(&db, &["doctor", "--strict"], b"");
    assert_eq!(strict.code, Some(i32::from(level == "warn")), "a warning fails a strict doctor: {strict:?}");
    assert!(strict.stdout.lines().any(|line| line.starts_with("ok    rights")), "{}", strict.stdout);
}

#[tokio::test]
async fn doctor_says_what_to_do_where_there_is_no_server_or_no_schema() {
    let nowhere = rowcrew(&["doctor", "--json", "--database-url", "postgres://nobody@127.0.0.1:1/none"]);
    assert_eq!(nowhere.code, Some(1));
    says(&nowhere, "connection", "fail", &["127.0.0.1", "database_url"]);
    let empty = doctor(&Db::empty().await, &["--tune"]);
    assert_eq!(empty.code, Some(1));
    says(&empty, "schema", "fail", &["rowcrew migrate"]);
    assert_eq!(empty.json()["proposals"], serde_json::json!([]));
}

#[tokio::test]
async fn doctor_names_the_rights_that_the_role_lacks() {
    let db = Db::new().await;
    let role = format!("{}_poor", db.name);
    db.exec(&format!(
        "create role {role}; grant usage on schema rowcrew to {role};
         grant select, insert, update, delete on all tables in schema rowcrew to {role};
         grant usage, update on all sequences in schema rowcrew to {role}"
    ))
    .await;
    let sign = if db.url.contains('?') { '&' } else { '?' };
    let url = format!("{}{sign}options=-c%20role%3D{role}", db.url);
    let as_role = || rowcrew(&["doctor", "--json", "--database-url", &url]);
    says(&as_role(), "rights", "warn", &["owner of finished_jobs"]);
    db.exec(&format!("revoke update on rowcrew.claims from {role}")).await;
    let output = as_role();
    assert_eq!(output.code, Some(1));
    says(&output, "rights", "fail", &["update on claims", &role]);
}

#[tokio::test]
async fn doctor_names_who_keeps_dead_rows_and_the_tables_that_have_them() {
    let db = Db::new().await;
    let holder = db.connect().await;
    holder
        .batch_execute("set application_name = 'report'; begin isolation level repeatable read; select 1")
        .await
        .expect("a snapshot");
    says(&doctor(&db, &[]), "transactions", "ok", &[]);
    let output = doctor(&db, &["--long-after", "0s"]);
    says(&output, "transactions", "warn", &["report", "idle in transaction", "pg_terminate_backend"]);
    db.exec(
        "insert into rowcrew.events (action, target) select 'retry', 'job ' || n from generate_series(1, 120000) n;
         delete from rowcrew.events",
    )
    .await;
    db.until(
        "(select n_dead_tup from pg_stat_user_tables where relid = 'rowcrew.events'::regclass) > 100000",
    )
    .await;
    says(&doctor(&db, &[]), "vacuum", "warn", &["events has 120000 dead rows", "vacuum rowcrew.events"]);
    db.exec("alter table rowcrew.jobs set (autovacuum_enabled = false)").await;
    says(&doctor(&db, &[]), "vacuum", "warn", &["jobs is not vacuumed", "reset"]);
}

#[tokio::test]
async fn doctor_finds_indexes_that_are_broken_or_in_the_way() {
    let db = Db::new().await;
    db.insert("noop", "{}").await;
    db.insert("noop", "{}").await;
    let refused =
        db.client.batch_execute("create unique index concurrently twice on rowcrew.jobs (kind)").await;
    assert!(refused.is_err(), "two rows are the same");
    db.exec("create index busy on rowcrew.jobs (created_at) where state = 'running'").await;
    let output = doctor(&db, &[]);
    says(
        &output,
        "indexes",
        "warn",
        &["rowcrew.twice on jobs is invalid", "drop index concurrently rowcrew.twice"],
    );
    says(&output, "indexes", "warn", &["rowcrew.busy on jobs has state"]);
    assert_eq!(findings(&output, "indexes").len(), 2);
}

#[tokio::test]
async fn doctor_sees_jobs_that_wait_for_a_worker_a_handler_or_a_pause_to_end() {
    let db = Db::new().await;
    db.exec(
        "insert into rowcrew.jobs (kind, queue) values ('nobody', 'default'), ('noop', 'held'), ('noop', 'lost');
         insert into rowcrew.jobs (kind, queue, run_at) values ('noop', 'later', now() + interval '1 h');
         select rowcrew.pause('held')",
    )
    .await;
    says(&doctor(&db, &[]), "workers", "warn", &["none is alive", "rowcrew work"]);
    let _worker = Crew::start(&db, "[handlers.noop]\ntype = \"noop\"").await;
    says(&doctor(&db, &[]), "queues", "ok", &["paused: held"]);
    let output = doctor(&db, &["--late-after", "0s"]);
    says(&output, "workers", "ok", &["1 in the crew"]);
    says(&output, "kinds", "warn", &["no live worker serves kind nobody", "[handlers.\"nobody\"]"]);
    says(&output, "queues", "warn", &["queue held", "rowcrew queues resume held"]);
    says(&output, "queues", "warn", &["queue lost", "--queue lost"]);
    says(&output, "queues", "warn", &["queue default", "why"]);
    assert_eq!(findings(&output, "queues").len(), 3, "a scheduled job is not late: {output:?}");
    db.exec("update rowcrew.workers set beat_at = now() - interval '1 min', beat = beat").await;
    // The worker beats again within seconds; a second one that never will is seen for sure.
    db.exec(
        "insert into rowcrew.workers (name, pid, version, queues, kinds, concurrency, lock_key, beat_at)
         values ('gone', 1, '0', '{default}', '{noop}', 1, 1, now() - interval '1 min')",
    )
    .await;
    says(&doctor(&db, &[]), "workers", "warn", &["silent", "live worker"]);
}

#[tokio::test]
async fn doctor_proposes_settings_from_what_the_jobs_were_like() {
    let db = Db::new().await;
    // 6,000 tries of 10 s in one minute: 1,000 at once.
    db.exec(
        "insert into rowcrew.job_stats (bucket_at, queue, kind, worker_id, completed, run_ms)
         values (date_trunc('minute', now() - interval '5 min'), 'default', 'noop', 0, 6000, 60000000);
         insert into rowcrew.jobs (kind, payload)
         select 'noop', jsonb_build_object('pad', repeat('x', 1000)) from generate_series(1, 100);
         alter table rowcrew.jobs set (fillfactor = 100)",
    )
    .await;
    let output = doctor(&db, &["--tune"]);
    let report = output.json();
    let proposal = |name: &str| {
        let all = report["proposals"].as_array().expect("an array");
        all.iter()
            .find(|one| one["setting"] == name)
            .unwrap_or_else(|| panic!("no {name}: {output:?}"))
            .clone()
    };
    let concurrency = proposal("worker.concurrency");
    assert_eq!((&concurrency["now"], &concurrency["proposed"]), (&"100".into(), &"2000".into()));
    assert!(
        concurrency["because"].as_str().expect("text").contains("100.0 tries/s of 10000.0 ms"),
        "{concurrency}"
    );
    assert_eq!(proposal("database.pool_size")["proposed"], "4");
    assert_eq!(proposal("jobs fillfactor")["proposed"], "45");
    assert_eq!(proposal("wal_compression")["proposed"], "on");
    let lines = rowcrew_on(&db, &["doctor", "--tune"], b"").stdout;
    assert!(lines.contains("tune  worker.concurrency    2000 instead of 100: the busiest minute"), "{lines}");
    let quiet = doctor(&Db::new().await, &["--tune"]).json();
    assert_eq!(quiet["proposals"][0]["proposed"], quiet["proposals"][0]["now"], "nothing to go by: {quiet}");
}
