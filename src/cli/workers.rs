//! `rowcrew workers`: who is in the crew.

use std::process::ExitCode;

use super::database::using;
use super::table::{self, Column, Form};
use crate::config::Config;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "THREADS, BUSY and EXHAUSTED tell of the threads for blocking handlers: how many there may be, \
    how many are at work, and for how many seconds since the start all of them were. Blocking jobs \
    waited in their queues then, and other kinds went on. --json adds utilisation (0 to 1, of the \
    last minute). DOWN are kinds that the worker can run no job of now, because none of their \
    processes is up; its log says why.\n\n\
    Example:\n  rowcrew workers --json"
)]
pub(super) struct Args {
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
}

const COLUMNS: [Column; 13] = [
    Column("ID", "id", Form::Number),
    Column("NAME", "name", Form::Text),
    Column("PID", "pid", Form::Number),
    Column("STATE", "state", Form::Text),
    Column("RUNNING", "running", Form::Number),
    Column("OF", "concurrency", Form::Number),
    Column("BEAT (S AGO)", "beat_age_seconds", Form::Number),
    Column("THREADS", "blocking.threads", Form::Number),
    Column("BUSY", "blocking.busy", Form::Number),
    Column("EXHAUSTED (S)", "blocking.exhausted_seconds", Form::Number),
    Column("QUEUES", "queues", Form::Text),
    Column("KINDS", "kinds", Form::Text),
    Column("DOWN", "kinds_down", Form::Text),
];

pub(super) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    using(config, async |store| {
        let none = "no worker is alive; start one: rowcrew work";
        table::print(&store.list_workers().await?, args.json, &COLUMNS, none)?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}
