//! SQL handlers of another database than the queue's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::SqlStatement;
use crate::handler::{Checked, Context, Handler, Work};
use crate::store::OtherDatabase;

/// Runs a statement there, at least once for each job: its commit and the job's finish are two.
pub struct SqlElsewhere {
    kind: String,
    database: OtherDatabase,
    statement: SqlStatement,
    connections: usize,
}

impl SqlElsewhere {
    /// For the jobs of a kind, over as many connections as the database has at most.
    pub fn new(kind: &str, database: OtherDatabase, statement: SqlStatement, connections: usize) -> Self {
        Self { kind: kind.to_owned(), database, statement, connections }
    }
}

impl Handler for SqlElsewhere {
    fn run(self: Arc<Self>, context: Context) -> Work {
        Box::pin(async move {
            let left = context.deadline.saturating_duration_since(Instant::now());
            let limit = left.max(Duration::from_millis(1));
            self.database.run(&self.statement, &context.job.payload, limit).await
        })
    }

    /// A job without a connection would only use up its time.
    fn capacity(&self) -> usize {
        self.connections
    }

    fn check(&self) -> Checked<'_> {
        Box::pin(async move {
            match self.database.check(&self.statement).await {
                Ok(None) => Ok(()),
                Ok(Some(fault)) => Err(fault),
                Err(failure) => {
                    tracing::warn!(
                        job.kind = self.kind,
                        error = failure.message,
                        "the statement could not be checked; its jobs will show whether it works"
                    );
                    Ok(())
                }
            }
        })
    }

    fn start(&self, _changed: &Arc<Notify>) {
        tracing::info!(
            job.kind = self.kind,
            database = self.database.server(),
            "the statement of this kind is committed in another database than the queue's: at least once, \
             no longer exactly once"
        );
    }
}
