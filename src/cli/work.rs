//! `rowcrew work`: runs a worker.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::sync::watch;

use super::settings;
use crate::api::stop_on_signals;
use crate::config::{self, Config, Overrides, Run};
use crate::handler::guard;
use crate::maintenance;
use crate::store::Store;
use crate::worker::{self, Stopping};

#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Example:\n  rowcrew work --config rowcrew.toml --concurrency 50\n\n\
    SIGTERM or Ctrl-C: takes no more jobs, lets running ones end within worker.drain_ms, gives the rest \
    back and exits. A second one: gives everything back at once.")]
pub(super) struct Args {
    /// A queue to serve; repeat for more [default: worker.queues, "default"].
    #[arg(long = "queue", value_name = "NAME")]
    queues: Vec<String>,
    /// Jobs at once at most [default: worker.concurrency, 100].
    #[arg(long, value_name = "N")]
    concurrency: Option<u64>,
    /// What the worker is called [default: the host's name].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Milliseconds that running jobs may take to end at a stop [default: 25000].
    #[arg(long, value_name = "MS")]
    drain_ms: Option<u64>,
    /// Stop at once when standard input ends, as it does when the process that started this one is gone.
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

impl Args {
    pub(super) fn exits_with_stdin(&self) -> bool {
        self.exit_with_stdin
    }

    /// The flags, as the configuration takes them.
    pub(super) fn overrides(self) -> Overrides {
        Overrides {
            queues: self.queues,
            concurrency: self.concurrency,
            name: self.name,
            drain_ms: self.drain_ms,
            ..Overrides::default()
        }
    }
}

pub(super) async fn run(mut config: Config, exit_with_stdin: bool) -> anyhow::Result<ExitCode> {
    let worker = settings::worker(&config);
    if worker.is_for_handed_jobs() {
        one_child_each(&mut config);
    }
    let registry = settings::registry(&config)?;
    anyhow::ensure!(
        registry.iter().next().is_some(),
        "no handlers: the configuration has no [handlers.KIND] table, so this worker could run nothing. \
         See `rowcrew config example`"
    );
    guard_children(&config)?;
    let store = Store::new(settings::store(&config)?)?;
    let kept = settings::kept(&config);
    let (stop, stopping) = watch::channel(Stopping::No);
    // That of a process with jobs handed to it is its tie to the worker, which reads it itself.
    if exit_with_stdin && !worker.is_for_handed_jobs() {
        let stop = stop.clone();
        std::thread::spawn(move || worker::stop_at_end_of_stdin(&stop));
    }
    let stopper = tokio::spawn(stop_on_signals(stop)?);
    let does_upkeep = !worker.is_for_handed_jobs();
    let ready = Box::pin(async {
        store.check_ready().await?;
        if does_upkeep {
            maintenance::prepare(&store, kept).await;
        }
        Ok(())
    });
    if worker::unless_stopped(stopping.clone(), ready).await?.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    let upkeep = does_upkeep.then(|| tokio::spawn(maintenance::run(store.clone(), kept)));
    let outcome = worker::run(store, registry, worker, stopping).await;
    upkeep.inspect(tokio::task::JoinHandle::abort);
    stopper.abort();
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// One job needs no more.
fn one_child_each(config: &mut Config) {
    for handler in config.handlers.values_mut() {
        if let Run::Process(process) = &mut handler.run {
            process.processes = 1;
        }
    }
}

/// Starts the guard where jobs may run as processes.
fn guard_children(config: &Config) -> anyhow::Result<()> {
    let in_process = |run: &Run| {
        matches!(run, Run::Http(_) | Run::Sql(_) | Run::Sleep | Run::Noop | Run::Echo | Run::Fail)
    };
    if config.handlers.values().all(|handler| in_process(&handler.run)) {
        return Ok(());
    }
    let started = config::program_in_memory().and_then(guard::start);
    started
        .context("the guard of child processes cannot be started; check the limits of processes and memory")
}
