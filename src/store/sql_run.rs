//! Runs the statement of a SQL handler in one transaction with the finish: its effect is exactly once.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use deadpool_postgres::ClientWrapper;
use futures_util::future::maybe_done;
use futures_util::join;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use super::complete::send_off;
use super::session::Lent;
use super::sql_result::result_of;
use super::time::JsonText;
use super::transaction::roll_back;
use super::{Error, Store, error, statement};
use crate::{Failure, FailureClass, Job, SqlStatement};

/// What became of it.
#[derive(Debug)]
pub enum SqlRun {
    /// Effect and finish are committed.
    Committed,
    /// The claim did not hold any more; nothing happened.
    ClaimLost,
    /// Nothing happened, and why.
    Failed(Failure),
    /// Nothing happened: no connection was to be had.
    NoConnection(String),
    /// Nothing happened: the connection broke.
    Broken(String),
    /// The connection broke while the commit was on its way: [`Store::is_held`] tells whether it happened.
    Uncertain(String),
}

impl SqlRun {
    /// What an error before the commit was sent makes of it.
    pub(super) fn before_commit(source: &tokio_postgres::Error) -> Self {
        if error::is_broken(source) {
            Self::Broken(error::describe(source))
        } else {
            Self::Failed(failure(source))
        }
    }

    /// What an error makes of it that came before the commit's answer, when the commit was sent already.
    pub(super) fn ahead_of_commit(source: &tokio_postgres::Error) -> Self {
        match source.as_db_error() {
            // The server has done nothing after it but roll back.
            Some(_) => Self::before_commit(source),
            None => Self::Uncertain(error::describe(source)),
        }
    }

    /// Whether the transaction has come to an end that is known, and the connection is free again.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Committed | Self::ClaimLost | Self::Failed(_))
    }

    /// Given up, because the worker has moved to another server.
    pub(super) fn left() -> Self {
        Self::Uncertain("its server is not the primary any more".to_owned())
    }

    /// What an error of the commit itself makes of it.
    pub(super) fn at_commit(source: &tokio_postgres::Error) -> Self {
        if source.as_db_error().is_none() || error::is_broken(source) {
            Self::Uncertain(error::describe(source))
        } else {
            Self::Failed(failure(source))
        }
    }
}

impl Store {
    /// Runs `statement` with the job's payload as `$1`, finishes the job, and commits both or neither.
    ///
    /// Waits for a connection until `deadline`; then the server may work for as long as `limit`.
    pub async fn run_sql(
        &self,
        statement: &SqlStatement,
        job: &Job,
        (limit, deadline): (Duration, Instant),
        keep: bool,
    ) -> SqlRun {
        let lent = match tokio::time::timeout_at(deadline.into(), self.lend_patiently()).await {
            Ok(Ok(lent)) => lent,
            Ok(Err(error)) => return SqlRun::NoConnection(error.to_string()),
            Err(_) => {
                let waited = format!("no connection was free within {limit:?} (worker.sql_connections)");
                return SqlRun::NoConnection(waited);
            }
        };
        let opened_at = lent.opened_at();
        tokio::select! {
            run = self.run_over(lent, statement, job, limit, keep) => run,
            // A primary that was demoted and stays up lets a commit wait for a standby that is gone, perhaps for good.
            () = self.shared.health.left(opened_at) => SqlRun::left(),
        }
    }

    /// Runs it over this connection, which is closed unless the end of the transaction is known.
    async fn run_over(
        &self,
        mut lent: Lent,
        statement: &SqlStatement,
        job: &Job,
        limit: Duration,
        keep: bool,
    ) -> SqlRun {
        let work = self.begin_with_effect(lent.client(), statement, job, limit, keep);
        let result = match tokio::time::timeout(limit + self.shared.settings.connect_timeout, work).await {
            Ok(Ok(result)) => result,
            Ok(Err(source)) => {
                roll_back(lent).await;
                return SqlRun::before_commit(&source);
            }
            Err(_) => {
                return SqlRun::Failed(Failure::retry_as(
                    FailureClass::Timeout,
                    format!("no answer from the database within {limit:?}"),
                ));
            }
        };
        let ours = format!("{}{OURS}", statement::leave_role(statement));
        let work = self.complete(lent.client(), &ours, job, Some(&result), keep);
        let run = self.within_limit(work).await;
        lent.settled = run.is_over();
        run
    }

    /// As [`Store::lend`], however long all connections are in use.
    pub(super) async fn lend_patiently(&self) -> Result<Lent, Error> {
        loop {
            match call!("lend", self.lend()) {
                Err(Error::Pool { source: None, .. }) => {}
                other => return other,
            }
        }
    }

    /// Whether a job is still held by this claim. Waits for a transaction that is about to end it, though not for
    /// long: an error that is transient says to ask again.
    pub async fn is_held(&self, job: &Job) -> Result<bool, Error> {
        let rows = self.query(&self.statements.job_held, &[&job.id, &job.claim_id]).await?;
        Ok(!rows.is_empty())
    }

    /// What ends the transaction, within the time that an answer may take.
    pub(super) async fn within_limit(&self, work: impl Future<Output = SqlRun>) -> SqlRun {
        let limit = self.shared.answer_limit;
        let too_late = |_| SqlRun::Uncertain(format!("no answer to the commit within {} s", limit.as_secs()));
        tokio::time::timeout(limit, work).await.unwrap_or_else(too_late)
    }

    /// What begins a transaction that a handler's statements are for: with its role's own search path, every way to plan,
    /// and this much time for each.
    ///
    /// It says that it writes, because the session by itself does not ([`READ_ONLY_OUTSIDE`]).
    ///
    /// [`READ_ONLY_OUTSIDE`]: super::session::READ_ONLY_OUTSIDE
    pub(super) fn begin_for_handler(&self, limit: Duration) -> String {
        let settings = if self.shared.prepare { "" } else { &*self.local_settings };
        let limit_ms = limit.as_millis().clamp(1, i32::MAX as u128);
        format!(
            "begin isolation level read committed read write not deferrable; {settings}; \
             set local search_path to default; set local enable_seqscan to default; \
             set local enable_bitmapscan to default; set local statement_timeout = {limit_ms}"
        )
    }

    /// Begins the transaction with the handler's statement; answers its result.
    async fn begin_with_effect(
        &self,
        client: &ClientWrapper,
        statement: &SqlStatement,
        job: &Job,
        limit: Duration,
        keep: bool,
    ) -> Result<String, tokio_postgres::Error> {
        let begin = format!("{}{}", self.begin_for_handler(limit), statement::take_role(statement));
        if !self.shared.prepare {
            // The session is somebody else's, and may write outside of a transaction: so one at a time.
            call!("begin", client.batch_execute(&begin))?;
            return call!("effect", effect(client, statement, &job.payload));
        }
        self.prepare_completion(client, keep).await?;
        let answer = call!("effect", begun_with(client, &begin, statement, &job.payload));
        match answer {
            Err(source) if is_outdated(&source) => {
                client.statement_cache.remove(&statement.text, types_of(&statement.text));
                client.batch_execute("rollback").await?;
                begun_with(client, &begin, statement, &job.payload).await
            }
            answer => answer,
        }
    }
}

/// Sends the beginning and the handler's statement in one go. Without the beginning the statement can do nothing:
/// the session writes only in transactions that say so.
async fn begun_with(
    client: &ClientWrapper,
    begin: &str,
    statement: &SqlStatement,
    payload: &str,
) -> Result<String, tokio_postgres::Error> {
    let mut opened = pin!(maybe_done(client.batch_execute(begin)));
    send_off(opened.as_mut()).await?;
    let ((), answer) = join!(opened.as_mut(), prepared_effect(client, statement, payload));
    opened.take_output().expect("it is awaited")?;
    answer
}

/// Whether a statement that the session keeps is not what it was: a table it names was altered, or somebody has
/// dropped it.
fn is_outdated(source: &tokio_postgres::Error) -> bool {
    let code = source.code();
    code == Some(&SqlState::FEATURE_NOT_SUPPORTED) || code == Some(&SqlState::INVALID_SQL_STATEMENT_NAME)
}

/// The settings that what we write in a handler's transaction runs under.
pub(super) const OURS: &str = "set local search_path = pg_catalog; set local enable_seqscan = off; \
    set local enable_bitmapscan = off; set local statement_timeout = 0; ";

/// As [`effect`], with a statement that the session keeps.
async fn prepared_effect(
    client: &ClientWrapper,
    statement: &SqlStatement,
    payload: &str,
) -> Result<String, tokio_postgres::Error> {
    let types = types_of(&statement.text);
    let prepared = client.prepare_typed_cached(&statement.text, types).await?;
    let payload = JsonText(payload);
    let params = [&payload as &(dyn ToSql + Sync)];
    let rows = client.query_raw(&prepared, params[..types.len()].iter().copied()).await?;
    result_of(rows, statement.result_bytes_max).await
}

/// The parameters of a handler's statement. One that does not want the payload must not be given it.
fn types_of(statement: &str) -> &'static [Type] {
    if statement.contains("$1") { &[Type::JSONB] } else { &[] }
}

/// Runs the handler's statement; answers its result.
pub(super) async fn effect(
    client: &Client,
    statement: &SqlStatement,
    payload: &str,
) -> Result<String, tokio_postgres::Error> {
    let payload = JsonText(payload);
    let text = &*statement.text;
    let params = types_of(text).iter().map(|type_| (&payload as &(dyn ToSql + Sync), type_.clone()));
    result_of(client.query_typed_raw(text, params).await?, statement.result_bytes_max).await
}

/// SQLSTATE classes 22 (data), 23 (constraint) and 42 (the statement itself) come out the same every time.
pub(super) fn failure(source: &tokio_postgres::Error) -> Failure {
    let message = error::describe(source);
    let permanent = source.code().is_some_and(|code| matches!(&code.code()[..2], "22" | "23" | "42"));
    match source.code().map(tokio_postgres::error::SqlState::code) {
        Some("57014") => Failure::retry_as(FailureClass::Timeout, message),
        _ if permanent => Failure::bury_as(FailureClass::Sql, message),
        _ => Failure::retry_as(FailureClass::Sql, message),
    }
}
