//! `rowcrew workers`: who is in the crew.

use std::process::ExitCode;

use super::database::using;
use super::table::{self, Column, Form};
use crate::config::Config;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rowcrew workers --json")]
pub(super) struct Args {
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

const COLUMNS: [Column; 9] = [
    Column("ID", "id", Form::Number),
    Column("NAME", "name", Form::Text),
    Column("PID", "pid", Form::Number),
    Column("STATE", "state", Form::Text),
    Column("RUNNING", "running", Form::Number),
    Column("OF", "concurrency", Form::Number),
    Column("BEAT (S AGO)", "beat_age_seconds", Form::Number),
    Column("QUEUES", "queues", Form::Text),
    Column("KINDS", "kinds", Form::Text),
];

pub(super) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    using(config, async |store| {
        let none = "no worker is alive; start one: rowcrew work";
        table::print(&store.list_workers().await?, args.json, &COLUMNS, none)?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}
