//! What a command may use, and as whom it runs.
//!
//! A process can limit only itself, so the command is started through the rowcrew binary: it limits itself, then
//! becomes the command, under the same process number and with the worker as its parent.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit};
use serde::{Deserialize, Serialize};

/// The hidden verb of the command line that runs [`Limits::exec`]; the limits as JSON and the command follow.
pub const VERB: &str = "exec-limited";
/// How the words begin with which it says that the command was not started.
pub(super) const SORRY: &str = "rowcrew exec-limited: ";
/// The exit codes of shells for a command that is not there, and for one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;
/// Seconds from the first signal of spent processor time, which a command may catch, to the kill.
const CPU_GRACE: u64 = 1;

/// Limits for each process of a command; `None` leaves the worker's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of address space.
    pub memory_bytes_max: Option<u64>,
    /// Seconds of processor time.
    pub cpu_seconds_max: Option<u64>,
    /// Open files.
    pub open_files_max: Option<u64>,
    /// Processes and threads of the command's user, all of them counted, also those of others. Not for root.
    pub processes_max: Option<u64>,
    /// Added to the worker's niceness, -40 to 39.
    pub nice: Option<i32>,
    /// The number of the user it runs as, without the worker's further groups. Needs a worker that runs as root.
    pub uid: Option<u32>,
    /// The number of the group it runs as.
    pub gid: Option<u32>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The limits of resources by the names of their settings, for an error.
    pub(super) fn in_force(&self) -> String {
        let named = [
            ("memory_bytes_max", self.memory_bytes_max),
            ("cpu_seconds_max", self.cpu_seconds_max),
            ("open_files_max", self.open_files_max),
            ("processes_max", self.processes_max),
        ];
        let set = named.iter().filter_map(|(name, limit)| Some(format!("{name} = {}", (*limit)?)));
        set.collect::<Vec<_>>().join(", ")
    }

    /// Limits this process, then becomes the command; comes back only when that failed, with what to print and the
    /// exit code.
    pub fn exec(&self, program: &str, args: &[String]) -> (String, u8) {
        let mut command = Command::new(program);
        command.args(args);
        // Together with the user, the further groups go.
        if let Some(gid) = self.gid {
            command.gid(gid);
        }
        if let Some(uid) = self.uid {
            command.uid(uid);
        }
        // The last thing before the command: this program may itself be larger than the command may be.
        if let Err(error) = self.apply() {
            return (format!("{SORRY}the limits of `{program}` cannot be set: {error}"), NOT_RUN);
        }
        let error = command.exec();
        let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN };
        (format!("{SORRY}`{program}` cannot be started: {error}"), code)
    }

    fn apply(&self) -> io::Result<()> {
        if let Some(nice) = self.nice.filter(|nice| *nice != 0) {
            let now = rustix::process::getpriority_process(None)?;
            setpriority_process(None, now + nice)?;
        }
        for (resource, limit, grace) in [
            (Resource::As, self.memory_bytes_max, 0),
            (Resource::Cpu, self.cpu_seconds_max, CPU_GRACE),
            (Resource::Nofile, self.open_files_max, 0),
            (Resource::Nproc, self.processes_max, 0),
        ] {
            if let Some(limit) = limit {
                setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit + grace) })?;
            }
        }
        Ok(())
    }
}
