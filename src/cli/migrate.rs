//! `rowcrew migrate`: makes or updates the tables.

use std::process::ExitCode;

use super::settings;
use crate::config::Config;
use crate::store::Store;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rowcrew migrate --database-url postgres://localhost/app")]
pub(super) struct Args {
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let store = Store::new(settings::store(config)?)?;
    let migrated = store.migrate(config.limits.payload_bytes_max as u32).await?;
    if args.json {
        let report = serde_json::json!({
            "schema": config.schema, "version": migrated.version, "applied": migrated.applied,
        });
        println!("{report}");
        return Ok(ExitCode::SUCCESS);
    }
    for step in &migrated.applied {
        println!("applied {step}");
    }
    println!("schema \"{}\" is at version {}", config.schema, migrated.version);
    Ok(ExitCode::SUCCESS)
}
