//! The database for verbs that ask it something and end.

use std::process::ExitCode;

use super::settings;
use crate::config::Config;
use crate::store::{self, Store};

/// Does the work with a store, and says clearly when the tables are not there or not of this version.
pub(super) async fn using(
    config: &Config,
    work: impl AsyncFnOnce(&Store) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let store = Store::new(settings::store(config)?)?;
    let error = match work(&store).await {
        Ok(code) => return Ok(code),
        Err(error) => error,
    };
    let missing = error.downcast_ref::<store::Error>().is_some_and(store::Error::is_missing_schema);
    if missing {
        store.check_ready().await?;
    }
    Err(error)
}

/// What one of several ids came to.
pub(super) enum Told {
    /// Done, in these words.
    Done(String),
    /// Not done, in these words.
    Not(String),
}

/// The end of a verb that took several ids: each is told of, and one that was not done makes the exit code 1.
#[derive(Default)]
pub(super) struct Tally {
    failed: bool,
}

impl Tally {
    pub(super) fn tell(&mut self, told: &Told) {
        match told {
            Told::Done(words) => super::output::line(words),
            Told::Not(words) => {
                self.failed = true;
                eprintln!("rowcrew: {words}");
            }
        }
    }

    pub(super) fn code(&self) -> ExitCode {
        if self.failed { ExitCode::from(1) } else { ExitCode::SUCCESS }
    }
}
