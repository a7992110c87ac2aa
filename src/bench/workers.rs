//! Worker processes of this same program, in the crew before a clock starts.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::rig::{LOOK_EVERY, Rig};

/// How long all of them may take to start: 32 on two busy processors take some seconds.
const START_WAIT: Duration = Duration::from_mins(2);
/// Handlers: no-op jobs, some that fail once, and some that wait.
const CONFIG: &str = r#"
[handlers.noop]
type = "noop"
[handlers.fail]
type = "fail"
[handlers.sleep]
type = "sleep"
"#;

/// How a worker differs from the ordinary.
#[derive(Default)]
pub(super) struct WorkerKind<'a> {
    /// Another URL for its pool; then through a pooler, without prepared statements.
    pub(super) url: Option<&'a str>,
    /// What it logs, as JSON for [`Workers::take_log`].
    pub(super) log: Option<&'a str>,
}

/// Worker processes; ended when dropped, or when this process is gone in whatever way.
pub(super) struct Workers {
    children: Vec<Child>,
    config: PathBuf,
}

impl Rig<'_> {
    /// Starts worker processes and waits until all are in the crew.
    pub(super) async fn workers(&self, count: usize, concurrency: i64) -> anyhow::Result<Workers> {
        self.workers_of(count, concurrency, &WorkerKind::default()).await
    }

    /// As [`Rig::workers`], of this kind.
    pub(super) async fn workers_of(
        &self,
        count: usize,
        concurrency: i64,
        kind: &WorkerKind<'_>,
    ) -> anyhow::Result<Workers> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rowcrew-bench-{}-{number}.toml", std::process::id());
        let before = "select coalesce(max(id), 0) from rowcrew.workers";
        let before: i64 = self.client.query_one(before, &[]).await?.get(0);
        let mut workers = Workers { children: Vec::new(), config: self.settings.scratch.join(name) };
        let pooled = kind.url.map(|_| format!("direct_url = '{}'\ndatabase.prepare = false\n", self.url));
        fs::write(&workers.config, format!("{}{CONFIG}", pooled.unwrap_or_default()))
            .with_context(|| workers.config.display().to_string())?;
        for _ in 0..count {
            let mut command = Command::new(&self.settings.program);
            command
                .args(["work", "--exit-with-stdin", "--concurrency", &concurrency.to_string(), "--config"])
                .arg(&workers.config)
                .args(["--log-level", kind.log.unwrap_or("warn")])
                .env("DATABASE_URL", kind.url.unwrap_or(&self.url))
                .stdin(Stdio::piped())
                .stdout(Stdio::null());
            if kind.log.is_some() {
                command.args(["--log-format", "json"]).stderr(Stdio::piped());
            }
            workers.children.push(command.spawn().context("a worker process does not start")?);
        }
        let ready = "select count(*) from rowcrew.workers where id > $1 and locked_at is not null";
        let began = Instant::now();
        while self.client.query_one(ready, &[&before]).await?.get::<_, i64>(0) < count as i64 {
            workers.check()?;
            ensure!(
                began.elapsed() < START_WAIT,
                "{count} workers did not enter the crew within {} s",
                START_WAIT.as_secs()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(workers)
    }
}

impl Workers {
    /// The process numbers.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// The log of the first, where its kind has one.
    pub(super) fn take_log(&mut self) -> Option<ChildStderr> {
        self.children.first_mut()?.stderr.take()
    }

    /// Fails when one of them has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        for child in &mut self.children {
            if let Some(status) = child.try_wait()? {
                anyhow::bail!("worker process {} ended in the middle: {status}; it logged why", child.id());
            }
        }
        Ok(())
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
        let _ = fs::remove_file(&self.config);
    }
}
