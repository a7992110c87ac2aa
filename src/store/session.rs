//! Sends statements, over the pool or over one private connection, each within a time limit.
//!
//! A connection whose answer is still open when its user stops waiting is closed, never given to the next:
//! its state is not known.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use deadpool_postgres::{HookError, Object, PoolError};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::sql::Statement;
use super::{Error, Store, Via};

/// How long a statement waits for a server that is away before its sender hears of it: a worker that is asked to
/// stop meanwhile must not wait for longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait for a turn. Many times what one takes; whoever holds it longer was stopped in the middle of it.
const TURN_WAIT: Duration = Duration::from_secs(3);

/// Parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Store {
    /// Sends one statement and reads all of its answer.
    pub(super) async fn query(&self, statement: &Statement, params: Params<'_>) -> Result<Vec<Row>, Error> {
        match &self.via {
            Via::Pool(_) => {
                let mut lent = call!("lend", self.lend())?;
                let answer = self.send(lent.client(), statement, params).await;
                lent.settled = settled(&answer);
                answer
            }
            Via::Private(client) => self.send(&**client, statement, params).await,
        }
    }

    /// As [`Store::query`], for statements that answer no rows: how many they wrote.
    pub(super) async fn execute(&self, statement: &Statement, params: Params<'_>) -> Result<u64, Error> {
        match &self.via {
            Via::Pool(_) => {
                let mut lent = self.lend().await?;
                let sent = lent.client().execute(statement, params, self.way());
                let answer = self.answered(statement, sent).await;
                lent.settled = settled(&answer);
                answer
            }
            Via::Private(client) => {
                self.answered(statement, Sends::execute(&**client, statement, params, self.way())).await
            }
        }
    }

    /// As [`Store::query`], one at a time with all others that name the same turn.
    ///
    /// The lock is taken by a statement of its own, so that the one that follows sees all that was done in the
    /// turn before. All three are sent at once. Who holds a turn too long is passed over by those who wait:
    /// they get an error that is transient, and [`Error::is_turn_taken`].
    pub(super) async fn query_in_turn(
        &self,
        statement: &Statement,
        params: Params<'_>,
        turn: i64,
    ) -> Result<Vec<Row>, Error> {
        let mut lent = self.lend().await?;
        let take = format!(
            "{}set local lock_timeout = {}; select pg_advisory_xact_lock({turn})",
            self.begin(),
            TURN_WAIT.as_millis()
        );
        let way = if self.shared.prepare { Way::Prepared } else { Way::Unnamed };
        let sent = async {
            let (taken, rows, ended) = futures_util::join!(
                lent.client().batch_execute(&take),
                lent.client().send(statement, params, way),
                lent.client().batch_execute("commit")
            );
            taken?;
            let rows = rows?;
            ended.map(|()| rows)
        };
        let answer = self.answered(statement, sent).await;
        lent.settled = settled(&answer);
        answer
    }

    /// As [`Store::query`], for statements that answer exactly one row.
    pub(super) async fn query_one(&self, statement: &Statement, params: Params<'_>) -> Result<Row, Error> {
        let mut rows = self.query(statement, params).await?;
        Ok(rows.swap_remove(0))
    }

    /// Takes a connection from the pool, for several statements in a row.
    ///
    /// While the server is away, waits a little for it to come back.
    pub(super) async fn lend(&self) -> Result<Lent, Error> {
        let Via::Pool(pool) = &self.via else {
            unreachable!("a private connection is never lent");
        };
        self.until_well(PATIENCE).await?;
        let error = match pool.get().await {
            Ok(object) => return Ok(Lent { object: Some(object), settled: false }),
            Err(error) => error,
        };
        // A server that has no connection left for us serves those that we have.
        let full = pool.status().size > 0;
        match error {
            PoolError::PostCreateHook(HookError::Message(reason)) if reason == READ_ONLY => {
                self.shared.health.lost();
                Err(Error::ReadOnly { server: self.shared.server.clone() })
            }
            PoolError::Backend(source) | PoolError::PostCreateHook(HookError::Backend(source)) => {
                if super::error::is_outage(&source) && !full {
                    self.shared.health.lost();
                }
                Err(Error::Pool {
                    server: self.shared.server.clone(),
                    reason: super::error::describe(&source),
                    source: Some(source),
                })
            }
            other => Err(self.no_connection(other.to_string())),
        }
    }

    pub(super) fn no_connection(&self, reason: String) -> Error {
        Error::Pool { server: self.shared.server.clone(), reason, source: None }
    }

    /// How statements are sent where this store's connections lead to.
    fn way(&self) -> Way<'_> {
        match &self.via {
            Via::Pool(_) if self.shared.prepare => Way::Prepared,
            Via::Private(_) if self.shared.sessions.load(Ordering::Relaxed) => Way::Unnamed,
            _ => Way::Transaction(&self.local_settings),
        }
    }

    /// Sends one statement over a given connection.
    pub(super) async fn send(
        &self,
        client: &impl Sends,
        statement: &Statement,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        self.answered(statement, client.send(statement, params, self.way())).await
    }

    /// What begins a transaction of several statements.
    pub(super) fn begin(&self) -> String {
        let settings = if self.shared.prepare { "" } else { &*self.local_settings };
        format!("begin isolation level read committed read write not deferrable; {settings}; ")
    }

    /// As [`Store::send`], inside of a transaction that was begun.
    pub(super) async fn send_inside(
        &self,
        client: &impl Sends,
        statement: &Statement,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        self.answered(statement, client.send(statement, params, Way::Unnamed)).await
    }

    /// Awaits an answer as long as it may take.
    async fn answered<T>(
        &self,
        statement: &Statement,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        let limit = self.shared.answer_limit;
        let work = async { call!(statement.name, work) };
        let error = match tokio::time::timeout(limit, work).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(source)) => Error::Statement { statement: statement.name, source },
            Err(_) => Error::NoAnswer { statement: statement.name, seconds: limit.as_secs() },
        };
        // Of a private connection its owner takes care, unless it tells of the server.
        if matches!(self.via, Via::Pool(_)) || error.sqlstate().is_some() {
            self.note(&error);
        }
        Err(error)
    }
}

/// Whether the connection is idle again: the server has answered, with rows or with an error.
fn settled<T>(answer: &Result<T, Error>) -> bool {
    match answer {
        Ok(_) => true,
        Err(Error::Statement { source, .. }) => source.code().is_some() && !source.is_closed(),
        Err(_) => false,
    }
}

/// A pooled connection in use.
pub(super) struct Lent {
    pub(super) object: Option<Object>,
    /// Set when nothing is open on it any more; otherwise it is closed when dropped.
    pub(super) settled: bool,
}

impl Lent {
    pub(super) fn client(&self) -> &deadpool_postgres::ClientWrapper {
        self.object.as_ref().expect("present until dropped")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(object) = self.object.take()
            && !self.settled
        {
            drop(Object::take(object));
        }
    }
}

/// How a statement is sent.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    /// Under a name, which the session keeps.
    Prepared,
    /// Without a name: for rare statements.
    Unnamed,
    /// In a transaction that begins with these settings, because the session, if there is one, is not ours.
    Transaction(&'a str),
}

/// The two sorts of clients, which differ in where they keep prepared statements.
pub(super) trait Sends {
    async fn send(
        &self,
        statement: &Statement,
        params: Params<'_>,
        way: Way<'_>,
    ) -> Result<Vec<Row>, tokio_postgres::Error>;

    async fn execute(
        &self,
        statement: &Statement,
        params: Params<'_>,
        way: Way<'_>,
    ) -> Result<u64, tokio_postgres::Error>;
}

impl Sends for deadpool_postgres::ClientWrapper {
    async fn send(
        &self,
        statement: &Statement,
        params: Params<'_>,
        way: Way<'_>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        if let Way::Prepared = way {
            let prepared = self.prepare_typed_cached(&statement.text, &statement.params).await?;
            self.query(&prepared, params).await
        } else {
            (**self).send(statement, params, way).await
        }
    }

    async fn execute(
        &self,
        statement: &Statement,
        params: Params<'_>,
        way: Way<'_>,
    ) -> Result<u64, tokio_postgres::Error> {
        if let Way::Prepared = way {
            let prepared = self.prepare_typed_cached(&statement.text, &statement.params).await?;
            (**self).execute(&prepared, params).await
        } else {
            Sends::execute(&**self, statement, params, way).await
        }
    }
}

impl Sends for Client {
    async fn send(
        &self,
        statement: &Statement,
        params: Params<'_>,
        way: Way<'_>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let params = typed(statement, params);
        let Way::Transaction(settings) = way else {
            return self.query_typed(&statement.text, &params).await;
        };
        within(self, settings, self.query_typed(&statement.text, &params)).await
    }

    async fn execute(
        &self,
        statement: &Statement,
        params: Params<'_>,
        way: Way<'_>,
    ) -> Result<u64, tokio_postgres::Error> {
        let params = typed(statement, params);
        let Way::Transaction(settings) = way else {
            return self.execute_typed(&statement.text, &params).await;
        };
        within(self, settings, self.execute_typed(&statement.text, &params)).await
    }
}

/// Sends a statement in a transaction that begins with these settings.
///
/// In one go, in this order; after an error the end is a rollback. All three answers are awaited, so that nothing
/// is open on the connection any more.
async fn within<T>(
    client: &Client,
    settings: &str,
    statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, tokio_postgres::Error> {
    let begin = format!("begin isolation level read committed read write not deferrable; {settings}");
    let (opened, answer, ended) =
        futures_util::join!(client.batch_execute(&begin), statement, client.batch_execute("commit"));
    opened?;
    let answer = answer?;
    ended?;
    Ok(answer)
}

fn typed<'a>(statement: &Statement, params: Params<'a>) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    params.iter().copied().zip(statement.params.iter().cloned()).collect()
}

/// Why a new connection is not taken into the pool.
pub(super) const READ_ONLY: &str = "the server takes no writes";

/// Asks a new connection whether its server takes writes.
pub(super) async fn takes_writes(client: &Client, statement: &str) -> Result<bool, tokio_postgres::Error> {
    // Unnamed: it may lead through a pooler.
    let rows = client.query_typed(statement, &[]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// Further settings, for a session in which there is one way only to run its statements.
pub(super) const ONE_PLAN: &str =
    "; set enable_sort = off; set enable_seqscan = off; set plan_cache_mode = force_generic_plan";

/// A further setting, for sessions whose every transaction is begun as one that writes: a statement that was sent
/// right behind a beginning that failed must not have its effect by itself.
pub(super) const READ_ONLY_OUTSIDE: &str = "; set default_transaction_read_only = on";

/// The session settings that our promises rest on, whatever the role's defaults are.
///
/// Without bitmap scans, and without reading a small table as a whole, rows found by an array of ids are visited,
/// and so locked, in order of id.
///
/// Plans are made for each execution (about 0.3 ms). A kept one is made for the size that the tables have
/// then: a worker that idles beside empty tables would keep plans that read all of jobs for every row it
/// looks up, until the next autovacuum, which is a minute or more after a million jobs came in.
pub(super) fn session_settings(statement_timeout: Duration, lock_timeout: Duration) -> String {
    SETTINGS
        .iter()
        .map(|(name, value)| format!("set {name} = {value}"))
        .chain([
            format!("set statement_timeout = {}", statement_timeout.as_millis()),
            format!("set lock_timeout = {}", lock_timeout.as_millis()),
            "set default_transaction_isolation = 'read committed'; set default_transaction_read_only = off; \
             set default_transaction_deferrable = off"
                .to_owned(),
        ])
        .collect::<Vec<_>>()
        .join("; ")
}

/// The same for one transaction, where the session is not ours; what a transaction begins with says the rest.
pub(super) fn local_settings(statement_timeout: Duration, lock_timeout: Duration) -> String {
    let limits = [("statement_timeout", statement_timeout), ("lock_timeout", lock_timeout)];
    let limits = limits.map(|(name, limit)| format!("set local {name} = {}", limit.as_millis()));
    let settings = SETTINGS.iter().map(|(name, value)| format!("set local {name} = {value}"));
    settings.chain(limits).collect::<Vec<_>>().join("; ")
}

const SETTINGS: [(&str, &str); 11] = [
    ("idle_in_transaction_session_timeout", "0"),
    ("search_path", "pg_catalog"),
    ("timezone", "'UTC'"),
    ("datestyle", "'ISO, YMD'"),
    ("intervalstyle", "'postgres'"),
    ("jit", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_seqscan", "off"),
    ("plan_cache_mode", "force_custom_plan"),
    ("bytea_output", "'hex'"),
    ("standard_conforming_strings", "on"),
];
