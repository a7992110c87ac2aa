//! Runs the statement of a SQL handler in one transaction with the finish: its effect is exactly once.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio_postgres::types::{Json, ToSql, Type};
use tokio_postgres::{Client, Row};

use super::session::Lent;
use super::{Error, Store, error, statement};
use crate::{Failure, FailureClass, Job, SqlStatement, WorkerId};

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

    /// What an error of the commit itself makes of it.
    pub(super) fn at_commit(source: &tokio_postgres::Error) -> Self {
        if error::is_broken(source) {
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
        worker_id: WorkerId,
        statement: &SqlStatement,
        job: &Job,
        (limit, deadline): (Duration, Instant),
        keep: bool,
    ) -> SqlRun {
        let mut lent = match tokio::time::timeout_at(deadline.into(), self.lend_patiently()).await {
            Ok(Ok(lent)) => lent,
            Ok(Err(error)) => return SqlRun::NoConnection(error.to_string()),
            Err(_) => {
                let waited = format!("no connection was free within {limit:?} (worker.sql_connections)");
                return SqlRun::NoConnection(waited);
            }
        };
        let work = self.transaction(lent.client(), worker_id, statement, job, limit, keep);
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(limit + self.shared.settings.connect_timeout, work) => outcome,
            // A primary that was demoted and stays up lets a commit wait for a standby that is gone, perhaps for good.
            () = self.shared.health.left(lent.opened_at()) => {
                return SqlRun::Uncertain("its server is not the primary any more".to_owned());
            }
        };
        match outcome {
            Ok(Ok(run)) => {
                lent.settled = matches!(run, SqlRun::Committed | SqlRun::ClaimLost);
                run
            }
            Ok(Err(source)) => {
                // A failed transaction is over only when the server says so.
                lent.settled = call!("rollback", lent.client().batch_execute("rollback")).is_ok();
                SqlRun::before_commit(&source)
            }
            Err(_) => SqlRun::Failed(Failure::retry_as(
                FailureClass::Timeout,
                format!("no answer from the database within {limit:?}"),
            )),
        }
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

    async fn transaction(
        &self,
        client: &Client,
        worker_id: WorkerId,
        statement: &SqlStatement,
        job: &Job,
        limit: Duration,
        keep: bool,
    ) -> Result<SqlRun, tokio_postgres::Error> {
        let limit_ms = limit.as_millis().clamp(1, i32::MAX as u128);
        // The handler's statement sees the role's own search_path and may be planned in every way, unlike ours.
        let begin = format!(
            "{}set local search_path to default; set local enable_seqscan to default; \
             set local enable_bitmapscan to default; set local statement_timeout = {limit_ms}{}",
            self.begin(),
            statement::take_role(statement)
        );
        call!("begin", client.batch_execute(&begin))?;
        let payload: &RawValue = serde_json::from_str(&job.payload).unwrap_or(RawValue::NULL);
        let result = call!("effect", effect(client, &statement.text, payload))?;
        let ours = "set local search_path = pg_catalog; set local enable_seqscan = off; \
                    set local enable_bitmapscan = off; set local statement_timeout = 0";
        let ours = format!("{}{ours}", statement::leave_role(statement));
        call!("begin", client.batch_execute(&ours))?;
        let held = match self.finish_one(client, worker_id, job, Some(&result), keep).await {
            Ok(held) => held,
            Err(Error::Statement { source, .. }) => return Err(source),
            Err(error) => return Ok(SqlRun::Failed(Failure::retry_as(FailureClass::Sql, error.to_string()))),
        };
        if !held {
            call!("rollback", client.batch_execute("rollback"))?;
            return Ok(SqlRun::ClaimLost);
        }
        match call!("commit", client.batch_execute("commit")) {
            Ok(()) => Ok(SqlRun::Committed),
            Err(source) => Ok(SqlRun::at_commit(&source)),
        }
    }
}

/// Runs the handler's statement; answers `{"rows": n, "first": {..}}` as JSON text.
pub(super) async fn effect(
    client: &Client,
    statement: &str,
    payload: &RawValue,
) -> Result<String, tokio_postgres::Error> {
    let payload = Json(payload);
    let all: [(&(dyn ToSql + Sync), Type); 1] = [(&payload, Type::JSONB)];
    // A statement that does not want the payload must not be given it.
    let params = if statement.contains("$1") { &all[..] } else { &[] };
    let stream = client.query_typed_raw(statement, params.iter().map(|(p, t)| (*p, t.clone()))).await?;
    let mut stream = std::pin::pin!(stream);
    let mut first = None;
    let mut rows = 0_u64;
    while let Some(row) = stream.try_next().await? {
        rows += 1;
        first.get_or_insert_with(|| object_of(&row));
    }
    let rows = stream.rows_affected().unwrap_or(rows);
    Ok(json!({ "rows": rows, "first": first }).to_string())
}

/// A row as JSON: the types that have a JSON of their own; null for others.
fn object_of(row: &Row) -> Value {
    let value = |at: usize| -> Value {
        match *row.columns()[at].type_() {
            Type::BOOL => json!(row.try_get::<_, Option<bool>>(at).ok()),
            Type::INT2 => json!(row.try_get::<_, Option<i16>>(at).ok()),
            Type::INT4 => json!(row.try_get::<_, Option<i32>>(at).ok()),
            Type::INT8 => json!(row.try_get::<_, Option<i64>>(at).ok()),
            Type::FLOAT8 => json!(row.try_get::<_, Option<f64>>(at).ok()),
            Type::JSON | Type::JSONB => {
                row.try_get::<_, Option<Value>>(at).ok().flatten().unwrap_or_default()
            }
            Type::TEXT | Type::VARCHAR | Type::NAME => json!(row.try_get::<_, Option<String>>(at).ok()),
            _ => Value::Null,
        }
    };
    let fields = row.columns().iter().enumerate().map(|(at, column)| (column.name().to_owned(), value(at)));
    Value::Object(fields.collect::<Map<_, _>>())
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
