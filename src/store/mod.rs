//! The only floor that knows Postgres: one file for each thing done there.
//!
//! Everything that is written about a claimed job is fenced by its claim; several rows are locked in order
//! of id; no statement stands outside `sql/`.

/// Awaits a call to the database. With the feature `chaos` the call may be late, dropped or not heard.
#[cfg(not(feature = "chaos"))]
macro_rules! call {
    ($statement:expr, $call:expr) => {
        $call.await
    };
}
#[cfg(feature = "chaos")]
macro_rules! call {
    ($statement:expr, $call:expr) => {
        $crate::store::chaos::strike($statement, $call).await
    };
}

#[cfg(feature = "chaos")]
pub mod chaos;
mod claim;
mod complete;
mod connect;
mod crew;
mod doctor;
mod duties;
mod enqueue;
mod enqueue_many;
mod error;
mod finish;
mod health;
mod import;
mod kinds;
mod look;
mod migrate;
mod new_job;
mod operate;
mod other_database;
mod pools;
mod private;
mod progress;
mod schema;
mod self_test;
mod session;
pub mod sql;
mod sql_result;
mod sql_run;
mod statement;
#[cfg(test)]
mod test_server;
mod time;
mod tls;
mod transaction;
mod url;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use deadpool_postgres::Pool;

pub use claim::{ClaimOrder, Claimed, Lane};
pub use connect::{ConnectError, Connector, ServerClient, ServerConnection, ServerStream};
pub use crew::{Beat, Observed, Registration, Rescued};
pub use doctor::{Head, Holder, IndexFacts, Load, QueueFacts, ServerFacts, TableFacts, Unserved};
pub use duties::Kept;
pub use enqueue::{Enqueued, NewJob, When, enqueue, enqueue_in};
pub use enqueue_many::{enqueue_many, enqueue_many_in};
pub use error::Error;
pub use finish::{Ending, ErrorEntry, Fate};
pub use import::Import;
pub use look::{DeadFilter, JobFilter, JobPage, JobShown, Record};
pub use migrate::{Migrated, schema_version};
pub use other_database::OtherDatabase;
pub use private::{Notice, Private};
pub use progress::Progress;
pub use self_test::Carries;
pub use sql_run::SqlRun;
pub use time::Moment;
pub use tls::{TlsError, tls_connector};
pub use transaction::{Transaction, TransactionSlot};
pub use url::{
    APPLICATION_NAME, KEEPALIVES_IDLE, KEEPALIVES_INTERVAL, KEEPALIVES_RETRIES, Roots, ServerUrl, SslMode,
    TCP_USER_TIMEOUT, UrlError,
};

use health::Health;
use pools::pool;
use sql::Statements;

/// How to reach the database, and how long to wait for it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the hot path goes; may be a transaction-mode pooler.
    pub url: ServerUrl,
    /// Where sessions with a memory go: LISTEN, locks, migrations.
    pub direct_url: ServerUrl,
    /// The schema all tables are in.
    pub schema: String,
    /// Connections of the pool at most.
    pub pool_size: usize,
    /// How long a connection may take to come up.
    pub connect_timeout: Duration,
    /// How long the server may work on a statement.
    pub statement_timeout: Duration,
    /// Whether statements are prepared; not through a transaction-mode pooler.
    pub prepare: bool,
}

/// The database, as the rest of the program sees it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    statements: Arc<Statements>,
    /// For one transaction, where sessions keep nothing.
    local_settings: Arc<str>,
    via: Via,
}

struct Shared {
    settings: Settings,
    pooled: Connector,
    direct: Connector,
    health: Arc<Health>,
    /// Pools and private connections go to the same place.
    one_way: bool,
    /// Sessions of `direct_url` keep what they are told: it does not lead through a transaction-mode pooler.
    sessions: AtomicBool,
    /// For errors: the URL without its password.
    server: String,
    /// A little more than the server's own limit, which should strike first.
    answer_limit: Duration,
    prepare: bool,
}

#[derive(Clone)]
enum Via {
    Pool(Pool),
    Private(Arc<tokio_postgres::Client>),
}

/// How long statements wait for a row that somebody has locked: as long as they may take at all.
const NO_LIMIT: Duration = Duration::ZERO;
/// As many as a worker has claims on their way, and one for endings.
const HOT_CONNECTIONS: usize = 3;
/// Added to the server's time limit before the client gives up on an answer.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);

impl Store {
    /// Prepares the pool; connects when it is first used.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let prepare = settings.prepare && !settings.url.pooled();
        let health = Arc::<Health>::default();
        let statements = Arc::new(Statements::new(&settings.schema));
        let pool = pool(&settings, prepare, (NO_LIMIT, ""), &health, &statements)?;
        let local_settings = session::local_settings(settings.statement_timeout, NO_LIMIT).into();
        let shared = Shared {
            pooled: Connector::new(&settings.url, settings.connect_timeout)?,
            sessions: AtomicBool::new(!settings.direct_url.pooled()),
            health,
            one_way: settings.url == settings.direct_url,
            direct: Connector::new(&settings.direct_url, private_timeout(&settings))?,
            server: settings.url.redacted(),
            answer_limit: settings.statement_timeout + ANSWER_MARGIN,
            prepare,
            settings,
        };
        Ok(Self { shared: Arc::new(shared), statements, local_settings, via: Via::Pool(pool) })
    }

    /// The same database through a pool of its own for the transactions of handlers, so that others cannot use up its
    /// connections. What does not follow the beginning of a transaction writes nothing over it.
    pub fn for_transactions(&self, size: usize) -> Result<Self, Error> {
        let settings = Settings { pool_size: size, ..self.shared.settings.clone() };
        self.with_pool(&settings, (NO_LIMIT, session::READ_ONLY_OUTSIDE))
    }

    /// The same database through connections that wait no longer than this for a row that somebody has locked: then
    /// they answer an error that is transient, and [`Error::is_locked`]. Said once to each session, it costs the
    /// statements nothing.
    pub fn with_lock_timeout(&self, at_most: Duration) -> Result<Self, Error> {
        let settings = &self.shared.settings;
        let local_settings = session::local_settings(settings.statement_timeout, at_most).into();
        Ok(Self { local_settings, ..self.with_pool(settings, (at_most, ""))? })
    }

    /// As [`Store::with_lock_timeout`], through a pool for claims and endings alone, which keep their plans: without
    /// sorts and scans of whole tables to choose from there is only one for each, so that no statistics can make it
    /// wrong, and making it anew each time (0.35 ms) would be a third of what an idle worker takes to start a job, and
    /// a tenth of the time of the small groups in which one of many workers writes its endings.
    pub fn for_hot_path(&self, at_most: Duration) -> Result<Self, Error> {
        let settings = Settings { pool_size: HOT_CONNECTIONS, ..self.shared.settings.clone() };
        let local_settings = session::local_settings(settings.statement_timeout, at_most).into();
        Ok(Self { local_settings, ..self.with_pool(&settings, (at_most, session::ONE_PLAN))? })
    }

    fn with_pool(&self, settings: &Settings, sessions: (Duration, &str)) -> Result<Self, Error> {
        let health = &self.shared.health;
        let via = Via::Pool(pool(settings, self.shared.prepare, sessions, health, &self.statements)?);
        Ok(Self { via, ..self.clone() })
    }

    /// The schema all tables are in.
    pub fn schema(&self) -> &str {
        &self.shared.settings.schema
    }

    /// The first half of the advisory locks of this schema's workers.
    fn lock_class(&self) -> i32 {
        migrate::lock_key(self.schema()) as i32
    }
}

/// How long a private connection may take to one of several hosts: all of them are tried within the 3 s that the
/// beat has for it, though the first does not answer.
fn private_timeout(settings: &Settings) -> Duration {
    match settings.direct_url.hosts() {
        0 | 1 => settings.connect_timeout,
        several => settings.connect_timeout.min(Duration::from_millis(2_500) / several as u32),
    }
}
