//! `[handlers.KIND]`: which work the kinds of job stand for.

mod command;
mod credentials;
mod http;
mod process;
mod sql;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

pub use command::Command;
pub use credentials::Credentials;
pub use http::Http;
pub use process::Process;
pub use sql::Sql;

use super::check::name;
use super::duration::{self, format_duration, parse_duration};
use super::given::{Given, toml_value};
use super::table::Table;
use crate::{Backoff, JobDefaults, MAX_ATTEMPTS_DEFAULT, TIMEOUT_DEFAULT};
use figment::value::Value;

/// A longer attempt is almost surely a slip of units; such work should be cut into jobs.
const TIMEOUT_MAX: Duration = Duration::from_hours(7 * 24);

/// One kind's handler.
#[derive(Debug, Clone, Serialize)]
pub struct Handler {
    /// What runs the job.
    #[serde(flatten)]
    pub run: Run,
    /// Where `rowcrew enqueue KIND` puts a job that names no queue.
    pub queue: String,
    /// How long one attempt may run.
    #[serde(serialize_with = "duration::serialize")]
    pub timeout: Duration,
    /// Tries a job gets.
    pub max_attempts: i32,
    /// The waits between the tries.
    pub backoff: Backoff,
    /// Jobs of this kind that run at once in one process; `None` for as many as the worker runs. For `process`: that
    /// one of its children has in hand at once; `None` for as many as the child says, else one.
    pub concurrency: Option<usize>,
}

/// What runs a job, with the settings of its type.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Run {
    /// A call of a URL.
    Http(Box<Http>),
    /// A program, started for each job.
    Command(Command),
    /// A program that runs one job after the other.
    Process(Process),
    /// A SQL statement in one transaction with the job's finish.
    Sql(Sql),
    /// Waits as long as the payload says.
    Sleep,
    /// The same on a blocking thread.
    Block,
    /// Does nothing.
    Noop,
    /// Answers with the payload.
    Echo,
    /// Fails as the payload says.
    Fail,
}

impl Handler {
    /// What a job of this kind gets where its row says nothing.
    pub fn job_defaults(&self) -> JobDefaults {
        JobDefaults { max_attempts: self.max_attempts, timeout: self.timeout, backoff: self.backoff.clone() }
    }

    /// Reads one table; `None`, with the fault noted, when it does not say what to run.
    fn read(mut table: Table<'_>) -> Option<Self> {
        let queue = table.text("queue", name).unwrap_or_else(|| "default".to_owned());
        let timeout = table.read("timeout", timeout);
        let max_attempts = table.whole("max_attempts", MAX_ATTEMPTS_DEFAULT, 1..=10_000);
        let backoff = table.read("backoff", backoff).unwrap_or_default();
        let concurrency = table.read("concurrency", |given| given.whole(&(1..=20_000)));
        // Without a type nobody knows which further keys belong here: none of them is called unknown.
        let run = Run::read(&mut table)?;
        if let (Run::Process(_), Some(jobs)) = (&run, concurrency)
            && jobs > process::CONCURRENCY_MAX
        {
            let most = process::CONCURRENCY_MAX;
            table.fault("concurrency", format!("is {jobs}: expected 1 to {most}, for each of the processes"));
        }
        table.finish();
        let timeout = timeout.unwrap_or(match run {
            Run::Http(_) => http::TIMEOUT_DEFAULT,
            _ => TIMEOUT_DEFAULT,
        });
        Some(Self { run, queue, timeout, max_attempts, backoff, concurrency })
    }
}

/// Reads a type's own keys.
type Reader = fn(&mut Table<'_>) -> Run;

impl Run {
    fn read(table: &mut Table<'_>) -> Option<Self> {
        let types: [(&str, Reader); 9] = [
            ("http", |table| Self::Http(Box::new(Http::read(table)))),
            ("command", |table| Self::Command(Command::read(table))),
            ("process", |table| Self::Process(Process::read(table))),
            ("sql", |table| Self::Sql(Sql::read(table))),
            ("sleep", |_| Self::Sleep),
            ("block", |_| Self::Block),
            ("noop", |_| Self::Noop),
            ("echo", |_| Self::Echo),
            ("fail", |_| Self::Fail),
        ];
        if !table.has("type") {
            table.missing("type", &format!("one of {}", types.map(|(name, _)| name).join(", ")));
        }
        let read = table.read("type", |given| match given.text()?.as_str() {
            later @ "pull" => Err(format!("is {later:?}: not yet supported in this version")),
            _ => given.choice(&types),
        })?;
        Some(read(table))
    }
}

/// Reads all of `[handlers]`.
pub(super) fn read(mut table: Table<'_>) -> BTreeMap<String, Handler> {
    let mut handlers = BTreeMap::new();
    for kind in table.names() {
        let inner = table.inner(&kind);
        if let Err(problem) = name(&kind) {
            table.fault(&kind, problem);
        }
        if let Some(handler) = inner.and_then(Handler::read) {
            handlers.insert(kind, handler);
        }
    }
    handlers
}

fn timeout(given: &Given) -> Result<Duration, String> {
    let text = given.text()?;
    let time = parse_duration(&text)?;
    if (Duration::from_millis(1)..=TIMEOUT_MAX).contains(&time) {
        return Ok(time);
    }
    Err(format!("is {text:?}: expected 1ms to {}", format_duration(TIMEOUT_MAX)))
}

fn backoff(given: &Given) -> Result<Backoff, String> {
    let mut dict = given.table()?;
    // Single keys of it may come from the environment, where numbers are text. No key of it wants digits
    // as a string, so looks may decide here.
    for value in dict.values_mut() {
        if let Some(looks) = value.as_str().and_then(toml_value) {
            *value = looks;
        }
    }
    let backoff: Backoff =
        Value::from(dict).deserialize().map_err(|error| format!("is no backoff: {}", error.kind))?;
    backoff.check().map_err(|problem| format!("has {problem}"))?;
    Ok(backoff)
}
