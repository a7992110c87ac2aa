//! Worker processes, and what is done to them.

use std::fs::File;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use super::clock;
use super::role::{ORDER, Order, TEST};
use super::site::Site;

/// When a process was killed, and when it was gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Death {
    pub pid: u32,
    pub killed_at: i64,
    pub gone_at: i64,
}

/// All worker processes of a scenario; what is left of them is killed at the end.
pub(crate) struct Crew {
    pub order: Order,
    pub workers: Vec<Worker>,
    pub deaths: Arc<Mutex<Vec<Death>>>,
    log: std::path::PathBuf,
}

pub(crate) struct Worker {
    child: Child,
}

impl Crew {
    /// None yet; the order can be changed before the first one starts.
    pub(crate) fn new(site: &Site) -> Self {
        let url = site.url();
        let order = Order {
            direct_url: url.clone(),
            url,
            ledger: site.path("ledger"),
            slots: 16,
            drain_ms: 25_000,
            prepare: true,
            effect_ms: 0,
            own_processes: true,
            faketime: None,
            strikes: None,
        };
        Self { order, workers: Vec::new(), deaths: Arc::default(), log: site.path("workers.log") }
    }

    /// Starts so many more, and waits until each is known to live.
    pub(crate) async fn start(&mut self, site: &Site, count: usize) {
        let before: i64 = site.one("select coalesce(max(id), 0) from rowcrew.workers").await;
        for _ in 0..count {
            let worker = self.spawn();
            self.workers.push(worker);
        }
        let ready = format!(
            "(select count(*) >= {count} from rowcrew.workers where id > {before} and locked_at is not null)"
        );
        site.until(&ready).await;
    }

    /// Starts one and waits for nothing.
    pub(crate) fn spawn(&self) -> Worker {
        let log = File::options().append(true).create(true).open(&self.log).expect("a log");
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        if let Some(shift) = &self.order.faketime {
            command.env("LD_PRELOAD", faketime().expect("looked for before"));
            command.env("FAKETIME", shift).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let child = command
            .args([TEST, "--exact", "--nocapture", "--test-threads=1"])
            .env(ORDER, serde_json::to_string(&self.order).expect("JSON"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("a worker process");
        Worker { child }
    }

    /// Whether what the order asks for is installed.
    pub(crate) fn can_start(&self) -> bool {
        self.order.faketime.is_none() || faketime().is_some()
    }

    /// Ends one as a crash would.
    pub(crate) fn kill(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        let (pid, killed_at) = (worker.pid(), clock::now());
        worker.signal(Signal::KILL);
        worker.child.wait().expect("it ends");
        let death = Death { pid, killed_at, gone_at: clock::now() };
        self.deaths.lock().expect("no panic").push(death);
    }

    /// Notes the end of one that ended by itself, and starts another in its place.
    pub(crate) fn replace(&mut self, index: usize) {
        let fresh = self.spawn();
        let old = std::mem::replace(&mut self.workers[index], fresh);
        drop(old);
    }

    /// Restarts those that ended by themselves, as a supervisor would; answers how many.
    pub(crate) fn restart_ended(&mut self) -> usize {
        let mut restarted = 0;
        for index in 0..self.workers.len() {
            if let Some(_status) = self.workers[index].child.try_wait().expect("waiting works") {
                let (pid, now) = (self.workers[index].pid(), clock::now());
                self.deaths.lock().expect("no panic").push(Death { pid, killed_at: now, gone_at: now });
                self.replace(index);
                restarted += 1;
            }
        }
        restarted
    }

    /// Asks all to stop and waits for them; answers how each ended and after how long.
    pub(crate) async fn stop(&mut self) -> Vec<(ExitStatus, Duration)> {
        for worker in &self.workers {
            worker.signal(Signal::TERM);
        }
        let mut ends = Vec::new();
        for mut worker in self.workers.drain(..) {
            ends.push(worker.ended(Duration::from_mins(1)).await);
        }
        ends
    }

    /// The largest value that one of them has in this line of its `/proc` status: kilobytes, or a count.
    pub(crate) fn status(&self, name: &str) -> u64 {
        let of = |worker: &Worker| {
            let status =
                std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        self.workers.iter().map(of).max().unwrap_or(0)
    }

    /// The most files and sockets that one of them has open.
    pub(crate) fn open_files(&self) -> usize {
        let of = |worker: &Worker| {
            std::fs::read_dir(format!("/proc/{}/fd", worker.pid())).map_or(0, Iterator::count)
        };
        self.workers.iter().map(of).max().unwrap_or(0)
    }

    /// What they all have said.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How often one of them said this.
    pub(crate) fn said(&self, words: &str) -> usize {
        self.log().matches(words).count()
    }
}

/// The library of faketime, where it is installed. Its program would stand between us and the worker.
pub(crate) fn faketime() -> Option<std::path::PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|library| library.exists())
}

impl Worker {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a pid");
        // One that has just ended takes no signal, and needs none.
        let _ = kill_process(pid, signal);
    }

    /// Lets it have no more than so many bytes of memory of its own: a request for more fails, which ends it.
    pub(crate) fn limit_memory(&self, bytes: Option<u64>) {
        let pid = Pid::from_raw(self.child.id() as i32);
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(pid, Resource::Data, limit).expect("a limit that can be set");
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("waiting works").is_some()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self, within: Duration) -> (ExitStatus, Duration) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("waiting works") {
                return (status, began.elapsed());
            }
            assert!(began.elapsed() < within, "worker {} does not end", self.pid());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
