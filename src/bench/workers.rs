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
/// A tick of the kernel's count of processor time, in microseconds.
pub(super) const TICK_US: f64 = 10_000.0;
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
    /// Further handlers, as TOML behind settings of the worker.
    pub(super) handlers: &'a str,
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
        fs::write(&workers.config, format!("{}{}{CONFIG}", pooled.unwrap_or_default(), kind.handlers))
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
    /// The processor time that one of them has used, in microseconds; without that of its children.
    pub(super) fn processor_us(&self, at: usize) -> anyhow::Result<f64> {
        let stat = self.of_proc(at, "stat")?;
        // The name before may contain anything; user and system time are the 14th and 15th field of all.
        let (_, fields) = stat.rsplit_once(") ").context("a line of /proc")?;
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
        Ok(ticks.sum::<Result<f64, _>>()? * TICK_US)
    }

    /// The peak of the resident memory of one of them.
    pub(super) fn peak_memory_mb(&self, at: usize) -> anyhow::Result<f64> {
        let status = self.of_proc(at, "status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
        let kb: f64 = line.split_whitespace().next().unwrap_or("0").parse()?;
        Ok(kb / 1024.0)
    }

    fn of_proc(&self, at: usize, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.children[at].id());
        fs::read_to_string(&path).context(path)
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
