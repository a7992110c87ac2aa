//! The demo's own application: one connection and plain SQL, as any program in any language would do it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use crate::store::{self, Connector, ServerClient, ServerUrl, Store};

/// How soon the server is asked again whether a statement has ended.
const BUSY_POLL: Duration = Duration::from_millis(5);
const QUIET_LOOKS: u32 = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PAYLOAD_BYTES_MAX: u32 = 1 << 20;

/// What the user sees of the SQL.
pub(super) const ENQUEUE: &str = include_str!("sql/enqueue.sql");
/// The statement of the SQL handler.
pub(super) const RECORD: &str = include_str!("sql/record.sql");
/// The jobs of `sql/enqueue_odd.sql` and `sql/enqueue_naps.sql`.
pub(super) const ODD_JOBS: u64 = 6 + NAPS;
/// The jobs of `sql/enqueue_naps.sql`.
pub(super) const NAPS: u64 = 4;
/// Those of them that fail and then succeed.
pub(super) const FLAKY: u64 = 3;
/// Those of them that must end among the dead letters.
pub(super) const DOOMED: usize = 3;

/// The application.
pub(super) struct App {
    client: ServerClient,
}

/// How far the jobs are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    pub(super) ended: u64,
    pub(super) open: u64,
    /// Workers that are known to live.
    pub(super) workers: u64,
}

/// A dead letter.
#[derive(Debug, Serialize)]
pub(super) struct Dead {
    pub(super) id: i64,
    pub(super) kind: String,
    pub(super) reason: String,
    pub(super) attempts: i32,
    pub(super) error: String,
    /// The file it was about, unless it was planted to die.
    pub(super) file: Option<i64>,
}

/// What became of the jobs of one kind, or of all when it has no name.
#[derive(Debug, Serialize)]
pub(super) struct Total {
    pub(super) kind: Option<String>,
    pub(super) jobs: i64,
    pub(super) completed: i64,
    pub(super) dead: i64,
    pub(super) more_tries: i64,
    pub(super) per_second: f64,
}

/// A job that somebody inserted by hand.
pub(super) struct ByHand {
    pub(super) id: i64,
    pub(super) kind: String,
    pub(super) state: String,
    pub(super) after_ms: f64,
}

impl App {
    /// Makes the tables of rowcrew, and connects.
    pub(super) async fn start(url: &str) -> anyhow::Result<Self> {
        let url = ServerUrl::parse(url)?;
        let settings = store::Settings {
            url: url.clone(),
            direct_url: url.clone(),
            schema: "rowcrew".to_owned(),
            pool_size: 2,
            connect_timeout: CONNECT_TIMEOUT,
            statement_timeout: Duration::from_secs(30),
            prepare: true,
        };
        Store::new(settings)?.migrate(PAYLOAD_BYTES_MAX).await?;
        let (client, connection) = Connector::new(&url, CONNECT_TIMEOUT)?.connect().await?;
        tokio::spawn(connection);
        client.batch_execute(include_str!("sql/ledger.sql")).await.context("ledger.sql")?;
        Ok(Self { client })
    }

    /// Enqueues one job for each payload, and those that fail, last and die.
    pub(super) async fn enqueue(&self, payloads: &[String]) -> anyhow::Result<u64> {
        self.client.batch_execute(include_str!("sql/enqueue_odd.sql")).await.context("enqueue_odd.sql")?;
        self.client.execute(ENQUEUE, &[&payloads]).await.context("enqueue.sql")
    }

    /// Enqueues jobs that take long enough to be caught at work.
    pub(super) async fn enqueue_naps(&self) -> anyhow::Result<()> {
        self.client.batch_execute(include_str!("sql/enqueue_naps.sql")).await.context("enqueue_naps.sql")
    }

    pub(super) async fn progress(&self) -> anyhow::Result<Progress> {
        let row = self.client.query_one(include_str!("sql/progress.sql"), &[]).await?;
        let count = |at: usize| row.get::<_, i64>(at) as u64;
        Ok(Progress { ended: count(0), open: count(1), workers: count(2) })
    }

    /// The name of the worker that holds most jobs; `None` when nobody holds any.
    pub(super) async fn busiest(&self) -> anyhow::Result<Option<String>> {
        Ok(self.client.query_opt(include_str!("sql/busiest.sql"), &[]).await?.map(|row| row.get(0)))
    }

    /// How many jobs a worker holds that does nothing any more, once the server has done what it asked before.
    pub(super) async fn held_by_frozen(&self, worker: &str) -> anyhow::Result<i64> {
        // What it has sent may not have been read yet: quiet for one look is not enough.
        let mut quiet = 0;
        while quiet < QUIET_LOOKS {
            let busy: bool = self.client.query_one(include_str!("sql/busy.sql"), &[&worker]).await?.get(0);
            quiet = if busy { 0 } else { quiet + 1 };
            tokio::time::sleep(BUSY_POLL).await;
        }
        Ok(self.client.query_one(include_str!("sql/held.sql"), &[&worker]).await?.get(0))
    }

    /// How many jobs were given back when that worker was found lost; `None` before.
    pub(super) async fn rescued(&self, worker: &str) -> anyhow::Result<Option<i64>> {
        Ok(self.client.query_opt(include_str!("sql/rescue.sql"), &[&worker]).await?.map(|row| row.get(0)))
    }

    /// How often each file stands in the ledger.
    pub(super) async fn ledger(&self) -> anyhow::Result<BTreeMap<i64, i64>> {
        let rows = self.client.query(include_str!("sql/proof_ledger.sql"), &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// The results of all checksum jobs: file and checksum.
    pub(super) async fn checksums(&self) -> anyhow::Result<Vec<(i64, Option<String>)>> {
        let rows = self.client.query(include_str!("sql/proof_checksums.sql"), &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// The webhook ids of all completed notifications.
    pub(super) async fn hooks(&self) -> anyhow::Result<BTreeSet<String>> {
        let rows = self.client.query(include_str!("sql/proof_hooks.sql"), &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// How many jobs failed and completed all the same.
    pub(super) async fn recovered(&self) -> anyhow::Result<i64> {
        Ok(self.client.query_one(include_str!("sql/proof_flaky.sql"), &[]).await?.get(0))
    }

    pub(super) async fn dead(&self) -> anyhow::Result<Vec<Dead>> {
        let rows = self.client.query(include_str!("sql/proof_dead.sql"), &[]).await?;
        let dead = rows.iter().map(|row| Dead {
            id: row.get(0),
            kind: row.get(1),
            reason: row.get(2),
            attempts: row.get(3),
            error: row.get(4),
            file: row.get(5),
        });
        Ok(dead.collect())
    }

    pub(super) async fn kinds(&self) -> anyhow::Result<Vec<Total>> {
        let rows = self.client.query(include_str!("sql/proof_kinds.sql"), &[]).await?;
        let kinds = rows.iter().map(|row| Total {
            kind: row.get(0),
            jobs: row.get(1),
            completed: row.get(2),
            dead: row.get(3),
            more_tries: row.get(4),
            per_second: row.get(5),
        });
        Ok(kinds.collect())
    }

    /// Jobs with a later id than this one that have ended.
    pub(super) async fn ended_since(&self, id: i64) -> anyhow::Result<Vec<ByHand>> {
        let rows = self.client.query(include_str!("sql/ended_since.sql"), &[&id]).await?;
        let jobs = rows.iter().map(|row| ByHand {
            id: row.get(0),
            kind: row.get(1),
            state: row.get(2),
            after_ms: row.get(3),
        });
        Ok(jobs.collect())
    }
}
