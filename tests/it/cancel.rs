//! A running job that is cancelled or buried by hand stops soon, wherever it runs.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Crew, Db, FOR_EVER, Scratch, until_gone};

const NAP: &str = "[handlers.nap]\ntype = \"sleep\"\n";

async fn cancel(db: &Db, id: i64) -> String {
    db.one(&format!("select rowcrew.cancel({id})")).await
}

#[tokio::test]
async fn a_running_job_that_is_cancelled_ends_as_cancelled_soon() {
    let db = Db::new().await;
    let _worker = Crew::start(&db, NAP).await;
    let mut quickest = Duration::MAX;
    for _ in 0..4 {
        let id = db.insert("nap", FOR_EVER).await;
        db.until_state(id, "running").await;
        let began = Instant::now();
        assert_eq!(cancel(&db, id).await, "cancelling");
        db.until_state(id, "cancelled").await;
        quickest = quickest.min(began.elapsed());
        assert_eq!(cancel(&db, id).await, "finished");
    }
    // The beat alone would take a second on average: the notice is heard.
    assert!(quickest < Duration::from_millis(400), "{quickest:?}");
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.events where action = 'cancel'").await, 4);
}

#[tokio::test]
async fn cancelling_a_command_ends_all_the_processes_it_started() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let config = format!(
        r#"
        [handlers.tree]
        type = "command"
        command = ["sh", "-c", "echo $$ > {file}; (trap '' TERM; sleep 120) & echo $! >> {file}; sleep 120 & echo $! >> {file}; wait"]
        "#,
        file = scratch.path("tree")
    );
    let _worker = Crew::start(&db, &config).await;
    let id = db.insert("tree", "{}").await;
    let tree = scratch.pids("tree", 3).await;
    cancel(&db, id).await;
    db.until_state(id, "cancelled").await;
    for pid in tree {
        until_gone(pid).await;
    }
}

#[tokio::test]
async fn a_cancellation_whose_notice_is_missed_works_within_a_few_beats() {
    let db = Db::new().await;
    let _worker = Crew::start(&db, NAP).await;
    let id = db.insert("nap", FOR_EVER).await;
    db.until_state(id, "running").await;
    let row = db
        .client
        .query_one(
            &format!(
                "select rowcrew.cancel({id}), (select count(pg_terminate_backend(pid)) from pg_stat_activity
                    where datname = current_database() and query like 'listen %')"
            ),
            &[],
        )
        .await
        .expect("a row");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, i64>(1)), ("cancelling", 1));
    db.until_state(id, "cancelled").await;
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.events where action = 'rescue'").await, 0);
}

#[tokio::test]
async fn burying_a_running_job_stops_it() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let config = format!(
        "[handlers.child]\ntype = \"command\"\ncommand = [\"sh\", \"-c\", \"echo $$ > {}; exec sleep 120\"]",
        scratch.path("child")
    );
    let worker = Crew::start(&db, &config).await;
    let id = db.insert("child", "{}").await;
    let child = scratch.pids("child", 1).await[0];
    assert!(db.one::<bool>(&format!("select rowcrew.bury({id})")).await);
    until_gone(child).await;
    worker.until_log("results dropped").await;
    assert_eq!(db.state(id).await, "dead");
    assert_eq!(db.one::<String>("select reason from rowcrew.dead_jobs").await, "buried");
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.finished_jobs").await, 0);
}

#[tokio::test]
async fn a_job_cancelled_before_its_worker_crashed_is_cancelled_and_not_run_again() {
    let db = Db::new().await;
    let mut worker = Crew::start(&db, NAP).await;
    let id = db.insert("nap", FOR_EVER).await;
    db.until_state(id, "running").await;
    worker.signal(Signal::STOP);
    assert_eq!(cancel(&db, id).await, "cancelling");
    worker.kill();
    let _other = Crew::start(&db, "[handlers.nap]\ntype = \"echo\"").await;
    db.until_state(id, "cancelled").await;
    assert_eq!(db.one::<i32>("select attempts from rowcrew.finished_jobs").await, 1);
}

#[tokio::test]
async fn a_job_that_fails_while_its_cancellation_is_on_the_way_does_not_wait_for_its_retry() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let config = format!(
        r#"
        [handlers.fails]
        type = "command"
        command = ["sh", "-c", "while [ ! -e {} ]; do sleep 0.02; done; exit 1"]
        backoff = {{ type = "fixed", delay_ms = 600000 }}
        "#,
        scratch.path("go")
    );
    let _worker = Crew::start(&db, &config).await;
    let id = db.insert("fails", "{}").await;
    db.until_state(id, "running").await;
    // What cancel() writes, without its notice.
    db.exec("update rowcrew.jobs set cancel_requested_at = now()").await;
    std::fs::write(scratch.path("go"), "").expect("a file");
    db.until_state(id, "cancelled").await;
}

#[tokio::test]
async fn a_cancellation_that_is_left_uncommitted_holds_up_no_beat_and_no_other_cancellation() {
    let db = Db::new().await;
    let _worker = Crew::start(&db, NAP).await;
    let running = db.insert("nap", FOR_EVER).await;
    db.until_state(running, "running").await;
    db.exec("insert into rowcrew.jobs (id, kind, run_at) values (101, 'nap', 'infinity'), (102, 'nap', 'infinity')")
        .await;
    let open = db.connect().await;
    open.batch_execute(&format!("begin; select rowcrew.cancel({running}), rowcrew.cancel(101)"))
        .await
        .expect("both");

    db.exec("set lock_timeout = '5s'").await;
    assert_eq!(cancel(&db, 102).await, "cancelled");
    let beat: i64 = db.one("select beat from rowcrew.workers").await;
    db.until(&format!("(select beat > {beat} + 1 from rowcrew.workers)")).await;

    open.batch_execute("commit").await.expect("committed");
    db.until_state(running, "cancelled").await;
    assert_eq!(
        db.one::<i64>("select sum(cancelled)::bigint from rowcrew.job_stats where worker_id < 0").await,
        2
    );
}
