//! Handlers that block: on threads of their own, never more of them claimed than threads are free, and all counted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rowcrew::{Context, Failure, KindOptions, Worker};
use serde_json::Value;
use tokio::sync::mpsc::unbounded_channel;

use crate::support::{Crew, Db, rowcrew_on};

fn with_threads(threads: u32) -> String {
    format!(
        "[worker]\nblocking_threads = {threads}\n[handlers.block]\ntype = \"block\"\n[handlers.noop]\ntype = \"noop\""
    )
}

const RUNNING: &str = "(select count(*) from rowcrew.jobs where kind = 'block' and state = 'running')";

#[tokio::test]
async fn exhausted_blocking_threads_are_counted_hold_up_no_other_kind_and_leave_the_rest_to_other_workers() {
    let db = Db::new().await;
    let _first = Crew::start(&db, &with_threads(2)).await;
    let jobs = db.insert_many("block", r#"'{"ms": 600000}'"#, 6).await;
    db.until(&format!("{RUNNING} = 2")).await;
    db.insert_many("noop", "'{}'", 500).await;
    db.until("(select count(*) from rowcrew.finished_jobs where kind = 'noop') = 500").await;
    // The beat says what it was like meanwhile.
    let exhausted = "(blocking ->> 'exhausted_seconds')::float8 > 0 and blocking ->> 'busy' = '2'";
    db.until(&format!("exists (select from rowcrew.workers where {exhausted})")).await;
    let untouched = "(select count(*) from rowcrew.jobs where kind = 'block' and state = 'available' and attempts = 0 and claim_id is null)";
    assert_eq!(db.one::<i64>(&format!("select {untouched}")).await, 4, "never claimed");
    let shown = rowcrew_on(&db, &["workers", "--json"], b"").json();
    assert_eq!(shown[0]["blocking"]["threads"], 2);
    assert!(shown[0]["blocking"]["utilisation"].as_f64() > Some(0.0), "{shown}");
    let table = rowcrew_on(&db, &["workers"], b"").stdout;
    assert!(table.contains("EXHAUSTED (S)"), "{table}");

    let _second = Crew::start(&db, &with_threads(9)).await;
    db.until(&format!("{RUNNING} = 6")).await;
    let of_each = "select count(*) from rowcrew.jobs where kind = 'block' group by claimed_by order by 1";
    assert_eq!(db.all::<i64>(of_each).await, [2, 4]);
    for id in &jobs {
        db.exec(&format!("select rowcrew.cancel({id})")).await;
    }
    db.until("not exists (select from rowcrew.jobs)").await;
    db.until("not exists (select from rowcrew.workers where blocking ->> 'busy' <> '0')").await;
}

#[tokio::test]
async fn kinds_that_share_the_threads_keep_to_their_own_limits_too() {
    static NOW: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
    static MOST: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
    fn count(at: usize) {
        let now = NOW[at].fetch_add(1, Ordering::SeqCst) + 1;
        MOST[at].fetch_max(now, Ordering::SeqCst);
    }
    #[allow(clippy::needless_pass_by_value, clippy::unnecessary_wraps, reason = "as a handler must be")]
    fn work(_: Value, context: Context) -> Result<(), Failure> {
        let single = &*context.job.kind == "single";
        count(0);
        if single {
            count(1);
        }
        std::thread::sleep(Duration::from_millis(3));
        NOW[0].fetch_sub(1, Ordering::SeqCst);
        if single {
            NOW[1].fetch_sub(1, Ordering::SeqCst);
        }
        Ok(())
    }
    let db = Db::new().await;
    db.insert_many("single", "'{}'", 40).await;
    db.insert_many("other", "'{}'", 80).await;
    db.insert_many("another", "'{}'", 80).await;
    let single = KindOptions { concurrency: Some(1), ..KindOptions::default() };
    let worker = Worker::builder(&db.url)
        .handle_blocking_with("single", single, work)
        .handle_blocking("other", work)
        .handle_blocking("another", work)
        .blocking_threads(3)
        .without_signals()
        .build()
        .expect("a worker");
    let stop = worker.stop_handle();
    let running = tokio::spawn(worker.run());
    db.until("(select count(*) from rowcrew.finished_jobs where state = 'completed') = 200").await;
    stop.drain();
    running.await.expect("no panic").expect("in order");
    assert_eq!((MOST[0].load(Ordering::SeqCst), MOST[1].load(Ordering::SeqCst)), (3, 1));
}

#[tokio::test]
async fn a_thread_that_does_not_return_in_time_is_missed_until_it_does() {
    let db = Db::new().await;
    let (release, wait) = mpsc::channel::<()>();
    let wait = Arc::new(std::sync::Mutex::new(wait));
    let (began, mut starts) = unbounded_channel();
    let work = move |stuck: bool, context: Context| {
        began.send(context.job.id).expect("the test listens");
        if stuck {
            wait.lock().expect("no panic").recv().expect("a word");
            // The attempt is over: nothing that it still says counts.
            assert!(context.block_on(context.transaction()).is_err());
        }
        Ok::<_, Failure>(())
    };
    let worker =
        Worker::builder(&db.url).handle_blocking("work", work).blocking_threads(1).without_signals().build();
    let worker = worker.expect("a worker");
    let stop = worker.stop_handle();
    let running = tokio::spawn(worker.run());
    let stuck: i64 = db
        .one("insert into rowcrew.jobs (kind, payload, timeout, max_attempts) values ('work', 'true', '0.1 s', 1) returning id")
        .await;
    assert_eq!(starts.recv().await, Some(stuck));
    db.until_state(stuck, "dead").await;
    assert_eq!(db.one::<String>("select errors -> -1 ->> 'class' from rowcrew.dead_jobs").await, "timeout");
    let next = db.insert("work", "false").await;
    db.until("exists (select from rowcrew.workers where blocking ->> 'busy' = '1' and running = 0)").await;
    assert_eq!(db.one::<i32>("select attempts from rowcrew.jobs").await, 0, "no thread, no claim");
    assert!(starts.is_empty());
    release.send(()).expect("it waits");
    assert_eq!(starts.recv().await, Some(next));
    db.until_state(next, "completed").await;
    stop.drain();
    running.await.expect("no panic").expect("in order");
}
