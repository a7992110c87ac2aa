//! Lends the connections of a pool.

use std::time::{Duration, Instant};

use deadpool_postgres::{HookError, Object, Pool, PoolError};

use super::super::{Error, Store, Via, error};

/// How long a statement waits for a server that is away before its sender hears of it: a worker that is asked to
/// stop meanwhile must not wait for longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The first pause while the server has no connection left; it doubles.
const CROWDED_PAUSE: Duration = Duration::from_millis(50);

/// Why a new connection is not taken into the pool.
pub(in crate::store) const READ_ONLY: &str = "the server takes no writes";

impl Store {
    /// Takes a connection from the pool, for several statements in a row.
    ///
    /// While the server is away, waits a little for it to come back; and while it has no connection left, for one
    /// that is given back, here or elsewhere.
    pub(in crate::store) async fn lend(&self) -> Result<Lent, Error> {
        let Via::Pool(pool) = &self.via else {
            unreachable!("a private connection is never lent");
        };
        let began = Instant::now();
        let mut pause = CROWDED_PAUSE;
        loop {
            match self.lend_once(pool).await {
                Err(error) if error.is_crowded() && began.elapsed() + pause < PATIENCE => {
                    if pool.status().size == 0 {
                        self.make_room();
                    }
                    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    pause *= 2;
                }
                answer => return answer,
            }
        }
    }

    async fn lend_once(&self, pool: &Pool) -> Result<Lent, Error> {
        self.until_well(PATIENCE).await?;
        let error = match pool.get().await {
            Ok(object) => return Ok(Lent { object: Some(object), settled: false }),
            Err(error) => error,
        };
        // A server that has no connection left for us serves those that we have.
        let full = pool.status().size > 0;
        match error {
            PoolError::PostCreateHook(HookError::Message(reason)) if reason == READ_ONLY => {
                self.shared.health.demoted();
                Err(Error::ReadOnly { server: self.shared.server.clone() })
            }
            PoolError::Backend(source) | PoolError::PostCreateHook(HookError::Backend(source)) => {
                if error::is_outage(&source) && !full {
                    self.shared.health.lost();
                }
                Err(Error::Pool {
                    server: self.shared.server.clone(),
                    reason: error::describe(&source),
                    source: Some(source),
                })
            }
            other => Err(self.no_connection(other.to_string())),
        }
    }

    pub(in crate::store) fn no_connection(&self, reason: String) -> Error {
        Error::Pool { server: self.shared.server.clone(), reason, source: None }
    }
}

/// A pooled connection in use.
pub(in crate::store) struct Lent {
    pub(in crate::store) object: Option<Object>,
    /// Set when nothing is open on it any more; otherwise it is closed when dropped.
    pub(in crate::store) settled: bool,
}

impl Lent {
    pub(in crate::store) fn client(&self) -> &deadpool_postgres::ClientWrapper {
        self.object.as_ref().expect("present until dropped")
    }

    pub(in crate::store) fn opened_at(&self) -> Instant {
        Object::metrics(self.object.as_ref().expect("present until dropped")).created
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
