//! What the demo tells while it goes on: lines for people, and a bar where a terminal can draw one.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Where there is no bar, the count is told so many times.
const PARTS: u64 = 4;

/// The narrator; clones speak with the same voice.
#[derive(Clone)]
pub(super) struct Say {
    /// Standard output is for the proof as JSON.
    json: bool,
    bar: ProgressBar,
    part: Arc<AtomicU64>,
}

impl Say {
    pub(super) fn new(json: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("  {bar:40} {pos} of {len} jobs, {rate}/s, {elapsed}");
        let style = style.expect("a template as indicatif takes it");
        bar.set_style(style.with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{:.0}", state.per_sec());
        }));
        Self { json, bar, part: Arc::default() }
    }

    /// Tells one line, or several; that nobody reads them any more is no reason to stop.
    pub(super) fn line(&self, text: &str) {
        self.bar.suspend(|| {
            let _ = if self.json {
                writeln!(std::io::stderr().lock(), "{text}")
            } else {
                writeln!(std::io::stdout().lock(), "{text}")
            };
        });
    }

    /// Begins to count jobs.
    pub(super) fn begin(&self, total: u64) {
        self.bar.set_length(total);
        self.bar.reset();
        // Hidden by itself where standard error is no terminal.
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
    }

    /// Shows how many jobs have ended.
    pub(super) fn count(&self, done: u64, total: u64) {
        self.bar.set_position(done);
        let part = done * PARTS / total.max(1);
        if self.bar.is_hidden() && self.part.fetch_max(part, Ordering::Relaxed) < part {
            self.line(&format!("  {done} of {total} jobs have ended"));
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Tells that it was interrupted.
    pub(super) fn interrupted(&self) {
        self.end();
        self.line("\nInterrupted: ending the workers and removing the private Postgres.");
    }
}
