//! The bench's own server, worker processes, and ways to fill and watch the queue.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio_postgres::{Client, NoTls};

use super::watch::Run;
use super::workers::Workers;
use super::{Listener, Progress, Settings};
use crate::embedded::{Cluster, Options};
use crate::store::{self, ServerUrl, Store};

/// Between two looks whether the queue is empty; short against a run of seconds.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long any single run may take.
const PATIENCE: Duration = Duration::from_mins(20);

/// Undoes what benches change in a database.
pub(super) const RESTORE: &str = "truncate rowcrew.jobs, rowcrew.claims; drop table if exists bench_rows; \
    alter table rowcrew.jobs enable trigger jobs_ring; \
    update rowcrew.queues set paused_until = null, retention = null where name = 'default'";

/// What a bench works with.
pub(super) struct Rig<'a> {
    pub(super) settings: &'a Settings,
    pub(super) url: String,
    pub(super) client: Client,
    pub(super) store: Store,
    cluster: Option<Cluster>,
    listener: Listener<'a>,
    runs: AtomicUsize,
}

impl<'a> Rig<'a> {
    pub(super) async fn start(settings: &'a Settings, listener: Listener<'a>) -> anyhow::Result<Self> {
        let cluster = if settings.url.is_none() {
            listener(Progress::Doing("starting a private Postgres"));
            Some(private_server(settings)?)
        } else {
            None
        };
        let url = match (&settings.url, &cluster) {
            (Some(url), _) => url.clone(),
            (None, Some(cluster)) => cluster.url("postgres"),
            (None, None) => unreachable!("without a URL there is a server"),
        };
        let store = Store::new(store_settings(&url)?)?;
        store.migrate(1 << 20).await?;
        let client = connect(&url).await?;
        let rig = Self { settings, url, client, store, cluster, listener, runs: AtomicUsize::new(0) };
        rig.exec("truncate rowcrew.jobs, rowcrew.claims; delete from rowcrew.workers").await?;
        Ok(rig)
    }

    /// Stops the private server.
    pub(super) fn stop(self) {
        if let Some(cluster) = self.cluster {
            let _ = cluster.stop();
        }
    }

    /// The folder of the private server's socket.
    pub(super) fn socket_dir(&self) -> Option<String> {
        self.cluster.as_ref().map(|cluster| cluster.socket_dir().display().to_string())
    }

    pub(super) fn say(&self, progress: Progress<'_>) {
        (self.listener)(progress);
    }

    /// Says that the next run begins.
    pub(super) fn begin(&self, round: usize, who: &str) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.say(Progress::Run(round, who));
    }

    pub(super) fn runs_begun(&self) -> usize {
        self.runs.load(Ordering::Relaxed)
    }

    pub(super) async fn exec(&self, sql: &str) -> anyhow::Result<()> {
        self.client.batch_execute(sql).await.with_context(|| sql.chars().take(80).collect::<String>())
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        connect(&self.url).await
    }

    /// Whether finished jobs are kept.
    pub(super) async fn keep_finished(&self, keep: bool) -> anyhow::Result<()> {
        let retention = if keep { "null" } else { "interval '0'" };
        self.exec(&format!(
            "insert into rowcrew.queues (name, retention) values ('default', {retention}) \
             on conflict (name) do update set retention = excluded.retention; truncate rowcrew.finished_jobs"
        ))
        .await
    }

    /// Puts jobs in, all at once and not to be claimed yet, and lets the server settle.
    pub(super) async fn fill(&self, jobs: i64, payload_bytes: usize) -> anyhow::Result<()> {
        let pad = payload_bytes.saturating_sub(12);
        let failing = self.settings.error_rate;
        self.fill_by(&format!(
            "insert into rowcrew.jobs (kind, payload, backoff) \
             select case when fails then 'fail' else 'noop' end, \
                jsonb_build_object('times', 1, 'pad', repeat('x', {pad})), \
                case when fails then '{{\"type\": \"fixed\", \"delay_ms\": 1}}'::jsonb end \
             from (select random() < {failing} as fails from generate_series(1, {jobs})) as job"
        ))
        .await
    }

    /// As [`Rig::fill`], with jobs that this statement inserts.
    pub(super) async fn fill_by(&self, insert: &str) -> anyhow::Result<()> {
        self.exec("select rowcrew.pause('default')").await?;
        // Before the jobs come, not after: as in a queue that is worked off soon after it fills, their pages
        // need not be written to the log a second time.
        self.exec("checkpoint").await?;
        self.exec(insert).await?;
        self.exec("vacuum analyze rowcrew.jobs").await
    }

    /// Lets the jobs be claimed, and waits until none is left.
    pub(super) async fn drain(&self, workers: &mut Workers, jobs: i64) -> anyhow::Result<Run> {
        self.watched(async {
            let began = Instant::now();
            self.exec("select rowcrew.resume('default')").await?;
            let empty = self.until_empty(workers).await?;
            Ok(jobs as f64 / (empty - began).as_secs_f64())
        })
        .await
    }

    /// Waits until no job is left; answers when that was. Looks at the newest one, which costs one step down an
    /// index; the last look may walk over all the dead entries of a held snapshot, so it counts from its start.
    pub(super) async fn until_empty(&self, workers: &mut Workers) -> anyhow::Result<Instant> {
        let newest = "select id from rowcrew.jobs where shard = 0 order by id desc limit 1";
        let began = Instant::now();
        loop {
            let looked = Instant::now();
            let Some(row) = self.client.query_opt(newest, &[]).await? else {
                return Ok(looked);
            };
            let id: i64 = row.get(0);
            let gone = "select not exists (select from rowcrew.jobs where shard = 0 and id = $1)";
            let gone = self.client.prepare(gone).await?;
            while !self.client.query_one(&gone, &[&id]).await?.get::<_, bool>(0) {
                ensure!(
                    began.elapsed() < PATIENCE,
                    "the queue did not empty within {} min: job {id} is still there. Fewer --jobs?",
                    PATIENCE.as_secs() / 60
                );
                workers.check()?;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// Settings for a store of the bench itself.
pub(super) fn store_settings(url: &str) -> anyhow::Result<store::Settings> {
    let url = ServerUrl::parse(url)?;
    Ok(store::Settings {
        direct_url: url.clone(),
        url,
        schema: "rowcrew".to_owned(),
        pool_size: 4,
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_mins(5),
        prepare: true,
    })
}

/// A raw connection through the driver.
pub(super) async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A server with the durability of a real one and memory for the bench.
fn private_server(settings: &Settings) -> anyhow::Result<Cluster> {
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let options = Options {
        max_connections: 500,
        settings: vec![
            setting("shared_buffers", "1GB"),
            setting("max_wal_size", "8GB"),
            setting("checkpoint_timeout", "30min"),
        ],
        ..Options::new(settings.binaries.clone())
    };
    Ok(Cluster::start(&options)?)
}
