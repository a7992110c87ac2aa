//! `rowcrew dead`: the dead letters.

use crate::support::{Crew, Db, Output, rowcrew_on};

fn dead(db: &Db, args: &[&str]) -> Output {
    rowcrew_on(db, &[&["dead"], args].concat(), b"")
}

/// Six dead jobs: 1 to 3 of kind a, 4 to 6 of kind b.
async fn six_dead(db: &Db) {
    db.exec(
        "insert into rowcrew.jobs (id, kind, queue, unique_key)
         select n, case when n <= 3 then 'a' else 'b' end, 'q', case when n = 4 then 'u' end from generate_series(1, 6) n;
         alter table rowcrew.jobs alter id restart with 100;
         select rowcrew.bury(n, case when n = 6 then 'expired' else 'exhausted' end) from generate_series(1, 6) n;
         update rowcrew.dead_jobs set died_at = now() - id * interval '1 minute'",
    )
    .await;
}

async fn left(db: &Db) -> Vec<i64> {
    db.all("select id from rowcrew.dead_jobs order by id").await
}

#[tokio::test]
async fn cli_dead_lists_and_shows() {
    let db = Db::new().await;
    six_dead(&db).await;
    let list = dead(&db, &["list", "--kind", "b", "--json"]).json();
    let ids: Vec<_> = list.as_array().expect("an array").iter().map(|job| job["id"].as_i64()).collect();
    assert_eq!(ids, [Some(4), Some(5), Some(6)]);
    assert!(dead(&db, &["list", "--limit", "1"]).stdout.contains("exhausted"));
    assert!(dead(&db, &["show", "6"]).stdout.contains("expired"));
    let live = db.insert("a", "{}").await.to_string();
    let out = dead(&db, &["show", &live]);
    assert_eq!((out.code, out.stderr.contains("is not dead, but available")), (Some(1), true), "{out:?}");
    assert_eq!(dead(&db, &["show", "77"]).code, Some(1));
}

#[tokio::test]
async fn cli_dead_revives_by_id_and_by_filter_but_not_over_a_taken_unique_key() {
    let db = Db::new().await;
    six_dead(&db).await;
    db.exec("insert into rowcrew.jobs (kind, unique_key) values ('b', 'u')").await;
    let out = dead(&db, &["revive", "1", "4", "77"]);
    assert_eq!(out.code, Some(1), "{out:?}");
    assert!(out.stdout.contains("job 1 is revived"), "{out:?}");
    assert!(out.stderr.contains("job 4 stays dead") && out.stderr.contains("no dead job 77"), "{out:?}");
    assert!(dead(&db, &["revive", "--kind", "a", "--at-most", "1"]).stdout.contains("1 jobs revived"));
    assert_eq!(left(&db).await, [2, 4, 5, 6], "the oldest death went first");
    let out = dead(&db, &["revive", "--kind", "b"]);
    assert!(out.stdout.contains("2 jobs revived; 1 stay dead"), "{out:?}");
    assert_eq!(left(&db).await, [2, 4]);
    assert_eq!(dead(&db, &["revive"]).code, Some(2));
}

#[tokio::test]
async fn cli_dead_discards_only_what_is_named_and_only_when_sure() {
    let db = Db::new().await;
    six_dead(&db).await;
    let out = dead(&db, &["discard", "--kind", "a"]);
    assert_eq!((out.code, out.stderr.contains("--yes")), (Some(2), true), "{out:?}");
    assert_eq!(left(&db).await.len(), 6);
    let out = dead(&db, &["discard", "5", "77", "--yes"]);
    assert_eq!((out.code, out.stderr.contains("no dead job 77")), (Some(1), true), "{out:?}");
    assert!(
        dead(&db, &["discard", "--kind", "b", "--reason", "exhausted", "--yes"])
            .stdout
            .contains("1 dead jobs")
    );
    assert_eq!(left(&db).await, [1, 2, 3, 6]);
    assert!(dead(&db, &["discard", "--kind", "b", "--reason", "exhausted", "--yes"]).ok);
    assert_eq!(left(&db).await, [1, 2, 3, 6]);
    let noted: Vec<String> =
        db.all("select target from rowcrew.events where action = 'discard' order by id").await;
    assert_eq!(noted, ["job 5", "1 jobs"]);
    assert_eq!(dead(&db, &["discard", "--yes"]).code, Some(2));
}

#[tokio::test]
async fn cli_dead_edit_changes_the_payload_and_leaves_an_event() {
    let db = Db::new().await;
    six_dead(&db).await;
    let out = dead(&db, &["edit", "1", "--payload", r#"{"new": 1}"#]);
    assert!(out.ok, "{out:?}");
    assert_eq!(
        db.one::<String>("select payload::text from rowcrew.dead_jobs where id = 1").await,
        r#"{"new": 1}"#
    );
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.events where action = 'edit'").await, 1);
    assert_eq!(dead(&db, &["edit", "77", "--payload", "{}"]).code, Some(1));
    assert_eq!(dead(&db, &["edit", "1", "--payload", "{"]).code, Some(2));
    let big = format!("\"{}\"", "x".repeat(1024 * 1024));
    let out = rowcrew_on(&db, &["dead", "edit", "1", "--payload", "-"], big.as_bytes());
    assert_eq!((out.code, out.stderr.contains("payload_bytes_max")), (Some(2), true), "{out:?}");
    assert_eq!(
        db.one::<String>("select payload::text from rowcrew.dead_jobs where id = 1").await,
        r#"{"new": 1}"#
    );
}

#[tokio::test]
async fn cli_dead_groups_by_what_went_wrong_and_revives_a_group() {
    let db = Db::new().await;
    let config = r#"
        [handlers.code]
        type = "command"
        command = ["sh", "-c", "exit 65"]
        [handlers.bad]
        type = "sql"
        statement = "select ($1 ->> 'n')::int"
    "#;
    let crew = Crew::start(&db, config).await;
    db.exec(
        r#"insert into rowcrew.jobs (kind, payload) select 'bad', jsonb_build_object('n', 'x' || n) from generate_series(1, 5) n;
        insert into rowcrew.jobs (kind, payload) values ('bad', '{"n": "99999999999"}'), ('code', '{}')"#,
    )
    .await;
    db.until("not exists (select from rowcrew.jobs)").await;
    drop(crew);
    let groups = dead(&db, &["groups", "--json"]).json();
    let groups = groups.as_array().expect("an array");
    let shown: Vec<_> = groups
        .iter()
        .map(|group| format!("{} {} {} {}", group["jobs"], group["kind"], group["class"], group["reason"]))
        .collect();
    assert_eq!(shown[0], r#"5 "bad" "sql" "permanent""#, "text that is no number, whichever it is");
    assert_eq!(groups.len(), 3, "{shown:?}");
    let fingerprint = groups[0]["fingerprint"].as_str().expect("text");
    assert!(groups[0]["last_error"].as_str().expect("text").contains("invalid input syntax"), "{groups:?}");
    assert_eq!(
        db.one::<i64>(&format!("select jobs from rowcrew.dead_groups where fingerprint = '{fingerprint}'"))
            .await,
        5,
        "psql sees the same"
    );
    let table = dead(&db, &["groups", "--kind", "bad"]).stdout;
    assert!(table.contains(fingerprint) && !table.contains("code"), "{table}");
    let out = dead(&db, &["revive", "--fingerprint", fingerprint, "--at-most", "2"]);
    assert!(out.stdout.contains("2 jobs revived"), "{out:?}");
    let list = dead(&db, &["list", "--fingerprint", fingerprint, "--json"]).json();
    assert_eq!(list.as_array().expect("an array").len(), 3);
    assert_eq!(db.one::<i64>(&format!("select rowcrew.revive(fingerprint => '{fingerprint}')")).await, 3);
    assert_eq!(db.all::<String>("select distinct kind from rowcrew.jobs").await, ["bad"]);
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.dead_jobs").await, 2, "the others stay");
    let missed = dead(&db, &["discard", "--fingerprint", fingerprint, "--yes"]);
    assert!(missed.stdout.contains("there are no such dead jobs"), "{missed:?}");
}
