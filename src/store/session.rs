//! Sends statements, over the pool or over one private connection, each within a time limit.
//!
//! A connection whose answer is still open when its user stops waiting is closed, never given to the next:
//! its state is not known.

mod lend;
mod settings;

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, RowStream};

pub(super) use lend::{Lent, READ_ONLY};
pub(super) use settings::{ONE_PLAN, READ_ONLY_OUTSIDE, local_settings, session_settings};

use super::sql::Statement;
use super::{Error, Store, Via};

/// The largest row for the sake of which a connection keeps its buffer.
const ROW_BYTES_KEPT: usize = 4 * 1024 * 1024;

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

    /// As [`Store::query`], over the pool, handing on each row as it comes: an answer with large payloads is not held a
    /// second time. After an error, rows may have been handed on. A connection that a very large row came over is closed:
    /// its buffer has grown with the row, and it would keep that for good.
    pub(super) async fn query_each(
        &self,
        statement: &Statement,
        params: Params<'_>,
        mut each: impl FnMut(Row),
    ) -> Result<(), Error> {
        let mut lent = call!("lend", self.lend())?;
        let largest = AtomicUsize::new(0);
        let each = |row: Row| {
            largest.fetch_max(row.raw_size_bytes(), Ordering::Relaxed);
            each(row);
        };
        let sent = lent.client().send_each(statement, params, self.way(), each);
        let answer = self.answered(statement, sent).await;
        lent.settled = settled(&answer) && largest.into_inner() <= ROW_BYTES_KEPT;
        answer
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

    /// As [`Store::query_each`], one at a time with all others that name the same turn.
    ///
    /// The lock is taken by a statement of its own, so that the one that follows sees all that was done in the
    /// turn before. All three are sent at once. Who holds a turn too long is passed over by those who wait:
    /// they get an error that is transient, and [`Error::is_turn_taken`].
    pub(super) async fn query_in_turn(
        &self,
        statement: &Statement,
        params: Params<'_>,
        turn: i64,
        each: impl FnMut(Row),
    ) -> Result<(), Error> {
        let mut lent = self.lend().await?;
        let take = format!(
            "{}set local lock_timeout = {}; select pg_advisory_xact_lock({turn})",
            self.begin(),
            TURN_WAIT.as_millis()
        );
        let way = if self.shared.prepare { Way::Prepared } else { Way::Unnamed };
        let sent = async {
            let (taken, answered, ended) = futures_util::join!(
                lent.client().batch_execute(&take),
                lent.client().send_each(statement, params, way, each),
                lent.client().batch_execute("commit")
            );
            taken.and(answered).and(ended)
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
        // Our own sessions say by themselves whether they write: not on a primary that was demoted.
        let (mode, settings) =
            if self.shared.prepare { ("", "") } else { ("read write", &*self.local_settings) };
        format!("begin isolation level read committed {mode} not deferrable; {settings}; ")
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
    /// Hands on each row of the answer as it comes.
    async fn send_each(
        &self,
        statement: &Statement,
        params: Params<'_>,
        way: Way<'_>,
        each: impl FnMut(Row),
    ) -> Result<(), tokio_postgres::Error>;

    async fn send(
        &self,
        statement: &Statement,
        params: Params<'_>,
        way: Way<'_>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let mut rows = Vec::new();
        self.send_each(statement, params, way, |row| rows.push(row)).await?;
        Ok(rows)
    }

    async fn execute(
        &self,
        statement: &Statement,
        params: Params<'_>,
        way: Way<'_>,
    ) -> Result<u64, tokio_postgres::Error>;
}

impl Sends for deadpool_postgres::ClientWrapper {
    async fn send_each(
        &self,
        statement: &Statement,
        params: Params<'_>,
        way: Way<'_>,
        each: impl FnMut(Row),
    ) -> Result<(), tokio_postgres::Error> {
        if let Way::Prepared = way {
            let prepared = self.prepare_typed_cached(&statement.text, &statement.params).await?;
            hand_on(self.query_raw(&prepared, params.iter().copied()), each).await
        } else {
            (**self).send_each(statement, params, way, each).await
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
    async fn send_each(
        &self,
        statement: &Statement,
        params: Params<'_>,
        way: Way<'_>,
        each: impl FnMut(Row),
    ) -> Result<(), tokio_postgres::Error> {
        let rows = hand_on(self.query_typed_raw(&statement.text, typed(statement, params)), each);
        let Way::Transaction(settings) = way else {
            return rows.await;
        };
        within(self, settings, rows).await
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

/// Takes each row out of an answer as it comes.
async fn hand_on(
    answer: impl Future<Output = Result<RowStream, tokio_postgres::Error>>,
    mut each: impl FnMut(Row),
) -> Result<(), tokio_postgres::Error> {
    let mut rows = std::pin::pin!(answer.await?);
    while let Some(row) = rows.try_next().await? {
        each(row);
    }
    Ok(())
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

/// Asks a new connection whether its server takes writes.
pub(super) async fn takes_writes(client: &Client, statement: &str) -> Result<bool, tokio_postgres::Error> {
    // Unnamed: it may lead through a pooler.
    let rows = client.query_typed(statement, &[]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}
