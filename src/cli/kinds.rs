//! `rowcrew kinds`: lists, pauses and resumes kinds.

use std::process::ExitCode;
use std::time::Duration;

use super::database::using;
use super::output;
use super::queues::name;
use super::table::{self, Column, Form};
use super::when::{parse_span, parse_when};
use crate::config::Config;
use crate::store::When;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  rowcrew kinds list\n  rowcrew kinds pause email.send --for 10m --reason 'key is changed'\n  \
                        rowcrew kinds resume email.send"
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List the kinds that are paused, have a live worker, or were run in the last hour.
    #[command(after_help = "Example:\n  rowcrew kinds list --json")]
    List {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Begin no more jobs of a kind, in any queue; those running go on.
    #[command(after_help = "Example:\n  rowcrew kinds pause email.send --for 10m")]
    Pause {
        /// The kind.
        #[arg(value_name = "KIND", value_parser = name)]
        kind: String,
        /// Until this moment: RFC 3339, or as +10m [default: until resumed].
        #[arg(long, value_name = "TIME", value_parser = parse_when, conflicts_with = "span")]
        until: Option<When>,
        /// For so long, as 10m.
        #[arg(long = "for", id = "span", value_name = "TIME", value_parser = parse_span)]
        span: Option<Duration>,
        /// Why; people read it in `rowcrew.why(id)` and in the list.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// End the pause of a kind, also of one that a reply of 410 Gone has disabled.
    #[command(after_help = "Example:\n  rowcrew kinds resume email.send")]
    Resume {
        /// The kind.
        #[arg(value_name = "KIND", value_parser = name)]
        kind: String,
    },
}

const COLUMNS: [Column; 8] = [
    Column("KIND", "kind", Form::Text),
    Column("STATE", "state", Form::Text),
    Column("PAUSED UNTIL", "paused_until", Form::Moment),
    Column("WORKERS", "workers", Form::Number),
    Column("DONE 1H", "completed_1h", Form::Number),
    Column("FAILED 1H", "failed_1h", Form::Number),
    Column("DEAD 1H", "dead_1h", Form::Number),
    Column("REASON", "reason", Form::Text),
];

pub(super) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    using(config, async |store| {
        match args.what {
            What::List { json } => {
                table::print(
                    &store.list_kinds().await?,
                    json,
                    &COLUMNS,
                    "no kind is paused, served or was run",
                )?;
            }
            What::Pause { kind, until, span, reason } => {
                let until = until.or(span.map(When::In));
                let until = store.pause_kind(&kind, until, reason.as_deref()).await?;
                let until = match until.as_str() {
                    "infinity" => format!("it is resumed: rowcrew kinds resume {kind}"),
                    moment => table::moment(moment),
                };
                output::line(&format!("kind {kind} is paused until {until}"));
            }
            What::Resume { kind } => output::line(&if store.resume_kind(&kind).await? {
                format!("kind {kind} is resumed")
            } else {
                format!("kind {kind} was not paused")
            }),
        }
        Ok(ExitCode::SUCCESS)
    })
    .await
}
