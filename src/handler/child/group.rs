//! A command and all it started, as one thing that can be ended.
//!
//! A child that is killed alone leaves its own children behind, and they would work on next to the job's next
//! attempt. Only what moves itself to another group or session escapes.

use std::io;
use std::process::ExitStatus;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpgid};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;

/// A running command, leader of its own process group. Dropping it kills the group.
pub(in crate::handler) struct Group {
    /// Taken once the group is killed: from then on the number may name somebody else's group.
    child: Option<Child>,
    id: Pid,
}

/// The parent's ends of the command's pipes.
pub(in crate::handler) struct Pipes {
    pub(in crate::handler) stdin: Option<ChildStdin>,
    pub(in crate::handler) stdout: Option<ChildStdout>,
    pub(in crate::handler) stderr: Option<ChildStderr>,
}

impl Group {
    pub(in crate::handler) fn spawn(mut command: Command) -> io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let id = id.ok_or_else(|| io::Error::other("the child has no process id"))?;
        Ok(Self { child: Some(child), id })
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
            Some(child) => child.wait().await,
            None => Err(Errno::CHILD.into()),
        }
    }

    /// Asks the whole group to end.
    pub(in crate::handler) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Kills the whole group, and returns when the command itself is gone.
    pub(in crate::handler) async fn kill(&mut self) {
        if let Some(child) = self.child.take() {
            self.signal(Signal::KILL);
            collect(child, self.id).await;
        }
    }

    fn signal(&self, signal: Signal) {
        // It fails when nobody is left, which is what it is for.
        let _ = kill_process_group(self.id, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else { return };
        self.signal(Signal::KILL);
        // Without a runtime the process is about to end, and its zombies with it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(collect(child, self.id));
        }
    }
}

/// Takes the exit status of a killed group, so that no zombie is left.
async fn collect(mut child: Child, id: Pid) {
    let _ = child.wait().await;
    // As the first process of a container, the worker inherits the command's orphans too. Elsewhere the first
    // look finds none.
    if waitpgid(id, WaitOptions::NOHANG).is_ok() {
        tokio::task::spawn_blocking(move || {
            while matches!(waitpgid(id, WaitOptions::empty()), Ok(_) | Err(Errno::INTR)) {}
        });
    }
}
