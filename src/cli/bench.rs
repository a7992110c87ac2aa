//! `rowcrew bench`: measures this machine's Postgres with and without rowcrew.

use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{Table, presets};
use indicatif::ProgressBar;
use secrecy::ExposeSecret;

use crate::bench::{Bench, Figure, Goal, Report, Row, Settings, run as run_bench};
use crate::config::{self, Config};
use crate::embedded::{Environment, locate};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rowcrew bench drain --jobs 200000 --rounds 5\n\n\
    Each bench starts a private Postgres, unless --here says to use the configured database (its queue must be\n\
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
    /// Numbers of processes that `replicas` tries; the first is what the others are compared with.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 32])]
    workers: Vec<usize>,
    /// Jobs at once, for `concurrency`.
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(i64).range(1..=20_000))]
    at_once: i64,
    /// Jobs waiting beside those drained, for `backlog`, a tenth of it scheduled; all jobs of `disk`.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(i64).range(0..=100_000_000))]
    backlog: i64,
    /// For `forms`: only those with this in their names, beside the engine's.
    #[arg(long, value_name = "WORDS", default_value = "")]
    forms: String,
    /// The major version of the private Postgres [default: what is installed].
    #[arg(long, value_name = "MAJOR")]
    postgres: Option<u32>,
    /// Use the configured database instead of a private one; deletes all jobs in it.
    #[arg(long)]
    here: bool,
    /// Print the reports as JSON, one line each.
    #[arg(long)]
    json: bool,
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
    anyhow::ensure!(
        (0.0..=1.0).contains(&args.error_rate),
        "--error-rate {}: expected 0 to 1",
        args.error_rate
    );
    anyhow::ensure!(
        args.workers.contains(&1),
        "--workers must have 1 in it: the others are compared with it"
    );
    let url = if args.here { Some(load()?.database_url()?.expose_secret().to_owned()) } else { None };
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(120));
    let binaries = locate(&Environment::read(), args.postgres, &mut |line| bar.println(line))?;
    let settings = Settings {
        program: config::program()?,
        scratch: config::scratch(),
        url,
        binaries,
        rounds: args.rounds.into(),
        jobs: args.jobs,
        payload_bytes: args.payload_bytes as usize,
        error_rate: args.error_rate,
        workers: args.workers,
        at_once: args.at_once,
        backlog: args.backlog,
        forms: args.forms,
    };
    let mut met = true;
    for bench in args.what.benches() {
        let report = run_bench(bench, &settings, &|line| bar.set_message(line.to_owned())).await?;
        met &= report.figures.iter().all(|figure| figure.is_met() != Some(false));
        bar.suspend(|| {
            if args.json {
                println!("{}", report.json());
            } else {
                print_report(&report);
            }
        });
    }
    bar.finish_and_clear();
    if !met {
        eprintln!("some figures miss their goals on this machine; see docs/benchmarks.md for what to expect");
    }
    Ok(ExitCode::SUCCESS)
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
