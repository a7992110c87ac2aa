//! The library: typed handlers, what they can do with their context, and how a program stops its worker.

use std::sync::Arc;
use std::time::Duration;

use rowcrew::{
    Backoff, Context, Enqueued, Failure, Jitter, JobDefaults, KindOptions, NewJob, StopHandle, Worker,
    WorkerBuilder,
};
use serde_json::{Value, json};
use tokio::sync::{Barrier, Notify};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;

use crate::support::Db;

/// A worker inside the test.
struct InProcess {
    stop: StopHandle,
    running: JoinHandle<Result<(), rowcrew::Error>>,
}

impl InProcess {
    fn start(builder: WorkerBuilder) -> Self {
        let worker = builder.without_signals().build().expect("a worker");
        Self { stop: worker.stop_handle(), running: tokio::spawn(worker.run()) }
    }

    async fn drain(self) {
        self.stop.drain();
        self.running.await.expect("no panic").expect("in order");
    }
}

async fn fails(how: String, context: Context) -> Result<(), Failure> {
    let first = context.attempt() == 1;
    match how.as_str() {
        "panic" => panic!("so it goes"),
        "bury" => Err(Failure::bury("hopeless")),
        "retry" if first => Err(Failure::retry_after(Duration::ZERO, "not yet")),
        "error" => "x".parse::<u32>().map(drop).map_err(Into::into),
        // It costs no attempt, so the first one comes again: told apart by the time it has been there.
        "snooze" if context.job.age < Duration::from_millis(50) => {
            Err(Failure::snooze(Duration::from_millis(60)))
        }
        _ => Ok(()),
    }
}

#[tokio::test]
async fn what_a_function_answers_decides_what_becomes_of_the_job() {
    let db = Db::new().await;
    let slow = Backoff::Fixed { delay_ms: 600_000, jitter: Jitter::None, give_up_after_ms: None };
    let defaults = JobDefaults { backoff: slow, ..JobDefaults::default() };
    let options = KindOptions { defaults, ..KindOptions::default() };
    let worker = InProcess::start(Worker::builder(&db.url).handle_with("fails", options, fails));
    let job = async |how: Value| db.insert("fails", &how.to_string()).await;
    let ids = [job(json!("bury")).await, job(json!("retry")).await, job(json!("snooze")).await];
    let [bury, retry, snooze] = ids;
    let unreadable = job(json!({"how": 1})).await;
    let (panics, error) = (job(json!("panic")).await, job(json!("error")).await);
    db.until_state(retry, "completed").await;
    db.until_state(snooze, "completed").await;
    db.until_state(bury, "dead").await;
    db.until_state(unreadable, "dead").await;
    db.until_state(panics, "retrying").await;
    db.until_state(error, "retrying").await;
    let attempts = |id: i64| {
        format!("select attempts || ' ' || coalesce(last_error, '') from rowcrew.job_status where id = {id}")
    };
    assert_eq!(db.one::<String>(&attempts(bury)).await, "1 hopeless");
    assert_eq!(db.one::<String>(&attempts(retry)).await, "2 not yet");
    assert_eq!(db.one::<String>(&attempts(snooze)).await, "1 ");
    assert_eq!(db.one::<String>(&attempts(error)).await, "1 invalid digit found in string");
    assert_eq!(db.one::<String>(&attempts(panics)).await, "1 the handler panicked: so it goes");
    let said = db.one::<String>(&attempts(unreadable)).await;
    assert!(said.contains("payload of fails is no alloc::string::String"), "{said}");
    worker.drain().await;
}

#[tokio::test]
async fn a_transaction_commits_with_the_finish_or_not_at_all() {
    let db = Db::new().await;
    db.exec("create table effects (how text unique deferrable initially deferred)").await;
    let effect = |how: String, context: Context| async move {
        let tx = context.transaction().await?;
        tx.execute("insert into effects values ($1)", &[&how]).await?;
        drop(tx);
        let again = context.transaction().await?;
        rowcrew::enqueue(&*again, &NewJob::new("from.tx", &how)?).await?;
        context.enqueue(NewJob::new("from.context", &how)?)?;
        match how.as_str() {
            "fails" => Err(Failure::bury("after the effect")),
            "snoozes" => Err(Failure::snooze(Duration::from_mins(10))),
            "commits" => {
                again.batch_execute("commit").await?;
                let alone = again.execute("insert into public.effects values ('alone')", &[]).await;
                let refused =
                    alone.is_err_and(|error| error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION));
                if refused {
                    Ok(how)
                } else {
                    Err(Failure::bury("its session writes outside of transactions"))
                }
            }
            "leaks" => {
                std::mem::forget(again);
                Ok(how)
            }
            _ => Ok(how),
        }
    };
    let worker = InProcess::start(Worker::builder(&db.url).handle("effect", effect));
    let done = db.insert("effect", "\"done\"").await;
    db.until_state(done, "completed").await;
    assert_eq!(db.one::<String>("select result #>> '{}' from rowcrew.finished_jobs").await, "done");
    let fails = db.insert("effect", "\"fails\"").await;
    db.until_state(fails, "dead").await;
    let snoozes = db.insert("effect", "\"snoozes\"").await;
    db.until_state(snoozes, "retrying").await;
    let once = |how: &str| {
        format!(
            "insert into rowcrew.jobs (kind, payload, max_attempts) values ('effect', '\"{how}\"', 1) returning id"
        )
    };
    let leaks: i64 = db.one(&once("leaks")).await;
    db.until_state(leaks, "dead").await;
    // A constraint that is checked at the commit.
    let twice = db.insert("effect", "\"done\"").await;
    db.until_state(twice, "dead").await;
    assert_eq!(db.all::<String>("select how from effects").await, ["done"]);
    let enqueued = "select kind || ' ' || payload from rowcrew.jobs where kind like 'from.%' order by kind";
    assert_eq!(db.all::<String>(enqueued).await, ["from.context \"done\"", "from.tx \"done\""]);
    // One that breaks the rule loses the guarantee, not the job, and is told.
    let commits: i64 = db.one(&once("commits")).await;
    db.until_state(commits, "dead").await;
    let why: String = db.one(&format!("select last_error from rowcrew.dead_jobs where id = {commits}")).await;
    assert!(why.contains("SAVEPOINT can only be used in transaction blocks"), "{why}");
    worker.drain().await;
    db.until("not exists (select from rowcrew.claims)").await;
}

#[tokio::test]
async fn a_statement_of_a_function_that_meets_a_broken_connection_costs_no_attempt() {
    let db = Db::new().await;
    db.exec("create sequence tries; create table effects (n int)").await;
    let breaks = |_: Value, context: Context| async move {
        let tx = context.transaction().await?;
        let tries: i64 = tx.query_one("select nextval('tries')", &[]).await?.get(0);
        tx.execute("insert into effects values (1)", &[]).await?;
        if tries == 1 {
            tx.execute("select pg_terminate_backend(pg_backend_pid())", &[]).await?;
        }
        Ok::<_, Failure>(())
    };
    let worker = InProcess::start(Worker::builder(&db.url).handle("breaks", breaks));
    let id = db.insert("breaks", "{}").await;
    db.until_state(id, "completed").await;
    assert!(db.one::<bool>("select attempts = 1 and errors is null from rowcrew.finished_jobs").await);
    assert_eq!(db.one::<i64>("select count(*) from effects").await, 1);
    worker.drain().await;
}

#[tokio::test]
async fn an_effect_of_a_job_that_was_taken_over_meanwhile_does_not_happen() {
    let db = Db::new().await;
    db.exec("create table effects (n int)").await;
    let meet = Arc::new(Barrier::new(2));
    let (here, there) = (meet.clone(), meet.clone());
    let effect = move |_: Value, context: Context| {
        let meet = there.clone();
        async move {
            let tx = context.transaction().await?;
            tx.execute("insert into effects values (1)", &[]).await?;
            meet.wait().await;
            meet.wait().await;
            context.enqueue(NewJob::new("more", &1)?)?;
            context.progress("late");
            Ok::<_, Failure>(())
        }
    };
    let worker = InProcess::start(Worker::builder(&db.url).handle("effect", effect));
    let id = db.insert("effect", "{}").await;
    here.wait().await;
    // As if the worker had been taken for lost and another one had claimed the job.
    db.exec("update rowcrew.jobs set claim_id = nextval('rowcrew.claim_ids'), attempts = attempts + 1").await;
    here.wait().await;
    worker.drain().await;
    assert_eq!(db.one::<i64>("select count(*) from effects").await, 0);
    let left =
        format!("select state || ' ' || coalesce(progress::text, 'none') from rowcrew.jobs where id = {id}");
    assert_eq!(db.all::<String>(&left).await, ["running none"]);
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.jobs").await, 1, "nothing was enqueued");
}

#[tokio::test]
async fn progress_is_seen_while_the_job_runs_and_the_last_word_counts() {
    let db = Db::new().await;
    let go_on = Arc::new(Notify::new());
    let wait = go_on.clone();
    let work = move |_: Value, context: Context| {
        let wait = wait.clone();
        async move {
            for done in 0..=1000 {
                context.progress(json!({ "done": done }));
            }
            context.progress("x".repeat(100_000));
            wait.notified().await;
            Ok::<_, Failure>(())
        }
    };
    // One that the database does not take costs the others nothing.
    let nul = move |_: Value, context: Context| async move {
        context.progress("\0");
        context.cancelled.cancelled().await;
        Ok::<_, Failure>(())
    };
    let worker = InProcess::start(Worker::builder(&db.url).handle("nul", nul).handle("work", work));
    let nul = db.insert("nul", "{}").await;
    let id = db.insert("work", "{}").await;
    db.until(&format!("(select progress ->> 'done' = '1000' from rowcrew.jobs where id = {id})")).await;
    go_on.notify_one();
    db.until_state(id, "completed").await;
    db.exec(&format!("select rowcrew.cancel({nul})")).await;
    worker.drain().await;
}

#[tokio::test]
async fn a_worker_is_drained_or_stopped_from_code_and_gives_back_what_has_not_ended() {
    let db = Db::new().await;
    let go_on = Arc::new(Notify::new());
    let builder = || {
        let wait = go_on.clone();
        let work = move |_: Value| {
            let wait = wait.clone();
            async move {
                wait.notified().await;
                Ok::<_, Failure>(())
            }
        };
        Worker::builder(&db.url).handle("work", work)
    };
    let running = "exists (select from rowcrew.jobs where state = 'running')";
    let back = "(select state = 'available' and attempts = 0 from rowcrew.jobs)";

    let drained = InProcess::start(builder());
    let first = db.insert("work", "{}").await;
    db.until(running).await;
    drained.stop.drain();
    let second = db.insert("work", "{}").await;
    db.until("exists (select from rowcrew.workers where state = 'draining')").await;
    go_on.notify_one();
    drained.running.await.expect("no panic").expect("in order");
    assert_eq!((db.state(first).await, db.state(second).await), ("completed".into(), "available".into()));

    let stopped = InProcess::start(builder());
    db.until(running).await;
    stopped.stop.stop_now();
    stopped.stop.drain();
    stopped.running.await.expect("no panic").expect("in order");
    assert!(db.one::<bool>(&format!("select {back}")).await);

    let worker = builder().without_signals().build().expect("a worker");
    let dropped = tokio::spawn(worker.run());
    db.until(running).await;
    dropped.abort();
    db.until(back).await;
    db.until("not exists (select from rowcrew.workers)").await;
}

#[tokio::test]
async fn a_job_enqueued_in_a_transaction_exists_exactly_if_it_commits() {
    let mut db = Db::new().await;
    let mail = NewJob::new("email.send", &json!({"to": "a"}))
        .expect("JSON")
        .queue("mail")
        .priority(2)
        .run_at(Duration::from_hours(1))
        .max_attempts(9)
        .timeout(Duration::from_secs(7))
        .backoff(&Backoff::default())
        .unique_key("u1")
        .group_key("g1")
        .tags(["x", "y"]);
    let count = "select count(*) from rowcrew.jobs";
    let tx = db.client.transaction().await.expect("a transaction");
    rowcrew::enqueue(&tx, &mail).await.expect("enqueued");
    tx.rollback().await.expect("rolled back");
    assert_eq!(db.one::<i64>(count).await, 0);
    let tx = db.client.transaction().await.expect("a transaction");
    let Enqueued::New(id) = rowcrew::enqueue(&tx, &mail).await.expect("enqueued") else {
        panic!("a new one")
    };
    let again = rowcrew::enqueue_in("rowcrew", &tx, &mail).await.expect("enqueued");
    assert_eq!(again, Enqueued::Existing(id));
    tx.commit().await.expect("committed");
    let row: String = db
        .one(
            "select concat_ws(' ', queue, priority, max_attempts, timeout, backoff ->> 'type', unique_key, group_key, tags,
                run_at > now() + interval '59 minutes', payload) from rowcrew.jobs",
        )
        .await;
    assert_eq!(row, r#"mail 2 9 00:00:07 exponential u1 g1 {x,y} t {"to": "a"}"#);
    let refused =
        rowcrew::enqueue(&db.client, &NewJob::new("", &1).expect("JSON")).await.expect_err("no kind");
    assert_eq!(refused.constraint(), Some("jobs_kind_length"));
}

#[tokio::test]
async fn many_jobs_are_enqueued_with_one_statement_all_or_none() {
    let mut db = Db::new().await;
    let job = |n: i64| NewJob::new("many", &json!({ "n": n })).expect("JSON");
    let far = std::time::SystemTime::UNIX_EPOCH + Duration::from_hours(1_139_568);
    let jobs = [
        job(1).queue("mail").priority(2).run_at(Duration::from_hours(1)).timeout(Duration::from_millis(1500)),
        job(2).run_at(far).expires_at(Duration::from_hours(2)).backoff(&Backoff::default()).tags(["x", "y"]),
        job(3).unique_key("u").group_key("g").max_attempts(9),
        job(4).unique_key("u"),
    ];
    let tx = db.client.transaction().await.expect("a transaction");
    assert_eq!(rowcrew::enqueue_many(&tx, &jobs).await.expect("enqueued").len(), 3);
    tx.rollback().await.expect("rolled back");
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.jobs").await, 0);
    let ids = rowcrew::enqueue_many(&db.client, &jobs).await.expect("enqueued");
    assert_eq!(ids.len(), 3, "the fourth one's key was taken by the third");
    let rows = db.all::<String>(
        "select concat_ws(' ', payload ->> 'n', queue, priority, max_attempts, timeout, unique_key, group_key, tags,
            backoff ->> 'type', case when run_at > now() + interval '59 min' then 'later' end,
            extract(year from run_at at time zone 'UTC') >= 2100, expires_at > now() + interval '119 min')
         from rowcrew.jobs order by payload ->> 'n'",
    );
    assert_eq!(
        rows.await,
        ["1 mail 2 00:00:01.5 later f", "2 default 5 {x,y} exponential later t t", "3 default 5 9 u g f"]
    );
    let odd = NewJob { payload: "{".to_owned(), ..job(6) };
    let error = rowcrew::enqueue_many_in("rowcrew", &db.client, &[job(5), odd]).await.expect_err("no JSON");
    assert!(error.to_string().contains("job 2 of the list"), "{error}");
    let refused = NewJob { kind: String::new(), ..job(7) };
    let error = rowcrew::enqueue_many(&db.client, &[job(5), refused]).await.expect_err("no kind");
    assert_eq!(error.constraint(), Some("jobs_kind_length"));
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.jobs").await, 3, "none of either list");
    assert_eq!(rowcrew::enqueue_many(&db.client, &[]).await.expect("nothing to do"), [0_i64; 0]);
}

#[tokio::test]
async fn the_statements_for_other_drivers_enqueue_with_plain_parameters() {
    let db = Db::new().await;
    let one = db.client.prepare(rowcrew::sql::ENQUEUE).await.expect("it prepares");
    let payload = json!({"to": "a"});
    let id: i64 = db.client.query_one(&one, &[&"email.send", &payload]).await.expect("an id").get(0);
    let many = db.client.prepare(rowcrew::sql::ENQUEUE_MANY).await.expect("it prepares");
    let jobs = json!([
        {"kind": "a", "payload": 1, "queue": "mail", "unique_key": "u"},
        {"kind": "a", "unique_key": "u"},
        {"kind": "b"}
    ]);
    let ids: Vec<i64> =
        db.client.query(&many, &[&jobs]).await.expect("ids").iter().map(|row| row.get(0)).collect();
    assert_eq!(ids.len(), 2, "the second one's key was taken by the first");
    let all: Vec<i64> = [id].into_iter().chain(ids).collect();
    assert_eq!(db.all::<i64>("select id from rowcrew.jobs order by id").await, all);
}

#[tokio::test]
async fn a_worker_without_handlers_queues_or_a_good_url_is_refused_with_words() {
    let error = Worker::builder("postgres://x").build().err().expect("no handlers").to_string();
    assert!(error.contains("no handlers"), "{error}");
    let error = Worker::builder("nonsense://x").handle("a", fails).build().err().expect("no URL").to_string();
    assert!(error.contains("URL"), "{error}");
    let none: [&str; 0] = [];
    let error = Worker::builder("postgres://x").handle("a", fails).queues(none).build().err();
    assert!(error.expect("no queues").to_string().contains("no queue"));
    let db = Db::empty().await;
    let error =
        Worker::builder(&db.url).handle("a", fails).without_signals().run().await.expect_err("no tables");
    assert!(error.to_string().contains("rowcrew migrate"), "{error}");
    rowcrew::migrate(&db.url).await.expect("tables");
    let worker = InProcess::start(Worker::builder(&db.url).handle("a", fails));
    db.until("exists (select from rowcrew.workers)").await;
    worker.drain().await;
}
