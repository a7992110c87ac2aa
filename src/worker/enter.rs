//! The start of a worker, until it is one of the crew.

use std::time::Duration;

use tokio::sync::watch;

use super::{Pauses, Stopping, check};
use crate::WorkerId;
use crate::handler::Registry;
use crate::store::{Carries, Error, Registration, Store};

/// How long the self-test of the connection may take.
const SELF_TEST_MAX: Duration = Duration::from_secs(2);

/// Checks what a worker needs, and enters the crew; answers also the number and the key of its lock. `poll` is told of if
/// the connection carries less than it should.
pub(super) async fn enter(
    store: &Store,
    registry: &Registry,
    registration: &Registration,
    poll: Option<Duration>,
) -> Result<(Pauses, WorkerId, i64), Error> {
    store.check_ready().await?;
    check::handlers(store, registry).await?;
    if let Some(poll) = poll {
        tell_what_is_carried(store, poll).await;
    }
    let pauses = Pauses::default();
    pauses.learn(pauses.version(), store.paused_kinds().await?);
    let (worker_id, lock_key) = store.register(registration).await?;
    Ok((pauses, worker_id, lock_key))
}

/// A step of a start; nothing, if the worker is asked to stop first: a lock or a server that does not answer may hold the
/// step up for as long as a statement may take.
pub async fn unless_stopped<T>(
    mut stopping: watch::Receiver<Stopping>,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<Option<T>, Error> {
    tokio::select! {
        done = step => done.map(Some),
        Ok(_) = stopping.wait_for(|asked| *asked != Stopping::No) => {
            tracing::info!("asked to stop before the worker had started");
            Ok(None)
        }
    }
}

/// Finds out whether locks and notices reach the database, and says what it costs if they do not.
async fn tell_what_is_carried(store: &Store, poll: Duration) {
    match tokio::time::timeout(SELF_TEST_MAX, store.self_test()).await {
        Ok(Ok(Carries::Everything)) => {}
        Ok(Ok(Carries::NoNotices)) => tracing::warn!(
            poll_ms = poll.as_millis() as u64,
            "a notice did not arrive within a second: jobs are found by polling alone"
        ),
        Ok(Ok(Carries::NoSessions)) => tracing::warn!(
            poll_ms = poll.as_millis() as u64,
            "a transaction-mode pooler is between this worker and the database: jobs are found by polling, and a \
             lost worker after 10 s, not 1 s. Set direct_url to the server itself, past the pooler"
        ),
        Ok(Err(error)) => tracing::warn!(%error, "the self-test of the connection failed"),
        Err(_) => tracing::warn!("the self-test of the connection took too long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_start_that_waits_ends_when_the_worker_is_asked_to_stop() {
        let (stop, stopping) = watch::channel(Stopping::No);
        assert_eq!(unless_stopped(stopping.clone(), async { Ok(1) }).await.expect("no error"), Some(1));
        let waiting = tokio::spawn(unless_stopped(stopping, std::future::pending::<Result<(), Error>>()));
        stop.send_replace(Stopping::Drain);
        assert_eq!(waiting.await.expect("no panic").expect("no error"), None);
    }
}
