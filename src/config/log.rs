//! `[log]`: what is logged, and in which form.

use serde::Serialize;
use tracing_subscriber::EnvFilter;

use super::suggest::{did_you_mean, nearest};
use super::table::Table;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

/// The settings of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Log {
    /// Directives as tracing's `EnvFilter` reads them; they parse.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

impl Log {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let log = Self {
            level: table.text("level", level).unwrap_or_else(|| "info".to_owned()),
            format: table.read("format", |given| given.choice(&FORMATS)).unwrap_or_default(),
        };
        table.finish();
        log
    }
}

fn level(text: &str) -> Result<(), String> {
    // `EnvFilter` takes a bare word that is no level for the name of a target and logs nothing else.
    for word in text.split(',').map(str::trim).filter(|word| word.chars().all(char::is_alphanumeric)) {
        if !LEVELS.contains(&word.to_ascii_lowercase().as_str()) {
            let (all, hint) = (LEVELS.join(", "), did_you_mean(nearest(word, LEVELS)));
            return Err(format!("has no level {word:?}: expected one of {all}{hint}"));
        }
    }
    EnvFilter::builder().parse(text).map(drop).map_err(|error| {
        format!("is {text:?}: {error}; expected directives as info or info,rowcrew::store=debug")
    })
}
