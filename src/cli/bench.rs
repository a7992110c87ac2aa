//! `rowcrew bench`: measures this machine's Postgres with and without rowcrew.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use comfy_table::{Table, presets};
use secrecy::ExposeSecret;
use tokio::signal::unix::{SignalKind, signal};

use super::Usage;
use super::bench_bar::Bar;
use crate::bench::{Bench, Figure, Goal, Report, Row, Settings, draw, restore, run as run_bench};
use crate::config::{self, Config};
use crate::embedded::{Environment, locate};

/// Processes that a private server has connections for.
const WORKERS_MAX: usize = 60;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rowcrew bench drain --jobs 200000 --rounds 5\n\n\
    Each bench starts a private Postgres, unless --here says to use the configured database (its queue must be \
    empty; the bench deletes what is in it). Contenders run in turn; a figure is their ratio in one round.")]
pub(super) struct Args {
    /// Which bench, or all of them.
    #[arg(value_enum)]
    what: What,
    /// How often each contender runs.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Jobs of one run.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(i64).range(100..=100_000_000))]
    jobs: i64,
    /// Size of a payload in bytes.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    payload_bytes: u32,
    /// The part of the jobs that fails once before it succeeds.
    #[arg(long, default_value_t = 0.0)]
    error_rate: f64,
    /// Numbers of processes that `replicas` tries; all are compared with 1, which must be among them.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 32])]
    workers: Vec<usize>,
    /// Jobs at once, for `concurrency`.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(i64).range(1..=20_000))]
    at_once: i64,
    /// How long each job of `concurrency` takes, in milliseconds.
    #[arg(long, default_value_t = 3_500, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    nap_ms: u64,
    /// Inserting clients, for `enqueue`.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=400))]
    clients: u16,
    /// Seconds of a run that ends by the clock: the clients of `enqueue`, the textbook worker of `drain`.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Inserts that `latency` times in each round.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    inserts: u32,
    /// Minutes of `steady` [default: 15, in `all` 1].
    #[arg(long)]
    minutes: Option<f64>,
    /// Jobs a second that `steady` puts in.
    #[arg(long, default_value_t = 800, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Jobs waiting beside those drained, for `backlog`, a tenth of it scheduled; all jobs of `disk`.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(i64).range(0..=100_000_000))]
    backlog: i64,
    /// For `forms`: only those with this in their names, beside the engine's.
    #[arg(long, value_name = "WORDS", default_value = "")]
    forms: String,
    /// The major version of the private Postgres [default: what is installed].
    #[arg(long, value_name = "MAJOR")]
    postgres: Option<u32>,
    /// Use the configured database instead of a private one; deletes all jobs in it, and leaves the queue
    /// `default` without settings of its own.
    #[arg(long)]
    here: bool,
    /// Print the reports as JSON, one line each.
    #[arg(long)]
    json: bool,
    /// Draw all that is measured over time, and the distribution of latencies, into one SVG file.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    Drain,
    Enqueue,
    Latency,
    Concurrency,
    Bloat,
    Backlog,
    Replicas,
    Pooler,
    Steady,
    Handlers,
    Forms,
    Disk,
    All,
}

impl What {
    fn benches(self) -> Vec<Bench> {
        let name = clap::ValueEnum::to_possible_value(&self);
        let name = name.as_ref().map_or("", |value| value.get_name());
        let all = |bench: &Bench| self == Self::All && bench.has_goals();
        Bench::ALL.into_iter().filter(|bench| all(bench) || bench.name() == name).collect()
    }
}

pub(super) async fn run(
    args: Args,
    load: impl FnOnce() -> anyhow::Result<Config>,
) -> anyhow::Result<ExitCode> {
    args.check()?;
    // The server itself is measured, past any pooler.
    let url = if args.here { Some(load()?.direct_url()?.expose_secret().to_owned()) } else { None };
    let settings = args.settings(url)?;
    let benches = args.what.benches();
    let bar = Bar::new(benches.iter().map(|bench| bench.runs(&settings)).sum(), settings.rounds, !args.json);
    let mut reports = Vec::new();
    let all = async {
        for bench in benches {
            let report = run_bench(bench, &settings, &|progress| bar.show(bench, &progress)).await;
            let report = report.with_context(|| format!("bench {}", bench.name()))?;
            bar.done(bench.runs(&settings));
            bar.print(|| if args.json { println!("{}", report.json()) } else { print_report(&report) });
            reports.push(report);
        }
        anyhow::Ok(())
    };
    // Dropping the bench stops its workers and its server.
    let outcome = tokio::select! {
        outcome = all => outcome,
        signal = stop_signal() => signal.and_then(|name| anyhow::bail!("stopped by {name}")),
    };
    bar.clear();
    restore(&settings).await?;
    // What was measured before a fault is worth a drawing, too.
    if let Some(path) = &args.plot {
        let panels: Vec<_> = reports.iter().flat_map(|report| &report.panels).collect();
        std::fs::write(path, draw(&panels)?).with_context(|| path.display().to_string())?;
    }
    outcome?;
    let figures = || reports.iter().flat_map(|report| &report.figures);
    if figures().any(|figure| figure.is_met() == Some(false)) {
        eprintln!("some figures miss their goals on this machine; see docs/benchmarks.md for what to expect");
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits for Ctrl-C or SIGTERM and answers its name.
async fn stop_signal() -> anyhow::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| "Ctrl-C").map_err(Into::into),
        _ = terminate.recv() => Ok("SIGTERM"),
    }
}

impl Args {
    fn check(&self) -> Result<(), Usage> {
        let refuse = |fault: String| Err(Usage(fault));
        if !(0.0..=1.0).contains(&self.error_rate) {
            return refuse(format!("--error-rate {}: expected 0 to 1", self.error_rate));
        }
        if !self.workers.contains(&1) || self.workers.iter().any(|count| !(1..=WORKERS_MAX).contains(count)) {
            return refuse(format!(
                "--workers: expected numbers from 1 to {WORKERS_MAX}, and 1 among them: the others are compared with it"
            ));
        }
        if !(0.01..=3_600.0).contains(&self.seconds) {
            return refuse(format!("--seconds {}: expected 0.01 to 3600", self.seconds));
        }
        if self.minutes.is_some_and(|minutes| !(0.01..=1_440.0).contains(&minutes)) {
            return refuse("--minutes: expected 0.01 to 1440".to_owned());
        }
        // Found out now, not after the last run.
        if let Some(path) = &self.plot
            && let Err(error) = std::fs::write(path, "")
        {
            return refuse(format!("--plot {}: {error}", path.display()));
        }
        Ok(())
    }

    fn settings(&self, url: Option<String>) -> anyhow::Result<Settings> {
        let minutes = self.minutes.unwrap_or(if self.what == What::All { 1.0 } else { 15.0 });
        Ok(Settings {
            program: config::program()?,
            scratch: config::scratch(),
            url,
            binaries: locate(&Environment::read(), self.postgres, &mut |line| eprintln!("{line}"))?,
            rounds: self.rounds.into(),
            jobs: self.jobs,
            payload_bytes: self.payload_bytes as usize,
            error_rate: self.error_rate,
            workers: self.workers.clone(),
            at_once: self.at_once,
            nap: Duration::from_millis(self.nap_ms),
            backlog: self.backlog,
            forms: self.forms.clone(),
            clients: self.clients.into(),
            time: Duration::from_secs_f64(self.seconds),
            inserts: self.inserts as usize,
            steady_time: Duration::from_secs_f64(minutes * 60.0),
            steady_rate: self.rate,
        })
    }
}

fn print_report(report: &Report) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["", "min", "median", "max", "goal", ""]);
    for figure in report.measured.iter().chain(&report.figures) {
        table.add_row(row(figure));
    }
    println!("{}", report.bench);
    if !report.measured.is_empty() {
        println!("{table}");
    }
    if !report.grid.is_empty() {
        println!("{}", grid(&report.grid));
    }
    for note in &report.notes {
        println!("  {note}");
    }
    println!();
}

/// One line a contender; each cell has the middle value, and the least and the largest where they differ.
fn grid(rows: &[Row]) -> Table {
    let mut names: Vec<&str> = Vec::new();
    for figure in rows.iter().flat_map(|row| &row.figures) {
        if !names.contains(&figure.name.as_str()) {
            names.push(&figure.name);
        }
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(std::iter::once("").chain(names.iter().copied()));
    for row in rows {
        let cell = |name: &&str| {
            let figure = row.figures.iter().find(|figure| figure.name == **name)?;
            let (min, median, max) = figure.spread();
            let (min, median, max) = (number(min), number(median), number(max));
            Some(if min == max { median } else { format!("{median} ({min} to {max})") })
        };
        let cells = names.iter().map(|name| cell(name).unwrap_or_else(|| "-".to_owned()));
        table.add_row(std::iter::once(row.name.clone()).chain(cells));
    }
    table
}

fn row(figure: &Figure) -> [String; 6] {
    let (min, median, max) = figure.spread();
    let goal = match figure.goal {
        Some(Goal::AtLeast(bound)) => format!(">= {}", number(bound)),
        Some(Goal::AtMost(bound)) => format!("<= {}", number(bound)),
        None => String::new(),
    };
    let met = match figure.is_met() {
        Some(true) => "met",
        Some(false) => "missed",
        None => "",
    };
    [figure.name.clone(), number(min), number(median), number(max), goal, met.to_owned()]
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value {
        v if v >= 1_000.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
