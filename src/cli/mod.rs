//! The command line: one file a verb. Here configuration becomes settings; nothing below knows of it.

mod bench;
mod bench_bar;
mod completions;
mod config;
mod confirm;
mod database;
mod dead;
mod demo;
mod doctor;
mod enqueue;
mod enqueue_file;
mod exec_limited;
mod guard;
mod job_view;
mod jobs;
mod json;
mod kinds;
mod migrate;
mod output;
mod queues;
mod row;
mod settings;
mod stats;
mod table;
mod when;
mod work;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use secrecy::SecretString;

use crate::config::{Config, Overrides, Sources};

/// A job queue that is one Postgres table and one binary.
///
/// Any program enqueues by inserting a row: insert into rowcrew.jobs (kind, payload) values ('email.send',
/// '{"to": "a@example.org"}'). Workers run the handler that the kind names.
#[derive(Debug, Parser)]
#[command(name = "rowcrew", version, propagate_version = true, arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Args)]
struct Global {
    /// Configuration file [default: ./rowcrew.toml, then /etc/rowcrew.toml].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Database URL; also `DATABASE_URL`, or `database_url` in the file.
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<SecretString>,
    /// Schema of the queue's tables [default: rowcrew].
    #[arg(long, global = true, value_name = "NAME")]
    schema: Option<String>,
    /// What to log, as in "info" or "rowcrew=debug" [default: info].
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How to log: text or json [default: text].
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show what rowcrew does, on your own files, with nothing to set up and nothing left behind.
    Demo(demo::Args),
    /// The checksum program of the demo's command handler.
    #[command(hide = true)]
    DemoChecksum,
    /// Ends a killed worker's child processes.
    #[command(hide = true, name = crate::handler::guard::VERB)]
    Guard(guard::Args),
    /// Becomes a command, with less than a worker may.
    #[command(hide = true, name = crate::handler::limits::VERB)]
    ExecLimited(exec_limited::Args),
    /// Make or update the tables; harmless to repeat.
    Migrate(migrate::Args),
    /// Run a worker until SIGTERM or Ctrl-C.
    Work(work::Args),
    /// Measure this machine's Postgres with and without rowcrew.
    Bench(bench::Args),
    /// Put a job into the queue, or a file of jobs.
    Enqueue(Box<enqueue::Args>),
    /// List, show, cancel and retry jobs.
    Jobs(jobs::Args),
    /// List, show, revive, discard and edit the jobs that failed for good.
    Dead(dead::Args),
    /// List, pause, resume, purge and set queues.
    Queues(queues::Args),
    /// List, pause and resume kinds.
    Kinds(kinds::Args),
    /// List the live workers.
    Workers(workers::Args),
    /// Print depths, rates and times by queue and kind.
    Stats(stats::Args),
    /// Check the database and the crew, and say what to do; propose settings.
    Doctor(doctor::Args),
    /// Show, check or print an example of the configuration.
    Config(config::Args),
    /// Print a script that completes rowcrew's words in your shell.
    Completions(completions::Args),
}

/// What was asked for cannot be meant: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Runs the command line of this process: 0 done, 1 error, 2 usage or configuration.
pub fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(code) => code,
        Err(error) if error.is::<crate::config::Faults>() => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
        Err(error) => {
            // A cause that the line above it repeats is left out.
            eprintln!("rowcrew: {}", crate::text::error_chain(error.as_ref()));
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { global, verb } = args;
    let load = || load(&global, Overrides::default());
    match verb {
        Verb::Migrate(args) => in_runtime(migrate::run(args, &load()?)),
        Verb::Bench(args) => in_runtime(bench::run(args, load)),
        Verb::Enqueue(args) => in_runtime(enqueue::run(*args, &load()?)),
        Verb::Jobs(args) => in_runtime(jobs::run(args, &load()?)),
        Verb::Dead(args) => in_runtime(dead::run(args, &load()?)),
        Verb::Queues(args) => in_runtime(queues::run(args, &load()?)),
        Verb::Kinds(args) => in_runtime(kinds::run(args, &load()?)),
        Verb::Workers(args) => in_runtime(workers::run(args, &load()?)),
        Verb::Doctor(args) => in_runtime(doctor::run(args, &load()?)),
        Verb::Stats(args) => in_runtime(stats::run(args, &load()?)),
        Verb::Demo(args) => {
            anyhow::ensure!(
                global.config.is_none() && global.database_url.is_none() && global.schema.is_none(),
                "the demo works on a private Postgres of its own: it takes no --config, --database-url or --schema"
            );
            in_runtime(demo::run(args))
        }
        Verb::ExecLimited(args) => exec_limited::run(&args),
        Verb::Guard(args) => guard::run(&args),
        Verb::DemoChecksum => demo::checksum(),
        Verb::Work(args) => {
            let exit_with_stdin = args.exits_with_stdin();
            in_runtime_that_ends(work::run(self::load(&global, args.overrides())?, exit_with_stdin))
        }
        Verb::Config(args) => config::run(&args, load),
        Verb::Completions(args) => completions::run(&args),
    }
}

/// Reads the configuration, with the flags on top, and begins to log as it says.
fn load(global: &Global, verb: Overrides) -> anyhow::Result<Config> {
    let flags = Overrides {
        database_url: global.database_url.clone(),
        schema: global.schema.clone(),
        log_level: global.log_level.clone(),
        log_format: global.log_format.clone(),
        ..verb
    };
    let config = Config::load(&Sources::of_process(global.config.clone(), flags))?;
    output::log(&config.log);
    Ok(config)
}

fn in_runtime<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    runtime()?.block_on(work)
}

/// As [`in_runtime`], for a process that must end in time: a name look-up or another blocking call that hangs
/// is left behind.
fn in_runtime_that_ends<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = runtime()?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
