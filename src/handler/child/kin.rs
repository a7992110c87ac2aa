//! Finds and kills the processes that carry a mark, with their relatives, by what `/proc` says.
//!
//! A number is never killed for what it was a moment ago: the process is held by a descriptor and its start time
//! read once more before the signal goes out. Where there is no `/proc`, nothing is found.

use std::collections::HashSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::{Mutex, oneshot};

use super::mark;

/// Between two looks at processes that were killed and are not gone yet.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The longest wait for killed processes to go. A process that hangs in the kernel goes when the kernel lets it.
const KILL_WAIT_MAX: Duration = Duration::from_secs(2);

/// One line of `/proc/PID/stat`.
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    session: i32,
    /// In ticks since the system started; with the number, it names one process for ever.
    start: u64,
}

impl Process {
    /// `None` for one that is gone, a zombie too: nothing can be done about it, and it does nothing.
    fn read(pid: i32) -> Option<Self> {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before may contain anything, brackets too.
        let (_, fields) = line.rsplit_once(") ")?;
        let fields: Vec<_> = fields.split(' ').collect();
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        let number = |at: usize| fields.get(at)?.parse().ok();
        let start = fields.get(19)?.parse().ok()?;
        Some(Self { pid, parent: number(1)?, group: number(2)?, session: number(3)?, start })
    }

    fn carries(&self, marks: &[&str]) -> bool {
        // It is not readable for one that runs as somebody else; its parent or group may give it away.
        let environment = fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        marks.iter().any(|mark| mark::is_in(&environment, mark))
    }

    fn kill(&self) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        #[cfg(target_os = "linux")]
        {
            use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
            if let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) {
                if self.is_still_there() {
                    let _ = pidfd_send_signal(held, Signal::KILL);
                }
                return;
            }
        }
        // A kernel before 5.3.
        if self.is_still_there() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    fn is_still_there(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.start == self.start)
    }
}

/// Kills all that carry one of the marks, all they started, and all in groups and sessions they lead; answers how
/// many there were.
///
/// All are found before the first is killed: the children of a dead process belong to another parent, and those
/// without a mark, in a session of their own, would be related to nobody any more.
pub(super) fn kill_once(marks: &[&str]) -> usize {
    let own = std::process::id().cast_signed();
    let all = numbers().into_iter().filter(|pid| *pid != own).filter_map(Process::read);
    let (mut doomed, mut others): (Vec<_>, Vec<_>) = all.partition(|process| process.carries(marks));
    let mut found: HashSet<i32> = doomed.iter().map(|process| process.pid).collect();
    loop {
        let related = |process: &Process| {
            [process.parent, process.group, process.session].iter().any(|number| found.contains(number))
        };
        let (more, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(related);
        if more.is_empty() {
            break;
        }
        found.extend(more.iter().map(|process| process.pid));
        doomed.extend(more);
        others = rest;
    }
    doomed.iter().for_each(Process::kill);
    doomed.len()
}

fn numbers() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut numbers: Vec<i32> = names.collect();
    numbers.sort_unstable();
    numbers
}

/// Kills until nothing is found any more.
fn kill_all(marks: &[&str]) {
    let began = Instant::now();
    while kill_once(marks) > 0 && began.elapsed() < KILL_WAIT_MAX {
        thread::sleep(LOOK_EVERY);
    }
}

/// Marks whose processes somebody waits to see gone.
static WANTED: std::sync::Mutex<Vec<(String, oneshot::Sender<()>)>> = std::sync::Mutex::new(Vec::new());
static TURN: Mutex<()> = Mutex::const_new(());

/// Kills all that carry this mark, and returns when they are gone.
///
/// A look at all processes takes milliseconds, so that those who ask meanwhile share the next one.
pub(super) async fn kill(mark: String) {
    let (done, mut served) = oneshot::channel();
    wanted().push((mark.clone(), done));
    let _turn = TURN.lock().await;
    if served.try_recv().is_ok() {
        return;
    }
    let batch = std::mem::take(&mut *wanted());
    let look = tokio::task::spawn_blocking(move || {
        let mut marks: Vec<&str> = batch.iter().map(|(mark, _)| mark.as_str()).collect();
        // Not in the batch when somebody took it along and was stopped half-way.
        marks.push(&mark);
        kill_all(&marks);
        for (_, done) in batch {
            let _ = done.send(());
        }
    });
    let _ = look.await;
}

fn wanted() -> std::sync::MutexGuard<'static, Vec<(String, oneshot::Sender<()>)>> {
    WANTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_number_that_is_another_process_by_now_is_not_killed() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("it starts");
        let mut process = Process::read(child.id().cast_signed()).expect("it runs");
        assert_eq!(process.parent, std::process::id().cast_signed());
        process.start -= 1;
        process.kill();
        assert!(process.parent > 0 && child.try_wait().expect("waiting works").is_none());
        process.start += 1;
        process.kill();
        assert!(!child.wait().expect("it ends").success());
    }

    #[test]
    fn relatives_without_a_mark_are_killed_and_strangers_are_not() {
        let mark = mark::child();
        let mut stranger = Command::new("sleep").arg("1000").spawn().expect("it starts");
        let script = "env -i sleep 1000 & setsid env -i sleep 1000 & echo; wait";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .env(mark::VARIABLE, &mark)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdout = child.stdout.take().expect("piped");
        // A line says that all of them have started.
        std::io::Read::read_exact(&mut stdout, &mut [0]).expect("a line");
        kill_all(&[&mark]);
        // Its end means that nobody holds it any more.
        std::io::read_to_string(stdout).expect("text");
        assert!(!child.wait().expect("it ends").success());
        assert!(stranger.try_wait().expect("waiting works").is_none());
        stranger.kill().expect("it is killed");
        stranger.wait().expect("it ends");
    }
}
