//! `rowcrew guard MARK`: the process that ends a killed worker's children. Workers start it themselves.

use std::process::ExitCode;

use crate::handler::guard;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The worker's mark in the environment of its children.
    mark: String,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    guard::watch(&args.mark)?;
    Ok(ExitCode::SUCCESS)
}
