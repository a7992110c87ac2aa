//! What a doctor looks at: facts of the server and of the crew's tables, judged elsewhere.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::sql::Statement;
use super::{Error, Store};

/// Facts of the server.
#[derive(Debug, Clone, Default, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "settings that are on or off")]
pub struct ServerFacts {
    /// As the server writes it.
    pub version: String,
    /// As 150018.
    pub version_num: i32,
    /// The database's name.
    pub database: String,
    /// Who we are there.
    pub role: String,
    /// Whether it runs on this machine.
    pub local: bool,
    /// Whether commits reach the disk.
    pub fsync: bool,
    /// Whether pages torn by a crash can be mended.
    pub full_page_writes: bool,
    /// `on`, `off`, `local`, `remote_write` or `remote_apply`.
    pub synchronous_commit: String,
    /// Whether dead rows are removed, which needs the counts too.
    pub autovacuum: bool,
    /// Its clock, microseconds since 1970.
    pub now_micros: i64,
    /// The most connections it takes.
    pub max_connections: i64,
    /// Those it has now.
    pub connections: i64,
    /// The used part of the queue of notices, 0 to 1.
    pub notify_usage: f64,
    /// The age of rows at which it must vacuum.
    pub freeze_max_age: i64,
    /// The server's cache.
    pub shared_buffers_bytes: u64,
    /// The log it writes between two checkpoints.
    pub max_wal_bytes: u64,
    /// Whether whole pages in the log are compressed.
    pub wal_compression: bool,
    /// The size of the database.
    pub database_bytes: u64,
    /// How much this machine's clock is ahead of the server's, in seconds; not known better than `clock_blur`.
    #[serde(skip)]
    pub clock_ahead: f64,
    /// The time the answer took, in seconds.
    #[serde(skip)]
    pub clock_blur: f64,
}

/// Somebody who keeps dead rows from being removed.
#[derive(Debug, Clone, Deserialize)]
pub struct Holder {
    /// As "session 42 of app (psql)".
    pub who: String,
    /// What it does.
    pub what: String,
    /// Since how many seconds, where that is known.
    pub seconds: Option<f64>,
    /// What ends it.
    pub end_by: String,
}

/// The state of one table.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct TableFacts {
    /// Without its schema.
    pub name: String,
    /// With its schema, quoted where it must be.
    pub qualified: String,
    /// Rows, estimated.
    pub live: i64,
    /// Dead rows, estimated.
    pub dead: i64,
    /// Updates since statistics began.
    pub updates: i64,
    /// Those that touched no index.
    pub heap_only: i64,
    /// The last vacuum, by the server itself or by hand.
    pub last_autovacuum: Option<String>,
    /// Whether the server vacuums it by itself.
    pub autovacuum: bool,
    /// The part of a page that inserts fill, in percent.
    pub fillfactor: i64,
    /// Transactions since it was last frozen.
    pub age: i64,
    /// Its size without indexes.
    pub table_bytes: u64,
    /// The size of its indexes.
    pub index_bytes: u64,
}

/// An index that is broken or in the way.
#[derive(Debug, Clone, Deserialize)]
pub struct IndexFacts {
    /// With its schema, quoted where it must be.
    pub name: String,
    /// The table it is on.
    pub table: String,
    /// Built only in part: written, never read.
    pub invalid: bool,
    /// Columns in it that every claim changes.
    pub hot: Option<String>,
}

/// How the queues stand.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct QueueFacts {
    /// Workers in the crew.
    pub workers: i64,
    /// Those that have not beaten for 30 s.
    pub silent: i64,
    /// Paused queues.
    pub paused: Vec<String>,
    /// The first due job of each queue.
    pub heads: Vec<Head>,
    /// Due kinds that no worker serves.
    pub unserved: Vec<Unserved>,
}

/// The first due job of a queue.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Head {
    /// The queue.
    pub queue: String,
    /// How long it has been due.
    pub seconds: f64,
    /// Whether the queue is paused.
    pub paused: bool,
    /// Workers that serve the queue.
    pub workers: i64,
}

/// Due jobs that nobody can run.
#[derive(Debug, Clone, Deserialize)]
pub struct Unserved {
    /// Their kind.
    pub kind: String,
    /// How many, among the 20,000 of the smallest ids.
    pub jobs: i64,
}

/// What the jobs of the last hour were like.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Load {
    /// Tries that ended.
    pub ended_1h: f64,
    /// Tries a second in the busiest minute.
    pub busiest_per_second: f64,
    /// The mean time a handler ran.
    pub run_ms: Option<f64>,
    /// The mean size of a waiting job's payload, as stored.
    pub payload_bytes: Option<f64>,
    /// Of how many jobs that is the mean.
    pub sampled: i64,
    /// Workers in the crew.
    pub workers: i64,
    /// Jobs they may run at once, together.
    pub concurrency: i64,
    /// Jobs they ran at their last beats.
    pub busy: i64,
}

impl Store {
    /// Reads facts of the server, and compares its clock with ours.
    pub async fn server_facts(&self) -> Result<ServerFacts, Error> {
        let before = unix_seconds();
        let mut facts: ServerFacts = self.facts(&self.statements.doctor_server).await?.swap_remove(0);
        let after = unix_seconds();
        facts.clock_blur = (after - before).max(0.0);
        facts.clock_ahead = f64::midpoint(before, after) - facts.now_micros as f64 / 1e6;
        Ok(facts)
    }

    /// Lists the rights that the crew needs and this role lacks.
    pub async fn lacking_rights(&self) -> Result<Vec<String>, Error> {
        let rows = self.query(&self.statements.doctor_rights, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Lists who keeps dead rows from being removed, the longest first.
    pub async fn holders(&self) -> Result<Vec<Holder>, Error> {
        self.facts(&self.statements.doctor_holders).await
    }

    /// Reads the state of the crew's tables, by name.
    pub async fn table_facts(&self) -> Result<Vec<TableFacts>, Error> {
        self.facts(&self.statements.doctor_tables).await
    }

    /// Lists the crew's indexes that are broken or in the way.
    pub async fn bad_indexes(&self) -> Result<Vec<IndexFacts>, Error> {
        self.facts(&self.statements.doctor_indexes).await
    }

    /// Reads how the queues stand.
    pub async fn queue_facts(&self) -> Result<QueueFacts, Error> {
        Ok(self.facts(&self.statements.doctor_queues).await?.swap_remove(0))
    }

    /// Reads what the jobs of the last hour were like.
    pub async fn load(&self) -> Result<Load, Error> {
        Ok(self.facts(&self.statements.doctor_load).await?.swap_remove(0))
    }

    async fn facts<T: DeserializeOwned>(&self, statement: &Statement) -> Result<Vec<T>, Error> {
        let rows = self.query(statement, &[]).await?;
        let read = |row: &tokio_postgres::Row| {
            serde_json::from_str(row.get(0)).unwrap_or_else(|error| {
                panic!("{} answers what its reader does not know: {error}", statement.name)
            })
        };
        Ok(rows.iter().map(read).collect())
    }

    /// Whether what answers at `database_url` shares server sessions between clients within a session, as a
    /// transaction-mode pooler does.
    pub async fn is_pooled(&self) -> Result<bool, Error> {
        self.is_shared(&self.shared.settings.url).await
    }

    /// The same of `direct_url`, where it must not be.
    pub async fn is_direct_pooled(&self) -> Result<bool, Error> {
        self.is_shared(&self.shared.settings.direct_url).await
    }

    /// Two clients, the second with a transaction open: behind such a pooler it gets the session that the
    /// first one had, or the first one gets another.
    async fn is_shared(&self, url: &super::ServerUrl) -> Result<bool, Error> {
        let (first, second) = (self.bare(url).await?, self.bare(url).await?);
        let before = session_of(&first).await?;
        second.simple_query("begin").await.map_err(probe_failed)?;
        let between = session_of(&second).await?;
        let after = session_of(&first).await?;
        second.simple_query("rollback").await.map_err(probe_failed)?;
        Ok(before == between || before != after)
    }

    /// A connection on which nothing was set: a pooler may refuse or leak settings.
    async fn bare(&self, url: &super::ServerUrl) -> Result<tokio_postgres::Client, Error> {
        let connector = super::Connector::new(url, self.shared.settings.connect_timeout)?;
        let (client, connection) = connector.connect().await.map_err(|error| match error {
            super::ConnectError::Postgres(source) => Error::Connect { server: url.redacted(), source },
            other @ super::ConnectError::Timeout(_) => {
                Error::Pool { server: url.redacted(), reason: other.to_string(), source: None }
            }
        })?;
        tokio::spawn(connection);
        Ok(client)
    }
}

/// The number of the server session that answers.
async fn session_of(client: &tokio_postgres::Client) -> Result<String, Error> {
    // The simple protocol: it needs no prepared statement, which a pooler may forget.
    let answer = client.simple_query("select pg_backend_pid()").await.map_err(probe_failed)?;
    let pid = answer.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(pid.unwrap_or_default())
}

fn probe_failed(source: tokio_postgres::Error) -> Error {
    Error::Statement { statement: "pooler_probe", source }
}

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}
