//! Faults at every await around a database call of the store, for the chaos suite; only with the feature `chaos`.
//!
//! Each place names the statement it sends. What a place does is drawn from one seed for the process, and
//! nothing happens before [`arm`] was called.

use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;
use std::time::Duration;

use super::Error;

/// What is drawn from, and of how many places in a thousand one strikes.
static DRAWN: Mutex<Option<(fastrand::Rng, u32)>> = Mutex::new(None);

/// From now on so many in a thousand awaits go wrong, as the seed says.
pub fn arm(seed: u64, per_thousand: u32) {
    *DRAWN.lock().expect("no panic") = Some((fastrand::Rng::with_seed(seed), per_thousand));
}

enum Fault {
    /// The answer comes late.
    Delay(Duration),
    /// The call is given up so long after it was sent, whether or not the server does it.
    Drop(Duration),
    /// The server has done it, and the caller is told that it failed.
    Unheard,
}

fn draw() -> Option<Fault> {
    let mut drawn = DRAWN.lock().expect("no panic");
    let (rng, per_thousand) = drawn.as_mut()?;
    if rng.u32(..1000) >= *per_thousand {
        return None;
    }
    Some(match rng.u32(..3) {
        0 => Fault::Delay(Duration::from_millis(rng.u64(..50))),
        1 => Fault::Drop(Duration::from_micros(rng.u64(..3_000))),
        _ => Fault::Unheard,
    })
}

/// An error that is told instead of the answer.
pub(super) trait Injected {
    fn injected(statement: &'static str) -> Self;
}

impl Injected for Error {
    fn injected(statement: &'static str) -> Self {
        Self::NoAnswer { statement, seconds: 0 }
    }
}

impl Injected for super::ConnectError {
    fn injected(_: &'static str) -> Self {
        Self::Timeout(Duration::ZERO)
    }
}

impl Injected for tokio_postgres::Error {
    fn injected(_: &'static str) -> Self {
        Self::__private_api_timeout()
    }
}

/// Awaits a call, unless the seed wants it otherwise.
pub(super) async fn strike<T, E: Injected>(
    statement: &'static str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let Some(fault) = draw() else { return call.await };
    match fault {
        Fault::Delay(delay) => {
            tracing::info!(statement, "chaos: a call waits");
            tokio::time::sleep(delay).await;
            call.await
        }
        Fault::Drop(after) => {
            tracing::info!(statement, "chaos: a call is dropped");
            // Polled at least once, so that it is on its way; then dropped as a cancelled caller drops it.
            let _ = tokio::time::timeout(after, pin!(call)).await;
            Err(E::injected(statement))
        }
        Fault::Unheard => {
            tracing::info!(statement, "chaos: an answer is not heard");
            let _ = call.await;
            Err(E::injected(statement))
        }
    }
}
