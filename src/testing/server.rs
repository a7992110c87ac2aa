//! One private Postgres for the process, and a migrated database that each test's own is copied from.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, OnceCell};
use tokio_postgres::Client;

use crate::embedded::{Cluster, Environment, Options, locate};
use crate::store::{Connector, ServerUrl};

/// Enough for a test binary whose tests run all at once, each with a worker.
const MAX_CONNECTIONS: u32 = 400;
/// On a busy machine; a private server answers in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// The process's own server; its watchdog removes it when the process ends.
pub(super) fn server() -> &'static Cluster {
    static SERVER: OnceLock<Cluster> = OnceLock::new();
    SERVER.get_or_init(|| {
        let binaries = locate(&Environment::read(), None, &mut |line| eprintln!("{line}"))
            .unwrap_or_else(|error| panic!("{error}"));
        // The data is thrown away: no commit has to wait for the disk.
        let options = Options { durable: false, max_connections: MAX_CONNECTIONS, ..Options::new(binaries) };
        Cluster::start(&options).unwrap_or_else(|error| panic!("{error}"))
    })
}

/// Connects; the connection's task ends with the client.
pub(super) async fn connect(url: &str) -> Client {
    let url = ServerUrl::parse(url).expect("a URL of our own");
    let connector = Connector::new(&url, CONNECT_TIMEOUT).expect("no TLS on a socket");
    let (client, connection) =
        connector.connect().await.unwrap_or_else(|error| panic!("the test's Postgres: {error:?}"));
    tokio::spawn(connection);
    client
}

/// Makes a migrated database for one test, and answers its URL.
pub(super) async fn make_database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    static TEMPLATE: OnceCell<()> = OnceCell::const_new();
    // Copies may not overlap: a template must have no other user.
    static COPYING: Mutex<()> = Mutex::const_new(());
    let cluster = server();
    let admin = connect(&cluster.url("postgres")).await;
    let run = async |sql: &str| {
        admin.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    };
    let template = async || {
        run("create database template").await;
        crate::api::migrate(&cluster.url("template")).await.unwrap_or_else(|error| panic!("{error}"));
    };
    TEMPLATE.get_or_init(template).await;
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let _one = COPYING.lock().await;
    run(&format!("create database {name} template template")).await;
    cluster.url(&name)
}
