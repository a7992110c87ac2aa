//! Finds out at the start what the way to the database carries: sessions that remember, and notices.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_postgres::Client;

use super::{Error, Notice, Private, Store};

/// How often the two sessions are compared: a pooler may give the same backend by chance.
const ROUNDS: usize = 3;
/// How long a notice may take.
const NOTICE_WAIT: Duration = Duration::from_secs(1);

/// What the way to the database carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Sessions and notices.
    Everything,
    /// Sessions, but a notice did not arrive.
    NoNotices,
    /// A transaction-mode pooler is in between: no locks, no notices.
    NoSessions,
}

impl Store {
    /// Whether sessions of `direct_url` keep what they are told.
    pub fn has_sessions(&self) -> bool {
        self.shared.sessions.load(Ordering::Relaxed)
    }

    /// Tries both, and from then on relies on what was found.
    pub async fn self_test(&self) -> Result<Carries, Error> {
        if self.has_sessions() {
            let keeps = keeps_sessions(&self.open_bare().await?, &self.open_bare().await?).await;
            let keeps = keeps.map_err(|source| Error::Statement { statement: "self_test", source })?;
            self.shared.sessions.store(keeps, Ordering::Relaxed);
        }
        if !self.has_sessions() {
            return Ok(Carries::NoSessions);
        }
        let mut listener = self.open_private().await?;
        listener.listen().await?;
        listener.store.ring().await?;
        let heard = tokio::time::timeout(NOTICE_WAIT, listener.next_notice()).await;
        Ok(if heard == Ok(Some(Notice::Back)) { Carries::Everything } else { Carries::NoNotices })
    }
}

/// Whether each connection has a backend of its own, also while the other is in a transaction.
async fn keeps_sessions(one: &Private, other: &Private) -> Result<bool, tokio_postgres::Error> {
    let (one, other) = (one.client(), other.client());
    let mut own = backend(one).await?;
    for _ in 0..ROUNDS {
        // The backend that has just been let go is the one a pooler gives next.
        let (begun, lent, now) =
            (other.batch_execute("begin").await, backend(other).await?, backend(one).await?);
        begun?;
        other.batch_execute("rollback").await?;
        if lent == own || now != own {
            return Ok(false);
        }
        own = now;
    }
    Ok(true)
}

async fn backend(client: &Client) -> Result<i32, tokio_postgres::Error> {
    let rows = client.query_typed("select pg_backend_pid()", &[]).await?;
    Ok(rows[0].get(0))
}
