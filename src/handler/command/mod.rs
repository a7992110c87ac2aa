//! Runs a job as a command: the payload on its standard input, the result from its standard output.
//!
//! The command line comes from the configuration and never from a job, and no shell reads it. The command and all
//! it starts form one process group, which does not outlive the attempt.

mod run;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use tokio::process::Command;

use self::run::{End, Ended};
use super::child::Group;
use super::{Context, Handler, Work, output};
use crate::{Failure, FailureClass, Job, Outcome, Success};

/// The exit code that says the payload is at fault: `EX_DATAERR` of `sysexits.h`.
const EXIT_BAD_DATA: i32 = 65;

/// What is not inherited unless it is asked for by name: a command has no business in the queue's database.
const DATABASE_URL: &str = "DATABASE_URL";
const OWN_PREFIX: &str = "ROWCREW_";

/// What a [`CommandHandler`] is told.
#[derive(Clone)]
pub struct CommandSettings {
    /// The program, found along `PATH`, and its arguments, each passed as it is.
    pub command: Vec<String>,
    /// Variables to set.
    pub env: Vec<(String, String)>,
    /// The variables of [`inherited`](Self::inherited) to pass on; `None` passes on all but `DATABASE_URL` and
    /// those that start with `ROWCREW_`.
    pub env_pass: Option<Vec<String>>,
    /// The worker's own environment.
    pub inherited: Vec<(OsString, OsString)>,
    /// Where the command runs; `None` is where the worker runs.
    pub dir: Option<PathBuf>,
    /// How many bytes of standard output are kept as the result, at most
    /// [`RESULT_BYTES_MAX_LIMIT`](super::RESULT_BYTES_MAX_LIMIT).
    pub result_bytes_max: usize,
}

/// Runs a command for each job; see [`CommandSettings`].
///
/// Exit code 0 completes the job with standard output as its result, 65 buries it, and all else is tried again.
/// The command finds `ROWCREW_JOB_ID`, `ROWCREW_KIND`, `ROWCREW_QUEUE`, `ROWCREW_ATTEMPT` and, where the job has one,
/// `ROWCREW_TRACEPARENT` in its environment.
#[derive(Debug)]
pub struct CommandHandler {
    settings: CommandSettings,
}

impl CommandSettings {
    /// Settings for a command with an empty environment.
    pub fn new(command: Vec<String>) -> Self {
        Self {
            command,
            env: Vec::new(),
            env_pass: None,
            inherited: Vec::new(),
            dir: None,
            result_bytes_max: output::RESULT_BYTES_MAX_DEFAULT,
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.command.first().is_none_or(String::is_empty) {
            return Err("command is empty: give the program and its arguments".to_owned());
        }
        if let Some(word) = self.command.iter().find(|word| word.contains('\0')) {
            return Err(format!("command: {word:?} contains NUL"));
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(format!(
                    "env: {name:?} is not the name of a variable, or its value contains NUL"
                ));
            }
            if name.starts_with(OWN_PREFIX) {
                return Err(format!("env: `{name}`: {OWN_PREFIX}* is set by rowcrew itself"));
            }
        }
        output::check_result_bytes_max(self.result_bytes_max)
    }

    fn passes(&self, name: &OsString) -> bool {
        match &self.env_pass {
            Some(names) => names.iter().any(|wanted| name == wanted.as_str()),
            None => name != DATABASE_URL && !name.as_encoded_bytes().starts_with(OWN_PREFIX.as_bytes()),
        }
    }

    /// The settings, checked, with what is inherited cut down to what is passed on.
    pub(super) fn checked(mut self) -> Result<Self, String> {
        self.check()?;
        let inherited = std::mem::take(&mut self.inherited);
        self.inherited = inherited.into_iter().filter(|(name, _)| self.passes(name)).collect();
        Ok(self)
    }

    pub(super) fn program(&self) -> &str {
        &self.command[0]
    }

    /// The command, all of its streams piped.
    pub(super) fn prepare(&self) -> Command {
        let mut command = Command::new(self.program());
        command
            .args(&self.command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_clear()
            .envs(self.inherited.iter().map(|(name, value)| (name, value)))
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    /// Says what to look at when it cannot be started.
    pub(super) fn not_started(&self, fault: &io::Error) -> String {
        let dir_is_missing = self.dir.as_ref().is_some_and(|dir| !dir.is_dir());
        let check = match fault.kind() {
            _ if dir_is_missing => "check that its `dir` exists on the worker's machine",
            io::ErrorKind::NotFound => {
                "check that it is installed where the worker runs and on its PATH; of a script, the first line too"
            }
            io::ErrorKind::PermissionDenied => "check that the file is executable for the worker's user",
            _ => "check the limits of processes, open files and memory",
        };
        format!("`{}` cannot be started: {fault}; {check}", self.program())
    }
}

impl fmt::Debug for CommandSettings {
    /// Values of variables may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("CommandSettings")
            .field("command", &self.command)
            .field("env", &names)
            .field("env_pass", &self.env_pass)
            .field("dir", &self.dir)
            .field("result_bytes_max", &self.result_bytes_max)
            .finish_non_exhaustive()
    }
}

impl CommandHandler {
    /// Checks the settings. Whether the program exists is seen when it runs: it may be installed later.
    pub fn new(settings: CommandSettings) -> Result<Self, String> {
        Ok(Self { settings: settings.checked()? })
    }

    fn program(&self) -> &str {
        self.settings.program()
    }

    fn prepare(&self, job: &Job) -> Command {
        let mut command = self.settings.prepare();
        command
            .env("ROWCREW_JOB_ID", job.id.to_string())
            .env("ROWCREW_KIND", &*job.kind)
            .env("ROWCREW_QUEUE", &*job.queue)
            .env("ROWCREW_ATTEMPT", job.attempt.to_string());
        if let Some(traceparent) = &job.traceparent {
            command.env("ROWCREW_TRACEPARENT", &**traceparent);
        }
        command
    }

    async fn attempt(&self, context: &Context) -> Outcome {
        let group = Group::spawn(self.prepare(&context.job)).map_err(|fault| self.not_started(&fault))?;
        let Ended { end, stdout, stderr } = run::run(group, context, self.settings.result_bytes_max).await;
        let failure = match end {
            End::Exited(status) if status.success() => {
                let total = stdout.seen();
                return Ok(Success::Done(stdout.into_result(Some(total))));
            }
            End::Exited(status) => self.bad_exit(status),
            End::Lost(fault) => {
                let message = format!("`{}`: its end was not seen: {fault}", self.program());
                Failure::retry_as(FailureClass::Error, message)
            }
            End::Cut(cut) => cut.failure(&format!("`{}`", self.program())),
        };
        Err(failure.with_detail(stderr.text()))
    }

    fn bad_exit(&self, status: ExitStatus) -> Failure {
        let program = self.program();
        match (status.code(), status.signal()) {
            (Some(EXIT_BAD_DATA), _) => Failure::bury_as(
                FailureClass::ExitCode,
                format!("`{program}`: exit code {EXIT_BAD_DATA}: it says that the payload is at fault"),
            ),
            (Some(code), _) => {
                Failure::retry_as(FailureClass::ExitCode, format!("`{program}`: exit code {code}"))
            }
            (None, Some(9)) => Failure::retry_as(
                FailureClass::Signal,
                format!("`{program}`: ended by signal 9 (SIGKILL), often because memory ran out"),
            ),
            (None, signal) => Failure::retry_as(
                FailureClass::Signal,
                format!("`{program}`: ended by signal {}", signal.unwrap_or_default()),
            ),
        }
    }

    /// The job is tried again: a deployment may be half done.
    fn not_started(&self, fault: &io::Error) -> Failure {
        Failure::retry_as(FailureClass::Start, self.settings.not_started(fault))
    }
}

impl Handler for CommandHandler {
    fn run(self: Arc<Self>, context: Context) -> Work {
        Box::pin(async move { self.attempt(&context).await })
    }
}
