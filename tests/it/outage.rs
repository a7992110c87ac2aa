//! The database may go away and come back: workers stay, lose nothing, and take no live neighbour for lost.

use std::time::Duration;

use crate::support::{Crew, Db, OwnServer, Standby, connect};

const CONFIG: &str = r#"
    [worker]
    concurrency = 10
    [handlers.noop]
    type = "noop"
    [handlers.nap]
    type = "sleep"
    [handlers.effect]
    type = "sql"
    statement = "insert into public.effects select ($1 ->> 'n')::int"
"#;

/// What the statement writes to; a worker looks for it when it starts.
const EFFECTS: &str = "create table effects (n int)";

/// Jobs of three kinds under which the server goes away; one of them runs through it all.
async fn load(db: &Db) {
    db.insert("nap", r#"{"ms": 4000}"#).await;
    db.exec(
        "insert into rowcrew.jobs (kind, payload) select
            case n % 3 when 0 then 'noop' when 1 then 'nap' else 'effect' end, jsonb_build_object('n', n, 'ms', n % 20)
        from generate_series(1, 2400) n",
    )
    .await;
    db.until("(select count(*) > 300 from rowcrew.finished_jobs)").await;
}

const AWAY: &str = "WARN the database does not answer";
const BACK: &str = "INFO the database answers again";
const STOPS: &str = "WARN no beat reached the database for 6 s; this worker stops its jobs";

/// What a worker has told since it started, without the times.
fn told(worker: &Crew) -> Vec<String> {
    let log = worker.log();
    let lines = log.lines().map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" "));
    lines.skip_while(|line| !line.contains("worker started")).skip(1).collect()
}

/// The same without what a worker says whose machine is so slow that no beat goes through for six seconds.
fn told_of_the_database(worker: &Crew) -> Vec<String> {
    let slow = [STOPS, "INFO the database hears this worker again", "WARN results dropped"];
    let mut told = told(worker);
    told.retain(|line| !slow.iter().any(|words| line.contains(words)));
    told
}

/// Everything was done, by the same workers, and nobody was taken for lost.
async fn unharmed(db: &Db, crew: &mut [Crew], workers: &[i64]) {
    db.until("not exists (select from rowcrew.jobs)").await;
    let rescues: Vec<String> = db.all("select target from rowcrew.events where action = 'rescue'").await;
    assert!(rescues.is_empty(), "{rescues:?}");
    assert_eq!(
        db.one::<i64>("select count(*) from rowcrew.finished_jobs where state = 'completed'").await,
        2401
    );
    assert_eq!(db.one::<i64>("select count(distinct id) from rowcrew.finished_jobs").await, 2401);
    assert_eq!(db.one::<i64>("select count(*) from effects").await, 800);
    assert_eq!(db.one::<i64>("select count(distinct n) from effects").await, 800);
    assert_eq!(db.all::<i64>("select id from rowcrew.workers order by id").await, workers);
    for worker in crew {
        assert!(!worker.has_ended(), "{}", worker.log());
    }
    db.until("not exists (select from rowcrew.claims where job_ids <> '{}')").await;
}

#[tokio::test]
async fn a_crash_of_the_server_under_load_loses_nothing_and_no_worker() {
    let mut server = OwnServer::start().await;
    server.exec(EFFECTS).await;
    let mut crew = [Crew::start(&server, CONFIG).await, Crew::start(&server, CONFIG).await];
    let workers = server.all::<i64>("select id from rowcrew.workers order by id").await;
    load(&server).await;
    server.crash();
    server.recover().await;
    assert!(server.one::<bool>("select exists (select from rowcrew.jobs)").await, "crashed too late");
    unharmed(&server, &mut crew, &workers).await;
    for worker in &crew {
        worker.until_log(BACK).await;
        let told = told_of_the_database(worker);
        assert!(told.len() == 2 && told[0].contains(AWAY) && told[1].contains(BACK), "{told:#?}");
    }

    // The locks are taken anew and prove something again: a killed worker is found by them.
    server.until("(select bool_and(locked_on = pg_postmaster_start_time()) from rowcrew.workers)").await;
    let [mut dies, _lives] = crew;
    dies.kill();
    server.until("exists (select from rowcrew.events where action = 'rescue')").await;
}

#[tokio::test]
async fn workers_whose_connections_are_all_cut_come_back_and_none_is_taken_for_lost() {
    let db = Db::new().await;
    db.exec(EFFECTS).await;
    let mut crew = [Crew::start(&db, CONFIG).await, Crew::start(&db, CONFIG).await];
    let workers = db.all::<i64>("select id from rowcrew.workers order by id").await;
    load(&db).await;
    for _ in 0..3 {
        let done: i64 = db.one("select count(*) from rowcrew.finished_jobs").await;
        let cut: i64 = db
            .one(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'",
            )
            .await;
        assert!(cut >= 6, "{cut}");
        db.until(&format!(
            "(select count(*) > {done} + 200 from rowcrew.finished_jobs) or not exists (select from rowcrew.jobs)"
        ))
        .await;
    }
    unharmed(&db, &mut crew, &workers).await;
    assert!(crew.iter().any(|worker| worker.log().contains(AWAY)), "nobody met the cuts");
    for worker in &crew {
        // However often it was cut while it was in trouble; one whose connections were all idle has nothing to tell.
        if worker.log().contains(AWAY) {
            worker.until_log(BACK).await;
        }
        let told = told_of_the_database(worker);
        let count = |words| told.iter().filter(|line| line.contains(words)).count();
        assert!(count(AWAY) <= 3 && count(BACK) <= count(AWAY), "{told:#?}");
    }
}

/// So long an outage is met by each part of a worker: beats, claims, endings, upkeep, statistics, the alarm of silence.
const LONG: Duration = Duration::from_secs(9);

#[tokio::test]
async fn a_long_outage_is_one_line_when_it_begins_and_one_when_it_is_over() {
    let mut server = OwnServer::start().await;
    server.exec(EFFECTS).await;
    let idle = Crew::start(&server, "[worker]\nqueues = [\"other\"]\n[handlers.noop]\ntype = \"noop\"").await;
    let busy = Crew::start(&server, CONFIG).await;
    server.insert("nap", r#"{"ms": 60000}"#).await;
    server
        .exec(
            "insert into rowcrew.jobs (kind, payload) select
                case n % 2 when 0 then 'effect' else 'nap' end, jsonb_build_object('n', n, 'ms', 20)
            from generate_series(1, 800) n",
        )
        .await;
    server.until("(select count(*) > 100 from rowcrew.finished_jobs)").await;
    server.crash();
    tokio::time::sleep(LONG).await;
    server.recover().await;
    server.until("(select count(*) <= 1 from rowcrew.jobs)").await;
    for worker in [&idle, &busy] {
        worker.until_log(BACK).await;
    }
    let away_ms = |line: &String| line.rsplit('=').next().expect("a field").parse::<u64>().expect("a number");
    let (idle, mut busy) = (told(&idle), told(&busy));
    // A SQL job whose commit was not heard may have been among those that it stopped.
    busy.retain(|line| !line.contains("WARN results dropped"));
    assert!(idle.len() == 2 && idle[0].contains(AWAY) && idle[1].contains(BACK), "{idle:#?}");
    assert!(away_ms(&idle[1]) >= 8_000, "{idle:#?}");
    // Who had a job in hand has stopped it, and says so.
    assert_eq!(busy.len(), 3, "{busy:#?}");
    assert!(busy[0].contains(AWAY) && busy[1].contains(STOPS) && busy[2].contains(BACK), "{busy:#?}");
    assert!((8_000..40_000).contains(&away_ms(&busy[2])), "{busy:#?}");
}

#[tokio::test]
async fn workers_follow_the_primary_and_leave_one_that_was_demoted() {
    let server = OwnServer::start().await;
    let Some(standby) = Standby::of(&server.cluster).await else { return };
    server.exec(EFFECTS).await;
    let url = format!(
        "host={},{} user=postgres dbname=postgres",
        server.cluster.socket_dir().display(),
        standby.folder.display()
    );
    let config = format!("database_url = \"{url}\"\n{CONFIG}");
    let mut crew = [Crew::start_configured(&server, &config).await, Crew::spawn_configured(&server, &config)];
    server.until("(select count(*) = 2 from rowcrew.workers where locked_at is not null)").await;
    server.insert("nap", r#"{"ms": 3000}"#).await;
    server.until("exists (select from rowcrew.running)").await;
    server.until("(select bool_and(replay_lsn >= pg_current_wal_lsn()) from pg_stat_replication)").await;

    // The old primary stays up, and takes no writes by its default only.
    let promoted = connect(&standby.url()).await;
    server.exec("alter system set default_transaction_read_only = on").await;
    server.exec("select pg_reload_conf()").await;
    promoted.batch_execute("select pg_promote()").await.expect("a promotion");
    let promoted = Db::at(standby.url()).await;
    promoted.insert_many("noop", "'{}'", 50).await;
    let demoted_at = std::time::Instant::now();
    promoted.until("not exists (select from rowcrew.jobs)").await;
    println!("all jobs done {} ms after the promotion", demoted_at.elapsed().as_millis());
    assert_eq!(promoted.one::<i64>("select count(*) from rowcrew.finished_jobs").await, 51);
    let rescues: Vec<String> =
        promoted.all("select target from rowcrew.events where action = 'rescue'").await;
    assert!(rescues.is_empty(), "{rescues:?}");
    promoted
        .until("(select count(*) = 2 from rowcrew.workers where locked_on = pg_postmaster_start_time())")
        .await;
    let left = "select count(*) from pg_stat_activity where application_name = 'rowcrew'";
    server.until(&format!("({left}) = 0")).await;
    for worker in &mut crew {
        assert!(!worker.has_ended(), "{}", worker.log());
        // One line when it went away, one when it was back.
        assert!(worker.log().matches("the database does not answer").count() <= 2, "{}", worker.log());
    }
}

#[tokio::test]
async fn a_commit_that_hangs_on_a_demoted_primary_is_given_up_and_settled_on_the_new_one() {
    let server = OwnServer::start().await;
    let Some(standby) = Standby::of(&server.cluster).await else { return };
    server.exec(EFFECTS).await;
    server.exec("alter system set synchronous_standby_names = '*'").await;
    server.exec("select pg_reload_conf()").await;
    server.until("(select bool_or(sync_state = 'sync') from pg_stat_replication)").await;
    let hosts = format!("{},{}", server.cluster.socket_dir().display(), standby.folder.display());
    // The statement waits while the test holds its lock, and then commits.
    let config = format!(
        "database_url = \"host={hosts} user=postgres dbname=postgres\"
        [handlers.effect]
        type = \"sql\"
        statement = \"\"\"with lock as materialized (select pg_advisory_xact_lock_shared(7))
            insert into public.effects select ($1 ->> 'n')::int from lock\"\"\""
    );
    let worker = Crew::start_configured(&server, &config).await;
    server.exec("select pg_advisory_lock(7)").await;
    // More of them than there are connections for.
    server.insert_many("effect", "jsonb_build_object('n', n)", 6).await;
    let waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted";
    server.until(&format!("({waiting}) = 4")).await;

    let promoted = Db::at(standby.url()).await;
    promoted.exec("select pg_promote()").await;
    server.exec("select pg_advisory_unlock(7)").await;
    let hangs = "select count(*) from pg_stat_activity where wait_event = 'SyncRep' and query = 'commit'";
    server.until(&format!("({hangs}) = 4")).await;
    server.exec("alter system set default_transaction_read_only = on").await;
    server.exec("select pg_reload_conf()").await;
    promoted.until("not exists (select from rowcrew.jobs)").await;
    assert_eq!(promoted.all::<i32>("select n from effects order by n").await, [1, 2, 3, 4, 5, 6]);
    // It was no fault of the jobs.
    let attempts: Vec<i64> = promoted.all("select attempts::int8 from rowcrew.finished_jobs").await;
    assert_eq!(attempts, [1; 6], "{}", worker.log());
}
