//! Runs a job as a command: the payload on its standard input, the result from its standard output.
//!
//! The command line comes from the configuration; a job can fill places in it, one argument each, and no shell reads
//! it. The command and all it starts form one process group, which does not outlive the attempt.

mod environment;
pub mod limits;
mod run;
mod search;
#[cfg(test)]
mod tests;
mod words;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use tokio::process::Command;

use self::environment::{OWN_PREFIX, passes};
use self::limits::{Limits, SORRY};
use self::run::{End, Ended};
use self::words::{Unfit, Word, argv};
use super::child::Group;
use super::{Context, Handler, Work, output};
use crate::{Failure, FailureClass, Job, Outcome, Success};

/// The exit code that says the payload is at fault: `EX_DATAERR` of `sysexits.h`.
const EXIT_BAD_DATA: i32 = 65;

const CHECK_LIMITS: &str = "check its program, its limits, and that the worker may set them";

/// What a [`CommandHandler`] is told.
#[derive(Clone)]
pub struct CommandSettings {
    /// The program, found along `PATH`, and its arguments, each passed as it is; but an argument
    /// `{payload.NAME}` (or `{payload.NAME.NAME}`) is the text, number or boolean of that field, which must not
    /// begin with `-` unless the argument is written `{payload.NAME:dash}`.
    pub command: Vec<String>,
    /// Variables to set.
    pub env: Vec<(String, String)>,
    /// The variables of [`inherited`](Self::inherited) to pass on beside `PATH`, `HOME`, `LANG`, `LC_*`, `TZ`,
    /// `TMPDIR` and `USER`; a final `*` stands for any ending, but not of `DATABASE_URL` and `ROWCREW_...`.
    pub inherit_env: Vec<String>,
    /// The worker's own environment.
    pub inherited: Vec<(OsString, OsString)>,
    /// Where the command runs; `None` is where the worker runs.
    pub dir: Option<PathBuf>,
    /// What it may use and as whom it runs.
    pub limits: Limits,
    /// The rowcrew binary, which sets the limits; needed where there are any.
    pub limiter: Option<PathBuf>,
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
    /// The arguments.
    words: Vec<Word>,
}

impl CommandSettings {
    /// Settings for a command with an empty environment.
    pub fn new(command: Vec<String>) -> Self {
        Self {
            command,
            env: Vec::new(),
            inherit_env: Vec::new(),
            inherited: Vec::new(),
            dir: None,
            limits: Limits::default(),
            limiter: None,
            result_bytes_max: output::RESULT_BYTES_MAX_DEFAULT,
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.command.first().is_none_or(String::is_empty) {
            return Err("command is empty: give the program and its arguments".to_owned());
        }
        if !matches!(Word::parse(&self.command[0])?, Word::Fixed(_)) {
            return Err("command: the program cannot come from the payload".to_owned());
        }
        if !self.limits.is_none() && self.limiter.is_none() {
            return Err("limits need the rowcrew binary to set them".to_owned());
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

    /// The settings, checked, with what is inherited cut down to what is passed on.
    pub(super) fn checked(mut self) -> Result<Self, String> {
        self.check()?;
        self.inherited.retain(|(name, _)| passes(name, &self.inherit_env));
        Ok(self)
    }

    pub(super) fn program(&self) -> &str {
        &self.command[0]
    }

    /// The command with these arguments, all of its streams piped; where there are limits, through the program
    /// that sets them.
    pub(super) fn prepare(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = self.program_within_limits();
        command
            .args(args)
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

    fn program_within_limits(&self) -> Command {
        match &self.limiter {
            Some(limiter) if !self.limits.is_none() => {
                let mut command = Command::new(limiter);
                // Plain numbers always serialize.
                let limits = serde_json::to_string(&self.limits).unwrap_or_default();
                command.arg0("rowcrew").args([limits::VERB, &limits, "--", self.program()]);
                command
            }
            _ => match self.path().and_then(|path| search::found(self.program(), path)) {
                Some(file) => {
                    let mut command = Command::new(file);
                    command.arg0(self.program());
                    command
                }
                None => Command::new(self.program()),
            },
        }
    }

    /// The `PATH` of the command, along which its program is looked up.
    fn path(&self) -> Option<&OsStr> {
        let own = self.env.iter().rfind(|(name, _)| name == "PATH").map(|(_, path)| OsStr::new(path));
        own.or_else(|| self.inherited.iter().rfind(|(name, _)| name == "PATH").map(|(_, path)| &**path))
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
            .field("inherit_env", &self.inherit_env)
            .field("dir", &self.dir)
            .field("limits", &self.limits)
            .field("result_bytes_max", &self.result_bytes_max)
            .finish_non_exhaustive()
    }
}

impl CommandHandler {
    /// Checks the settings. Whether the program exists is seen when it runs: it may be installed later.
    pub fn new(settings: CommandSettings) -> Result<Self, String> {
        let settings = settings.checked()?;
        let words = settings.command[1..].iter().map(|word| Word::parse(word)).collect::<Result<_, _>>()?;
        Ok(Self { settings, words })
    }

    fn program(&self) -> &str {
        self.settings.program()
    }

    fn prepare(&self, job: &Job) -> Result<Command, Unfit> {
        let mut command = self.settings.prepare(argv(&self.words, &job.payload)?);
        command
            .env("ROWCREW_JOB_ID", job.id.to_string())
            .env("ROWCREW_KIND", &*job.kind)
            .env("ROWCREW_QUEUE", &*job.queue)
            .env("ROWCREW_ATTEMPT", job.attempt.to_string());
        if let Some(traceparent) = &job.traceparent {
            command.env("ROWCREW_TRACEPARENT", &**traceparent);
        }
        Ok(command)
    }

    async fn attempt(&self, context: &Context) -> Outcome {
        let command = self.prepare(&context.job).map_err(|unfit| {
            Failure::bury_as(FailureClass::Start, format!("`{}` was not started: {unfit}", self.program()))
        })?;
        let group = Group::spawn(command, context.remainder()).map_err(|fault| self.not_started(&fault))?;
        let Ended { end, stdout, stderr } = run::run(group, context, self.settings.result_bytes_max).await;
        let stderr = stderr.text();
        let failure = match end {
            End::Exited(status) if status.success() => {
                let total = stdout.seen();
                return Ok(Success::Done(stdout.into_result(Some(total))));
            }
            End::Exited(_) if !self.settings.limits.is_none() && stderr.starts_with(SORRY) => {
                let words = stderr.trim_end().trim_start_matches(SORRY);
                return Err(Failure::retry_as(FailureClass::Start, format!("{words}; {CHECK_LIMITS}")));
            }
            End::Exited(status) => self.bad_exit(status),
            End::Lost(fault) => {
                let message = format!("`{}`: its end was not seen: {fault}", self.program());
                Failure::retry_as(FailureClass::Error, message)
            }
            End::Cut(cut) => cut.failure(&format!("`{}`", self.program())),
        };
        Err(failure.with_detail(stderr))
    }

    fn bad_exit(&self, status: ExitStatus) -> Failure {
        let program = self.program();
        let (class, end) = match (status.code(), status.signal()) {
            (Some(EXIT_BAD_DATA), _) => {
                let message =
                    format!("`{program}`: exit code {EXIT_BAD_DATA}: it says that the payload is at fault");
                return Failure::bury_as(FailureClass::ExitCode, message);
            }
            (Some(code), _) => (FailureClass::ExitCode, format!("exit code {code}")),
            (None, Some(9)) => {
                (FailureClass::Signal, "ended by signal 9 (SIGKILL), often because memory ran out".to_owned())
            }
            (None, Some(24)) => (
                FailureClass::Signal,
                "ended by signal 24 (SIGXCPU): its processor time is used up".to_owned(),
            ),
            (None, signal) => {
                (FailureClass::Signal, format!("ended by signal {}", signal.unwrap_or_default()))
            }
        };
        let limits = self.settings.limits.in_force();
        let limits = if limits.is_empty() { limits } else { format!(" (its limits: {limits})") };
        Failure::retry_as(class, format!("`{program}`: {end}{limits}"))
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
