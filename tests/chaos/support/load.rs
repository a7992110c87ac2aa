//! Producers: plain SQL from outside, and a file of what was acknowledged to them.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::NoTls;

use super::run::Run;
use super::site::Site;

/// What producers put in.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub jobs: usize,
    /// Jobs of one insert.
    pub batch: usize,
    /// Between two inserts of one producer.
    pub pause: Duration,
    /// How many of a hundred jobs are long ones.
    pub long_percent: u32,
    /// Milliseconds of a long one.
    pub long_ms: std::ops::Range<u32>,
    /// How many of a hundred fail once.
    pub fail_percent: u32,
    /// How many of a hundred are SQL handlers.
    pub sql_percent: u32,
}

impl Load {
    /// Jobs of 1 to 20 ms, some of them long, some that fail once, some of SQL.
    pub(crate) fn usual(jobs: usize) -> Self {
        Self {
            jobs,
            batch: 50,
            pause: Duration::ZERO,
            long_percent: 5,
            long_ms: 1000..3000,
            fail_percent: 2,
            sql_percent: 10,
        }
    }

    /// One insert of so many jobs.
    fn sql(&self, rng: &mut fastrand::Rng, jobs: usize) -> String {
        /// Tells the jobs of this process apart, whichever load they are of: their effects are counted by it.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let mut sql = "insert into rowcrew.jobs (kind, payload) values ".to_owned();
        for at in 0..jobs {
            let long = rng.u32(..100) < self.long_percent;
            let ms = if long { rng.u32(self.long_ms.clone()) } else { rng.u32(1..20) };
            let fails = u32::from(rng.u32(..100) < self.fail_percent);
            let kind = if rng.u32(..100) < self.sql_percent { "effect" } else { "nap" };
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let comma = if at == 0 { "" } else { ", " };
            let _ = write!(sql, r#"{comma}('{kind}', '{{"n": {next}, "ms": {ms}, "fails": {fails}}}')"#);
        }
        sql + " returning id"
    }

    /// Two producers put their halves in, whatever becomes of their connections.
    pub(crate) fn produce(&self, run: &Run, site: &Site) -> Vec<JoinHandle<()>> {
        let produce = |half: usize| {
            let (load, rng) = (self.clone(), run.rng(&format!("producer {half}")));
            tokio::spawn(producer(load, rng, site.url(), site.path("acked")))
        };
        (0..2).map(produce).collect()
    }

    /// Puts all of it in before it returns.
    pub(crate) async fn put_in(&self, run: &Run, site: &Site) {
        for producer in self.produce(run, site) {
            producer.await.expect("a producer that is done");
        }
    }
}

async fn producer(load: Load, mut rng: fastrand::Rng, url: String, acked: PathBuf) {
    let mut acked = OpenOptions::new().append(true).create(true).open(acked).expect("a file");
    let mut left = load.jobs / 2;
    while left > 0 {
        let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        tokio::spawn(connection);
        while left > 0 {
            let jobs = load.batch.min(left);
            // An insert that is not answered may have happened: its jobs are nobody's promise.
            let Ok(rows) = client.query(&load.sql(&mut rng, jobs), &[]).await else { break };
            let ids: Vec<String> = rows.iter().map(|row| row.get::<_, i64>(0).to_string()).collect();
            acked.write_all((ids.join("\n") + "\n").as_bytes()).expect("the file takes it");
            left -= jobs;
            tokio::time::sleep(load.pause).await;
        }
    }
}
