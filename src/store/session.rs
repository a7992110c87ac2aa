//! Sends statements, over the pool or over one private connection, each within a time limit.
//!
//! A connection whose answer is still open when its user stops waiting is closed, never given to the next:
//! its state is not known.

use std::time::Duration;

use deadpool_postgres::{Object, PoolError};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::sql::Statement;
use super::{Error, Store, Via};

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

    /// As [`Store::query`], for statements that answer exactly one row.
    pub(super) async fn query_one(&self, statement: &Statement, params: Params<'_>) -> Result<Row, Error> {
        let mut rows = self.query(statement, params).await?;
        Ok(rows.swap_remove(0))
    }

    /// Takes a connection from the pool, for several statements in a row.
    pub(super) async fn lend(&self) -> Result<Lent, Error> {
        let Via::Pool(pool) = &self.via else {
            unreachable!("a private connection is never lent");
        };
        match pool.get().await {
            Ok(object) => Ok(Lent { object: Some(object), settled: false }),
            Err(PoolError::Backend(source)) => Err(Error::Pool {
                server: self.shared.server.clone(),
                reason: super::error::describe(&source),
                source: Some(source),
            }),
            Err(other) => Err(Error::Pool {
                server: self.shared.server.clone(),
                reason: other.to_string(),
                source: None,
            }),
        }
    }

    /// Sends one statement over a given connection.
    pub(super) async fn send(
        &self,
        client: &impl Sends,
        statement: &Statement,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        let limit = self.shared.answer_limit;
        let work = async { call!(statement.name, client.send(statement, params, self.shared.prepare)) };
        match tokio::time::timeout(limit, work).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(source)) => Err(Error::Statement { statement: statement.name, source }),
            Err(_) => Err(Error::NoAnswer { statement: statement.name, seconds: limit.as_secs() }),
        }
    }
}

/// Whether the connection is idle again: the server has answered, with rows or with an error.
fn settled(answer: &Result<Vec<Row>, Error>) -> bool {
    match answer {
        Ok(_) => true,
        Err(Error::Statement { source, .. }) => source.code().is_some() && !source.is_closed(),
        Err(_) => false,
    }
}

/// A pooled connection in use.
pub(super) struct Lent {
    object: Option<Object>,
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

/// The two sorts of clients, which differ in where they keep prepared statements.
pub(super) trait Sends {
    async fn send(
        &self,
        statement: &Statement,
        params: Params<'_>,
        prepare: bool,
    ) -> Result<Vec<Row>, tokio_postgres::Error>;
}

impl Sends for deadpool_postgres::ClientWrapper {
    async fn send(
        &self,
        statement: &Statement,
        params: Params<'_>,
        prepare: bool,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        if prepare {
            let prepared = self.prepare_typed_cached(&statement.text, &statement.params).await?;
            self.query(&prepared, params).await
        } else {
            (**self).query_typed(&statement.text, &typed(statement, params)).await
        }
    }
}

impl Sends for Client {
    async fn send(
        &self,
        statement: &Statement,
        params: Params<'_>,
        _: bool,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        // Rare statements only: not worth a prepared one.
        self.query_typed(&statement.text, &typed(statement, params)).await
    }
}

fn typed<'a>(statement: &Statement, params: Params<'a>) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    params.iter().copied().zip(statement.params.iter().cloned()).collect()
}

/// Further settings, for a session in which there is one way only to run its statements.
pub(super) const ONE_PLAN: &str =
    "; set enable_sort = off; set enable_seqscan = off; set plan_cache_mode = force_generic_plan";

/// The session settings that our promises rest on, whatever the role's defaults are.
///
/// Without bitmap scans, and without reading a small table as a whole, rows found by an array of ids are visited,
/// and so locked, in order of id.
///
/// Plans are made for each execution (about 0.3 ms). A kept one is made for the size that the tables have
/// then: a worker that idles beside empty tables would keep plans that read all of jobs for every row it
/// looks up, until the next autovacuum, which is a minute or more after a million jobs came in.
pub(super) fn session_settings(statement_timeout: Duration) -> String {
    format!(
        "set statement_timeout = {}; set lock_timeout = 0; set idle_in_transaction_session_timeout = 0; \
         set default_transaction_isolation = 'read committed'; set default_transaction_read_only = off; \
         set default_transaction_deferrable = off; set search_path = pg_catalog; set timezone = 'UTC'; \
         set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; set jit = off; set enable_bitmapscan = off; \
         set enable_seqscan = off; \
         set plan_cache_mode = force_custom_plan; \
         set bytea_output = 'hex'; set standard_conforming_strings = on",
        statement_timeout.as_millis()
    )
}
