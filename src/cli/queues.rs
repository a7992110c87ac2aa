//! `rowcrew queues`: lists, pauses, resumes, empties and sets queues.

use std::process::ExitCode;
use std::time::Duration;

use super::confirm::confirm;
use super::database::using;
use super::output::{self, spinner};
use super::table::{self, Column, Form};
use super::when::{parse_span, parse_when};
use crate::config::Config;
use crate::store::{Store, When};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  rowcrew queues list\n  rowcrew queues pause mail --for 10m\n  \
                        rowcrew queues purge mail --yes\n  rowcrew queues set mail --retention 0")]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List the queues that have jobs, settings or a recent past.
    #[command(after_help = "Example:\n  rowcrew queues list --json")]
    List {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Claim no more jobs of a queue; those running go on.
    #[command(after_help = "Example:\n  rowcrew queues pause mail --for 10m")]
    Pause {
        /// The queue.
        #[arg(value_name = "NAME", value_parser = name)]
        queue: String,
        /// Until this moment: RFC 3339, or as +10m [default: until resumed].
        #[arg(long, value_name = "TIME", value_parser = parse_when, conflicts_with = "span")]
        until: Option<When>,
        /// For so long, as 10m.
        #[arg(long = "for", id = "span", value_name = "TIME", value_parser = parse_span)]
        span: Option<Duration>,
    },
    /// End the pause of a queue.
    #[command(after_help = "Example:\n  rowcrew queues resume mail")]
    Resume {
        /// The queue.
        #[arg(value_name = "NAME", value_parser = name)]
        queue: String,
    },
    /// Delete all jobs of a queue that are not running.
    #[command(after_help = "Example:\n  rowcrew queues purge mail --yes")]
    Purge {
        /// The queue.
        #[arg(value_name = "NAME", value_parser = name)]
        queue: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Change a setting of a queue.
    #[command(after_help = "Example:\n  rowcrew queues set mail --retention 0")]
    Set {
        /// The queue.
        #[arg(value_name = "NAME", value_parser = name)]
        queue: String,
        /// 0 keeps no finished jobs of it; default keeps them as long as all others.
        #[arg(long, value_name = "0|default", value_parser = ["0", "default"])]
        retention: String,
    },
}

const COLUMNS: [Column; 11] = [
    Column("QUEUE", "queue", Form::Text),
    Column("AVAILABLE", "available", Form::Number),
    Column("SCHEDULED", "scheduled", Form::Number),
    Column("RETRYING", "retrying", Form::Number),
    Column("RUNNING", "running", Form::Number),
    Column("WAITING", "waiting", Form::Number),
    Column("DEPTH", "depth", Form::Number),
    Column("DONE 1H", "completed_1h", Form::Number),
    Column("WORKERS", "workers", Form::Number),
    Column("PAUSED UNTIL", "paused_until", Form::Moment),
    Column("RETENTION (S)", "retention_seconds", Form::Number),
];

/// Jobs one statement deletes, so that it ends within the statement's time limit.
const PURGE_AT_ONCE: i32 = 10_000;

/// Reads a queue's name; the table's own limit.
pub(super) fn name(text: &str) -> Result<String, String> {
    match text.chars().count() {
        1..=200 => Ok(text.to_owned()),
        chars => Err(format!("a name has 1 to 200 characters, not {chars}")),
    }
}

pub(super) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    using(config, async |store| {
        match args.what {
            What::List { json } => {
                table::print(&store.list_queues().await?, json, &COLUMNS, "there are no queues yet")?;
            }
            What::Pause { queue, until, span } => {
                let until = store.pause(&queue, until.or(span.map(When::In))).await?;
                let until = match until.as_str() {
                    "infinity" => format!("it is resumed: rowcrew queues resume {queue}"),
                    moment => table::moment(moment),
                };
                output::line(&format!("queue {queue} is paused until {until}"));
            }
            What::Resume { queue } => output::line(&if store.resume(&queue).await? {
                format!("queue {queue} is resumed")
            } else {
                format!("queue {queue} was not paused")
            }),
            What::Purge { queue, yes } => purge(store, &queue, yes).await?,
            What::Set { queue, retention } => {
                store.set_retention(&queue, retention == "0").await?;
                output::line(&match retention.as_str() {
                    "0" => format!("finished jobs of queue {queue} are not kept any more"),
                    _ => format!("finished jobs of queue {queue} are kept as long as all others"),
                });
            }
        }
        Ok(ExitCode::SUCCESS)
    })
    .await
}

async fn purge(store: &Store, queue: &str, yes: bool) -> anyhow::Result<()> {
    let question = format!("Delete all jobs of queue {queue} that are not running, without a trace?");
    if !confirm(yes, &question)? {
        return Ok(());
    }
    let progress = spinner("deleted");
    loop {
        let purged = store.purge(queue, PURGE_AT_ONCE).await?;
        progress.inc(purged.unsigned_abs());
        if purged < i64::from(PURGE_AT_ONCE) {
            break;
        }
    }
    progress.finish_and_clear();
    output::line(&format!("queue {queue}: {} jobs deleted", progress.position()));
    Ok(())
}
