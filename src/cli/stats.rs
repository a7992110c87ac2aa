//! `rowcrew stats`: the figures of the moment, once or again and again.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::database::using;
use super::output;
use super::table::{self, Column, Form};
use crate::config::Config;
use crate::store::Store;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rowcrew stats --watch 5\n\n\
    Counts per queue are of its first 20,000 unfinished jobs; DEPTH is the whole, counted once a minute. \
    DONE/S are completions per second; WAIT is due to claimed, RUN the handler's time, both of the last hour.")]
pub(super) struct Args {
    /// Look again every so many seconds, until Ctrl-C.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
    /// Print a JSON document; with --watch one a line.
    #[arg(long)]
    json: bool,
}

const QUEUES: [Column; 16] = [
    Column("QUEUE", "queue", Form::Text),
    Column("AVAIL", "available", Form::Number),
    Column("SCHED", "scheduled", Form::Number),
    Column("RETRY", "retrying", Form::Number),
    Column("RUN", "running", Form::Number),
    Column("DEPTH", "depth", Form::Number),
    Column("DONE/S 1M", "per_second_1m", Form::Number),
    Column("5M", "per_second_5m", Form::Number),
    Column("1H", "per_second_1h", Form::Number),
    Column("WAIT P50", "wait_p50_ms", Form::Millis),
    Column("P95", "wait_p95_ms", Form::Millis),
    Column("P99", "wait_p99_ms", Form::Millis),
    Column("RUN P50", "run_p50_ms", Form::Millis),
    Column("P95", "run_p95_ms", Form::Millis),
    Column("P99", "run_p99_ms", Form::Millis),
    Column("PAUSED UNTIL", "paused_until", Form::Moment),
];

const KINDS: [Column; 14] = [
    Column("KIND", "kind", Form::Text),
    Column("WORKERS", "workers", Form::Number),
    Column("DONE 1H", "completed_1h", Form::Number),
    Column("FAILED", "failed_1h", Form::Number),
    Column("DEAD", "dead_1h", Form::Number),
    Column("DONE/S 1M", "per_second_1m", Form::Number),
    Column("5M", "per_second_5m", Form::Number),
    Column("1H", "per_second_1h", Form::Number),
    Column("WAIT P50", "wait_p50_ms", Form::Millis),
    Column("P95", "wait_p95_ms", Form::Millis),
    Column("P99", "wait_p99_ms", Form::Millis),
    Column("RUN P50", "run_p50_ms", Form::Millis),
    Column("P95", "run_p95_ms", Form::Millis),
    Column("P99", "run_p99_ms", Form::Millis),
];

pub(super) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    using(config, async |store| {
        let Some(seconds) = args.watch else {
            output::print(&look(store, args.json).await?)?;
            return Ok(ExitCode::SUCCESS);
        };
        tokio::select! {
            watched = watch(store, args.json, Duration::from_secs(seconds)) => watched?,
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
        Ok(ExitCode::SUCCESS)
    })
    .await
}

/// Looks again and again, until the reader of the output has gone.
async fn watch(store: &Store, json: bool, every: Duration) -> anyhow::Result<()> {
    let redraw = !json && std::io::stdout().is_terminal();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let text = look(store, json).await?;
        // Home, each line cleared as it is written over, then everything below: no flicker.
        let text = if redraw {
            format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
        } else if json {
            text
        } else {
            format!("{text}\n")
        };
        if !output::print(&text)? {
            return Ok(());
        }
    }
}

async fn look(store: &Store, json: bool) -> anyhow::Result<String> {
    let stats = store.read_stats().await?;
    if json {
        return Ok(format!("{}\n", stats.get()));
    }
    Ok(report(&serde_json::from_str(stats.get())?))
}

fn report(stats: &Value) -> String {
    let mut text = format!(
        "{}  workers alive: {}  dead jobs: {}{}\n",
        table::show(&stats["at"], Form::Moment),
        stats["workers"],
        stats["dead"],
        if stats["dead_capped"] == true { " or more" } else { "" },
    );
    for unserved in list(&stats["unserved"]) {
        let _ = writeln!(
            text,
            "no live worker serves kind {}: {} jobs wait",
            table::show(&unserved["kind"], Form::Text),
            unserved["jobs"],
        );
    }
    for (rows, columns) in [(list(&stats["queues"]), &QUEUES[..]), (list(&stats["kinds"]), &KINDS[..])] {
        if !rows.is_empty() {
            let _ = writeln!(text, "\n{}", table::render(rows, columns));
        }
    }
    text
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
