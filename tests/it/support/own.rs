//! A server that one test may crash.

use std::ops::{Deref, DerefMut};

use rowcrew::embedded::{Cluster, Environment, Options, locate};

use super::{Db, rowcrew};

/// A server of one's own, durable, with one migrated database on it.
pub(crate) struct OwnServer {
    pub cluster: Cluster,
    db: Db,
}

impl OwnServer {
    pub(crate) async fn start() -> Self {
        let binaries =
            locate(&Environment::read(), None, &mut |line| eprintln!("{line}")).expect("Postgres binaries");
        let cluster = Cluster::start(&Options::new(binaries)).expect("a private Postgres");
        let url = cluster.url("postgres");
        let output = rowcrew(&["migrate", "--database-url", &url]);
        assert!(output.ok, "{}", output.stderr);
        Self { db: Db::at(url).await, cluster }
    }

    /// Ends the server at once, as a crash would.
    pub(crate) fn crash(&self) {
        self.cluster.crash().expect("a crash");
    }

    /// Starts it again, and connects to it.
    pub(crate) async fn recover(&mut self) {
        self.cluster.recover().expect("a server that starts again");
        self.db.reconnect().await;
    }
}

impl Deref for OwnServer {
    type Target = Db;
    fn deref(&self) -> &Db {
        &self.db
    }
}

impl DerefMut for OwnServer {
    fn deref_mut(&mut self) -> &mut Db {
        &mut self.db
    }
}
