//! Periodic upkeep. Every worker does all of it: each duty may run anywhere, twice, or be cut short.

use std::time::Duration;

use crate::store::{Error, Kept, Store};

/// One piece of upkeep.
#[derive(Debug, Clone, Copy)]
enum Duty {
    Expire,
    Reclaim,
    PruneFrontiers,
    Partitions,
    PruneDead,
    TidyStats,
    SampleDepths,
}

/// Each duty with its interval; a new one is a line here and an arm below.
const DUTIES: [(Duty, Duration); 7] = [
    (Duty::Expire, Duration::from_secs(10)),
    (Duty::Reclaim, Duration::from_secs(10)),
    (Duty::PruneFrontiers, Duration::from_mins(1)),
    (Duty::SampleDepths, Duration::from_mins(1)),
    (Duty::TidyStats, Duration::from_mins(10)),
    (Duty::Partitions, Duration::from_hours(1)),
    (Duty::PruneDead, Duration::from_hours(1)),
];

/// Does all duties, each at its interval, until dropped.
pub async fn run(store: Store, kept: Kept) {
    let loops = DUTIES.map(|(duty, every)| go_on(duty, every, &store, kept));
    futures_util::future::join_all(loops).await;
}

/// What should be there before the first job ends: today's partition. Without it jobs go on, and what they leave behind is
/// kept in the default partition until there is one.
pub async fn prepare(store: &Store, kept: Kept) {
    attempt(Duty::Partitions, store, kept, &mut false).await;
}

async fn go_on(duty: Duty, every: Duration, store: &Store, kept: Kept) {
    let mut was_failing = false;
    loop {
        // Spread, so that a fleet that started together does not work together.
        tokio::time::sleep(every.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        attempt(duty, store, kept, &mut was_failing).await;
    }
}

/// Does a duty once, and tells of the first failure in a row.
async fn attempt(duty: Duty, store: &Store, kept: Kept, was_failing: &mut bool) {
    match once(duty, store, kept).await {
        Ok(()) => *was_failing = false,
        // The worker says that, once for all of its process.
        Err(error) if error.is_away() => {
            tracing::debug!(?duty, %error, "upkeep waits for the database");
        }
        Err(error) => {
            if !std::mem::replace(was_failing, true) {
                tracing::warn!(?duty, %error, "upkeep failed; it is tried again");
            }
        }
    }
}

async fn once(duty: Duty, store: &Store, kept: Kept) -> Result<(), Error> {
    match duty {
        Duty::Expire => {
            for (queue, kind, jobs) in store.expire().await? {
                tracing::info!(queue, kind, jobs, "jobs expired before they were begun");
            }
            Ok(())
        }
        Duty::Reclaim => {
            let given_back = store.reclaim().await?;
            if given_back > 0 {
                tracing::warn!(
                    given_back,
                    "jobs of workers that had left are given back: claims that arrived later, or jobs that were locked"
                );
                store.ring().await?;
            }
            Ok(())
        }
        Duty::Partitions => {
            let (made, dropped) = store.prune_finished(kept).await?;
            if made + dropped > 0 {
                tracing::info!(made, dropped, "partitions of finished jobs");
            }
            Ok(())
        }
        Duty::PruneFrontiers => store.prune_frontiers().await,
        Duty::PruneDead => store.prune_dead(kept).await.map(drop),
        Duty::TidyStats => store.tidy_stats(kept).await,
        Duty::SampleDepths => store.sample_depths().await,
    }
}
