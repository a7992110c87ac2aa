//! What a SQL handler runs.

use crate::storable::RESULT_BYTES_MAX_DEFAULT;

/// One SQL statement, and the role it runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlStatement {
    /// The statement; the job's payload is `$1`, a `jsonb`, where it has one.
    pub text: String,
    /// The role whose rights it has; `None` for those of the connection.
    pub role: Option<String>,
    /// The most bytes of the first row that are kept in its result.
    pub result_bytes_max: usize,
}

impl SqlStatement {
    /// With the connection's own rights.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), role: None, result_bytes_max: RESULT_BYTES_MAX_DEFAULT }
    }
}
