//! Long-lived children as jobs see them: results, progress, faults, cancellation, stops.

use std::fmt::Write as _;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Crew, Db, Scratch, until_gone};

/// What a child does first in each turn of its loop; its id and payload are then in variables.
const READ: &str = r#"while IFS= read -r line; do
    [[ $line =~ \"id\":([0-9]+) ]] && id=${BASH_REMATCH[1]}; [[ $line =~ \"payload\":(.*)\}$ ]] && payload=${BASH_REMATCH[1]}
"#;

/// A handler of this kind: a loop around the script, with `before` ahead of it.
fn handler(scratch: &Scratch, kind: &str, before: &str, script: &str, more: &str) -> String {
    let path = scratch.path(&format!("{kind}.bash"));
    std::fs::write(&path, format!("{before}\n{READ}{script}\ndone\n")).expect("a file");
    format!("[handlers.{kind}]\ntype = \"process\"\ncommand = [\"bash\", \"{path}\"]\n{more}\n")
}

const ECHO: &str = r#"echo "{\"id\":$id,\"ok\":$payload}""#;

#[tokio::test]
async fn the_progress_that_a_child_reports_is_seen_while_its_job_runs() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let go = scratch.path("go");
    let script = format!(
        r#"echo "{{\"id\":$id,\"progress\":{{\"done\":1}}}}"; echo "{{\"id\":$id,\"progress\":{{\"done\":2}}}}"
        while [ ! -e {go} ]; do sleep 0.02; done; {ECHO}"#
    );
    let _crew = Crew::start(&db, &handler(&scratch, "slow", "", &script, "")).await;
    let id = db.insert("slow", r#"{"a": [1]}"#).await;
    db.until(&format!(
        r#"(select progress = '{{"done": 2}}' and state = 'running' from rowcrew.jobs where id = {id})"#
    ))
    .await;
    std::fs::write(&go, "").expect("a file");
    db.until_state(id, "completed").await;
    let result: String = db.one("select result::text from rowcrew.finished_jobs").await;
    assert_eq!(result, r#"{"a": [1]}"#);
}

#[tokio::test]
async fn jobs_that_end_their_child_are_buried_in_the_end_and_all_others_run() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let script = format!(
        r#"case $payload in
        '"dies"') echo why >&2; exit 7 ;;
        '"rubbish"') echo hello ;;
        *) {ECHO} ;;
        esac"#
    );
    let more = "processes = 2\nmax_attempts = 2\nbackoff = { type = \"fixed\", delay_ms = 1 }";
    let _crew = Crew::start(&db, &handler(&scratch, "mixed", "", &script, more)).await;
    let kinds =
        "case when n % 40 = 0 then '\"dies\"' when n % 40 = 20 then '\"rubbish\"' else to_jsonb(n) end";
    db.insert_many("mixed", kinds, 200).await;
    db.until("not exists (select from rowcrew.jobs)").await;
    assert_eq!(
        db.one::<i64>("select count(*) from rowcrew.finished_jobs where attempts = 1 and result = payload")
            .await,
        190
    );
    let ended: Vec<String> = db
        .all(
            "select distinct format('%s %s %s %s', payload #>> '{}', attempts, errors -> -1 ->> 'class',
                errors -> -1 ->> 'detail') from rowcrew.dead_jobs order by 1",
        )
        .await;
    assert_eq!(ended, ["dies 2 exit_code why\n", "rubbish 2 protocol "]);
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.dead_jobs").await, 10);
}

#[tokio::test]
async fn a_worker_whose_children_do_not_start_claims_none_of_their_jobs_and_another_runs_them() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let mut config = "[worker]\nname = \"broken\"\n[handlers.nap]\ntype = \"sleep\"\n".to_owned();
    for (kind, command) in [("missing", "[\"no-such-program-anywhere\"]"), ("ends", "[\"false\"]")] {
        let _ = writeln!(
            config,
            "[handlers.{kind}]\ntype = \"process\"\ncommand = {command}\nready_within = \"1m\""
        );
    }
    let broken = Crew::start(&db, &config).await;
    broken.until_log("`no-such-program-anywhere` cannot be started").await;
    broken.until_log("`false`: the child process ended with exit code 1").await;
    let missing = db.insert("missing", "1").await;
    let ends = db.insert("ends", "2").await;
    let nap = db.insert("nap", r#"{"ms": 0}"#).await;
    db.until_state(nap, "completed").await;
    assert_eq!(
        db.one::<i64>("select count(*) from rowcrew.jobs where state = 'available' and attempts = 0").await,
        2
    );
    db.until("(select kinds_down = '{ends,missing}' from rowcrew.workers)").await;
    let why: String = db.one(&format!("select rowcrew.why({missing})")).await;
    let words = "no worker can run its kind missing now: no process of it is up. The log of broken (id ";
    assert!(why.contains(words), "{why}");
    let blocked: Vec<String> = db.all("select reason from rowcrew.blocked").await;
    assert_eq!(blocked, ["no worker can run its kind now"; 2]);
    let good = handler(&scratch, "missing", "", ECHO, "") + &handler(&scratch, "ends", "", ECHO, "");
    let _good = Crew::start(&db, &good).await;
    for id in [missing, ends] {
        db.until_state(id, "completed").await;
    }
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.finished_jobs where attempts = 1").await, 3);
}

#[tokio::test]
async fn a_cancelled_job_is_ended_with_its_child_and_the_next_one_runs_in_a_new_child() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let script =
        format!("case $payload in 1) echo $$ >> {}; sleep 1000 ;; *) {ECHO} ;; esac", scratch.path("pids"));
    let _crew = Crew::start(&db, &handler(&scratch, "hangs", "", &script, "")).await;
    let hangs = db.insert("hangs", "1").await;
    let child = scratch.pids("pids", 1).await[0];
    db.exec(&format!("select rowcrew.cancel({hangs})")).await;
    db.until_state(hangs, "cancelled").await;
    until_gone(child).await;
    let next = db.insert("hangs", "2").await;
    db.until_state(next, "completed").await;
}

#[tokio::test]
async fn a_worker_that_stops_lets_jobs_in_hand_end_and_leaves_no_child() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let (pids, go) = (scratch.path("pids"), scratch.path("go"));
    let before = format!("trap '' TERM; echo $$ >> {pids}");
    let script = format!("while [ ! -e {go} ]; do sleep 0.02; done; {ECHO}");
    let mut config = handler(&scratch, "waits", &before, &script, "processes = 3");
    config.insert_str(0, "[worker]\ndrain_ms = 60000\n");
    let mut crew = Crew::start(&db, &config).await;
    let id = db.insert("waits", "1").await;
    let children = scratch.pids("pids", 3).await;
    db.until_state(id, "running").await;
    crew.signal(Signal::TERM);
    crew.until_log("worker drains").await;
    std::fs::write(&go, "").expect("a file");
    let (status, _) = crew.ended(Duration::from_secs(30)).await;
    assert_eq!(status.code(), Some(0));
    assert_eq!(db.state(id).await, "completed");
    for child in children {
        until_gone(child).await;
    }
}

#[tokio::test]
async fn a_job_in_the_hand_of_a_child_that_does_not_end_is_given_back_when_the_worker_stops() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let before = format!("trap '' TERM; echo $$ >> {}", scratch.path("pids"));
    let mut config = handler(&scratch, "stuck", &before, "while :; do sleep 0.1; done", "");
    config.insert_str(0, "[worker]\ndrain_ms = 200\n");
    let mut crew = Crew::start(&db, &config).await;
    let id = db.insert("stuck", "1").await;
    let child = scratch.pids("pids", 1).await[0];
    db.until_state(id, "running").await;
    crew.signal(Signal::TERM);
    let (status, took) = crew.ended(Duration::from_secs(30)).await;
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(4), "{took:?}");
    until_gone(child).await;
    assert_eq!(db.state(id).await, "available");
    assert_eq!(db.one::<i32>("select attempts from rowcrew.jobs").await, 0);
}
