//! `rowcrew jobs`: finding, showing, cancelling, retrying.

use crate::support::{Crew, Db, Output, rowcrew_on};

fn jobs(db: &Db, args: &[&str]) -> Output {
    rowcrew_on(db, &[&["jobs"], args].concat(), b"")
}

fn ids(out: &Output) -> Vec<i64> {
    out.json().as_array().expect("an array").iter().filter_map(|job| job["id"].as_i64()).collect()
}

/// One job in each of six states, in order of id.
async fn six_states(db: &Db) {
    db.exec(
        "insert into rowcrew.jobs (id, kind, queue, run_at, retry_at, tags) values
             (1, 'a', 'q', now(), null, '{t}'), (2, 'a', 'q', now() + interval '1 h', null, null),
             (3, 'b', 'q', now(), now() + interval '1 h', null), (4, 'b', 'p', now(), null, null),
             (5, 'b', 'p', now(), null, null), (6, 'c', 'q', now(), null, '{s,t}');
         alter table rowcrew.jobs alter id restart with 100;
         select rowcrew.cancel(4), rowcrew.bury(5);
         update rowcrew.jobs set state = 'running', claimed_by = 9, claim_id = 1, claimed_at = now() where id = 6;
         insert into rowcrew.claims (worker_id, batch, claim_id, job_ids) values (9, 1, 1, '{6}')",
    )
    .await;
}

#[tokio::test]
async fn cli_jobs_list_filters_and_pages() {
    let db = Db::new().await;
    six_states(&db).await;
    for (args, expected) in [
        (&[][..], &[6, 5, 4, 3, 2, 1][..]),
        (&["--state", "available"], &[1]),
        (&["--state", "scheduled"], &[2]),
        (&["--state", "retrying"], &[3]),
        (&["--state", "cancelled"], &[4]),
        (&["--state", "dead"], &[5]),
        (&["--state", "running"], &[6]),
        (&["--kind", "b"], &[5, 4, 3]),
        (&["--queue", "q", "--kind", "a"], &[2, 1]),
        (&["--tag", "t"], &[6, 1]),
        (&["--limit", "2"], &[6, 5]),
        (&["--limit", "2", "--after", "5"], &[4, 3]),
        (&["--kind", "nobody"], &[]),
    ] {
        let out = jobs(&db, &[&["list", "--json"], args].concat());
        assert_eq!(ids(&out), expected, "{args:?}: {out:?}");
    }
    let out = jobs(&db, &["list", "--limit", "2"]);
    assert!(out.stdout.contains("STATE") && out.stdout.contains("running"), "{out:?}");
    assert!(out.stderr.contains("--after 5"), "{out:?}");
    assert_eq!(jobs(&db, &["list", "--state", "todo"]).code, Some(2));
}

#[tokio::test]
async fn cli_jobs_show_prints_everything_that_is_kept() {
    let db = Db::new().await;
    let config =
        "[handlers.fail]\ntype = \"fail\"\nmax_attempts = 2\nbackoff = { type = \"fixed\", delay_ms = 1 }";
    let _worker = Crew::start(&db, config).await;
    let id = db.insert("fail", r#"{"class": "transient", "n": 12345678901234567890123}"#).await;
    db.until("exists (select from rowcrew.dead_jobs)").await;
    let id = id.to_string();
    let out = jobs(&db, &["show", &id]);
    for word in ["exhausted", "dead", "attempt 1 at", "attempt 2 at", "12345678901234567890123"] {
        assert!(out.stdout.contains(word), "{word}: {out:?}");
    }
    let out = jobs(&db, &["show", &id, "--json"]);
    assert!(out.stdout.contains("12345678901234567890123"), "{out:?}");
    assert_eq!(out.json()["errors"].as_array().map(Vec::len), Some(2));
    let out = jobs(&db, &["show", "999"]);
    assert_eq!((out.code, out.stderr.contains("no job 999")), (Some(1), true), "{out:?}");
}

#[tokio::test]
async fn cli_jobs_cancel_and_retry_tell_of_each_job() {
    let db = Db::new().await;
    six_states(&db).await;
    let out = jobs(&db, &["retry", "2", "3", "5"]);
    assert_eq!(out.code, Some(0), "{out:?}");
    let due: i64 =
        db.one("select count(*) from rowcrew.jobs where id in (2, 3, 5) and due_at <= now()").await;
    assert_eq!(due, 3);
    let out = jobs(&db, &["retry", "4", "6", "77"]);
    assert_eq!(out.code, Some(1), "{out:?}");
    for word in ["job 4 has already finished", "job 6 is running", "no job 77"] {
        assert!(out.stderr.contains(word), "{word}: {out:?}");
    }
    let out = jobs(&db, &["cancel", "1", "6", "77"]);
    assert_eq!(out.code, Some(1), "{out:?}");
    assert!(out.stdout.contains("job 1 is cancelled") && out.stdout.contains("job 6 is running"), "{out:?}");
    assert!(out.stderr.contains("no job 77"), "{out:?}");
    assert_eq!(db.state(1).await, "cancelled");
    let noted: i64 = db.one("select count(*) from rowcrew.events where action in ('retry', 'revive')").await;
    assert_eq!(noted, 3);
}

#[tokio::test]
async fn cli_jobs_list_reads_large_tables_by_their_indexes_and_says_where_it_stopped() {
    let db = Db::new().await;
    db.exec(
        "alter table rowcrew.jobs disable trigger jobs_ring;
         insert into rowcrew.jobs (id, kind) select n, case when n < 10 then 'old' else 'new' end
         from generate_series(1, 100500) n;
         insert into rowcrew.finished_jobs (id, kind, payload, queue, priority, run_at, state, attempts, crashes, created_at)
         select n, 'done', '{}', 'q', 5, now(), 'completed', 1, 0, now() from generate_series(200000, 230000) n;
         analyze",
    )
    .await;
    let out = jobs(&db, &["list", "--kind", "old", "--json"]);
    assert_eq!(ids(&out), [0_i64; 0]);
    assert!(out.stderr.contains("--after 501"), "{out:?}");
    assert_eq!(
        ids(&jobs(&db, &["list", "--kind", "old", "--after", "501", "--limit", "2", "--json"])),
        [9, 8]
    );
    let list = include_str!("../../sql/jobs_list.sql");
    let types = "int8, text, text, text, text, bool, bool, bool, bool, int8, int8";
    db.exec(&format!("prepare list ({types}) as {list}")).await;
    for mode in ["force_custom_plan", "force_generic_plan"] {
        db.exec(&format!("set plan_cache_mode = {mode}")).await;
        let plan: Vec<String> = db
            .all("explain execute list (9223372036854775807, null, null, 'old', null, true, false, true, true, 0, 50)")
            .await;
        let plan = plan.join("\n");
        assert!(!plan.contains("Seq Scan on jobs"), "{plan}");
        assert!(!plan.contains("Seq Scan on finished_jobs_2"), "{plan}");
        assert!(plan.contains("Index Scan Backward using jobs_pkey"), "{plan}");
    }
}
