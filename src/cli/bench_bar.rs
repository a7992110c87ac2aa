//! What `rowcrew bench` shows while it goes on: which run of how many, and the jobs left in it. Only on a terminal.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::bench::{Bench, Progress};

const TEMPLATE: &str = "{spinner} [{bar:24}] run {pos} of {len}, {elapsed}: {msg}{prefix}";

pub(super) struct Bar {
    line: ProgressBar,
    rounds: usize,
    /// Runs of the benches that are over.
    over: AtomicU64,
}

impl Bar {
    /// Draws on standard error if that is a terminal, and if it shall be drawn at all.
    pub(super) fn new(runs: usize, rounds: usize, drawn: bool) -> Self {
        let target = if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(runs as u64), target);
        let style = ProgressStyle::with_template(TEMPLATE).expect("a template of known words");
        bar.set_style(style.progress_chars("=> "));
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { line: bar, rounds, over: AtomicU64::new(0) }
    }

    pub(super) fn show(&self, bench: Bench, progress: &Progress<'_>) {
        match progress {
            Progress::Doing(what) => self.message(format!("{}: {what}", bench.name())),
            Progress::Run(round, who) => {
                self.line.inc(1);
                self.message(format!("{}, round {round} of {}: {who}", bench.name(), self.rounds));
            }
            Progress::Left(jobs) => self.line.set_prefix(format!(", {} jobs left", HumanCount(*jobs))),
        }
    }

    fn message(&self, text: String) {
        self.line.set_prefix("");
        self.line.set_message(text);
    }

    /// A bench is over, whether or not it made all of its runs.
    pub(super) fn done(&self, runs: usize) {
        let over = self.over.fetch_add(runs as u64, Ordering::Relaxed) + runs as u64;
        self.line.set_position(over);
    }

    /// Prints what is no part of the bar.
    pub(super) fn print(&self, print: impl FnOnce()) {
        self.line.suspend(print);
    }

    pub(super) fn clear(&self) {
        self.line.finish_and_clear();
    }
}
