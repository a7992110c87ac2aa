//! `type = "sql"`.

use serde::Serialize;

use crate::config::check::filled;
use crate::config::table::Table;

/// The statement a job runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sql {
    /// One statement with the payload as `$1`. Postgres reads it, so only emptiness is refused here.
    pub statement: String,
}

impl Sql {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        if !table.has("statement") {
            table.missing("statement", "one SQL statement that takes the payload as $1");
        }
        Self { statement: table.text("statement", filled).unwrap_or_default() }
    }
}
