//! `type = "sql"`.

use secrecy::SecretString;
use serde::Serialize;

use super::credentials::{file_text, only_one};
use crate::config::check;
use crate::config::secret;
use crate::config::table::Table;

/// More connections of one handler to one server are seldom what anybody wants.
const CONNECTIONS_MAX: usize = 100;
const CONNECTIONS_DEFAULT: usize = 4;

/// The statement a job runs, as whom, and where.
#[derive(Debug, Clone, Serialize)]
pub struct Sql {
    /// One statement with the payload as `$1`. Postgres reads it, so little is refused here.
    pub statement: String,
    /// Whose rights it has; `None` for the connection's.
    pub role: Option<String>,
    /// Connections to another database than the queue's, at most.
    pub connections: usize,
    #[serde(serialize_with = "secret::url")]
    database_url: Option<SecretString>,
    database_url_file: Option<String>,
    /// What stands in that file.
    #[serde(skip)]
    url_in_file: Option<SecretString>,
}

impl Sql {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        if !table.has("statement") {
            table.missing("statement", "one SQL statement that takes the payload as $1");
        }
        only_one(table, &["database_url", "database_url_file"]);
        if table.has("connections") && !table.has("database_url") && !table.has("database_url_file") {
            table.fault(
                "connections",
                "is for a handler with a database_url: expected worker.sql_connections, which all others share",
            );
        }
        let database_url_file = table.text("database_url_file", check::filled);
        let url_in_file = database_url_file
            .as_deref()
            .and_then(|path| file_text(table, "database_url_file", path, check::database_url));
        Self {
            statement: table.text("statement", statement).unwrap_or_default(),
            role: table.text("role", role),
            connections: table.whole("connections", CONNECTIONS_DEFAULT, 1..=CONNECTIONS_MAX),
            database_url: table.secret("database_url", check::database_url),
            database_url_file,
            url_in_file,
        }
    }

    /// Where the statement runs; `None` for the queue's own database.
    pub fn database_url(&self) -> Option<&SecretString> {
        self.database_url.as_ref().or(self.url_in_file.as_ref())
    }
}

fn statement(text: &str) -> Result<(), String> {
    check::filled(text)?;
    let first = text.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    let ends = ["begin", "start", "commit", "end", "rollback", "abort"];
    if ends.iter().any(|word| first.eq_ignore_ascii_case(word)) {
        return Err(format!(
            "begins with {first}: expected one statement; it is run in a transaction that ends with the job's finish"
        ));
    }
    Ok(())
}

/// A role that Postgres takes as it is: longer names would be cut off silently.
fn role(text: &str) -> Result<(), String> {
    if (1..=63).contains(&text.len()) && !text.contains('\0') {
        return Ok(());
    }
    Err(format!("has {} bytes: expected the name of a role, 1 to 63", text.len()))
}
