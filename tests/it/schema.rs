//! The schema itself: how it gets there, under which names, what psql says of it, and what keeps it small.

use std::time::Duration;

use rowcrew::embedded::{Cluster, Environment, Options, locate};
use rowcrew::store::sql::{Head, Statements};

use crate::support::{Crew, Db, rowcrew};

const NOOP: &str = "[handlers.noop]\ntype = \"noop\"";

/// A configuration file, removed at the end.
struct File(std::path::PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rowcrew-schema-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).expect("a file");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Everything that the schema holds, as text.
const CONTENTS: &str = "select string_agg(line, E'\n' order by line) from (
        select format('%s %s', c.relkind, c.relname) from pg_class c where relnamespace = 'rowcrew'::regnamespace
        union all select format('%s %s', conname, pg_get_constraintdef(oid)) from pg_constraint where connamespace = 'rowcrew'::regnamespace
        union all select pg_get_functiondef(oid) from pg_proc where pronamespace = 'rowcrew'::regnamespace
        union all select format('%s %s', version, checksum) from rowcrew.schema_history
    ) t (line)";

/// The error that `rowcrew work` ends with on this database.
fn refusal(url: &str) -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let file = File::new(&format!("refusal-{number}"), NOOP);
    let output = rowcrew(&["work", "--config", file.path(), "--database-url", url]);
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    output.stderr
}

#[tokio::test]
async fn migrating_a_second_time_changes_nothing() {
    let db = Db::new().await;
    let before: String = db.one(CONTENTS).await;
    let output = rowcrew(&["migrate", "--json", "--database-url", &db.url]);
    assert!(output.ok, "{}", output.stderr);
    assert!(output.stdout.contains(r#""applied":[]"#), "{}", output.stdout);
    assert_eq!(db.one::<String>(CONTENTS).await, before);
}

#[tokio::test]
async fn of_six_migrations_at_once_each_step_is_applied_by_one() {
    let db = Db::empty().await;
    let all: Vec<_> = (0..6)
        .map(|_| {
            let url = db.url.clone();
            tokio::task::spawn_blocking(move || rowcrew(&["migrate", "--database-url", &url]))
        })
        .collect();
    let mut applied = Vec::new();
    for one in all {
        let output = one.await.expect("no panic");
        assert!(output.ok, "{}", output.stderr);
        applied.extend(output.stdout.lines().filter(|l| l.starts_with("applied")).map(str::to_owned));
    }
    applied.sort();
    let mut once = applied.clone();
    once.dedup();
    assert_eq!(applied, once);
    let steps: i64 = db.one("select count(*) from rowcrew.schema_history").await;
    assert_eq!(applied.len() as i64, steps);
}

#[tokio::test]
async fn a_schema_may_have_any_name() {
    let long = "s".repeat(63);
    for (number, name) in
        ["My \"odd\" schema's", "a.b", "UPPER", "100%", "back\\slash $$", &long].into_iter().enumerate()
    {
        let db = Db::empty().await;
        // A JSON string is a TOML string as well.
        let config = format!("schema = {}\n{NOOP}", serde_json::to_string(name).expect("JSON"));
        let file = File::new(&format!("name-{number}"), &config);
        let output = rowcrew(&["migrate", "--config", file.path(), "--database-url", &db.url]);
        assert!(output.ok, "{name}: {}", output.stderr);
        let schema = format!("\"{}\"", name.replace('"', "\"\""));
        let _worker = Crew::spawn(&db, &config);
        db.until(&format!("exists (select from {schema}.workers where locked_at is not null)")).await;
        let id: i64 = db.one(&format!("select {schema}.enqueue('noop')")).await;
        db.until(&format!(
            "exists (select from {schema}.finished_jobs where id = {id} and state = 'completed')"
        ))
        .await;
        let cancelled: String = db
            .one(&format!(
                "select {schema}.cancel({schema}.enqueue('noop', run_at => now() + interval '1 h'))"
            ))
            .await;
        assert_eq!(cancelled, "cancelled", "{name}");
        db.exec(&format!(
            "select {schema}.pause('q'); select {schema}.resume('q'); select {schema}.purge('q')"
        ))
        .await;
        db.exec(&format!(
            "select {schema}.why({id}); select * from {schema}.queue_stats, {schema}.throughput"
        ))
        .await;
        for statement in Statements::new(name).all() {
            let prepared = db.client.prepare(&statement.text).await;
            assert!(prepared.is_ok(), "{name}, {}: {prepared:?}", statement.name);
        }
        assert!(!db.one::<bool>("select exists (select from pg_namespace where nspname = 'rowcrew')").await);
    }
}

#[tokio::test]
async fn psql_has_a_word_on_every_table_view_column_sequence_and_function() {
    let db = Db::new().await;
    let silent: Vec<String> = db
        .all(
            "select c.relname::text from pg_class c
             where c.relnamespace = 'rowcrew'::regnamespace and c.relkind in ('r', 'p', 'v')
                and c.relname <> 'schema_history' and obj_description(c.oid, 'pg_class') is null
             union all
             select s.relname from pg_class s
             where s.relnamespace = 'rowcrew'::regnamespace and s.relkind = 'S' and obj_description(s.oid, 'pg_class') is null
                and not exists (select from pg_depend d where d.objid = s.oid and d.deptype = 'i')
             union all
             select c.relname || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
             where c.relnamespace = 'rowcrew'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
                and c.relname <> 'schema_history' and a.attnum > 0 and not a.attisdropped and col_description(c.oid, a.attnum) is null
             union all
             select p.oid::regprocedure::text from pg_proc p
             where p.pronamespace = 'rowcrew'::regnamespace and obj_description(p.oid, 'pg_proc') is null",
        )
        .await;
    assert_eq!(silent, [""; 0]);
    let described: i64 =
        db.one("select count(*) from pg_description where objoid = 'rowcrew.jobs'::regclass").await;
    assert!(described > 25, "the question was asked of the right catalog: {described}");
}

#[tokio::test]
async fn a_database_that_cannot_be_worked_with_is_refused_in_words_that_help() {
    let db = Db::empty().await;
    let error = refusal(&db.url);
    assert!(error.contains("no rowcrew schema \"rowcrew\" yet: run `rowcrew migrate`"), "{error}");

    let db = Db::new().await;
    db.exec("insert into rowcrew.schema_history (version, name, applied_on, checksum) values (99, 'later', '', '1')").await;
    let error = refusal(&db.url);
    assert!(error.contains("is at version 99, newer than this rowcrew knows"), "{error}");
    let output = rowcrew(&["migrate", "--database-url", &db.url]);
    assert!(!output.ok && output.stderr.contains("version 99, newer than"), "{}", output.stderr);

    db.exec("delete from rowcrew.schema_history where version > 1").await;
    let error = refusal(&db.url);
    assert!(error.contains("is at version 1, and this rowcrew needs"), "{error}");

    let error = refusal("postgres://somebody:secret@127.0.0.1:1/nothing");
    assert!(
        error.contains("cannot connect to the database") && error.contains("host=127.0.0.1 port=1"),
        "{error}"
    );
    assert!(error.contains("refused") && !error.contains("secret"), "{error}");
    let error = refusal(&db.url.replace(&db.name, "no_such_database"));
    assert!(error.contains("no_such_database") && error.contains("does not exist"), "{error}");
}

#[tokio::test]
async fn a_wrong_password_and_a_standby_are_named() {
    let binaries = locate(&Environment::read(), None, &mut |line| eprintln!("{line}")).expect("Postgres");
    let options = Options { tcp: true, ..Options::new(binaries) };
    let cluster = Cluster::start(&options).expect("a private Postgres");
    let socket = cluster.url("postgres");
    let (client, connection) =
        tokio_postgres::connect(&socket, tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    std::fs::write(
        cluster.data_dir().join("pg_hba.conf"),
        "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n",
    )
    .expect("its rules");
    client.batch_execute("create role app superuser login password 'right'").await.expect("a role");
    client.batch_execute("select pg_reload_conf()").await.expect("a reload");
    let tcp = |password: &str| {
        let url = cluster.tcp_url("postgres").expect("it listens");
        url.replace("postgres@", &format!("app:{password}@"))
    };
    let error = refusal(&tcp("wrong"));
    assert!(
        error.contains("password authentication failed for user \"app\"") && !error.contains("wrong"),
        "{error}"
    );
    let output = rowcrew(&["migrate", "--database-url", &tcp("right")]);
    assert!(output.ok, "{}", output.stderr);

    // A standby without a primary: what is there can be read, and nothing written.
    cluster.crash().expect("a stop");
    std::fs::write(cluster.data_dir().join("standby.signal"), "").expect("the sign of a standby");
    cluster.recover().expect("a standby");
    let error = refusal(&socket);
    assert!(error.contains("is a read-only standby"), "{error}");
    let output = rowcrew(&["migrate", "--database-url", &socket]);
    assert!(!output.ok && output.stderr.contains("read-only standby"), "{}", output.stderr);
}

#[tokio::test]
async fn claims_are_heap_only_updates() {
    let db = Db::new().await;
    db.exec("insert into rowcrew.jobs (kind, unique_key) select 'k', n::text from generate_series(1, 500) n")
        .await;
    let statements = Statements::new("rowcrew");
    let types = Head::of(&statements.job_claim.text).params;
    let types: Vec<&str> = types.iter().map(|param| param.type_name.as_str()).collect();
    let prepare = format!("prepare claim ({}) as {}", types.join(", "), statements.job_claim.text);
    let claim = "execute claim (7, 1, '{k}', 400, '{default}', '{5}', '{-infinity}', '{0}')";
    // All rows that one claim updates, and those of them that touched no index.
    let updated = || async {
        let client = db.connect().await;
        client.batch_execute(&prepare).await.expect("a statement");
        client.batch_execute(&format!("begin; {claim}")).await.expect("a claim");
        let figures = "select pg_stat_get_xact_tuples_updated('rowcrew.jobs'::regclass),
            pg_stat_get_xact_tuples_hot_updated('rowcrew.jobs'::regclass)";
        let row = client.query_one(figures, &[]).await.expect("figures");
        client.batch_execute("rollback").await.expect("as before");
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    assert_eq!(updated().await, (400, 400));
    db.exec("vacuum rowcrew.jobs").await;
    db.exec("create index wrong on rowcrew.jobs (id) where state = 'available'").await;
    assert_eq!(updated().await, (400, 0), "an index that names the state ends it, and is noticed");
}

#[tokio::test]
async fn no_index_knows_a_column_that_a_claim_changes() {
    let db = Db::new().await;
    let indexes: Vec<String> =
        db.all("select indexdef from pg_indexes where schemaname = 'rowcrew' and tablename = 'jobs'").await;
    assert_eq!(indexes.len(), 4);
    for index in indexes {
        for column in ["state", "attempts", "claimed_by", "claim_id", "claimed_at"] {
            assert!(!index.contains(column), "{index}");
        }
    }
}

#[tokio::test]
async fn what_grows_is_counted_in_eight_bytes() {
    let db = Db::new().await;
    let small: Vec<String> = db
        .all(
            "select distinct a.attname::text from pg_class c join pg_attribute a on a.attrelid = c.oid
             where c.relnamespace = 'rowcrew'::regnamespace and c.relkind in ('r', 'p') and a.attnum > 0
                and a.atttypid in ('int2'::regtype, 'int4'::regtype) order by 1",
        )
        .await;
    // Bounded by a check, by the machine, or by the number of releases.
    assert_eq!(
        small,
        [
            "attempts",
            "concurrency",
            "crashes",
            "max_attempts",
            "pid",
            "priority",
            "running",
            "shard",
            "version"
        ]
    );
    let sequences: Vec<String> =
        db.all("select distinct data_type::text from pg_sequences where schemaname = 'rowcrew'").await;
    assert_eq!(sequences, ["bigint"]);
}

/// Days that have a partition, counted from today (UTC).
const DAYS: &str = "select to_date(right(c.relname, 8), 'YYYYMMDD') - (now() at time zone 'UTC')::date
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'rowcrew.finished_jobs'::regclass and c.relname ~ '[0-9]{8}$' order by 1";

/// Makes the partition of a past day as `make_partitions` would have.
async fn past_partition(db: &Db, days_ago: i32) {
    db.exec(&format!(
        "do $$ declare day date := (now() at time zone 'UTC')::date - {days_ago}; begin
            execute format('create table rowcrew.finished_jobs_%s partition of rowcrew.finished_jobs for values from (%L) to (%L)',
                to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00', (day + 1) || ' 00:00:00+00');
         end $$"
    ))
    .await;
}

/// Inserts finished jobs: id, and when they finished, as SQL counted from the start of today (UTC).
async fn finished(db: &Db, rows: &[(i64, &str)]) {
    for (id, at) in rows {
        db.exec(&format!(
            "insert into rowcrew.finished_jobs (id, kind, payload, queue, priority, run_at, state, attempts, crashes, created_at, finished_at)
             values ({id}, 'k', '{{}}', 'q', 5, now(), 'completed', 1, 0, now(), date_trunc('day', now(), 'UTC') + interval '{at}')"
        ))
        .await;
    }
}

#[tokio::test]
async fn there_is_a_partition_for_today_and_the_week_to_come() {
    let db = Db::new().await;
    assert_eq!(db.all::<i32>(DAYS).await, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(db.one::<i32>("select rowcrew.make_partitions(7)").await, 0, "a second time");
    assert_eq!(db.one::<i32>("select rowcrew.make_partitions(9)").await, 2);
    finished(&db, &[(1, "0"), (2, "9 days 23:59:59.999999"), (3, "10 days")]).await;
    let without: Vec<i64> = db.all("select id from rowcrew.finished_jobs_other").await;
    assert_eq!(without, [3], "each row is in the partition of its day");
}

#[tokio::test]
async fn whole_days_past_their_time_are_dropped_and_no_others() {
    let db = Db::new().await;
    for days_ago in [1, 7, 8, 9, 30] {
        past_partition(&db, days_ago).await;
    }
    finished(
        &db,
        &[
            (1, "-30 days"),
            (2, "-9 days"),
            (3, "-7 days -1 microsecond"),
            (4, "-7 days"),
            (5, "-1 day"),
            (6, "0"),
        ],
    )
    .await;
    // Days that never had a partition: one past its time, one not.
    finished(&db, &[(7, "-10 days"), (8, "-5 days")]).await;
    assert_eq!(db.one::<i32>("select rowcrew.drop_partitions(7)").await, 3);
    assert_eq!(db.all::<i64>("select id from rowcrew.finished_jobs order by id").await, [4, 5, 6, 8]);
    assert_eq!(db.all::<i32>(DAYS).await[..2], [-7, -1]);
    assert_eq!(db.one::<i32>("select rowcrew.drop_partitions(7)").await, 0, "a second time");
    assert_eq!(db.all::<i64>("select id from rowcrew.finished_jobs order by id").await, [4, 5, 6, 8]);
}

#[tokio::test]
async fn jobs_that_ended_on_a_day_without_a_partition_move_into_it_and_stop_no_worker() {
    let db = Db::new().await;
    db.exec(
        "do $$ begin execute 'drop table rowcrew.finished_jobs_' || to_char(now() at time zone 'UTC', 'YYYYMMDD'); end $$;
         insert into rowcrew.jobs (id, kind) values (1, 'noop'), (2, 'noop');
         select rowcrew.cancel(1)",
    )
    .await;
    assert_eq!(db.all::<i64>("select id from rowcrew.finished_jobs_other").await, [1]);
    let _worker = Crew::start(&db, NOOP).await;
    db.until("not exists (select from rowcrew.jobs)").await;
    assert_eq!(db.all::<i64>("select id from rowcrew.finished_jobs order by id").await, [1, 2]);
    assert_eq!(db.one::<i64>("select count(*) from rowcrew.finished_jobs_other").await, 0);
    assert_eq!(db.all::<i32>(DAYS).await[0], 0);
}

#[tokio::test]
async fn dropping_a_day_does_not_stop_those_who_finish_jobs_behind_a_long_reader() {
    let db = Db::new().await;
    past_partition(&db, 30).await;
    let reader = db.connect().await;
    reader.batch_execute("begin; select from rowcrew.finished_jobs").await.expect("a reader");
    let drop = db.connect().await;
    let dropping = tokio::spawn(async move {
        drop.query_one("select rowcrew.drop_partitions(7)", &[]).await.map(|row| row.get::<_, i32>(0))
    });
    let dropped = tokio::time::timeout(Duration::from_secs(20), dropping).await.expect("it gives up");
    assert_eq!(dropped.expect("no panic").expect("no error"), 0);
    reader.batch_execute("commit").await.expect("the end of it");
    assert_eq!(db.one::<i32>("select rowcrew.drop_partitions(7)").await, 1, "another time");
}

#[tokio::test]
async fn workers_that_start_together_make_and_drop_partitions_without_getting_in_each_others_way() {
    let db = Db::new().await;
    let prune = "select rowcrew.make_partitions(7), rowcrew.drop_partitions(7)";
    let clients = futures_util::future::join_all((0..8).map(|_| db.connect())).await;
    for _ in 0..5 {
        db.exec("select rowcrew.drop_partitions(-9)").await;
        for days_ago in 8..12 {
            past_partition(&db, days_ago).await;
        }
        let all = clients.iter().map(|client| async { client.query_one(prune, &[]).await });
        let (mut made, mut dropped) = (0, 0);
        for done in futures_util::future::join_all(all).await {
            let row = done.expect("nobody fails");
            made += row.get::<_, i32>(0);
            dropped += row.get::<_, i32>(1);
        }
        assert_eq!((made, dropped), (8, 4), "each by one of them");
        assert_eq!(db.all::<i32>(DAYS).await, [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
