//! How much runs at once, in which order, and what is left alone.

use std::time::{Duration, Instant};

use crate::support::{Crew, Db};

/// Runs a little while and writes down how many ran with it, itself included.
const COUNTS: &str = "insert into public.overlap select $1 ->> 'k', public.enter($1 ->> 'k')";

/// What the counting statement needs: entries are seen by others at once, as advisory locks are.
const COUNTER: &str = "
    create table overlap (kind text, together int);
    create function enter(k text) returns int language plpgsql as $$
        declare together int;
        begin
            perform pg_advisory_lock_shared(case k when 'capped' then 1 else 2 end, pg_backend_pid());
            perform pg_sleep(0.02);
            select count(*) into together from pg_locks
            where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
                and objsubid = 2 and classid = case k when 'capped' then 1 else 2 end;
            perform pg_advisory_unlock_shared(case k when 'capped' then 1 else 2 end, pg_backend_pid());
            return together;
        end $$";

#[tokio::test]
async fn neither_the_workers_nor_a_kinds_concurrency_is_ever_exceeded() {
    let db = Db::new().await;
    db.exec(COUNTER).await;
    let config = format!(
        "[worker]\nconcurrency = 5\nsql_connections = 20\n\
         [handlers.free]\ntype = \"sql\"\nstatement = \"{COUNTS}\"\n\
         [handlers.capped]\ntype = \"sql\"\nstatement = \"{COUNTS}\"\nconcurrency = 2\n\
         [handlers.nap]\ntype = \"sleep\"\n"
    );
    for kind in ["free", "capped"] {
        db.insert_many(kind, &format!("'{{\"k\": \"{kind}\"}}'"), 60).await;
    }
    let _crew = Crew::start(&db, &config).await;
    db.until("not exists (select from rowcrew.jobs)").await;
    let most = |kind: &str| format!("select max(together) from overlap where kind = '{kind}'");
    let (free, capped): (i32, i32) = (db.one(&most("free")).await, db.one(&most("capped")).await);
    assert!((2..=5).contains(&free), "{free} at once, where 5 may");
    assert_eq!(capped, 2);
    assert_eq!(db.one::<i64>("select count(*) from overlap").await, 120);
}

#[tokio::test]
async fn urgent_jobs_run_first() {
    let db = Db::new().await;
    db.exec("create table order_of (at serial, priority int)").await;
    db.exec(
        "insert into rowcrew.jobs (kind, payload, priority, run_at)
        select 'note', jsonb_build_object('p', 9 - n % 10), 9 - n % 10, now() - n * interval '1 s'
        from generate_series(1, 100) n",
    )
    .await;
    let _crew = Crew::start(
        &db,
        "[worker]\nconcurrency = 1\n[handlers.note]\ntype = \"sql\"\n\
         statement = \"insert into public.order_of (priority) select ($1 ->> 'p')::int\"\n",
    )
    .await;
    db.until("not exists (select from rowcrew.jobs)").await;
    let order: Vec<i32> = db.all("select priority from order_of order by at").await;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(order, sorted);
    assert_eq!(order.len(), 100);
}

#[tokio::test]
async fn a_paused_queue_is_left_alone_and_goes_on_at_once_when_resumed() {
    let db = Db::new().await;
    let _crew = Crew::start(
        &db,
        "[worker]\nqueues = [\"default\", \"mail\"]\npoll_ms = 60000\n[handlers.noop]\ntype = \"noop\"",
    )
    .await;
    db.exec("select rowcrew.pause('mail')").await;
    let paused: i64 =
        db.one("insert into rowcrew.jobs (kind, queue) values ('noop', 'mail') returning id").await;
    for _ in 0..5 {
        let other = db.insert("noop", "{}").await;
        db.until_state(other, "completed").await;
    }
    assert_eq!(db.state(paused).await, "available");
    let why: String = db.one(&format!("select rowcrew.why({paused})")).await;
    assert!(why.contains("paused"), "{why}");
    let began = Instant::now();
    assert!(db.one::<bool>("select rowcrew.resume('mail')").await);
    db.until_state(paused, "completed").await;
    assert!(began.elapsed() < Duration::from_secs(10), "its poll alone would take a minute");
}

#[tokio::test]
async fn queues_and_kinds_that_a_worker_does_not_serve_are_left_to_others() {
    let db = Db::new().await;
    let _crew = Crew::start(&db, "[worker]\nqueues = [\"mine\"]\n[handlers.noop]\ntype = \"noop\"").await;
    db.exec("insert into rowcrew.jobs (kind, queue, priority) values ('noop', 'theirs', 0), ('strange', 'mine', 0)").await;
    for _ in 0..5 {
        let id: i64 =
            db.one("insert into rowcrew.jobs (kind, queue) values ('noop', 'mine') returning id").await;
        db.until_state(id, "completed").await;
    }
    let left: Vec<i32> = db.all("select attempts from rowcrew.jobs where state = 'available'").await;
    assert_eq!(left, [0, 0]);
}

#[tokio::test]
async fn a_scheduled_job_does_not_run_before_its_time_by_the_databases_clock() {
    let db = Db::new().await;
    let _crew = Crew::start(&db, "[handlers.noop]\ntype = \"noop\"").await;
    db.exec(
        "insert into rowcrew.jobs (kind, run_at)
        select 'noop', clock_timestamp() + n * interval '73 ms' from generate_series(1, 25) n",
    )
    .await;
    let later: i64 = db
        .one(
            "insert into rowcrew.jobs (kind, run_at) values ('noop', now() + interval '1 hour') returning id",
        )
        .await;
    db.until("(select count(*) = 25 from rowcrew.finished_jobs)").await;
    let early: i64 = db.one("select count(*) from rowcrew.finished_jobs where claimed_at < run_at").await;
    assert_eq!(early, 0);
    assert_eq!(db.state(later).await, "scheduled");
}

#[tokio::test]
async fn a_job_inserted_while_the_worker_idles_starts_without_waiting_for_the_poll() {
    let db = Db::new().await;
    let _crew = Crew::start(&db, "[handlers.noop]\ntype = \"noop\"").await;
    let idle = "(select last_value = 0 from rowcrew.wake_gate)";
    for _ in 0..20 {
        db.until(idle).await;
        let id = db.insert("noop", "{}").await;
        db.until_state(id, "completed").await;
    }
    let half: f64 = db
        .one(
            "select percentile_cont(0.5) within group (order by extract(epoch from claimed_at - created_at) * 1000)
            from rowcrew.finished_jobs",
        )
        .await;
    assert!(half < 200.0, "half of them waited {half} ms or more; the poll is 1000 ms");
}

#[tokio::test]
async fn an_idle_worker_sends_few_statements() {
    let db = Db::new().await;
    let _crew = Crew::start(&db, "[handlers.noop]\ntype = \"noop\"").await;
    let id = db.insert("noop", "{}").await;
    db.until_state(id, "completed").await;
    // Asked from another database, so that only the worker counts.
    let outside = db.outside().await;
    let sent = async || -> i64 {
        let sql = "select xact_commit + xact_rollback from pg_stat_database where datname = $1";
        outside.query_one(sql, &[&db.name]).await.expect("a row").get(0)
    };
    // Sessions report what they did a second late, and autovacuum counts too: the quietest stretch tells.
    let mut quietest = f64::MAX;
    let mut before = sent().await;
    for _ in 0..4 {
        outside.batch_execute("select pg_sleep(5)").await.expect("a pause");
        let after = sent().await;
        quietest = quietest.min((after - before) as f64 / 5.0);
        before = after;
        if quietest < 2.5 {
            break;
        }
    }
    assert!((0.5..2.5).contains(&quietest), "{quietest} transactions a second");
}

#[tokio::test]
async fn a_kind_with_a_limit_does_not_starve_beside_an_endless_backlog_of_others() {
    let db = Db::new().await;
    let backlog = "(select count(*) from rowcrew.jobs where kind = 'noop')";
    let refill =
        format!("insert into rowcrew.jobs (kind) select 'noop' from generate_series(1, 10000 - {backlog})");
    db.exec(&refill).await;
    let feeder = db.connect().await;
    let feeding = tokio::spawn(async move {
        loop {
            feeder.batch_execute(&refill).await.expect("more jobs");
        }
    });
    let _worker = Crew::start(
        &db,
        "[worker]\nconcurrency = 10\n[handlers.noop]\ntype = \"noop\"\n\
         [handlers.limited]\ntype = \"sleep\"\nconcurrency = 1",
    )
    .await;
    db.until("(select count(*) > 2000 from rowcrew.finished_jobs)").await;
    db.insert_many("limited", "'{\"ms\": 1}'", 20).await;
    db.until("(select count(*) = 20 from rowcrew.finished_jobs where kind = 'limited')").await;
    assert!(db.one::<i64>(&format!("select {backlog}")).await > 0, "the backlog had an end");
    feeding.abort();
}
