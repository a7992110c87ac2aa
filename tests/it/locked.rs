//! A transaction of somebody's that has locked one job holds up that job, and no other.

use std::time::{Duration, Instant};

use rowcrew::store::sql::Statements;
use rustix::process::Signal;
use tokio_postgres::Client;

use crate::support::{Crew, Db};

const CONFIG: &str = r#"
    [worker]
    concurrency = 50
    drain_ms = 1000
    [handlers.nap]
    type = "sleep"
    [handlers.noop]
    type = "noop"
    [handlers.broken]
    type = "fail"
    max_attempts = 1
"#;

/// Somebody looks at a job, and leaves the transaction open.
async fn lock(db: &Db, id: i64) -> Client {
    let client = db.connect().await;
    let lock = format!("begin; select from rowcrew.jobs where id = {id} for update");
    client.batch_execute(&lock).await.expect("a lock");
    client
}

/// Starts so many jobs that run for this long; answers their ids.
async fn napping(db: &Db, count: u32, ms: u32) -> Vec<i64> {
    let ids = db.insert_many("nap", &format!("'{{\"ms\": {ms}}}'"), count).await;
    db.until(&format!("(select count(*) = {count} from rowcrew.running)")).await;
    ids
}

#[tokio::test]
async fn who_holds_one_running_job_holds_up_the_end_of_no_other() {
    let db = Db::new().await;
    let worker = Crew::start(&db, CONFIG).await;
    let ids = napping(&db, 20, 500).await;
    let began = Instant::now();
    let holder = lock(&db, ids[7]).await;
    db.until("(select count(*) = 19 from rowcrew.finished_jobs)").await;
    println!("neighbours ended {:?} after the lock, of which they ran 500 ms at most", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(10), "as long as a statement may take");

    // Once it is known that one is locked, others do not wait for it at all.
    let began = Instant::now();
    db.insert_many("noop", "'{}'", 500).await;
    db.insert_many("broken", "'{}'", 5).await;
    db.until(
        "(select count(*) = 519 from rowcrew.finished_jobs) and (select count(*) = 5 from rowcrew.dead_jobs)",
    )
    .await;
    println!("500 others ended in {:?}", began.elapsed());
    assert_eq!(db.all::<i64>("select id from rowcrew.running").await, [ids[7]]);
    holder.batch_execute("commit").await.expect("the end of the lock");
    db.until("not exists (select from rowcrew.jobs)").await;
    let row =
        db.rows(&format!("select state, attempts from rowcrew.finished_jobs where id = {}", ids[7])).await;
    assert_eq!((row[0].get(0), row[0].get(1)), ("completed", 1));
    db.until("not exists (select from rowcrew.claims)").await;
    assert_eq!(worker.log().matches("are locked by somebody's transaction").count(), 1, "{}", worker.log());
    assert!(!worker.log().contains("results dropped"), "{}", worker.log());
}

#[tokio::test]
async fn who_holds_many_jobs_that_end_one_after_the_other_holds_up_no_other() {
    let db = Db::new().await;
    let worker = Crew::start(&db, CONFIG).await;
    let ids: Vec<i64> = db
        .all(
            "insert into rowcrew.jobs (kind, payload) select 'nap', jsonb_build_object('ms', 500 + n * 50)
            from generate_series(1, 40) n returning id",
        )
        .await;
    db.until("(select count(*) = 40 from rowcrew.running)").await;
    let holder = db.connect().await;
    let lock = "begin; select from rowcrew.jobs where id % 2 = 0 order by id for update";
    holder.batch_execute(lock).await.expect("locks");
    let free = ids.iter().filter(|id| *id % 2 == 1).count();
    db.until(&format!("(select count(*) = {free} from rowcrew.finished_jobs)")).await;
    holder.batch_execute("rollback").await.expect("the end of the locks");
    db.until("(select count(*) = 40 from rowcrew.finished_jobs where attempts = 1)").await;
    db.until("not exists (select from rowcrew.claims)").await;
    assert!(!worker.log().contains("results dropped"), "{}", worker.log());
}

#[tokio::test]
async fn a_killed_workers_jobs_are_rescued_but_for_one_that_is_locked_and_that_one_after_it() {
    let db = Db::new().await;
    let mut dies = Crew::start(&db, CONFIG).await;
    let ids = napping(&db, 20, 600_000).await;
    db.exec("update rowcrew.jobs set payload = '{\"ms\": 1}'").await;
    let holder = lock(&db, ids[7]).await;
    dies.kill();
    let _other = Crew::start(&db, CONFIG).await;
    db.until("(select count(*) = 19 from rowcrew.finished_jobs where crashes = 1)").await;
    let left: Vec<i64> = db.all("select unnest(job_ids) from rowcrew.claims where batch < 0").await;
    assert_eq!(left, [ids[7]], "it stays recorded");
    holder.batch_execute("commit").await.expect("the end of the lock");
    db.until("(select count(*) = 20 from rowcrew.finished_jobs where crashes = 1 and attempts = 2)").await;
    let class = format!("select errors -> 0 ->> 'class' from rowcrew.finished_jobs where id = {}", ids[7]);
    assert_eq!(db.one::<String>(&class).await, "lost_worker");
    // Found late, it belongs to the same group as those that were found at once.
    let groups = "select count(distinct errors -> 0 ->> 'fingerprint') from rowcrew.finished_jobs";
    assert_eq!(db.one::<i64>(groups).await, 1);
    let unnamed = "select count(*) from rowcrew.finished_jobs where errors -> 0 ->> 'fingerprint' is null";
    assert_eq!(db.one::<i64>(unnamed).await, 0);
    db.until("not exists (select from rowcrew.claims)").await;
}

#[tokio::test]
async fn a_worker_that_stops_beside_a_locked_job_stops_in_time_and_the_job_runs_again() {
    let db = Db::new().await;
    let mut stops = Crew::start(&db, CONFIG).await;
    let ids = napping(&db, 20, 600_000).await;
    let holder = lock(&db, ids[7]).await;
    stops.signal(Signal::TERM);
    let (status, took) = stops.ended(Duration::from_secs(20)).await;
    println!("stopped after {took:?}, of which 1 s to drain");
    assert!(status.success());
    assert!(!stops.log().contains("could not say so"), "{}", stops.log());
    assert_eq!(
        db.one::<i64>("select count(*) from rowcrew.jobs where state = 'available' and attempts = 0").await,
        19
    );
    db.exec(&format!("update rowcrew.jobs set payload = '{{\"ms\": 1}}' where id <> {}", ids[7])).await;
    let _other = Crew::start(&db, CONFIG).await;
    db.until("(select count(*) = 19 from rowcrew.finished_jobs)").await;
    holder.batch_execute("update rowcrew.jobs set payload = '{\"ms\": 1}'; commit").await.expect("an update");
    db.until("(select count(*) = 20 from rowcrew.finished_jobs where attempts = 1 and crashes = 0)").await;
    db.until("not exists (select from rowcrew.claims)").await;
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_gives_back_all_but_what_is_locked_and_that_when_asked_again() {
    let db = Db::new().await;
    let ids = db.insert_many("nap", "'{}'", 5).await;
    db.exec("update rowcrew.jobs set state = 'running', claim_id = 9, claimed_by = 7, attempts = 1").await;
    db.exec("insert into rowcrew.claims (worker_id, batch, claim_id, job_ids) select 7, 3, 9, array_agg(id) from rowcrew.jobs").await;
    let holder = lock(&db, ids[2]).await;
    let statements = Statements::new("rowcrew");
    let forget = async || {
        let row = db.client.query_one(&statements.claim_forget.text, &[&7_i64, &3_i64]).await.expect("a row");
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    assert_eq!(forget().await, (4, 1));
    assert_eq!(forget().await, (0, 1));
    holder.batch_execute("commit").await.expect("the end of the lock");
    assert_eq!(forget().await, (1, 0));
    assert_eq!(forget().await, (0, 0), "the number of the claim is taken, and nothing else");
    assert_eq!(
        db.one::<i64>("select count(*) from rowcrew.jobs where state = 'available' and attempts = 0").await,
        5
    );
}
