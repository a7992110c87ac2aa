//! A process beside the worker that ends the worker's children when the worker is killed.
//!
//! It hears of the death through a pipe whose other end only the worker holds: a worker that is merely frozen keeps
//! it open. It lives in a session of its own, where neither a terminal nor a signal to the worker's group reaches
//! it; when it is killed alone, the worker starts another. On Linux it finds children by their marks (see `kin`) and
//! need not be told of them; elsewhere it is told of their process groups.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, PipeWriter, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, setsid};

use super::{kin, mark};

/// The hidden verb of the command line that runs [`watch`]; the mark follows it.
pub const VERB: &str = "guard";

/// Said when the guard is out of reach of signals to the worker's group.
const READY: &str = "ready";
/// Between two looks for children that are left.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long no child must be found before the guard ends: one that the worker had just forked carries its mark
/// only when its program begins.
const QUIET: Duration = Duration::from_millis(300);
/// The longest time a guard spends on children that cannot be killed.
const WATCH_MAX: Duration = Duration::from_secs(30);
/// Before another guard is started in the place of one that ended; a machine without memory is not helped by haste.
const START_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The worker's end of the pipe, and the groups that the next guard must be told of.
#[derive(Default)]
struct Link {
    pipe: Option<PipeWriter>,
    groups: HashSet<i32>,
}

static LINK: Mutex<Option<Link>> = Mutex::new(None);

/// Starts the guard of this process, and another whenever it ends. `program` is the rowcrew binary.
///
/// Returns when it guards. To be called once, before the first child is started.
pub fn start(program: PathBuf) -> io::Result<()> {
    let mut guard = spawn(&program)?;
    let keep = move || {
        loop {
            let status = guard.wait();
            tracing::warn!(?status, "the guard of child processes ended; another is started");
            guard = loop {
                thread::sleep(START_AGAIN_AFTER);
                match spawn(&program) {
                    Ok(guard) => break guard,
                    Err(error) => tracing::error!(%error, "the guard of child processes cannot be started"),
                }
            };
        }
    };
    thread::Builder::new().name("guard".to_owned()).spawn(keep).map(drop)
}

fn spawn(program: &Path) -> io::Result<Child> {
    let (stdin, mut pipe) = io::pipe()?;
    let mut guard = Command::new(program)
        .arg0("rowcrew")
        .args([VERB, mark::worker()])
        .current_dir("/")
        .env_clear()
        .stdin(stdin)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut reply = String::new();
    let stdout = guard.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    BufReader::new(stdout).read_line(&mut reply)?;
    if reply.trim_end() != READY {
        let _ = guard.kill();
        let status = guard.wait()?;
        return Err(io::Error::other(format!("it ended before it guarded: {status}")));
    }
    // It must not hold up a spawn when the guard does not read.
    rustix::io::ioctl_fionbio(&pipe, true)?;
    let mut link = link();
    let groups = link.take().unwrap_or_default().groups;
    for group in &groups {
        let _ = writeln!(pipe, "+{group}");
    }
    *link = Some(Link { pipe: Some(pipe), groups });
    Ok(guard)
}

/// Tells the guard of a group that began or ended. On Linux it needs no telling, which spares two writes a child.
pub(super) fn tell(group: Pid, begun: bool) {
    if cfg!(target_os = "linux") {
        return;
    }
    let group = group.as_raw_nonzero().get();
    if let Some(Link { pipe: Some(pipe), groups }) = &mut *link() {
        let changed = if begun { groups.insert(group) } else { groups.remove(&group) };
        if changed {
            // The guard may be gone; the next one is told of all groups.
            let _ = writeln!(pipe, "{}{group}", if begun { '+' } else { '-' });
        }
    }
}

fn link() -> MutexGuard<'static, Option<Link>> {
    LINK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The guard's whole life: waits until the worker is gone, then kills its children, and returns when none is left.
///
/// `mark` is the worker's mark. Standard input is the pipe.
pub fn watch(mark: &str) -> io::Result<()> {
    setsid()?;
    // A worker that was killed at this moment does not read it; its children are there all the same.
    let _ = writeln!(io::stdout(), "{READY}");
    let mut groups = HashSet::new();
    for line in io::stdin().lock().lines() {
        note(&mut groups, &line?);
    }
    for group in groups {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let began = Instant::now();
    let mut last_found = began;
    let mut killed = 0;
    while last_found.elapsed() < QUIET && began.elapsed() < WATCH_MAX {
        let found = kin::kill_once(&[mark]);
        if found > 0 {
            last_found = Instant::now();
            killed = killed.max(found);
        }
        thread::sleep(LOOK_EVERY);
    }
    if killed > 0 {
        // Its reader may be gone with the worker.
        let _ = writeln!(
            io::stderr(),
            "rowcrew guard: the worker is gone; {killed} of its processes were killed"
        );
    }
    Ok(())
}

/// One line of the pipe: `+GROUP` began, `-GROUP` ended.
fn note(groups: &mut HashSet<Pid>, line: &str) {
    let number = |text: &str| text.parse().ok().and_then(Pid::from_raw);
    if let Some(group) = line.strip_prefix('+').and_then(number) {
        groups.insert(group);
    } else if let Some(group) = line.strip_prefix('-').and_then(number) {
        groups.remove(&group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_knows_the_groups_that_have_not_ended() {
        let mut groups = HashSet::new();
        for line in ["+12", "+13", "-12", "+x", "", "-99", "+0"] {
            note(&mut groups, line);
        }
        assert_eq!(groups, HashSet::from([Pid::from_raw(13).expect("a number")]));
    }
}
