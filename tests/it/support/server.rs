//! One private Postgres for the whole run, and a migrated template that each test's database is copied from.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rowcrew::embedded::{Cluster, Environment, Options, locate};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

/// The run's own server; its watchdog removes it when the process ends. With `DATABASE_URL` set, that server
/// is used instead.
pub(crate) fn server() -> &'static Cluster {
    static SERVER: OnceLock<Cluster> = OnceLock::new();
    SERVER.get_or_init(|| {
        let binaries =
            locate(&Environment::read(), None, &mut |line| eprintln!("{line}")).expect("Postgres binaries");
        let options = Options { durable: false, max_connections: 400, ..Options::new(binaries) };
        Cluster::start(&options).expect("a private Postgres")
    })
}

/// The URL of a database on the server that the tests use.
pub(crate) fn admin_url(database: &str) -> String {
    match std::env::var("DATABASE_URL") {
        Ok(url) => {
            let (base, query) = url.split_once('?').map_or((url.as_str(), None), |(b, q)| (b, Some(q)));
            let base = base.rsplit_once('/').map_or(base, |(server, _)| server);
            format!("{base}/{database}{}", query.map(|q| format!("?{q}")).unwrap_or_default())
        }
        Err(_) => server().url(database),
    }
}

/// Connects; the connection's task ends with the client.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// Copies may not overlap: a template must have no other user.
static COPYING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Makes a database for one test, migrated or empty, and answers its name.
pub(super) async fn make_database(migrated: bool) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let name = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let template = if migrated { migrated_template().await } else { "template0" };
    let admin = connect(&admin_url("postgres")).await;
    let _one = COPYING.lock().await;
    admin.batch_execute(&format!("create database {name} template {template}")).await.expect("a database");
    name
}

async fn migrated_template() -> &'static str {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    TEMPLATE
        .get_or_init(|| async {
            let name = format!("template_{}", std::process::id());
            let admin = connect(&admin_url("postgres")).await;
            admin.batch_execute(&format!("create database {name}")).await.expect("the template");
            let output = super::rowcrew(&["migrate", "--database-url", &admin_url(&name)]);
            assert!(output.ok, "{}", output.stderr);
            name
        })
        .await
}
