//! `rowcrew doctor`: looks at the database it is pointed at, and says what to do.

mod checks;
mod look;
mod tune;

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::{output, settings, when::parse_span};
use crate::config::Config;
use crate::store::Store;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rowcrew doctor --late-after 10m && rowcrew work\n\n\
    Exit code 1 if anything fails; with --strict also if anything is warned of. It only reads.")]
pub(super) struct Args {
    /// Warn of a queue whose first due job has waited for longer.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_span)]
    late_after: Duration,
    /// Warn of a transaction that has been open for longer.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_span)]
    long_after: Duration,
    /// Propose settings for this machine and this database, each with its reason.
    #[arg(long)]
    tune: bool,
    /// A warning makes the exit code 1 too.
    #[arg(long)]
    strict: bool,
    /// Print a JSON document.
    #[arg(long)]
    json: bool,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// What one check came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    check: &'static str,
    found: String,
    /// What to do about it.
    advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { level: Level::Ok, check, found: found.into(), advice: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Warn, check, found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Fail, ..Self::warn(check, found, advice) }
    }

    fn line(&self) -> String {
        let level = match self.level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        let advice = self.advice.as_ref().map(|advice| format!(" -> {advice}")).unwrap_or_default();
        format!("{level}  {:<12}  {}{advice}", self.check, self.found)
    }
}

pub(super) async fn run(args: Args, config: &Config) -> anyhow::Result<ExitCode> {
    let store = Store::new(settings::store(config)?)?;
    let limits =
        look::Limits { late: args.late_after, long: args.long_after, prepare: config.database.prepare };
    let mut report = look::report(&store, &limits).await;
    let worst = report.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    let proposals = match (args.tune, report.sight.take()) {
        (true, Some(sight)) => tune::proposals(&sight, &machine(), config),
        _ => Vec::new(),
    };
    if args.json {
        let mut document = serde_json::json!({ "worst": worst, "checks": report.findings });
        if args.tune {
            document["proposals"] = serde_json::to_value(&proposals)?;
        }
        output::print(&format!("{document:#}\n"))?;
    } else {
        for finding in &report.findings {
            output::line(&finding.line());
        }
        for proposal in &proposals {
            output::line(&proposal.line());
        }
        if args.tune && proposals.is_empty() {
            output::line("no proposals: the database must be reachable and migrated first");
        }
    }
    let bad = worst == Level::Fail || (args.strict && worst == Level::Warn);
    Ok(if bad { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn machine() -> tune::Machine {
    tune::Machine {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: memory_bytes(),
    }
}

/// The memory of this machine or of its container, where the system is one that says.
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kb: u64 = total.split_whitespace().next()?.parse().ok()?;
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX);
    Some((kb * 1024).min(limit))
}
