//! Checks of strings that several sections share. Each answers with the rest of a sentence about its key.

/// The longest name of a queue or kind in characters; the table's own check is the same.
const NAME_CHARS_MAX: usize = 200;

/// A queue's or a kind's name.
pub(super) fn name(text: &str) -> Result<(), String> {
    match text.chars().count() {
        0 => Err("is empty: expected a name".to_owned()),
        1..=NAME_CHARS_MAX => Ok(()),
        _ => Err(format!("is longer than {NAME_CHARS_MAX} characters")),
    }
}

pub(super) fn filled(text: &str) -> Result<(), String> {
    if text.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(()) }
}

/// A schema that Postgres takes as it is: longer names would be cut off silently, `pg_` is reserved.
pub(super) fn schema(text: &str) -> Result<(), String> {
    if !(1..=63).contains(&text.len()) {
        return Err(format!("has {} bytes: expected 1 to 63", text.len()));
    }
    if text.starts_with("pg_") {
        return Err("starts with pg_: Postgres keeps such names for itself".to_owned());
    }
    Ok(())
}

/// What can be a connection string. The driver reads the rest; this only names the common slip early, and
/// never the string, which holds a password.
pub(super) fn database_url(text: &str) -> Result<(), String> {
    let url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    if url || (!text.contains("://") && text.contains('=')) {
        return Ok(());
    }
    Err("is no Postgres address: expected postgres://user:password@host/database".to_owned())
}
