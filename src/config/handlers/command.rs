//! `type = "command"`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::Serialize;

use crate::config::check::filled;
use crate::config::secret;
use crate::config::table::Table;

/// The program and its surroundings.
#[derive(Debug, Clone, Serialize)]
pub struct Command {
    /// The program and its arguments; never a shell's line. Not empty.
    pub command: Vec<String>,
    /// Environment variables added to the worker's own; values may be secret.
    #[serde(serialize_with = "secret::map")]
    pub env: BTreeMap<String, SecretString>,
    /// The directory it starts in; `None` for the worker's.
    pub dir: Option<PathBuf>,
}

impl Command {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        const EXPECTED: &str = "the program and its arguments, as [\"convert\", \"-\", \"-\"]";
        if !table.has("command") {
            table.missing("command", EXPECTED);
        }
        let command = table.read("command", |given| match given.list()? {
            list if list.first().is_some_and(|program| !program.is_empty()) => Ok(list),
            _ => Err(format!("names no program: expected {EXPECTED}")),
        });
        let env = table.secrets("env", |name, _| {
            let named = !name.is_empty() && !name.contains(['=', '\0']);
            if named { Ok(()) } else { Err("is no name of an environment variable".to_owned()) }
        });
        let dir = table.text("dir", filled).map(PathBuf::from);
        Self { command: command.unwrap_or_default(), env, dir }
    }
}
