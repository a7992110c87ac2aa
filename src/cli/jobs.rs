//! `rowcrew jobs`: finds jobs, shows one, cancels and retries.

use std::process::ExitCode;

use super::database::{Tally, Told, using};
use super::job_view;
use super::table::{self, Column, Form};
use crate::JobId;
use crate::config::Config;
use crate::store::{JobFilter, Store};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  rowcrew jobs list --state retrying --queue mail\n  rowcrew jobs show 42"
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List jobs, the largest id first.
    #[command(after_help = "Example:\n  rowcrew jobs list --state running --json\n\n\
        With a filter it looks at the 100,000 largest ids of each table, and says where to go on.")]
    List(List),
    /// Show everything kept of one job, and why it is not running.
    #[command(after_help = "Example:\n  rowcrew jobs show 42")]
    Show {
        /// The job.
        id: JobId,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Cancel jobs; running ones are stopped by their workers.
    #[command(after_help = "Example:\n  rowcrew jobs cancel 42 43")]
    Cancel {
        /// The jobs.
        #[arg(value_name = "ID", required = true)]
        ids: Vec<JobId>,
    },
    /// Run jobs now: those scheduled or waiting for their next try at once, dead ones with all their tries.
    #[command(after_help = "Example:\n  rowcrew jobs retry 42")]
    Retry {
        /// The jobs.
        #[arg(value_name = "ID", required = true)]
        ids: Vec<JobId>,
    },
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only jobs in this state.
    #[arg(long, value_parser = [
        "scheduled", "available", "retrying", "running", "waiting", "completed", "cancelled", "dead",
    ])]
    state: Option<String>,
    /// Only jobs of this queue.
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Only jobs of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Only jobs with this tag.
    #[arg(long)]
    tag: Option<String>,
    /// So many at most.
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
    /// Only jobs with a smaller id: the next page.
    #[arg(long, value_name = "ID")]
    after: Option<JobId>,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

const COLUMNS: [Column; 8] = [
    Column("ID", "id", Form::Number),
    Column("STATE", "state", Form::Text),
    Column("KIND", "kind", Form::Text),
    Column("QUEUE", "queue", Form::Text),
    Column("TRIES", "attempts", Form::Number),
    Column("DUE", "due_at", Form::Moment),
    Column("ENDED", "ended_at", Form::Moment),
    Column("LAST ERROR", "last_error", Form::Text),
];

pub(super) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    using(config, async |store| match args.what {
        What::List(args) => list(store, args).await,
        What::Show { id, json } => match store.show_job(id).await? {
            Some(job) => job_view::print(&job, json),
            None => anyhow::bail!(unknown(id)),
        },
        What::Cancel { ids } => {
            let mut tally = Tally::default();
            for id in ids {
                tally.tell(&cancelled(id, &store.cancel(id).await?));
            }
            Ok(tally.code())
        }
        What::Retry { ids } => {
            let mut tally = Tally::default();
            for id in ids {
                tally.tell(&retried(id, &store.retry(id).await?));
            }
            Ok(tally.code())
        }
    })
    .await
}

async fn list(store: &Store, args: List) -> anyhow::Result<ExitCode> {
    let List { state, queue, kind, tag, limit, after, json } = args;
    let page = store.list_jobs(&JobFilter { state, queue, kind, tag, after }, limit).await?;
    table::print(&page.jobs, json, &COLUMNS, "no such jobs")?;
    if let Some(next) = page.next_after {
        let looked = if page.cut { "looked at the 100,000 largest ids of each table; " } else { "" };
        eprintln!("{looked}go on with --after {next}");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn unknown(id: JobId) -> String {
    format!("there is no job {id}: it never was, or its time to be kept is over")
}

fn cancelled(id: JobId, outcome: &str) -> Told {
    match outcome {
        "cancelled" => Told::Done(format!("job {id} is cancelled")),
        "cancelling" => Told::Done(format!("job {id} is running; its worker is told to stop it")),
        "finished" => Told::Not(format!("job {id} has already finished")),
        "dead" => Told::Not(format!("job {id} is dead; to delete it: rowcrew dead discard {id}")),
        _ => Told::Not(unknown(id)),
    }
}

fn retried(id: JobId, outcome: &str) -> Told {
    match outcome {
        "due" => Told::Done(format!("job {id} is due now")),
        "available" => Told::Done(format!("job {id} is due already; see rowcrew jobs show {id}")),
        other => revived(id, other),
    }
}

/// What reviving a job came to.
pub(super) fn revived(id: JobId, outcome: &str) -> Told {
    match outcome {
        "revived" => Told::Done(format!("job {id} is revived, with all its tries")),
        "taken" => Told::Not(format!("job {id} stays dead: another unfinished job has its unique_key")),
        "running" => Told::Not(format!("job {id} is running")),
        "waiting" => Told::Not(format!("job {id} waits for other jobs")),
        "finished" => Told::Not(format!("job {id} has already finished")),
        _ => Told::Not(unknown(id)),
    }
}
