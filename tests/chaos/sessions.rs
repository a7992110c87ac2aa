//! Sessions that are not as one would wish: a role with hostile defaults, and a pooler in between.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::crew::Crew;
use crate::support::invariants::Allowed;
use crate::support::load::Load;
use crate::support::oracle::Evidence;
use crate::support::run::{Run, percentile};
use crate::support::site::Site;

/// What an administrator may set for a role, all of it at once.
const HOSTILE: [(&str, &str); 19] = [
    ("statement_timeout", "50ms"),
    ("lock_timeout", "10ms"),
    ("idle_in_transaction_session_timeout", "200ms"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_read_only", "on"),
    ("default_transaction_deferrable", "on"),
    ("search_path", "evil"),
    ("DateStyle", "German, DMY"),
    ("TimeZone", "Pacific/Apia"),
    ("IntervalStyle", "sql_standard"),
    ("bytea_output", "escape"),
    ("standard_conforming_strings", "off"),
    ("transform_null_equals", "on"),
    ("extra_float_digits", "-15"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_indexscan", "off"),
    ("enable_nestloop", "off"),
    ("work_mem", "64kB"),
    ("default_toast_compression", "pglz"),
];

/// Names that would be found instead of the right ones, were any of ours not qualified.
const EVIL: &str = "create schema evil;
    create table evil.jobs (id int); create table evil.workers (id int); create table evil.claims (id int);
    create function evil.now() returns timestamptz language sql as $$ select 'epoch'::timestamptz $$;
    create function evil.clock_timestamp() returns timestamptz language sql as $$ select 'epoch'::timestamptz $$;
    create function evil.eq(bigint, bigint) returns boolean language sql as $$ select false $$;
    create operator evil.= (leftarg = bigint, rightarg = bigint, function = evil.eq);";

#[tokio::test(flavor = "multi_thread")]
async fn d14_a_role_with_hostile_defaults_changes_nothing() {
    let run = Run::begin("D14");
    let site = Site::shared(&run).await;
    let role = format!("hostile_{}", site.database);
    site.exec(EVIL).await;
    site.exec(&format!("create role {role} superuser login")).await;
    for (name, value) in HOSTILE {
        let value = if name == "search_path" { "evil, pg_catalog".to_owned() } else { format!("'{value}'") };
        site.exec(&format!("alter role {role} set {name} = {value}")).await;
    }
    let mut crew = Crew::new(&site);
    crew.order.url = site.url().replace("postgres@", &format!("{role}@"));
    crew.order.direct_url = crew.order.url.clone();
    crew.start(&site, 2).await;
    let load = Load { long_percent: 2, fail_percent: 5, ..Load::usual(run.size(400, 10_000)) };
    load.put_in(&run, &site).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    crew.kill(0);
    crew.replace(0);
    site.drained().await;
    crew.stop().await;
    // A SQL handler's statement runs with the role's own settings, on purpose; ours are ours again behind it.
    Evidence::gather(&site, &crew).await.hold(&Allowed::default());
    let errors: Vec<String> =
        site.server_log().lines().filter(|line| line.contains("ERROR")).map(str::to_owned).collect();
    run.figure("errors in the server's log", errors.len(), errors.is_empty(), "0");
    assert!(errors.is_empty(), "{}", errors[..errors.len().min(10)].join("\n"));
    run.end();
}

/// A private PgBouncer; ended when dropped.
struct Pooler {
    child: Child,
    url: String,
}

impl Pooler {
    /// `None` where PgBouncer is not installed.
    async fn start(site: &Site) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let config = site.path("pgbouncer.ini");
        let text = format!(
            "[databases]\n{database} = host={socket} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 20\nmax_client_conn = 500\nignore_startup_parameters = extra_float_digits\nlogfile =\n",
            database = site.database,
            socket = site.cluster().socket_dir().display(),
        );
        std::fs::write(&config, text).expect("a file");
        let mut command = Command::new("pgbouncer");
        if rustix::process::geteuid().is_root() {
            // It refuses root, and must enter the folder of the server's socket.
            command.args(["-u", &owner(site.cluster().socket_dir())]);
        }
        let quiet = || Stdio::null();
        let child =
            command.arg("-q").arg(&config).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn().ok()?;
        let pooler = Self { child, url: format!("postgresql://postgres@127.0.0.1:{port}/{}", site.database) };
        let began = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "pgbouncer does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(pooler)
    }
}

/// The name of the user whose folder this is.
fn owner(folder: &std::path::Path) -> String {
    let uid = std::fs::metadata(folder).expect("a folder").uid().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").expect("users");
    let user = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid)).expect("the folder's owner");
    user.split(':').next().expect("a name").to_owned()
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d12_through_a_transaction_mode_pooler_workers_that_are_killed_lose_nothing() {
    let Some(run) = Run::begin_if_asked("D12") else { return };
    let site = Site::shared(&run).await;
    let Some(pooler) = Pooler::start(&site).await else {
        println!("D12: skipped, pgbouncer is not installed");
        return;
    };
    let mut crew = Crew::new(&site);
    crew.order.url = pooler.url.clone();
    crew.order.prepare = false;
    crew.start(&site, 3).await;
    let producers =
        Load { pause: Duration::from_millis(30), ..Load::usual(run.size(500, 20_000)) }.produce(&run, &site);
    let mut rng = run.rng("kills");
    for _ in 0..run.size(2, 15) {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let victim = rng.usize(..3);
        crew.kill(victim);
        tokio::time::sleep(Duration::from_millis(500)).await;
        crew.replace(victim);
    }
    for producer in producers {
        producer.await.expect("a producer that is done");
    }
    site.drained().await;
    crew.stop().await;
    let evidence = Evidence::gather(&site, &crew).await;
    evidence.hold(&Allowed::default());
    let prepared = site.server_log().matches("prepared statement").count();
    run.figure("errors of prepared statements", prepared, prepared == 0, "0");
    assert_eq!(prepared, 0);
    let (inside, beside) = evidence.restarts_ms();
    let mut orphans = [inside, beside].concat();
    run.note("executions cut short", orphans.len());
    let p99 = percentile(&mut orphans, 99.0);
    run.figure("kill to start again, p99 ms", format!("{p99:.0}"), p99 < 12_000.0, "< 12000");
    run.end();
}
