//! Bare loops of spawns and of statements.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use anyhow::ensure;
use serde_json::json;
use tokio_postgres::types::Json;

use super::CONNECTIONS;
use super::kinds::STATEMENT;
use crate::bench::rig::Rig;

/// Work that is shared out one by one.
#[derive(Clone)]
pub(super) struct Share(Arc<AtomicI64>);

impl Share {
    pub(super) fn of(jobs: i64) -> Self {
        Self(Arc::new(AtomicI64::new(jobs)))
    }

    /// The number of the next one; `None` when all are taken.
    pub(super) fn next(&self) -> Option<i64> {
        let number = self.0.fetch_sub(1, Ordering::Relaxed);
        (number > 0).then_some(number)
    }
}

/// Starts `true` for each job, so many at once, with a payload to read and both outputs read to their ends.
pub(super) async fn spawns(at_once: usize, jobs: i64) -> anyhow::Result<f64> {
    let share = Share::of(jobs);
    tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        std::thread::scope(|scope| {
            let loops: Vec<_> = (0..at_once).map(|_| scope.spawn(|| spawn_all(&share))).collect();
            loops.into_iter().try_for_each(|one| one.join().expect("no panic"))
        })?;
        Ok(jobs as f64 / began.elapsed().as_secs_f64())
    })
    .await?
}

fn spawn_all(share: &Share) -> anyhow::Result<()> {
    while let Some(number) = share.next() {
        let mut child = Command::new("true")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may have ended without reading.
            let _ = stdin.write_all(json!({ "n": number }).to_string().as_bytes());
        }
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "`true`: {}", output.status);
    }
    Ok(())
}

/// Runs the statement alone, prepared, each in a transaction of its own.
pub(super) async fn statements(rig: &Rig<'_>, jobs: i64) -> anyhow::Result<f64> {
    let share = Share::of(jobs);
    let mut sessions = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = rig.connect().await?;
        let statement = client.prepare(STATEMENT).await?;
        sessions.push((client, statement));
    }
    let began = Instant::now();
    let loops: Vec<_> = sessions
        .into_iter()
        .map(|(client, statement)| {
            let share = share.clone();
            tokio::spawn(async move {
                while let Some(number) = share.next() {
                    client.execute(&statement, &[&Json(json!({ "n": number }))]).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for one in loops {
        one.await??;
    }
    Ok(jobs as f64 / began.elapsed().as_secs_f64())
}
