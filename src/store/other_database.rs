//! A database other than the queue's, for the statements of SQL handlers.
//!
//! No transaction spans two servers: the effect is committed first, the job's finish after it, so that a job whose
//! worker dies between the two runs again.

use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, Runtime};
use tokio_postgres::Client;

use super::session::Lent;
use super::sql_run::{effect, failure};
use super::{Connector, Error, ServerUrl, error, statement};
use crate::{Failure, FailureClass, Outcome, SqlStatement, Success};

/// How long the server may take to take back what is not finished, before the connection is closed instead.
const ROLLBACK_MAX: Duration = Duration::from_secs(1);
/// The server's own time limit shall strike before ours, because it ends the statement.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);

/// A few connections to it, opened when they are needed.
pub struct OtherDatabase {
    pool: Pool,
    server: String,
    connect_timeout: Duration,
}

impl OtherDatabase {
    /// Prepares the pool; opens nothing yet. TLS is as the URL says, by the same rules as for the queue's.
    pub fn new(url: &ServerUrl, connections: usize, connect_timeout: Duration) -> Result<Self, Error> {
        let connector = Connector::new(url, connect_timeout)?;
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(connector.config().clone(), connector.tls(), recycling);
        let pool = Pool::builder(manager)
            .max_size(connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(connect_timeout))
            .create_timeout(Some(connect_timeout * 2))
            .recycle_timeout(Some(connect_timeout))
            .build()
            .expect("a runtime is given, and nothing else can be missing");
        Ok(Self { pool, server: url.redacted(), connect_timeout })
    }

    /// Its address without the password.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// What is wrong with a statement, in one sentence. An error when the server does not say.
    pub async fn check(&self, statement: &SqlStatement) -> Result<Option<String>, Failure> {
        let mut lent = self.lend().await?;
        let limit = self.connect_timeout;
        let checked = tokio::time::timeout(limit, statement::check(lent.client(), statement)).await;
        lent.settled = matches!(checked, Ok(Ok(_)));
        match checked {
            Ok(checked) => checked.map_err(|source| self.failed(&source)),
            Err(_) => Err(self.network(&format!("no answer within {limit:?}"))),
        }
    }

    /// Runs the statement with the payload (JSON text) as `$1` in a transaction of its own, and answers with
    /// `{"rows": n, "first": {..}}`.
    ///
    /// When the answer to the commit is lost this says failed, though the effect may be there.
    pub async fn run(&self, statement: &SqlStatement, payload: &str, limit: Duration) -> Outcome {
        let mut lent = self.lend().await?;
        let ran = tokio::time::timeout(
            limit + ANSWER_MARGIN,
            transaction(lent.client(), statement, payload, limit),
        );
        match ran.await {
            Ok(Ok(result)) => {
                lent.settled = true;
                Ok(Success::Done(Some(result)))
            }
            Ok(Err(source)) => {
                let rollback = tokio::time::timeout(ROLLBACK_MAX, lent.client().batch_execute("rollback"));
                lent.settled = matches!(rollback.await, Ok(Ok(())));
                Err(self.failed(&source))
            }
            Err(_) => {
                let message = format!("no answer from {} within {limit:?}", self.server);
                Err(Failure::retry_as(FailureClass::Timeout, message))
            }
        }
    }

    async fn lend(&self) -> Result<Lent, Failure> {
        let began = Instant::now();
        loop {
            match self.pool.get().await {
                Ok(object) => return Ok(Lent { object: Some(object), settled: false }),
                Err(PoolError::Backend(source)) if source.code().is_some() => {
                    let message =
                        format!("{} refuses the connection: {}", self.server, error::describe(&source));
                    return Err(Failure::retry_as(FailureClass::Network, message));
                }
                // All are in use: no more jobs are claimed than there are connections, so that one comes free soon.
                Err(PoolError::Timeout(deadpool_postgres::TimeoutType::Wait))
                    if began.elapsed() < self.connect_timeout * 2 => {}
                Err(PoolError::Backend(source)) => return Err(self.network(&error::describe(&source))),
                Err(other) => return Err(self.network(&other.to_string())),
            }
        }
    }

    fn network(&self, why: &str) -> Failure {
        Failure::retry_as(FailureClass::Network, format!("no connection to {}: {why}", self.server))
    }

    /// A connection that broke is no fault of the statement.
    fn failed(&self, source: &tokio_postgres::Error) -> Failure {
        if source.code().is_none() || error::is_outage(source) {
            return self.network(&error::describe(source));
        }
        failure(source)
    }
}

async fn transaction(
    client: &Client,
    statement: &SqlStatement,
    payload: &str,
    limit: Duration,
) -> Result<String, tokio_postgres::Error> {
    let limit_ms = limit.as_millis().clamp(1, i32::MAX as u128);
    let role = statement::take_role(statement);
    client.batch_execute(&format!("begin; set local statement_timeout = {limit_ms}{role}")).await?;
    let result = effect(client, statement, payload).await?;
    client.batch_execute("commit").await?;
    Ok(result)
}
