//! Jobs that workers were lost with: one of them may be to blame, and takes no worker down again.

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Crew, DOES, Db, FOR_EVER, HOLDS};

#[tokio::test]
async fn a_job_that_kills_its_worker_is_buried_after_three_crashes_and_its_neighbours_complete() {
    let db = Db::new().await;
    let config = r#"
        [worker]
        concurrency = 8
        [handlers.poison]
        type = "command"
        command = ["sh", "-c", "kill -9 $PPID"]
        max_attempts = 1
        [handlers.nap]
        type = "sleep"
        max_attempts = 1
        [handlers.capped]
        type = "sleep"
        max_attempts = 1
        concurrency = 2
    "#;
    let poison = db.insert("poison", "{}").await;
    let mut innocent = db.insert_many("nap", r#"'{"ms": 100}'"#, 12).await;
    innocent.extend(db.insert_many("capped", r#"'{"ms": 100}'"#, 3).await);
    let mut deaths = 0;
    loop {
        let mut crew = Crew::spawn(&db, config);
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(20));
        let done = loop {
            ticks.tick().await;
            if crew.has_ended() {
                break false;
            }
            if db.one("select not exists (select from rowcrew.jobs)").await {
                break true;
            }
        };
        if done {
            break;
        }
        deaths += 1;
        assert!(deaths <= 1, "the worker died {deaths} times; its log:\n{}", crew.log());
    }
    assert_eq!(
        deaths, 1,
        "after the first time it is in a process beside the worker, the third time alone in one"
    );
    let dead = db
        .rows("select id, reason, attempts, crashes, jsonb_array_length(errors) from rowcrew.dead_jobs")
        .await;
    assert_eq!(dead.len(), 1, "only the poison");
    assert_eq!((dead[0].get::<_, i64>(0), dead[0].get::<_, &str>(1)), (poison, "crashed"));
    assert_eq!((dead[0].get::<_, i32>(2), dead[0].get::<_, i32>(3), dead[0].get::<_, i32>(4)), (3, 3, 3));
    let mut completed: Vec<i64> =
        db.all("select id from rowcrew.finished_jobs where state = 'completed'").await;
    completed.sort_unstable();
    innocent.sort_unstable();
    assert_eq!(completed, innocent);
    let costs: Vec<i32> = db.all("select distinct attempts - crashes from rowcrew.finished_jobs").await;
    assert_eq!(costs, [1], "a neighbour's crash costs no attempt");
}

/// So many jobs with which so many workers were lost.
async fn suspects(db: &Db, count: i64, lost: i32) -> Vec<i64> {
    let insert = "insert into rowcrew.jobs (kind, payload, attempts, crashes)";
    let rows =
        format!("select 'job', '{FOR_EVER}', {lost}, {lost} from generate_series(1, {count}) returning id");
    db.all(&format!("with put_in as ({insert} {rows}) select id from put_in")).await
}

/// In the crew: the workers that run a job of theirs alone.
const ALONE: &str = "select count(*) from rowcrew.workers where alone_job_id is not null";

#[tokio::test]
async fn a_job_that_two_workers_were_lost_with_runs_in_a_process_of_its_own_while_others_go_on() {
    let db = Db::new().await;
    let config = HOLDS.replace("concurrency = 10", "concurrency = 3\nname = \"usual\"");
    let mut worker = Crew::start(&db, &config).await;
    let long = db.insert("job", FOR_EVER).await;
    db.until_state(long, "running").await;
    let suspect = suspects(&db, 1, 2).await[0];
    db.until(&format!("({ALONE}) = 1")).await;
    let (name, queues): (String, i32) = {
        let sql = "select name, cardinality(queues) from rowcrew.workers where alone_job_id is not null";
        let row = db.client.query_one(sql, &[]).await.expect("a row");
        (row.get(0), row.get(1))
    };
    assert_eq!((name, queues), (format!("usual (job {suspect})"), 0));
    let usual: i64 = db.one("select id from rowcrew.workers where name = 'usual'").await;
    let holders: Vec<i64> = db.all("select distinct claimed_by from rowcrew.jobs order by 1").await;
    assert_eq!((holders.len(), holders[0]), (2, usual));
    // The third slot is free.
    let quick = db.insert("job", r#"{"ms": 1}"#).await;
    db.until_state(quick, "completed").await;
    db.exec(&format!("select rowcrew.cancel({suspect})")).await;
    db.until_state(suspect, "cancelled").await;
    db.until("(select count(*) from rowcrew.workers) = 1").await;
    assert_eq!(db.state(long).await, "running");

    // Asked to stop, a worker has what runs elsewhere for it given back as well.
    let again = suspects(&db, 1, 2).await[0];
    db.until(&format!("({ALONE}) = 1")).await;
    worker.signal(Signal::TERM);
    worker.signal(Signal::INT);
    let (status, took) = worker.ended(std::time::Duration::from_secs(20)).await;
    assert!(status.success() && took < std::time::Duration::from_secs(10), "{status} after {took:?}");
    db.until("not exists (select from rowcrew.workers)").await;
    let left =
        format!("select count(*) from rowcrew.jobs where state = 'available' and id in ({long}, {again})");
    assert_eq!(db.one::<i64>(&left).await, 2);
    let costs = format!("select attempts * 10 + crashes from rowcrew.jobs where id = {again}");
    assert_eq!(db.one::<i32>(&costs).await, 22, "it was given back at no cost");
}

#[tokio::test]
async fn jobs_in_processes_of_their_own_are_unharmed_when_the_worker_that_started_them_crashes() {
    let db = Db::new().await;
    let mut dies = Crew::start(&db, HOLDS).await;
    // One more than can have a process at once: it waits in the worker.
    let ids = suspects(&db, 4, 2).await;
    db.until(&format!("({ALONE}) = 3")).await;
    db.until("(select count(*) from rowcrew.running) = 4").await;
    dies.kill();
    // The fourth is rescued, now or by the next worker, at the cost of a crash.
    db.until(
        "(select count(*) from rowcrew.jobs where state = 'available' and (attempts, crashes) = (2, 2)) = 3",
    )
    .await;
    let _lives = Crew::start(&db, DOES).await;
    for id in ids {
        db.until_state(id, "completed").await;
    }
}

#[tokio::test]
async fn jobs_that_were_handed_over_and_had_not_begun_are_unharmed_too() {
    let db = Db::new().await;
    db.exec(
        "create function enter_slowly() returns trigger language plpgsql as $$
            begin
                if new.name like '%(suspects)' then perform pg_sleep(1); end if;
                return new;
            end $$;
         create trigger slowly before insert on rowcrew.workers for each row execute function enter_slowly()",
    )
    .await;
    let mut dies = Crew::start(&db, HOLDS).await;
    suspects(&db, 2, 1).await;
    // The process is there, and has none of its jobs yet.
    db.until(
        "exists (select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database())",
    )
    .await;
    dies.kill();
    db.until(
        "(select count(*) from rowcrew.jobs where state = 'available' and (attempts, crashes) = (1, 1)) = 2",
    )
    .await;
    db.until("not exists (select from rowcrew.workers where name like '%(suspects)')").await;
}

/// Kills the worker of this name, which no test has started itself.
async fn kill(db: &Db, name: &str) {
    let pid: i32 = db.one(&format!("select pid from rowcrew.workers where name = '{name}'")).await;
    kill_process(Pid::from_raw(pid).expect("no zero"), Signal::KILL).expect("it lives");
}

#[tokio::test]
async fn jobs_that_were_in_one_crash_run_together_beside_the_worker_and_the_next_crash_takes_only_them() {
    let db = Db::new().await;
    let config = HOLDS.replace("concurrency = 10", "concurrency = 5\nname = \"usual\"");
    let _worker = Crew::start(&db, &config).await;
    let usual: i64 = db.one("select id from rowcrew.workers").await;
    let other = db.insert("job", FOR_EVER).await;
    db.until_state(other, "running").await;
    let mut ids = suspects(&db, 2, 1).await;
    let beside = "(select count(*) from rowcrew.jobs where claimed_by = (select id from rowcrew.workers where name = 'usual (suspects)'))";
    db.until(&format!("{beside} = 2")).await;

    // Others join them as slots are free: with these two and the other one, two more.
    ids.extend(suspects(&db, 3, 1).await);
    db.until(&format!("{beside} = 4")).await;
    db.exec(&format!("select rowcrew.cancel({})", ids[0])).await;
    db.until_state(ids[0], "cancelled").await;
    db.until(&format!("{beside} = 4")).await;
    for id in &ids[1..3] {
        db.exec(&format!("select rowcrew.cancel({id})")).await;
        db.until_state(*id, "cancelled").await;
    }

    kill(&db, "usual (suspects)").await;
    db.until("(select count(*) = 2 from rowcrew.workers where alone_job_id is not null)").await;
    let costs = format!("select distinct attempts * 10 + crashes from rowcrew.jobs where id <> {other}");
    assert_eq!(db.all::<i32>(&costs).await, [32], "each has its last try alone");
    let holder: i64 = db.one(&format!("select claimed_by from rowcrew.jobs where id = {other}")).await;
    assert_eq!((db.state(other).await.as_str(), holder), ("running", usual));

    // The third crash can be blamed on the one that was alone.
    kill(&db, &format!("usual (job {})", ids[3])).await;
    db.until_state(ids[3], "dead").await;
    assert_eq!(db.state(ids[4]).await, "running");
    assert_eq!(db.one::<String>("select reason from rowcrew.dead_jobs").await, "crashed");
}

#[tokio::test]
async fn the_process_beside_a_worker_leaves_when_it_has_no_job_and_comes_again_when_there_is_one() {
    let db = Db::new().await;
    let _worker = Crew::start(&db, DOES).await;
    for _ in 0..3 {
        for id in suspects(&db, 20, 1).await {
            db.until_state(id, "completed").await;
        }
        db.until("(select count(*) from rowcrew.workers) = 1").await;
    }
    db.until("not exists (select from rowcrew.claims)").await;
}
