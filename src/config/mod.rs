//! The configuration: read from its sources, checked, and handed out as plain structs.
//!
//! Defaults, then the file, then the environment, then flags; the later wins. A configuration with any
//! fault is not used at all, and the report names all of them ([`Faults`]). Only this module knows where
//! settings come from; below `cli` nobody knows that there is a file.

mod check;
mod database;
mod duration;
mod env;
mod fault;
mod file;
mod given;
mod handlers;
mod layers;
mod limits;
mod log;
mod retention;
mod secret;
mod show;
mod sources;
mod suggest;
mod table;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::Serialize;

pub use database::Database;
pub use duration::{format_duration, parse_duration};
pub use fault::{Fault, Faults};
pub use handlers::{Command, Credentials, Handler, Http, Process, Run, Sql};
pub use limits::Limits;
pub use log::{Log, LogFormat};
pub use retention::Retention;
pub use secret::redact_url;
pub use sources::{
    Overrides, Sources, arguments, environment, program, program_in_memory, scratch, variable,
};
pub use worker::Worker;

use layers::Layers;
use table::{Notes, Table};

/// Everything that can be set, checked.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    #[serde(serialize_with = "secret::url")]
    database_url: Option<SecretString>,
    #[serde(serialize_with = "secret::url")]
    direct_url: Option<SecretString>,
    /// The schema that holds all of the crew's tables: 1 to 63 bytes. To be quoted in SQL.
    pub schema: String,
    /// `[worker]`
    pub worker: Worker,
    /// `[database]`
    pub database: Database,
    /// `[limits]`
    pub limits: Limits,
    /// `[retention]`
    pub retention: Retention,
    /// `[log]`
    pub log: Log,
    /// `[handlers]`, by kind.
    pub handlers: BTreeMap<String, Handler>,
    /// Full key to the name of its source; what is not here has its default.
    #[serde(skip)]
    origins: BTreeMap<String, String>,
}

impl Config {
    /// Reads and checks everything, or reports every fault there is.
    pub fn load(sources: &Sources) -> Result<Self, Faults> {
        let mut layers = Layers::read(sources);
        let notes = Notes::default();
        notes.faults.borrow_mut().append(&mut layers.faults);
        let mut root = Table::root(&layers, &notes);
        let mut config = Self {
            database_url: root.secret("database_url", check::database_url),
            direct_url: root.secret("direct_url", check::database_url),
            schema: root.text("schema", check::schema).unwrap_or_else(|| "rowcrew".to_owned()),
            worker: Worker::read(root.table("worker")),
            database: Database::read(root.table("database")),
            limits: Limits::read(root.table("limits")),
            retention: Retention::read(root.table("retention")),
            log: Log::read(root.table("log")),
            handlers: handlers::read(root.table("handlers")),
            origins: BTreeMap::new(),
        };
        config.check_laws(&root);
        root.finish();
        Faults::collect(layers.broken, notes.faults.into_inner())?;
        config.origins =
            notes.origins.into_inner().into_iter().map(|(key, origin)| (key, origin.name)).collect();
        Ok(config)
    }

    /// Checks what no single key can tell.
    fn check_laws(&self, root: &Table<'_>) {
        let pooled = !self.database.prepare && self.database_url.is_some();
        if pooled && self.direct_url.is_none() && root.is_whole() {
            // Session locks and LISTEN through such a pooler seem to work and do not.
            root.fault_at(
                &["database".to_owned(), "prepare".to_owned()],
                "is false, as behind a transaction-mode pooler: expected direct_url beside it, an address past \
                 the pooler for LISTEN, session locks and migrations",
            );
        }
    }

    /// The address for statements; may be a transaction-mode pooler.
    pub fn database_url(&self) -> Result<&SecretString, Faults> {
        self.database_url.as_ref().ok_or_else(|| {
            Faults::unset(
                "database_url",
                "is not set: give --database-url, set DATABASE_URL or ROWCREW_DATABASE_URL, or write \
                 database_url = \"postgres://user:password@host/database\" to rowcrew.toml",
            )
        })
    }

    /// The address for LISTEN, session locks and migrations; `database_url` where no other is set.
    pub fn direct_url(&self) -> Result<&SecretString, Faults> {
        self.direct_url.as_ref().map_or_else(|| self.database_url(), Ok)
    }

    /// A file with every key, its default, unit, range and reason.
    pub fn example() -> &'static str {
        include_str!("../../rowcrew.example.toml")
    }
}
