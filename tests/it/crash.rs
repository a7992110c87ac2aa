//! A worker that dies or freezes loses no job, harms no neighbour, and writes nothing late.

use rowcrew::store::sql::Statements;
use rustix::process::Signal;

use crate::support::{Crew, DOES, Db, FOR_EVER, HOLDS, Scratch, until_gone};

#[tokio::test]
async fn the_jobs_of_a_killed_worker_run_again_in_another_and_say_why() {
    let db = Db::new().await;
    let mut dies = Crew::start(&db, HOLDS).await;
    for _ in 0..3 {
        db.insert("job", FOR_EVER).await;
    }
    db.until("(select count(*) = 3 from rowcrew.running)").await;
    let dead: i64 = db.one("select id from rowcrew.workers").await;
    let _lives = Crew::start(&db, DOES).await;
    dies.kill();
    db.until("not exists (select from rowcrew.jobs)").await;
    let jobs = db
        .rows(
            "select state, attempts, crashes, jsonb_array_length(errors), errors -> 0 ->> 'class',
                (errors -> 0 ->> 'attempt')::int, (errors -> 0 ->> 'worker')::bigint from rowcrew.finished_jobs",
        )
        .await;
    assert_eq!(jobs.len(), 3);
    for job in jobs {
        assert_eq!(job.get::<_, &str>(0), "completed");
        let (attempts, crashes, entries): (i32, i32, i32) = (job.get(1), job.get(2), job.get(3));
        assert_eq!((attempts, crashes, entries), (2, 1, 1));
        assert_eq!((job.get::<_, &str>(4), job.get::<_, i32>(5)), ("lost_worker", 1));
        assert_eq!(job.get::<_, i64>(6), dead);
    }
    let events =
        db.rows("select target, detail ->> 'given_back' from rowcrew.events where action = 'rescue'").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].get::<_, String>(0), format!("worker {dead}"));
    assert_eq!(events[0].get::<_, &str>(1), "3");
    db.until("not exists (select from rowcrew.claims)").await;
}

#[tokio::test]
async fn a_live_worker_with_a_long_job_is_never_rescued() {
    let db = Db::new().await;
    let _long = Crew::start(&db, HOLDS).await;
    let id = db.insert("job", FOR_EVER).await;
    db.until_state(id, "running").await;
    let _watches = Crew::start(&db, DOES).await;
    let (holder, beat): (i64, i64) = {
        let row = db.client.query_one("select id, beat from rowcrew.workers order by id limit 1", &[]).await;
        let row = row.expect("a row");
        (row.get(0), row.get(1))
    };
    // Two more beats are many looks of the other one.
    db.until(&format!("(select beat >= {beat} + 2 from rowcrew.workers where id = {holder})")).await;
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.events").await, 0);
    let held: (i32, i64) = {
        let row =
            db.client.query_one("select attempts, claimed_by from rowcrew.jobs", &[]).await.expect("a row");
        (row.get(0), row.get(1))
    };
    assert_eq!(held, (1, holder));
}

#[tokio::test]
async fn a_frozen_worker_loses_its_jobs_stops_them_when_it_thaws_and_begins_anew() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    ledger(&db).await;
    let holds = format!(
        r#"
        [worker]
        name = "frozen"
        [handlers.job]
        type = "sleep"
        [handlers.child]
        type = "command"
        command = ["sh", "-c", "echo $$ > {}; exec sleep 120"]
        [handlers.own]
        type = "noop"
        "#,
        scratch.path("child")
    );
    let frozen = Crew::start(&db, &holds).await;
    // One that ends while its worker is frozen, and one that goes on.
    db.insert("job", r#"{"ms": 2000}"#).await;
    db.insert("child", "{}").await;
    let child = scratch.pids("child", 1).await[0];
    db.until("(select count(*) = 2 from rowcrew.running)").await;
    frozen.signal(Signal::STOP);
    let first: i64 = db.one("select id from rowcrew.workers").await;
    let _other = Crew::start(
        &db,
        "[worker]\nname = \"other\"\n[handlers.job]\ntype = \"echo\"\n[handlers.child]\ntype = \"echo\"",
    )
    .await;
    db.until("not exists (select from rowcrew.jobs)").await;
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.events where action = 'rescue'").await, 1);

    frozen.signal(Signal::CONT);
    until_gone(child).await;
    frozen.until_log("results dropped").await;
    let id = db.insert("own", "{}").await;
    db.until_state(id, "completed").await;
    let again: i64 = db.one("select id from rowcrew.workers where name = 'frozen'").await;
    assert!(again > first);
    let by: i64 = db.one(&format!("select claimed_by from rowcrew.finished_jobs where id = {id}")).await;
    assert_eq!(by, again);
    // Both jobs ended once, in the other worker.
    assert_eq!(db.one::<i64>("select count(*) from ledger where what <> 'deleted'").await, 3);
    let late: i64 =
        db.one(&format!("select count(*) from rowcrew.finished_jobs where claimed_by = {first}")).await;
    assert_eq!(late, 0);
}

/// Writes down every way in which a job leaves the table of unfinished ones, in the same transaction.
async fn ledger(db: &Db) {
    db.exec(
        "create table ledger (id bigint, what text);
         create function note() returns trigger language plpgsql as $$
            begin
                insert into public.ledger values (coalesce(new.id, old.id), tg_argv[0]);
                return null;
            end $$;
         create trigger finished after insert on rowcrew.finished_jobs for each row execute function note('finished');
         create trigger dead after insert on rowcrew.dead_jobs for each row execute function note('dead');
         create trigger gone after delete on rowcrew.jobs for each row execute function note('deleted');",
    )
    .await;
}

#[tokio::test]
async fn with_a_killed_worker_among_three_every_job_ends_once_and_sql_effects_happen_once() {
    let db = Db::new().await;
    ledger(&db).await;
    db.exec("create table effects (n int)").await;
    let config = r#"
        [worker]
        concurrency = 10
        [handlers.noop]
        type = "noop"
        [handlers.fail]
        type = "fail"
        backoff = { type = "fixed", delay_ms = 1 }
        [handlers.effect]
        type = "sql"
        statement = "insert into public.effects select ($1 ->> 'n')::int"
    "#;
    let mut crew = Vec::new();
    for _ in 0..3 {
        crew.push(Crew::start(&db, config).await);
    }
    db.exec(
        r#"insert into rowcrew.jobs (kind, payload) select
            case n % 3 when 0 then 'noop' when 1 then 'fail' else 'effect' end,
            case when n % 30 = 1 then '{"class": "permanent"}'
                 when n % 3 = 1 then '{"class": "transient", "times": 1}'
                 else jsonb_build_object('n', n) end
        from generate_series(1, 3000) n"#,
    )
    .await;
    db.until("(select count(*) > 600 from ledger)").await;
    crew[0].kill();
    assert!(
        db.one::<bool>("select exists (select from rowcrew.jobs)").await,
        "killed too late to show anything"
    );
    db.until("not exists (select from rowcrew.jobs)").await;
    let ends = "select count(*) from (select id from ledger where what <> 'deleted' group by id having count(*) = 1) once";
    assert_eq!(db.one::<i64>(ends).await, 3000);
    assert_eq!(db.one::<i64>("select count(*) from ledger").await, 6000, "one end and one delete each");
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.dead_jobs where reason = 'permanent'").await, 100);
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.finished_jobs").await, 2900);
    assert_eq!(db.one::<i64>("select count(*) from effects").await, 1000);
    assert_eq!(db.one::<i64>("select count(distinct n) from effects").await, 1000);
    db.until("not exists (select from rowcrew.claims)").await;
}

#[tokio::test]
async fn a_claim_that_arrives_after_its_worker_was_taken_for_dead_loses_no_job() {
    let db = Db::new().await;
    let mut dies = Crew::start(&db, HOLDS).await;
    let dead: i64 = db.one("select id from rowcrew.workers").await;
    // Holds up the claim, as a slow disk would.
    db.exec(&format!(
        "create function hold_up() returns trigger language plpgsql as $$
            begin
                if new.worker_id = {dead} then
                    perform set_config('lock_timeout', '0', true);
                    perform pg_advisory_xact_lock_shared(4711);
                end if;
                return new;
            end $$;
         create trigger hold_up before insert on rowcrew.claims for each row execute function hold_up();
         select pg_advisory_lock(4711);"
    ))
    .await;
    let id = db.insert("job", FOR_EVER).await;
    db.until("exists (select from pg_locks where locktype = 'advisory' and objid = 4711 and not granted)")
        .await;
    let _lives = Crew::start(&db, DOES).await;
    dies.kill();
    db.until("exists (select from rowcrew.events where action = 'rescue')").await;
    assert_eq!(db.state(id).await, "available");
    db.exec("select pg_advisory_unlock(4711)").await;
    db.until_state(id, "completed").await;
    db.until("not exists (select from rowcrew.claims)").await;
}

#[tokio::test]
async fn all_claims_of_all_workers_that_left_are_given_back_and_no_others() {
    let db = Db::new().await;
    db.exec(
        "insert into rowcrew.workers (id, name, pid, version, queues, kinds, concurrency, lock_key)
         values (5, 'alive', 1, '0', '{default}', '{noop}', 1, 5);
         insert into rowcrew.jobs (id, kind, state, attempts, claimed_by, claim_id)
         select n, 'noop', 'running', 1, 3 + n / 2, n from generate_series(1, 9) n;
         -- Job 9 was claimed anew since: by claim 99 of the one that lives.
         update rowcrew.jobs set claim_id = 99, claimed_by = 5 where id = 9;
         insert into rowcrew.claims (worker_id, batch, claim_id, job_ids)
         select 3 + n / 2, n, n, array[n] from generate_series(1, 9) n;
         insert into rowcrew.claims (worker_id, batch, claim_id, job_ids) values (5, 99, 99, '{9}')",
    )
    .await;
    let statement = Statements::new("rowcrew").claims_reclaim.text;
    assert_eq!(db.one::<i64>(&statement).await, 6);
    assert_eq!(
        db.all::<i64>("select id from rowcrew.jobs where state = 'running' order by id").await,
        [4, 5, 9],
        "those of worker 5"
    );
    assert_eq!(
        db.all::<i64>("select id from rowcrew.jobs where attempts = 0 and claim_id is null order by id")
            .await,
        [1, 2, 3, 6, 7, 8]
    );
    assert_eq!(db.all::<i64>("select batch from rowcrew.claims order by batch").await, [4, 5, 99]);
    assert_eq!(db.one::<i64>(&statement).await, 0);
}
