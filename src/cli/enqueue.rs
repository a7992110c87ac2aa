//! `rowcrew enqueue`: one job from the command line, or as many as a file has lines.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::database::using;
use super::json::{self, JsonFault};
use super::when::{parse_span, parse_when};
use super::{Usage, enqueue_file, output, queues};
use crate::config::Config;
use crate::store::{Enqueued, Error, NewJob, Store, When};
use crate::{Backoff, parse_priority};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  rowcrew enqueue email.send '{\"to\": \"a@example.org\"}' --run-at \"in 10m\"\n  \
    rowcrew enqueue email.send --from mails.jsonl\n  rowcrew enqueue --rows --from - < jobs.jsonl\n\n\
    A file is taken as a whole or not at all: a fault in any line, which is named, leaves nothing behind. \
    Without --rows each line is a payload. With --rows each line is an object with the keys kind, payload, \
    queue, priority, run_at, max_attempts, backoff, timeout, expires_at, unique_key, group_key, tags, meta; \
    what it leaves out is taken from the command line."
)]
pub(super) struct Args {
    /// Which handler runs it.
    #[arg(required_unless_present = "rows", value_parser = queues::name)]
    kind: Option<String>,
    /// The payload; - reads it from standard input [default: {}].
    #[arg(value_name = "JSON|-", allow_negative_numbers = true, conflicts_with = "from")]
    payload: Option<String>,
    /// Enqueue each line of a file; - is standard input.
    #[arg(long, value_name = "FILE.jsonl|-")]
    from: Option<PathBuf>,
    /// The lines are jobs with columns, not payloads.
    #[arg(long, requires = "from")]
    rows: bool,
    #[command(flatten)]
    columns: Columns,
    /// Print a JSON object: the id, and whether an unfinished job had the unique key already.
    #[arg(long)]
    json: bool,
}

/// Columns for one job, or for the lines that do not name them.
#[derive(Debug, clap::Args)]
struct Columns {
    /// The queue [default: the one of the kind's handler in the configuration, else "default"].
    #[arg(long, value_name = "NAME", value_parser = queues::name)]
    queue: Option<String>,
    /// 0 (first) to 9 (last), or high, normal, low [default: normal].
    #[arg(long, value_name = "0-9", value_parser = parse_priority, allow_negative_numbers = true)]
    priority: Option<i16>,
    /// Not before: RFC 3339, or counted from now, as "in 10m" or +10m.
    #[arg(long, value_name = "TIME", value_parser = parse_when, conflicts_with = "delay")]
    run_at: Option<When>,
    /// Not before so long from now, as 10m.
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    delay: Option<Duration>,
    /// Tries at most [default: the handler's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=10_000), allow_negative_numbers = true)]
    max_attempts: Option<i32>,
    /// How long one try may take, as 30s [default: the handler's].
    #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
    timeout: Option<Duration>,
    /// Dead if not done by then: RFC 3339, or counted from now.
    #[arg(long, value_name = "TIME", value_parser = parse_when)]
    expires_at: Option<When>,
    /// At most one unfinished job of the kind has this key; if there is one, its id is answered.
    #[arg(long, value_name = "KEY", conflicts_with = "from")]
    unique_key: Option<String>,
    /// The tenant or other group it belongs to.
    #[arg(long, value_name = "KEY")]
    group_key: Option<String>,
    /// A word to find it by; repeat for more.
    #[arg(long = "tag", value_name = "WORD")]
    tags: Vec<String>,
    /// What is not for the handler: JSON.
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    meta: Option<String>,
    /// Waits between tries: JSON, as `{"type": "fixed", "delay_ms": 1000}` [default: the handler's].
    #[arg(long, value_name = "JSON", value_parser = parse_backoff)]
    backoff: Option<String>,
}

pub(super) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let Args { kind, payload, from, rows, columns, json } = args;
    let mut job = NewJob {
        kind: kind.unwrap_or_default(),
        payload: "{}".to_owned(),
        queue: columns.queue,
        priority: columns.priority,
        run_at: columns.run_at.or(columns.delay.map(When::In)),
        max_attempts: columns.max_attempts,
        backoff: columns.backoff,
        timeout: columns.timeout,
        expires_at: columns.expires_at,
        unique_key: columns.unique_key,
        group_key: columns.group_key,
        tags: Some(columns.tags).filter(|tags| !tags.is_empty()),
        meta: columns.meta,
    };
    if let Some(from) = from {
        return using(config, async |store| {
            let enqueued = enqueue_file::run(store, config, &from, rows, &job).await?;
            output::print(&if json {
                format!("{{\"enqueued\": {enqueued}}}\n")
            } else {
                format!("{enqueued} jobs enqueued\n")
            })?;
            Ok(ExitCode::SUCCESS)
        })
        .await;
    }
    if let Some(payload) = payload {
        job.payload = read_json("the payload", &payload).await?;
    }
    job.queue = job.queue.or_else(|| config.handlers.get(&job.kind).map(|handler| handler.queue.clone()));
    using(config, async |store| one(store, &job, json).await).await
}

async fn one(store: &Store, job: &NewJob, json: bool) -> anyhow::Result<ExitCode> {
    let enqueued = store.enqueue(job).await.map_err(refused)?;
    let (id, existing) = match enqueued {
        Enqueued::New(id) => (id, false),
        Enqueued::Existing(id) => (id, true),
    };
    if json {
        output::print(&format!("{{\"id\": {id}, \"existing\": {existing}}}\n"))?;
    } else {
        output::print(&format!("{id}\n"))?;
        if existing {
            eprintln!("job {id} has this unique key and is not finished: nothing was inserted");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says of the constraints what they mean.
fn refused(error: Error) -> anyhow::Error {
    let meaning = match error.constraint() {
        Some("jobs_payload_bytes") => {
            "the payload is larger than the table takes; the limit is the setting \
             limits.payload_bytes_max, put in force by `rowcrew migrate`"
        }
        Some("jobs_unique_key_length") => "--unique-key has 1 to 500 characters",
        Some("jobs_group_key_length") => "--group-key has 1 to 500 characters",
        _ => return error.into(),
    };
    anyhow::Error::msg(meaning)
}

/// Takes JSON as it was given, or from standard input with `-`; checked, and a fault told with its place.
pub(super) async fn read_json(what: &str, given: &str) -> anyhow::Result<String> {
    if given != "-" {
        return json::check(given.as_bytes())
            .map(str::to_owned)
            .map_err(|fault| Usage(told(what, given, &fault)).into());
    }
    let mut bytes = Vec::new();
    enqueue_file::standard_input()?.read_to_end(&mut bytes).await?;
    match json::check(&bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(fault) => anyhow::bail!(told(what, &String::from_utf8_lossy(&bytes), &fault)),
    }
}

/// The fault and the line it is in, if that can be shown.
fn told(what: &str, text: &str, fault: &JsonFault) -> String {
    let JsonFault { line, column, problem } = fault;
    let mut told = format!("{what} is not valid JSON at line {line}, column {column}: {problem}");
    let source = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    if source.is_ascii() && !source.is_empty() && source.len() <= 100 && *column <= source.len() + 1 {
        let shown: String = source.chars().map(super::table::harmless).collect();
        let _ = write!(told, "\n  {shown}\n  {:>column$}", "^");
    }
    told
}

fn parse_json(text: &str) -> Result<String, String> {
    json::check(text.as_bytes()).map(str::to_owned).map_err(|fault| told("it", text, &fault))
}

/// Reads a backoff as the workers will, so that a slip does not wait for the first failure.
pub(super) fn parse_backoff(text: &str) -> Result<String, String> {
    let backoff: Backoff = serde_json::from_str(text).map_err(|error| error.to_string())?;
    backoff.check()?;
    Ok(text.to_owned())
}

/// Reads a timeout; the table's own limits.
pub(super) fn parse_timeout(text: &str) -> Result<Duration, String> {
    let time = parse_span(text)?;
    if (Duration::from_millis(1)..=Duration::from_hours(7 * 24)).contains(&time) {
        return Ok(time);
    }
    Err(format!("{text} is out of range: expected 1ms to 7d"))
}
