//! A command and all it started, as one thing that can be ended.
//!
//! A child that is killed alone leaves its own children behind, and they would work on next to the job's next
//! attempt. What moved itself to another group or session is found by its mark; what a command that succeeded left
//! there may stay, but not longer than the worker.

use std::io;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpgid};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::{guard, kin, mark};
use crate::handler::Remainder;

/// A running command, leader of its own process group. Dropping it kills the group.
pub(in crate::handler) struct Group {
    /// Taken once the group is killed: from then on the number may name somebody else's group.
    child: Option<Child>,
    id: Pid,
    mark: String,
    succeeded: bool,
    told_to_end: AtomicBool,
    /// Given back when all of it is gone.
    remainder: Option<Remainder>,
}

/// The parent's ends of the command's pipes.
pub(in crate::handler) struct Pipes {
    pub(in crate::handler) stdin: Option<ChildStdin>,
    pub(in crate::handler) stdout: Option<ChildStdout>,
    pub(in crate::handler) stderr: Option<ChildStderr>,
}

impl Group {
    /// Starts the command. `remainder` is dropped when it is gone, with what must go with it, also when the group is
    /// dropped.
    pub(in crate::handler) fn spawn(mut command: Command, remainder: Option<Remainder>) -> io::Result<Self> {
        let mark = mark::child();
        let child = command.process_group(0).env(mark::VARIABLE, &mark).spawn()?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let id = id.ok_or_else(|| io::Error::other("the child has no process id"))?;
        guard::tell(id, true);
        let told_to_end = AtomicBool::new(false);
        Ok(Self { child: Some(child), id, mark, succeeded: false, told_to_end, remainder })
    }

    pub(in crate::handler) fn take_pipes(&mut self) -> Pipes {
        let child = self.child.as_mut();
        child.map_or(Pipes { stdin: None, stdout: None, stderr: None }, |child| Pipes {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
        })
    }

    /// Waits for the command itself, not for what it started.
    pub(in crate::handler) async fn wait(&mut self) -> io::Result<ExitStatus> {
        match &mut self.child {
            Some(child) => {
                let status = child.wait().await?;
                self.succeeded = status.success();
                Ok(status)
            }
            None => Err(Errno::CHILD.into()),
        }
    }

    /// Asks the whole group to end.
    pub(in crate::handler) fn terminate(&self) {
        self.told_to_end.store(true, Ordering::Relaxed);
        self.signal(Signal::TERM);
    }

    /// Kills the whole group, and returns when the command itself is gone; unless it succeeded by itself, all it
    /// started is gone too, wherever it moved. Dropped while it waits, it goes on.
    pub(in crate::handler) async fn kill(&mut self) {
        if let Some(killing) = self.begin_to_kill() {
            let _ = killing.await;
        }
    }

    /// Kills the group, once, and has a task see to the rest. A look at all processes, for those that left the group,
    /// is too dear for each command that did well.
    fn begin_to_kill(&mut self) -> Option<JoinHandle<()>> {
        let child = self.child.take()?;
        self.signal(Signal::KILL);
        // Without a runtime the process is about to end, and its zombies with it.
        let runtime = Handle::try_current().ok()?;
        let may_stay = self.succeeded && !self.told_to_end.load(Ordering::Relaxed);
        let strays = (!may_stay).then(|| self.mark.clone());
        let (id, remainder) = (self.id, self.remainder.take());
        Some(runtime.spawn(async move {
            if let Some(mark) = strays {
                kin::kill(mark).await;
            }
            collect(child, id).await;
            drop(remainder);
        }))
    }

    fn signal(&self, signal: Signal) {
        // It fails when nobody is left, which is what it is for.
        let _ = kill_process_group(self.id, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.begin_to_kill();
    }
}

/// Takes the exit status of a killed group, so that no zombie is left.
async fn collect(mut child: Child, id: Pid) {
    let _ = child.wait().await;
    guard::tell(id, false);
    // As the first process of a container, the worker inherits the command's orphans too. Elsewhere the first
    // look finds none.
    if waitpgid(id, WaitOptions::NOHANG).is_ok() {
        tokio::task::spawn_blocking(move || {
            while matches!(waitpgid(id, WaitOptions::empty()), Ok(_) | Err(Errno::INTR)) {}
        });
    }
}
