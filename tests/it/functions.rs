//! The functions and views of the schema: what each does in each situation, and what it writes down.

use rowcrew::store::sql::{Statement, Statements};
use rustix::process::Signal;
use std::time::Duration;
use tokio_postgres::types::ToSql;

use crate::support::{Crew, Db};

/// A job in each state, by id: 1 available, 2 scheduled, 3 retrying, 4 running, 5 waiting, 6 completed,
/// 7 cancelled, 8 dead. The worker 70 runs number 4.
async fn one_of_each() -> Db {
    let db = Db::new().await;
    db.exec(
        "insert into rowcrew.jobs (id, kind, queue, run_at, retry_at, state, attempts, last_error, claimed_by, claim_id, claimed_at) values
         (1, 'k', 'q', now(), null, 'available', 0, null, null, null, null),
         (2, 'k', 'q', now() + interval '1 h', null, 'available', 0, null, null, null, null),
         (3, 'k', 'q', now(), now() + interval '1 h', 'available', 2, 'boom', null, null, null),
         (4, 'k', 'q', now(), null, 'running', 1, null, 70, 9, now()),
         (5, 'k', 'q', now(), null, 'waiting', 0, null, null, null, null);
         insert into rowcrew.finished_jobs (id, kind, payload, queue, priority, run_at, state, attempts, crashes, created_at, result) values
         (6, 'k', '{}', 'q', 5, now(), 'completed', 1, 0, now(), '{\"n\": 1}'), (7, 'k', '{}', 'q', 5, now(), 'cancelled', 0, 0, now(), null);
         insert into rowcrew.dead_jobs (id, kind, payload, queue, priority, run_at, attempts, crashes, created_at, reason, last_error) values
         (8, 'k', '{}', 'q', 5, now(), 5, 0, now(), 'exhausted', 'boom');
         insert into rowcrew.workers (id, name, pid, version, queues, kinds, concurrency, lock_key) values
         (70, 'host', 1, '0', array['q'], array['k'], 1, 0)",
    )
    .await;
    db
}

/// All events: action, target.
async fn events(db: &Db) -> Vec<String> {
    db.all("select action || ' ' || target from rowcrew.events order by id").await
}

async fn run(db: &Db, statement: &Statement, params: &[&(dyn ToSql + Sync)]) -> Vec<tokio_postgres::Row> {
    db.client
        .query(&statement.text, params)
        .await
        .unwrap_or_else(|error| panic!("{}: {error:?}", statement.name))
}

#[tokio::test]
async fn job_status_has_a_word_for_every_state() {
    let db = one_of_each().await;
    let words: Vec<String> = db.all("select state from rowcrew.job_status order by id").await;
    assert_eq!(
        words,
        ["available", "scheduled", "retrying", "running", "waiting", "completed", "cancelled", "dead"]
    );
    let result: String = db.one("select result::text from rowcrew.job_status where id = 6").await;
    assert_eq!(result, r#"{"n": 1}"#);
    assert_eq!(db.all::<i64>("select id from rowcrew.retrying").await, [3]);
}

#[tokio::test]
async fn a_cancel_ends_what_waits_asks_what_runs_and_leaves_what_is_over() {
    let db = one_of_each().await;
    let answers: Vec<String> =
        db.all("select rowcrew.cancel(n) from generate_series(1, 9) n order by n").await;
    let cancelled = "cancelled";
    let wanted =
        [cancelled, cancelled, cancelled, "cancelling", cancelled, "finished", "finished", "dead", "unknown"];
    assert_eq!(answers, wanted);
    assert_eq!(
        db.all::<i64>("select id from rowcrew.finished_jobs where state = 'cancelled' order by id").await,
        [1, 2, 3, 5, 7]
    );
    assert_eq!(
        db.all::<i64>("select id from rowcrew.jobs where cancel_requested_at is not null").await,
        [4],
        "the running one is still there, with the wish on it"
    );
    assert_eq!(db.one::<String>("select last_error from rowcrew.finished_jobs where id = 3").await, "boom");
    assert_eq!(
        events(&db).await,
        ["cancel job 1", "cancel job 2", "cancel job 3", "cancel job 4", "cancel job 5"]
    );
    assert_eq!(db.one::<i64>("select cancelled from rowcrew.job_stats where queue = 'q'").await, 4);
    assert_eq!(db.one::<String>("select rowcrew.cancel(1)").await, "finished", "again");
    assert_eq!(events(&db).await.len(), 5, "which is no event");
}

#[tokio::test]
async fn a_running_job_that_is_cancelled_is_stopped_by_its_worker() {
    let db = Db::new().await;
    let _worker = Crew::start(&db, "[handlers.nap]\ntype = \"sleep\"").await;
    let id = db.insert("nap", r#"{"ms": 600000}"#).await;
    db.until(&format!("exists (select from rowcrew.running where id = {id})")).await;
    assert_eq!(db.one::<String>(&format!("select rowcrew.cancel({id})")).await, "cancelling");
    db.until(&format!("exists (select from rowcrew.finished_jobs where id = {id} and state = 'cancelled')"))
        .await;
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.jobs").await, 0);
}

#[tokio::test]
async fn bury_moves_any_unfinished_job_and_answers_whether_there_was_one() {
    let db = one_of_each().await;
    assert!(db.one::<bool>("select rowcrew.bury(1)").await);
    assert!(db.one::<bool>("select rowcrew.bury(3, 'wrong address')").await);
    assert!(db.one::<bool>("select rowcrew.bury(4)").await);
    assert!(!db.one::<bool>("select rowcrew.bury(6)").await, "a finished one");
    assert!(!db.one::<bool>("select rowcrew.bury(8)").await, "a dead one");
    assert_eq!(
        db.all::<String>("select id || ' ' || reason || ' ' || attempts from rowcrew.dead_jobs order by id")
            .await,
        ["1 buried 0", "3 wrong address 2", "4 buried 1", "8 exhausted 5"]
    );
    assert_eq!(events(&db).await, ["bury job 1", "bury job 3", "bury job 4"]);
    assert_eq!(db.one::<i64>("select dead from rowcrew.job_stats where queue = 'q'").await, 3);
}

#[tokio::test]
async fn revive_gives_all_tries_back_and_keeps_the_history() {
    let db = Db::new().await;
    db.exec(
        r#"insert into rowcrew.dead_jobs
           (id, kind, payload, queue, priority, run_at, max_attempts, expires_at, tags, attempts, crashes, retry_at, claimed_by, claim_id,
            last_error, errors, created_at, reason) values
           (1, 'k', '{"n": 1}', 'q', 3, '2020-01-01', 7, '2020-01-02', '{x}', 5, 2, '2020-01-01', 70, 9, 'boom', '[{"attempt": 1}]', '2019-12-31', 'exhausted'),
           (2, 'k', '{}', 'q', 5, now(), null, now() + interval '1 h', null, 5, 0, null, null, null, null, null, now(), 'exhausted')"#,
    )
    .await;
    assert!(db.one::<bool>("select rowcrew.revive(1)").await);
    assert!(db.one::<bool>("select rowcrew.revive(2)").await);
    assert!(!db.one::<bool>("select rowcrew.revive(1)").await, "a second time");
    let fresh: bool = db
        .one(
            "select state = 'available' and attempts = 0 and crashes = 0 and retry_at is null and claimed_by is null
                and claim_id is null and due_at <= now() and run_at > now() - interval '1 minute' and expires_at is null
             from rowcrew.jobs where id = 1",
        )
        .await;
    assert!(fresh, "as new");
    let kept: bool = db
        .one(
            r#"select payload = '{"n": 1}' and priority = 3 and max_attempts = 7 and tags = '{x}' and last_error = 'boom'
                and errors = '[{"attempt": 1}]' and created_at = '2019-12-31' from rowcrew.jobs where id = 1"#,
        )
        .await;
    assert!(kept, "what the user set and what happened stay");
    assert!(db.one::<bool>("select expires_at > now() from rowcrew.jobs where id = 2").await);
    assert_eq!(events(&db).await, ["revive job 1", "revive job 2"]);
}

#[tokio::test]
async fn revive_by_filter_takes_the_oldest_deaths_that_match_and_no_others() {
    let db = Db::new().await;
    db.exec(
        "insert into rowcrew.dead_jobs (id, kind, payload, queue, priority, run_at, attempts, crashes, created_at, reason, died_at)
         select n, case when n <= 4 then 'a' else 'b' end, '{}', case when n % 2 = 0 then 'even' else 'odd' end, 5, now(), 5, 0, now(),
            case when n = 6 then 'permanent' else 'exhausted' end, now() - n * interval '1 minute'
         from generate_series(1, 6) n",
    )
    .await;
    let alive = || db.all::<i64>("select id from rowcrew.jobs order by id");
    assert_eq!(db.refusal("select rowcrew.revive()").await.0, "22023", "no filter is a slip");
    assert_eq!(db.one::<i64>("select rowcrew.revive(kind => 'a', at_most => 2)").await, 2);
    assert_eq!(alive().await, [3, 4]);
    assert_eq!(db.one::<i64>("select rowcrew.revive(kind => 'a', queue => 'even')").await, 1);
    assert_eq!(alive().await, [2, 3, 4]);
    assert_eq!(db.one::<i64>("select rowcrew.revive(reason => 'permanent')").await, 1);
    assert_eq!(alive().await, [2, 3, 4, 6]);
    assert_eq!(db.all::<i64>("select id from rowcrew.dead_jobs order by id").await, [1, 5]);
    assert_eq!(events(&db).await, ["revive 2 jobs", "revive 1 jobs", "revive 1 jobs"]);
}

#[tokio::test]
async fn a_dead_job_whose_unique_key_is_taken_stays_dead_and_holds_up_no_other() {
    let db = Db::new().await;
    db.exec(
        "insert into rowcrew.dead_jobs (id, kind, payload, queue, priority, run_at, unique_key, attempts, crashes, created_at, reason)
         select n, 'k', '{}', 'q', 5, now(), (array['taken', 'twice', 'twice', null])[n], 5, 0, now(), 'exhausted'
         from generate_series(1, 4) n;
         insert into rowcrew.jobs (id, kind, unique_key) values (10, 'k', 'taken')",
    )
    .await;
    assert!(!db.one::<bool>("select rowcrew.revive(1)").await);
    assert_eq!(db.one::<i64>("select rowcrew.revive(kind => 'k')").await, 2);
    let alive: Vec<i64> = db.all("select id from rowcrew.jobs order by id").await;
    let dead: Vec<i64> = db.all("select id from rowcrew.dead_jobs order by id").await;
    assert_eq!((alive.len(), dead.len()), (3, 2), "{alive:?} {dead:?}");
    assert!(dead.contains(&1) && alive.contains(&4) && alive.contains(&10), "{alive:?} {dead:?}");
}

#[tokio::test]
async fn pause_holds_a_queue_until_resumed_or_until_its_time() {
    let db = Db::new().await;
    db.exec("select rowcrew.pause('default')").await;
    let _worker =
        Crew::start(&db, "[worker]\nqueues = [\"default\", \"mail\"]\n[handlers.noop]\ntype = \"noop\"")
            .await;
    let held = db.insert("noop", "{}").await;
    let free: i64 = db.one("select rowcrew.enqueue('noop', queue => 'mail')").await;
    db.until(&format!("exists (select from rowcrew.finished_jobs where id = {free})")).await;
    assert_eq!(db.state(held).await, "available");
    let why: String = db.one(&format!("select rowcrew.why({held})")).await;
    assert!(why.contains("its queue default is paused until somebody resumes it"), "{why}");
    assert_eq!(db.one::<String>("select reason from rowcrew.blocked").await, "its queue is paused");
    assert!(db.one::<bool>("select rowcrew.resume('default')").await);
    db.until(&format!("exists (select from rowcrew.finished_jobs where id = {held})")).await;
    assert!(!db.one::<bool>("select rowcrew.resume('default')").await, "there is no pause any more");
    assert!(!db.one::<bool>("select rowcrew.resume('nothing')").await);
    db.exec("select rowcrew.pause('default', until => now() - interval '1 s')").await;
    let late = db.insert("noop", "{}").await;
    db.until(&format!("exists (select from rowcrew.finished_jobs where id = {late})")).await;
    assert_eq!(events(&db).await, ["pause queue default", "resume queue default", "pause queue default"]);
}

#[tokio::test]
async fn purge_deletes_what_does_not_run_in_one_queue_and_counts_it() {
    let db = one_of_each().await;
    db.exec("insert into rowcrew.jobs (id, kind, queue) values (20, 'other', 'q'), (21, 'k', 'elsewhere')")
        .await;
    assert_eq!(db.one::<i64>("select rowcrew.purge('q', at_most => 2)").await, 2);
    assert_eq!(db.all::<i64>("select id from rowcrew.jobs order by id").await, [3, 4, 5, 20, 21]);
    assert_eq!(db.one::<i64>("select rowcrew.purge('q')").await, 3);
    assert_eq!(db.all::<i64>("select id from rowcrew.jobs order by id").await, [4, 21]);
    assert_eq!(db.one::<i64>("select rowcrew.purge('q')").await, 0);
    assert_eq!(
        db.all::<String>(
            "select kind || ' ' || sum(cancelled) from rowcrew.job_stats group by kind order by 1"
        )
        .await,
        ["k 4", "other 1"]
    );
    assert_eq!(events(&db).await, ["purge queue q", "purge queue q", "purge queue q"]);
    assert_eq!(
        db.all::<String>("select detail ->> 'jobs' from rowcrew.events order by id").await,
        ["2", "3", "0"]
    );
}

#[tokio::test]
async fn why_has_a_sentence_for_every_situation() {
    let db = one_of_each().await;
    db.exec(
        "insert into rowcrew.jobs (id, kind, queue, run_at) values
         (20, 'k', 'q', now() + interval '1 ms'), (21, 'strange', 'q', now()), (22, 'k', 'strange', now()), (23, 'k', 'q', 'infinity');
         insert into rowcrew.jobs (id, kind, queue, state, attempts, claimed_by, claim_id, claimed_at) values
         (24, 'k', 'q', 'running', 1, 71, 9, now());
         insert into rowcrew.jobs (id, kind, queue, retry_at, last_error) values
         (25, 'k', 'q', now() + interval '1 hour', 'no child is up'), (26, 'k', 'q', now() + interval '1 hour', null)",
    )
    .await;
    for (id, words) in [
        (1, "and waits its turn: 0 jobs of queue q come before it."),
        (20, "and waits its turn: 2 jobs of queue q come before it."),
        (2, "is scheduled for "),
        (3, "failed and is tried again at "),
        (3, ": boom"),
        (4, "runs since "),
        (4, "in worker host, id 70 (attempt 1)"),
        (5, "waits for other jobs."),
        (6, "Job 6 is completed since "),
        (7, "Job 7 is cancelled since "),
        (8, "Job 8 is dead since "),
        (8, ": boom."),
        (21, "no live worker serves kind strange."),
        (22, "no live worker that serves kind k serves queue strange."),
        (23, "is parked"),
        (24, "worker 71, which is lost"),
        (25, "was put off until "),
        (25, ": no child is up"),
        (26, "was put off until "),
    ] {
        let why: String = db.one(&format!("select rowcrew.why({id})")).await;
        assert!(why.contains(words), "{id}: {words}\n{why}");
    }
    db.exec("select rowcrew.pause('q', now() + interval '1 hour')").await;
    let why: String = db.one("select rowcrew.why(1)").await;
    assert!(why.contains("its queue q is paused until 2"), "{why}");
    db.exec("select rowcrew.resume('q'); delete from rowcrew.workers").await;
    let why: String = db.one("select rowcrew.why(1)").await;
    assert!(why.ends_with("no worker is alive. Start one: rowcrew work."), "{why}");
    db.exec("select rowcrew.cancel(4)").await;
    let why: String = db.one("select rowcrew.why(4)").await;
    assert!(why.contains("its cancellation was asked for"), "{why}");
}

const COUNTED: &str = "[handlers.noop]\ntype = \"noop\"\n[handlers.fail]\ntype = \"fail\"\nmax_attempts = 2\n\
    backoff = { type = \"fixed\", delay_ms = 1 }";

#[tokio::test]
async fn the_figures_of_queues_kinds_and_minutes_are_those_of_the_work_done() {
    let db = Db::new().await;
    let mut worker = Crew::start(&db, COUNTED).await;
    db.exec(
        r#"insert into rowcrew.jobs (kind) select 'noop' from generate_series(1, 20);
           insert into rowcrew.jobs (kind, payload) values ('fail', '{"class": "permanent"}'),
           ('fail', '{"class": "transient"}'), ('fail', '{"class": "transient", "times": 1}')"#,
    )
    .await;
    db.until("not exists (select from rowcrew.jobs)").await;
    worker.signal(Signal::TERM);
    assert!(worker.ended(Duration::from_secs(30)).await.0.success());
    // completed 20 noop and the one that fails once; failed tries 1 + 2 + 1, of which 2 were retried; dead 2.
    let figures = "completed_1h || ' ' || failed_1h || ' ' || retried_1h || ' ' || dead_1h";
    let queue: String =
        db.one(&format!("select {figures} from rowcrew.queue_stats where queue = 'default'")).await;
    assert_eq!(queue, "21 4 2 2");
    let kinds: Vec<String> =
        db.all(&format!("select kind || ' ' || {figures} from rowcrew.kind_stats order by kind")).await;
    assert_eq!(kinds, ["fail 1 4 2 2", "noop 20 0 0 0"]);
    let minutes: String = db
        .one(
            "select sum(enqueued) || ' ' || sum(completed) || ' ' || sum(failed) || ' ' || sum(retried) || ' ' || sum(dead)
             from rowcrew.throughput where queue = 'default'",
        )
        .await;
    assert_eq!(minutes, "23 21 4 2 2");
    for view in ["queue_stats", "kind_stats", "throughput"] {
        let ordered: bool = db
            .one(&format!(
                "select bool_and(wait_p50_ms <= wait_p95_ms and wait_p95_ms <= wait_p99_ms
                    and run_p50_ms <= run_p95_ms and run_p95_ms <= run_p99_ms) from rowcrew.{view}"
            ))
            .await;
        assert!(ordered, "{view}");
    }
    let tries: i64 = db
        .one("select times from rowcrew.latencies(now() - interval '1 hour') where queue = 'default' and kind is null and measure = 'run'")
        .await;
    assert_eq!(tries, 25, "every try has its time: 21 + 4");
}

#[tokio::test]
async fn queue_stats_counts_unfinished_jobs_by_state() {
    let db = one_of_each().await;
    let counts: String = db
        .one(
            "select available || ' ' || scheduled || ' ' || retrying || ' ' || running || ' ' || waiting || ' ' || depth || ' ' || capped
             from rowcrew.queue_stats where queue = 'q'",
        )
        .await;
    assert_eq!(counts, "1 1 1 1 1 5 false");
}

#[tokio::test]
async fn jobs_that_only_pile_up_are_counted_as_enqueued() {
    let db = Db::new().await;
    let statements = Statements::new("rowcrew");
    db.exec("insert into rowcrew.jobs (kind, queue) select 'k', 'q' from generate_series(1, 3)").await;
    let sample = || run(&db, &statements.depth_sample, &[]);
    assert_eq!(sample().await[0].get::<_, i64>(0), 1);
    assert_eq!(sample().await[0].get::<_, i64>(0), 0, "once a minute");
    db.exec(
        "update rowcrew.queue_depths set sampled_at = sampled_at - interval '1 minute';
         insert into rowcrew.jobs (kind, queue) select 'k', 'q' from generate_series(1, 4)",
    )
    .await;
    sample().await;
    let enqueued: Vec<String> =
        db.all("select queue || ' ' || enqueued || ' ' || completed from rowcrew.throughput").await;
    assert_eq!(enqueued, ["q 4 0"]);
    db.exec("delete from rowcrew.jobs; update rowcrew.queue_depths set sampled_at = sampled_at - interval '1 minute'")
        .await;
    sample().await;
    let last: i64 = db.one("select depth from rowcrew.queue_depths order by sampled_at desc limit 1").await;
    assert_eq!(last, 0, "a queue that has run empty is counted once more");
}

/// Statistics of two workers in two old minutes, and of one in the present.
const STATS: &str = "insert into rowcrew.job_stats
    (bucket_at, queue, kind, worker_id, completed, failed, retried, dead, cancelled, wait_ms, run_ms, wait_buckets, wait_counts, run_buckets, run_counts)
    select date_trunc('minute', now() - interval '3 hours') + n * interval '10 s', 'q', 'k', 1 + n % 2, n, 1, 1, 2, 3, 0.5, 10, '{1,2}'::smallint[], array[n, 1]::bigint[], '{40}'::smallint[], '{1}'::bigint[]
    from generate_series(1, 11) n
    union all
    select date_trunc('minute', now() - interval '10 minutes'), 'q', 'k', 1, 100, 0, 0, 0, 0, 1, 1, '{5}', '{100}', '{5}', '{100}'";

const SUMS: &str = "select concat_ws(' ', sum(completed), sum(failed), sum(retried), sum(dead), sum(cancelled), sum(wait_ms), sum(run_ms)) from rowcrew.job_stats";
const SPREAD: &str = "select string_agg(concat_ws(' ', l.queue, l.kind, l.measure, l.times, l.p50_ms, l.p95_ms, l.p99_ms), E'\n' order by l.*)
    from rowcrew.latencies('-infinity') l";

#[tokio::test]
async fn folding_statistics_keeps_their_sums_and_percentiles() {
    let db = Db::new().await;
    let statements = Statements::new("rowcrew");
    db.exec(STATS).await;
    let before: (String, String) = (db.one(SUMS).await, db.one(SPREAD).await);
    let folded = run(&db, &statements.stats_fold, &[]).await[0].get::<_, i64>(0);
    assert_eq!(folded, 2, "two minutes");
    let after: (String, String) = (db.one(SUMS).await, db.one(SPREAD).await);
    assert_eq!(after, before);
    let rows: Vec<String> =
        db.all("select worker_id || ' ' || completed from rowcrew.job_stats order by bucket_at").await;
    assert_eq!(rows, ["0 15", "0 51", "1 100"], "old rows are one a minute, the present is untouched");
    assert_eq!(run(&db, &statements.stats_fold, &[]).await[0].get::<_, i64>(0), 0, "a second time");

    // A worker that was cut off writes an old bucket late.
    db.exec(&STATS.replace("1 + n % 2", "3").replace("'k', 1, 100", "'k', 3, 100")).await;
    let before: (String, String) = (db.one(SUMS).await, db.one(SPREAD).await);
    run(&db, &statements.stats_fold, &[]).await;
    let after: (String, String) = (db.one(SUMS).await, db.one(SPREAD).await);
    assert_eq!(after, before);
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.job_stats").await, 4);
}

#[tokio::test]
async fn pruning_statistics_drops_what_is_past_its_time_and_nothing_else() {
    let db = Db::new().await;
    let statements = Statements::new("rowcrew");
    db.exec(
        "insert into rowcrew.job_stats (bucket_at, queue, kind, worker_id)
         select at, name, 'k', 1 from (values (now() - interval '30 days 1 s', 'old'), (now() - interval '29 days 23 h', 'new')) t (at, name);
         insert into rowcrew.queue_depths (sampled_at, queue, depth)
         select at, name, 1 from (values (now() - interval '30 days 1 s', 'old'), (now() - interval '29 days 23 h', 'new')) t (at, name);
         insert into rowcrew.events (at, action, target)
         select at, 'set', name from (values (now() - interval '30 days 1 s', 'old'), (now() - interval '29 days 23 h', 'new')) t (at, name)",
    )
    .await;
    assert_eq!(run(&db, &statements.stats_prune, &[&30_i32]).await[0].get::<_, i64>(0), 3);
    for left in
        ["queue from rowcrew.job_stats", "queue from rowcrew.queue_depths", "target from rowcrew.events"]
    {
        assert_eq!(db.all::<String>(&format!("select {left}")).await, ["new"], "{left}");
    }
    assert_eq!(run(&db, &statements.stats_prune, &[&30_i32]).await[0].get::<_, i64>(0), 0);
}

#[tokio::test]
async fn pruning_dead_letters_drops_the_oldest_past_their_time_and_nothing_else() {
    let db = Db::new().await;
    let statements = Statements::new("rowcrew");
    db.exec(
        "insert into rowcrew.dead_jobs (id, kind, payload, queue, priority, run_at, attempts, crashes, created_at, reason, died_at)
         select n, 'k', '{}', 'q', 5, now(), 5, 0, now(), 'exhausted', now() - interval '90 days' + (n - 3) * interval '1 hour' - interval '1 s'
         from generate_series(1, 5) n",
    )
    .await;
    let prune = |at_most: i64| {
        let (db, statements) = (&db, &statements);
        async move {
            let rows = run(db, &statements.dead_prune, &[&90_i32, &at_most]).await;
            let mut ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
            ids.sort_unstable();
            ids
        }
    };
    assert_eq!(prune(2).await, [1, 2], "the oldest first");
    assert_eq!(prune(1000).await, [3], "one second past its time");
    assert_eq!(prune(1000).await, [0_i64; 0]);
    assert_eq!(db.all::<i64>("select id from rowcrew.dead_jobs order by id").await, [4, 5]);
}
