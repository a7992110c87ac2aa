//! Writes the configuration in force, with the source of each value beside it.

use std::fmt::Write as _;

use toml::{Table, Value};

use super::Config;
use super::layers::key_name;

impl Config {
    /// The settings in force as TOML, each with its source as a comment. Secrets are hidden.
    pub fn show(&self) -> String {
        let Ok(all) = Table::try_from(self) else {
            return "# this configuration cannot be written as TOML\n".to_owned();
        };
        let mut text = "# The settings in force; secrets are hidden.\n".to_owned();
        self.section(&mut text, &mut vec![], &all);
        text
    }

    /// Writes the plain values first, then the tables, as TOML wants it. Tables inside a handler are written
    /// in one line, because their source is one.
    fn section(&self, text: &mut String, path: &mut Vec<String>, table: &Table) {
        let in_line = path.len() == 2;
        if !path.is_empty() && path.as_slice() != ["handlers"] {
            let _ = writeln!(text, "\n[{}]", key_name(path));
        }
        let (tables, plain): (Vec<_>, Vec<_>) =
            table.iter().partition(|(_, value)| value.is_table() && !in_line);
        for (key, value) in plain {
            path.push(key.clone());
            let _ =
                writeln!(text, "{} = {value}  # {}", key_name(&path[path.len() - 1..]), self.origin(path));
            path.pop();
        }
        for (key, value) in tables {
            path.push(key.clone());
            if let Value::Table(inner) = value {
                self.section(text, path, inner);
            }
            path.pop();
        }
    }

    fn origin(&self, path: &[String]) -> &str {
        self.origins.get(&key_name(path)).map_or("default", String::as_str)
    }
}
