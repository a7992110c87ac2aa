//! `rowcrew exec-limited LIMITS -- COMMAND`: becomes a command, with less than a worker may. Workers start it.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::handler::limits::Limits;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The limits as JSON.
    limits: String,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let limits: Limits = serde_json::from_str(&args.limits).context("the limits are no JSON of limits")?;
    let (program, rest) = args.command.split_first().context("no command")?;
    let (words, code) = limits.exec(program, rest);
    eprintln!("{words}");
    Ok(ExitCode::from(code))
}
