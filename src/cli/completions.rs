//! `rowcrew completions`: a script for the user's shell.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  rowcrew completions bash > ~/.local/share/bash-completion/completions/rowcrew"
)]
pub(super) struct Args {
    /// The shell.
    shell: Shell,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Args::command(), "rowcrew", &mut script);
    super::output::print_bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}
