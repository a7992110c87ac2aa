//! `rowcrew dead`: the dead letters: looks at them, puts them back, edits them, deletes them.

use std::process::ExitCode;

use super::confirm::confirm;
use super::database::{Tally, Told, using};
use super::output::{self, spinner};
use super::table::{self, Column, Form};
use super::{Usage, enqueue, job_view, jobs};
use crate::JobId;
use crate::config::Config;
use crate::store::{DeadFilter, Store};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  rowcrew dead list --reason exhausted\n  rowcrew dead revive --kind email.send\n  \
                        rowcrew dead edit 42 --payload '{\"to\": \"b@example.org\"}' && rowcrew dead revive 42"
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List dead jobs, the latest death first.
    #[command(after_help = "Example:\n  rowcrew dead list --queue mail --json\n\n\
        A filter chooses among the 100,000 latest deaths.")]
    List {
        #[command(flatten)]
        filter: Filter,
        /// So many at most.
        #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Group dead jobs by what went wrong: the largest group first, with the message of its latest death.
    #[command(
        after_help = "Example:\n  rowcrew dead groups && rowcrew dead revive --fingerprint 3f9c51d0a2b7\n\n\
        Looks at the 100,000 latest deaths. In psql: select * from rowcrew.dead_groups order by jobs desc."
    )]
    Groups {
        #[command(flatten)]
        filter: Filter,
        /// So many groups at most.
        #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Show everything kept of a dead job, its errors included.
    #[command(after_help = "Example:\n  rowcrew dead show 42")]
    Show {
        /// The job.
        id: JobId,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Put dead jobs back to run at once, with all their tries.
    #[command(
        after_help = "Examples:\n  rowcrew dead revive 42 43\n  rowcrew dead revive --kind email.send --at-most 100"
    )]
    Revive {
        #[command(flatten)]
        which: Which,
        /// With a filter: so many at most, the oldest deaths first [default: all].
        #[arg(long, value_name = "N", conflicts_with = "ids", value_parser = clap::value_parser!(i64).range(1..))]
        at_most: Option<i64>,
    },
    /// Delete dead jobs for good.
    #[command(
        after_help = "Examples:\n  rowcrew dead discard 42 --yes\n  rowcrew dead discard --reason expired"
    )]
    Discard {
        #[command(flatten)]
        which: Which,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Give a dead job another payload, before it is revived.
    #[command(after_help = "Example:\n  rowcrew dead edit 42 --payload '{\"to\": \"b@example.org\"}'")]
    Edit {
        /// The job.
        id: JobId,
        /// The new payload, JSON; - reads it from standard input.
        #[arg(long, value_name = "JSON|-", allow_hyphen_values = true)]
        payload: String,
    },
}

#[derive(Debug, clap::Args)]
struct Filter {
    /// Only jobs of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Only jobs of this queue.
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Only those that died of this: exhausted, permanent, expired, crashed, buried, ...
    #[arg(long)]
    reason: Option<String>,
    /// Only those that died of this failure; `rowcrew dead groups` lists them.
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The jobs.
    #[arg(value_name = "ID", conflicts_with_all = ["kind", "queue", "reason", "fingerprint"],
          required_unless_present_any = ["kind", "queue", "reason", "fingerprint"])]
    ids: Vec<JobId>,
    #[command(flatten)]
    filter: Filter,
}

impl From<Filter> for DeadFilter {
    fn from(Filter { kind, queue, reason, fingerprint }: Filter) -> Self {
        Self { kind, queue, reason, fingerprint }
    }
}

const COLUMNS: [Column; 7] = [
    Column("ID", "id", Form::Number),
    Column("KIND", "kind", Form::Text),
    Column("QUEUE", "queue", Form::Text),
    Column("REASON", "reason", Form::Text),
    Column("TRIES", "attempts", Form::Number),
    Column("DIED", "died_at", Form::Moment),
    Column("LAST ERROR", "last_error", Form::Text),
];

const GROUP_COLUMNS: [Column; 7] = [
    Column("FINGERPRINT", "fingerprint", Form::Text),
    Column("JOBS", "jobs", Form::Number),
    Column("KIND", "kind", Form::Text),
    Column("CLASS", "class", Form::Text),
    Column("FIRST DIED", "first_died_at", Form::Moment),
    Column("LAST DIED", "last_died_at", Form::Moment),
    Column("LAST ERROR", "last_error", Form::Text),
];

/// Jobs one statement moves or deletes, so that it ends within the statement's time limit.
const AT_ONCE: i64 = 5_000;
/// Up to here the jobs are counted before a question is asked.
const COUNTED_MAX: i64 = 1_000_000;

pub(super) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    using(config, async |store| match args.what {
        What::List { filter, limit, json } => {
            table::print(
                &store.list_dead(&filter.into(), limit).await?,
                json,
                &COLUMNS,
                "no such dead jobs",
            )?;
            Ok(ExitCode::SUCCESS)
        }
        What::Groups { filter, limit, json } => {
            let groups = store.group_dead(&filter.into(), limit).await?;
            table::print(&groups, json, &GROUP_COLUMNS, "no such dead jobs")?;
            Ok(ExitCode::SUCCESS)
        }
        What::Show { id, json } => show(store, id, json).await,
        What::Revive { which: Which { ids, filter }, at_most } if ids.is_empty() => {
            revive_many(store, filter.into(), at_most).await
        }
        What::Revive { which, .. } => {
            let mut tally = Tally::default();
            for id in which.ids {
                tally.tell(&match store.revive(id).await?.as_str() {
                    "unknown" => Told::Not(format!("there is no dead job {id}")),
                    outcome => jobs::revived(id, outcome),
                });
            }
            Ok(tally.code())
        }
        What::Discard { which: Which { ids, filter }, yes } if ids.is_empty() => {
            discard_many(store, filter.into(), yes).await
        }
        What::Discard { which, yes } => discard(store, &which.ids, yes).await,
        What::Edit { id, payload } => {
            let payload = enqueue::read_json("--payload", &payload).await?;
            edit(store, id, &payload, config.limits.payload_bytes_max).await
        }
    })
    .await
}

async fn show(store: &Store, id: JobId, json: bool) -> anyhow::Result<ExitCode> {
    match store.show_job(id).await? {
        Some(job) if job.state == "dead" => job_view::print(&job, json),
        Some(job) => anyhow::bail!("job {id} is not dead, but {}; see rowcrew jobs show {id}", job.state),
        None => anyhow::bail!("{}", jobs::unknown(id)),
    }
}

/// Revives at most as many as were dead when it began: jobs that die again meanwhile are not revived again.
async fn revive_many(store: &Store, filter: DeadFilter, at_most: Option<i64>) -> anyhow::Result<ExitCode> {
    let (dead, _) = store.count_dead(&filter, at_most.unwrap_or(i64::MAX)).await?;
    let progress = spinner("revived");
    let mut left = dead;
    while left > 0 {
        let revived = store.revive_many(&filter, left.min(AT_ONCE) as i32).await?;
        if revived == 0 {
            break;
        }
        progress.inc(revived.unsigned_abs());
        left -= revived;
    }
    progress.finish_and_clear();
    let kept =
        if left > 0 { format!("; {left} stay dead: their unique_key is taken") } else { String::new() };
    output::line(&format!("{} jobs revived{kept}", progress.position()));
    Ok(ExitCode::SUCCESS)
}

async fn discard(store: &Store, ids: &[JobId], yes: bool) -> anyhow::Result<ExitCode> {
    if !confirm(yes, &format!("Delete {} dead jobs for good?", ids.len()))? {
        return Ok(ExitCode::from(1));
    }
    let gone = store.discard(ids).await?;
    let mut tally = Tally::default();
    for id in ids {
        tally.tell(&if gone.contains(id) {
            Told::Done(format!("job {id} is deleted"))
        } else {
            Told::Not(format!("there is no dead job {id}"))
        });
    }
    Ok(tally.code())
}

/// Deletes those that were dead when they were counted, not those that die meanwhile.
async fn discard_many(store: &Store, filter: DeadFilter, yes: bool) -> anyhow::Result<ExitCode> {
    let (dead, counted_at) = store.count_dead(&filter, COUNTED_MAX).await?;
    let number = if dead == COUNTED_MAX { format!("{dead} or more") } else { dead.to_string() };
    if dead == 0 {
        output::line("there are no such dead jobs");
        return Ok(ExitCode::SUCCESS);
    }
    if !confirm(yes, &format!("Delete {number} dead jobs for good?"))? {
        return Ok(ExitCode::from(1));
    }
    let progress = spinner("deleted");
    loop {
        let gone = store.discard_many(&filter, counted_at, AT_ONCE).await?;
        progress.inc(gone.unsigned_abs());
        if gone < AT_ONCE {
            break;
        }
    }
    progress.finish_and_clear();
    output::line(&format!("{} dead jobs deleted", progress.position()));
    Ok(ExitCode::SUCCESS)
}

async fn edit(store: &Store, id: JobId, payload: &str, bytes_max: usize) -> anyhow::Result<ExitCode> {
    match store.edit_dead(id, payload, i32::try_from(bytes_max)?).await?.as_str() {
        "edited" => {
            output::line(&format!("job {id} has its new payload; to run it: rowcrew dead revive {id}"));
        }
        "too large" => {
            return Err(Usage(format!(
                "--payload is larger than limits.payload_bytes_max, {bytes_max} bytes, allows"
            ))
            .into());
        }
        _ => anyhow::bail!("there is no dead job {id}"),
    }
    Ok(ExitCode::SUCCESS)
}
