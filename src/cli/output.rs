//! What goes to the terminal: logs to standard error, everything asked for to standard output.

use std::io::{ErrorKind, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// What these libraries tell at their own levels; the setting may name them to hear more. What refinery tells of
/// migrations, `rowcrew migrate` prints itself; what the driver and the pool tell of each connection that breaks, the
/// worker says once for all of them.
const QUIET: &str = "refinery_core=warn,tokio_postgres=warn,deadpool.postgres=error";

/// Begins to log.
pub(super) fn log(settings: &Log) {
    let directives = format!("{QUIET},{}", settings.level);
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A second call finds the first one's; that is fine.
    let _ = match settings.format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// Prints bytes; a reader that has gone, as `head` does, is not an error.
pub(super) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Prints text; `false` when nobody reads it any more.
pub(super) fn print(text: &str) -> anyhow::Result<bool> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

/// Prints a line of what was done, if anybody reads it.
pub(super) fn line(text: &str) {
    let text: String = text.chars().map(super::table::harmless).collect();
    let _ = print(&format!("{text}\n"));
}

/// Counts jobs on standard error while something goes on, if that is a terminal.
pub(super) fn spinner(done: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {human_pos} jobs {msg} ({per_sec}, {elapsed})");
    let bar = ProgressBar::new_spinner().with_message(done.to_owned());
    bar.set_style(style.expect("a template of known words"));
    bar
}
