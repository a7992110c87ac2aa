//! The bench's own server, worker processes, and ways to fill and watch the queue.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio_postgres::{Client, NoTls};

use super::Settings;
use crate::embedded::{Cluster, Options};
use crate::store::{self, ServerUrl, Store};

/// Between two looks whether the queue is empty; short against a run of seconds.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long any single run may take.
const PATIENCE: Duration = Duration::from_mins(20);

/// What a bench works with.
pub(super) struct Rig<'a> {
    pub(super) settings: &'a Settings,
    pub(super) url: String,
    pub(super) client: Client,
    pub(super) store: Store,
    cluster: Option<Cluster>,
    progress: &'a (dyn Fn(&str) + Sync),
}

/// Worker processes; ended when dropped.
pub(super) struct Workers {
    children: Vec<Child>,
    config: PathBuf,
}

impl<'a> Rig<'a> {
    pub(super) async fn start(
        settings: &'a Settings,
        progress: &'a (dyn Fn(&str) + Sync),
    ) -> anyhow::Result<Self> {
        let cluster = if settings.url.is_none() {
            progress("starting a private Postgres");
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
        let rig = Self { settings, url, client, store, cluster, progress };
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

    pub(super) fn say(&self, line: &str) {
        (self.progress)(line);
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
        self.exec("select rowcrew.pause('default')").await?;
        // Before the jobs come, not after: as in a queue that is worked off soon after it fills, their pages
        // need not be written to the log a second time.
        self.exec("checkpoint").await?;
        let pad = payload_bytes.saturating_sub(12);
        let failing = self.settings.error_rate;
        self.exec(&format!(
            "insert into rowcrew.jobs (kind, payload, backoff) \
             select case when fails then 'fail' else 'noop' end, \
                jsonb_build_object('times', 1, 'pad', repeat('x', {pad})), \
                case when fails then '{{\"type\": \"fixed\", \"delay_ms\": 1}}'::jsonb end \
             from (select random() < {failing} as fails from generate_series(1, {jobs})) as job"
        ))
        .await?;
        self.exec("vacuum analyze rowcrew.jobs").await
    }

    /// Lets the jobs be claimed, and answers how many a second ended until none was left.
    pub(super) async fn drain_rate(&self, jobs: i64) -> anyhow::Result<f64> {
        let began = Instant::now();
        self.exec("select rowcrew.resume('default')").await?;
        self.until_empty().await?;
        Ok(jobs as f64 / began.elapsed().as_secs_f64())
    }

    /// Waits until no job is left. Looks at the newest one, which costs one step down an index.
    pub(super) async fn until_empty(&self) -> anyhow::Result<()> {
        let newest = "select id from rowcrew.jobs where shard = 0 order by id desc limit 1";
        let began = Instant::now();
        while let Some(row) = self.client.query_opt(newest, &[]).await? {
            let id: i64 = row.get(0);
            let gone = "select not exists (select from rowcrew.jobs where shard = 0 and id = $1)";
            let gone = self.client.prepare(gone).await?;
            while !self.client.query_one(&gone, &[&id]).await?.get::<_, bool>(0) {
                ensure!(
                    began.elapsed() < PATIENCE,
                    "the queue did not empty within {} min",
                    PATIENCE.as_secs() / 60
                );
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Starts worker processes and waits until all are in the crew.
    pub(super) async fn workers(&self, count: usize, concurrency: i64) -> anyhow::Result<Workers> {
        self.workers_at(count, concurrency, &self.url, None).await
    }

    /// As [`Rig::workers`], with another URL for their pools.
    pub(super) async fn workers_at(
        &self,
        count: usize,
        concurrency: i64,
        url: &str,
        direct_url: Option<&str>,
    ) -> anyhow::Result<Workers> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name =
            format!("rowcrew-bench-{}-{}.toml", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let config = self.settings.scratch.join(name);
        let direct = direct_url.map(|url| format!("direct_url = '{url}'\ndatabase.prepare = false\n"));
        std::fs::write(&config, format!("{}{WORKER_CONFIG}", direct.unwrap_or_default()))?;
        let before: i64 =
            self.client.query_one("select coalesce(max(id), 0) from rowcrew.workers", &[]).await?.get(0);
        let mut workers = Workers { children: Vec::new(), config };
        for _ in 0..count {
            let child = Command::new(&self.settings.program)
                .args(["work", "--log-level", "warn", "--concurrency", &concurrency.to_string(), "--config"])
                .arg(&workers.config)
                .env("DATABASE_URL", url)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .context("a worker process")?;
            workers.children.push(child);
        }
        let ready = "select count(*) from rowcrew.workers where id > $1 and locked_at is not null";
        let began = Instant::now();
        while self.client.query_one(ready, &[&before]).await?.get::<_, i64>(0) < count as i64 {
            ensure!(began.elapsed() < Duration::from_mins(2), "the workers did not start");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(workers)
    }
}

/// Handlers of the worker processes: no-op jobs, some that fail once, and some that wait.
const WORKER_CONFIG: &str = r#"
[handlers.noop]
type = "noop"
[handlers.fail]
type = "fail"
[handlers.sleep]
type = "sleep"
"#;

impl Workers {
    /// The process numbers.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for child in &self.children {
            if let Some(pid) = rustix::process::Pid::from_raw(child.id() as i32) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(&self.config);
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
