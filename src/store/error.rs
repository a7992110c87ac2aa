//! What can go wrong with the database, said so that a person can act on it.

use tokio_postgres::error::{Severity, SqlState};

use super::{TlsError, UrlError};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL cannot be read.
    #[error("the database URL is not valid")]
    Url(#[from] UrlError),
    /// TLS cannot be set up.
    #[error("TLS to the database cannot be set up")]
    Tls(#[from] TlsError),
    /// No connection.
    #[error("cannot connect to the database {server}: {}", describe(source))]
    Connect {
        /// The URL without its password.
        server: String,
        /// What the driver says.
        source: tokio_postgres::Error,
    },
    /// The pool gave no connection.
    #[error("no connection to the database {server}: {reason}")]
    Pool {
        /// The URL without its password.
        server: String,
        /// What the pool says.
        reason: String,
        /// The driver's error, where there is one.
        source: Option<tokio_postgres::Error>,
    },
    /// A statement failed.
    #[error("{statement}: {}", describe(source))]
    Statement {
        /// The statement's name: the stem of its file.
        statement: &'static str,
        /// What the driver says.
        source: tokio_postgres::Error,
    },
    /// A statement was not answered in time; whether it took effect is not known.
    #[error("{statement}: no answer from the database within {seconds} s")]
    NoAnswer {
        /// The statement's name.
        statement: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The schema is not there.
    #[error(
        "the database has no rowcrew schema \"{schema}\" yet: run `rowcrew migrate` with the same settings"
    )]
    NotMigrated {
        /// The schema.
        schema: String,
    },
    /// The schema is older than this binary.
    #[error(
        "schema \"{schema}\" is at version {found}, and this rowcrew needs {needed}: run `rowcrew migrate` with the same settings"
    )]
    Outdated {
        /// The schema.
        schema: String,
        /// The version in the database.
        found: i32,
        /// The version this binary has.
        needed: i32,
    },
    /// The schema is newer than this binary.
    #[error(
        "schema \"{schema}\" is at version {found}, newer than this rowcrew knows ({known}): install the newer rowcrew"
    )]
    Newer {
        /// The schema.
        schema: String,
        /// The version in the database.
        found: i32,
        /// The version this binary has.
        known: i32,
    },
    /// Handlers that no job could succeed with.
    #[error("no job is run, because these handlers cannot work:\n  {}", faults.join("\n  "))]
    Handlers {
        /// One sentence for each, with the handler's name.
        faults: Vec<String>,
    },
    /// The server takes no writes.
    #[error(
        "the database {server} is a read-only standby, or set to default_transaction_read_only: use the primary's URL, or name all hosts in it, of which the one that takes writes is found"
    )]
    ReadOnly {
        /// The URL without its password.
        server: String,
    },
    /// A migration failed.
    #[error("migration failed: {reason}")]
    Migration {
        /// What refinery says.
        reason: String,
    },
    /// What was given has a fault: a file to enqueue, the settings of a worker.
    #[error("{0}")]
    Input(String),
}

impl Error {
    /// Whether the same call may succeed later, because it is the connection or the server that failed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { source, .. } | Self::Statement { source, .. } => is_transient(source),
            Self::Pool { source, .. } => source.as_ref().is_none_or(is_transient),
            Self::NoAnswer { .. } | Self::ReadOnly { .. } => true,
            _ => false,
        }
    }

    /// Whether a turn was waited for in vain: nothing was done.
    pub fn is_turn_taken(&self) -> bool {
        self.is_locked()
    }

    /// Whether the statement met what somebody else has locked, and waited for it in vain: it did nothing.
    pub fn is_locked(&self) -> bool {
        self.sqlstate() == Some(&SqlState::LOCK_NOT_AVAILABLE)
    }

    /// Whether the server went away, or is not the one to write to (any more): no connection to it is worth
    /// keeping.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::NoAnswer { .. } | Self::ReadOnly { .. } => true,
            Self::Statement { source, .. } => is_outage(source),
            _ => false,
        }
    }

    /// Whether the server takes no writes: it is a standby, or was demoted.
    pub fn is_read_only(&self) -> bool {
        matches!(self, Self::ReadOnly { .. }) || self.sqlstate() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
    }

    /// Whether the server has no connection left for us: its `max_connections`, or the limit of a role or a database.
    pub fn is_crowded(&self) -> bool {
        self.sqlstate() == Some(&SqlState::TOO_MANY_CONNECTIONS)
    }

    /// Whether no server answered, or only one that takes no writes.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Pool { .. } => self.is_transient(),
            _ => self.is_outage(),
        }
    }

    /// Whether something was sent to the server, which may have taken effect.
    pub fn was_sent(&self) -> bool {
        matches!(self, Self::Statement { .. } | Self::NoAnswer { .. })
    }

    /// The constraint that refused a row.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Statement { source, .. } => source.as_db_error()?.constraint(),
            _ => None,
        }
    }

    /// Whether the server lacks a table, a function or the whole schema: [`Store::check_ready`] says why.
    ///
    /// [`Store::check_ready`]: super::Store::check_ready
    pub fn is_missing_schema(&self) -> bool {
        let missing = [
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::UNDEFINED_COLUMN,
            SqlState::INVALID_SCHEMA_NAME,
        ];
        self.sqlstate().is_some_and(|code| missing.contains(code))
    }

    /// The server's code, where the server answered.
    pub fn sqlstate(&self) -> Option<&SqlState> {
        match self {
            Self::Connect { source, .. } | Self::Statement { source, .. } => source.code(),
            Self::Pool { source, .. } => source.as_ref()?.code(),
            _ => None,
        }
    }
}

/// Decides, in this one place, what is worth another try.
fn is_transient(error: &tokio_postgres::Error) -> bool {
    let Some(code) = error.code() else {
        // Without an answer from the server it is the connection.
        return true;
    };
    // 08 connection, 25006 read only, 40 rollback, 53 resources, 55P03 lock, 57 operator (but 57014 is our own time limit), 58 system.
    let class = &code.code()[..2];
    matches!(class, "08" | "40" | "53" | "57" | "58" | "XX")
        || matches!(code.code(), "25006" | "55P03" | "55006")
}

/// A connection that is gone or closing, a server that starts or stops, one that takes no writes.
pub(super) fn is_outage(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => {
            code.code().starts_with("08") || matches!(code.code(), "25006" | "57P01" | "57P02" | "57P03")
        }
        None => {
            error.is_closed()
                || std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
        }
    }
}

/// The connection is gone, whatever was sent over it last: the server's last word, or none.
pub(super) fn is_broken(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(db) => matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic)),
        None => is_outage(error),
    }
}

/// The server's message, detail and hint; the driver's own `Display` is only "db error".
pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let mut text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
            for more in [db.detail(), db.hint()].into_iter().flatten() {
                text.push_str(". ");
                text.push_str(more);
            }
            text
        }
        None => crate::text::error_chain(error),
    }
}
