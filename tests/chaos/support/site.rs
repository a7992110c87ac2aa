//! The server and the database of one scenario, with the log of transitions that its triggers write.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rowcrew::embedded::{Binaries, Cluster, Environment, Options, locate};
use rowcrew::store::{ServerUrl, Settings, Store};
use tokio::sync::OnceCell;
use tokio_postgres::types::FromSqlOwned;
use tokio_postgres::{Client, NoTls, Row};

use super::run::Run;

/// How long something that must happen is waited for.
const PATIENCE: Duration = Duration::from_mins(5);

/// One scenario's surroundings; its folder goes with it.
pub(crate) struct Site {
    server: Server,
    pub database: String,
    pub folder: PathBuf,
    /// Where clients find the database, if not on this server alone.
    elsewhere: Option<String>,
}

enum Server {
    Shared(&'static Cluster),
    Own(Box<Cluster>),
}

fn options() -> Options {
    let binaries =
        locate(&Environment::read(), None, &mut |line| eprintln!("{line}")).expect("Postgres binaries");
    let settings = vec![
        ("log_line_prefix".to_owned(), "%m [%p] %d ".to_owned()),
        // The log is read for errors: deadlocks are looked for once each, not after a second.
        ("deadlock_timeout".to_owned(), "100ms".to_owned()),
    ];
    Options { settings, max_connections: 400, ..Options::new(binaries) }
}

fn shared() -> &'static Cluster {
    static SERVER: OnceLock<Cluster> = OnceLock::new();
    SERVER
        .get_or_init(|| Cluster::start(&Options { durable: false, ..options() }).expect("a private Postgres"))
}

/// Makes the schema of jobs and the log of transitions in a database.
async fn furnish(cluster: &Cluster, database: &str) {
    store(&cluster.url(database), 2).migrate(64 * 1024 * 1024).await.expect("a schema");
    connect(&cluster.url(database))
        .await
        .batch_execute(include_str!("transitions.sql"))
        .await
        .expect("triggers");
}

async fn template(cluster: &Cluster) -> &'static str {
    static MADE: OnceCell<()> = OnceCell::const_new();
    MADE.get_or_init(|| async {
        connect(&cluster.url("postgres"))
            .await
            .batch_execute("create database chaos_template")
            .await
            .expect("one");
        furnish(cluster, "chaos_template").await;
    })
    .await;
    "chaos_template"
}

/// The library's store on this database.
pub(crate) fn store(url: &str, pool_size: usize) -> Store {
    let url = ServerUrl::parse(url).expect("a URL");
    Store::new(Settings {
        direct_url: url.clone(),
        url,
        schema: "rowcrew".to_owned(),
        pool_size,
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(30),
        prepare: true,
    })
    .expect("a store")
}

/// Connects, as often as it takes; the connection's task ends with the client.
pub(crate) async fn connect(url: &str) -> Client {
    let began = Instant::now();
    loop {
        match tokio_postgres::connect(url, NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return client;
            }
            Err(error) => {
                assert!(began.elapsed() < PATIENCE, "{error:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn folder(run: &Run) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let name =
        format!("rowcrew-chaos-{}-{}-{}", std::process::id(), run.id, NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir(&folder).expect("a folder");
    folder
}

impl Site {
    /// A database on the server that scenarios share: for those that do the server no harm.
    pub(crate) async fn shared(run: &Run) -> Self {
        static COPYING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let cluster = tokio::task::spawn_blocking(shared).await.expect("a server");
        let folder = folder(run);
        let database = folder.file_name().expect("a name").to_string_lossy().replace('-', "_").to_lowercase();
        let _one = COPYING.lock().await;
        let template = template(cluster).await;
        let admin = connect(&cluster.url("postgres")).await;
        admin
            .batch_execute(&format!("create database {database} template {template}"))
            .await
            .expect("a copy");
        Self { server: Server::Shared(cluster), database, folder, elsewhere: None }
    }

    /// A server of its own, durable as in production.
    pub(crate) async fn own(run: &Run, more: &[(&str, &str)]) -> Self {
        Self::own_with(run, more, |_, binaries| binaries).await
    }

    /// The same, with programs that may be wrapped by others in the scenario's folder.
    pub(crate) async fn own_with(
        run: &Run,
        more: &[(&str, &str)],
        wrap: impl FnOnce(&Path, Binaries) -> Binaries,
    ) -> Self {
        let (mut options, folder) = (options(), folder(run));
        options.binaries = wrap(&folder, options.binaries);
        options.settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let cluster = tokio::task::spawn_blocking(move || Cluster::start(&options)).await.expect("no panic");
        let cluster = cluster.expect("a private Postgres");
        furnish(&cluster, "postgres").await;
        let database = "postgres".to_owned();
        Self { server: Server::Own(Box::new(cluster)), database, folder, elsewhere: None }
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        match &self.server {
            Server::Shared(cluster) => cluster,
            Server::Own(cluster) => cluster,
        }
    }

    /// Where clients and workers find the database.
    pub(crate) fn url(&self) -> String {
        self.elsewhere.clone().unwrap_or_else(|| self.cluster().url(&self.database))
    }

    /// From now on the database is looked for here.
    pub(crate) fn is_found_at(&mut self, url: String) {
        self.elsewhere = Some(url);
    }

    /// The server's socket, for a proxy.
    pub(crate) fn socket(&self) -> PathBuf {
        self.cluster().socket_dir().join(".s.PGSQL.5432")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What the server wrote about this database, errors and all.
    pub(crate) fn server_log(&self) -> String {
        let log = std::fs::read(self.cluster().socket_dir().join("log")).unwrap_or_default();
        let of_this = format!("] {} ", self.database);
        let log = String::from_utf8_lossy(&log).into_owned();
        // Lines without a head go on with the one before them.
        let mut ours = false;
        let mut kept = Vec::new();
        for line in log.lines() {
            ours = line.contains(&of_this) || (ours && line.starts_with('\t'));
            kept.extend(ours.then_some(line));
        }
        kept.join("\n")
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&self.url()).await
    }

    pub(crate) async fn exec(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub(crate) async fn rows(&self, sql: &str) -> Vec<Row> {
        self.client().await.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// The first column of the only row.
    pub(crate) async fn one<T: FromSqlOwned>(&self, sql: &str) -> T {
        self.rows(sql).await[0].get(0)
    }

    /// Waits until the condition holds, over whatever connection there is at the time.
    pub(crate) async fn until(&self, condition: &str) {
        self.until_within(condition, PATIENCE).await;
    }

    pub(crate) async fn until_within(&self, condition: &str, within: Duration) {
        let began = Instant::now();
        let mut client = self.client().await;
        loop {
            match client.query_one(&format!("select coalesce(({condition}), false)"), &[]).await {
                Ok(row) if row.get(0) => return,
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) if error.code().is_some_and(|code| code.code().starts_with("42")) => {
                    panic!("{condition}: {error:?}")
                }
                Err(_) => client = self.client().await,
            }
            if began.elapsed() > within {
                let left = "select string_agg(j::text, e'\\n') from (select id, kind, state, attempts, crashes, \
                    claimed_by, claim_id, due_at, last_error from rowcrew.jobs order by id limit 20) j";
                let left: Option<String> = self.one(left).await;
                panic!("never became true: {condition}\n{}", left.unwrap_or_default());
            }
        }
    }

    /// Waits until no job is left, and no record of a claim: one whose jobs had all ended when its worker was killed goes
    /// with the worker, a second later.
    pub(crate) async fn drained(&self) {
        let left = "select from rowcrew.jobs union all select from rowcrew.claims where job_ids <> '{}'";
        self.until(&format!("not exists ({left})")).await;
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("ROWCREW_CHAOS_KEEP").is_some() {
            eprintln!("what the workers said is kept in {}", self.folder.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
