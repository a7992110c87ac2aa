//! `rowcrew config`: what is configured, and from where.

use std::process::ExitCode;

use crate::config::Config;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rowcrew config example > rowcrew.toml && rowcrew config check")]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum What {
    /// Print the effective configuration, each value with its source; secrets are hidden.
    Show,
    /// Read the configuration and report every fault in it; exit code 2 if there is one.
    Check,
    /// Print a commented file with every key and its default.
    Example,
}

pub(super) fn run(args: &Args, load: impl FnOnce() -> anyhow::Result<Config>) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Show => super::output::print_bytes(load()?.show().as_bytes())?,
        What::Check => {
            let config = load()?;
            super::settings::registry(&config)?;
            println!("the configuration is valid; handlers: {}", config.handlers.len());
        }
        What::Example => super::output::print_bytes(Config::example().as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}
