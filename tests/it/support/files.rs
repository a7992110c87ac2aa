//! What handlers leave behind outside of the database: files and processes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, test_kill_process};

/// A folder of one's own, removed at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("rowcrew-scratch-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        Self(folder)
    }

    /// The path of a file in it.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Waits until a process has written its number there, in one line; answers all numbers in the file.
    pub(crate) async fn pids(&self, name: &str, count: usize) -> Vec<i32> {
        let began = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        loop {
            let text = std::fs::read_to_string(self.0.join(name)).unwrap_or_default();
            if text.ends_with('\n') && text.lines().count() >= count {
                return text.lines().map(|line| line.trim().parse().expect("a number")).collect();
            }
            assert!(began.elapsed() < Duration::from_mins(1), "nothing wrote {count} numbers to {name}");
            ticks.tick().await;
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits until a process is gone.
pub(crate) async fn until_gone(pid: i32) {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    while is_alive(pid) {
        assert!(began.elapsed() < Duration::from_secs(20), "process {pid} lives on");
        ticks.tick().await;
    }
}

/// Whether it lives; a zombie nobody has collected yet does not.
pub(crate) fn is_alive(pid: i32) -> bool {
    let there = test_kill_process(Pid::from_raw(pid).expect("a pid")).is_ok();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    there && !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}
