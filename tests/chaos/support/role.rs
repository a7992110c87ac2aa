//! The worker process: this test binary, started again with one test to run and an order in its environment.
//!
//! It runs the library's worker as `rowcrew work` does, with handlers that write every start and every end to
//! the ledger: one line of `O_APPEND` each, so that the lines of a killed process are as whole as any.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rowcrew::handler::{Context, Entry, Handler, Registry, Runner, Work};
use rowcrew::store::{Kept, ServerUrl, Settings, Store};
use rowcrew::worker::{self, Stopping};
use rowcrew::{Backoff, Failure, FailureClass, Jitter, JobDefaults, SqlStatement, Success, maintenance};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::clock;

/// Holds the order, as JSON.
pub(crate) const ORDER: &str = "ROWCREW_CHAOS_WORKER";
/// The one test a worker process runs.
pub(crate) const TEST: &str = "support::role::a_process_with_an_order_is_a_worker";

/// What a worker process is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub url: String,
    pub direct_url: String,
    pub ledger: PathBuf,
    pub slots: usize,
    pub drain_ms: u64,
    pub prepare: bool,
    /// How long the statement of the SQL handler takes beside its effect.
    pub effect_ms: u32,
    /// Whether a job that two workers were lost with gets a process of its own.
    pub own_processes: bool,
    /// How its wall clock is shifted, in the words of faketime.
    pub faketime: Option<String>,
    /// With the feature `chaos`: the seed, and how many in a thousand calls to the database go wrong.
    pub strikes: Option<(u64, u32)>,
}

#[test]
fn a_process_with_an_order_is_a_worker() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let order: Order = serde_json::from_str(&order).expect("an order");
    let level = std::env::var("ROWCREW_CHAOS_LOG").unwrap_or_else(|_| "info".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(level))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    #[cfg(feature = "chaos")]
    if let Some((seed, per_thousand)) = order.strikes {
        rowcrew::store::chaos::arm(seed, per_thousand);
    }
    // Unoptimised, and with a strike at every await, the deepest calls need more than the usual two megabytes.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(16 * 1024 * 1024)
        .enable_all()
        .build()
        .expect("a runtime");
    let outcome = runtime.block_on(work(order));
    runtime.shutdown_background();
    outcome.expect("a worker that stops in order");
}

async fn work(order: Order) -> Result<(), Box<dyn std::error::Error>> {
    let settings = Settings {
        url: ServerUrl::parse(&order.url)?,
        direct_url: ServerUrl::parse(&order.direct_url)?,
        schema: "rowcrew".to_owned(),
        pool_size: 4,
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(30),
        prepare: order.prepare,
    };
    let store = Store::new(settings)?;
    let (stop, stopping) = watch::channel(Stopping::No);
    let (mut first, mut second) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopper = tokio::spawn(async move {
        for next in [Stopping::Drain, Stopping::Now] {
            tokio::select! { _ = first.recv() => {}, _ = second.recv() => {} }
            stop.send_replace(next);
        }
    });
    // A server that is just coming up is waited for, as a supervisor would by starting the worker again.
    while let Err(error) = store.check_ready().await {
        if *stopping.borrow() != Stopping::No {
            return Ok(());
        }
        tracing::warn!(%error, "not ready");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let kept = Kept { finished_days: 7, dead_days: 90, stats_days: 30 };
    let upkeep = tokio::spawn(maintenance::run(store.clone(), kept));
    let settings = worker::Settings {
        blocking_threads: 4,
        name: format!("chaos {}", std::process::id()),
        queues: vec!["default".to_owned()],
        concurrency: order.slots,
        drain: Duration::from_millis(order.drain_ms),
        poll: Duration::from_secs(1),
        sql_connections: 4,
        keep_finished: true,
        program: std::env::current_exe().ok().filter(|_| order.own_processes),
    };
    let registry = registry(&order.ledger, order.effect_ms)?;
    let outcome = loop {
        match worker::run(store.clone(), registry.clone(), settings.clone(), stopping.clone()).await {
            Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(200)).await,
            outcome => break outcome,
        }
    };
    upkeep.abort();
    stopper.abort();
    Ok(outcome?)
}

/// What a job of the suite is told, whatever its kind.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    /// How long it works.
    ms: u64,
    /// How many of its attempts fail.
    fails: i32,
    /// Bytes of memory it fills while it works.
    bytes: usize,
    /// What it answers, or fails with, however odd.
    result: Option<String>,
    error: Option<String>,
}

#[derive(Clone, Copy)]
enum Manner {
    /// Waits, as well-behaved handlers do.
    Nap,
    /// Keeps its thread busy and never yields.
    Spin,
    /// Takes the process down.
    Abort,
    /// Answers what it is told.
    Babble,
}

struct Noted {
    manner: Manner,
    ledger: Arc<File>,
}

fn registry(ledger: &PathBuf, effect_ms: u32) -> std::io::Result<Registry> {
    let ledger = Arc::new(OpenOptions::new().append(true).create(true).open(ledger)?);
    let noted = |manner| -> Arc<dyn Handler> { Arc::new(Noted { manner, ledger: ledger.clone() }) };
    let backoff = Backoff::Fixed { delay_ms: 50, jitter: Jitter::None, give_up_after_ms: None };
    let defaults = Arc::new(JobDefaults { backoff, ..JobDefaults::default() });
    let entry = |runner| Entry { runner, defaults: defaults.clone(), concurrency: None };
    let effect = format!(
        "insert into chaos.effects (job) select ($1::jsonb ->> 'n')::bigint from pg_sleep({})",
        f64::from(effect_ms) / 1000.0
    );
    Ok(Registry::new()
        .with_entry("nap", entry(Runner::Handler(noted(Manner::Nap))))
        .with_entry("spin", entry(Runner::Handler(noted(Manner::Spin))))
        .with_entry("abort", entry(Runner::Handler(noted(Manner::Abort))))
        .with_entry("babble", entry(Runner::Handler(noted(Manner::Babble))))
        .with_entry("effect", entry(Runner::Sql(Arc::new(SqlStatement::new(effect))))))
}

impl Handler for Noted {
    fn run(self: Arc<Self>, context: Context) -> Work {
        Box::pin(async move {
            let told: Told = serde_json::from_str(&context.job.payload)?;
            let mut line = Line::start(&self.ledger, &context);
            let filled = vec![1_u8; told.bytes];
            match self.manner {
                Manner::Nap => tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(told.ms)) => {}
                    () = context.cancelled.cancelled() => {
                        line.ends_as = "cut";
                        return Err(Failure::retry_as(FailureClass::Cancelled, "cut"));
                    }
                },
                Manner::Spin => {
                    let began = std::time::Instant::now();
                    while began.elapsed() < Duration::from_millis(told.ms) {
                        std::hint::black_box(&filled);
                    }
                }
                Manner::Abort => {
                    // Nobody sees the death of a process that a worker started.
                    line.write(ABORTS);
                    std::process::abort();
                }
                Manner::Babble => {
                    line.ends_as = "done";
                    let failed = |error: String| Err(Failure::retry_as(FailureClass::Error, error));
                    return match (told.result, told.error) {
                        (Some(result), _) => Ok(Success::Done(Some(result))),
                        (None, Some(error)) => failed(error),
                        (None, None) => {
                            failed("a\0b\u{1b}[31m\u{fffd}".to_owned()).map_err(|f| f.with_detail("\0\0"))
                        }
                    };
                }
            }
            let claim = context.job.claim_id;
            if context.job.attempt - context.job.crashes <= told.fails {
                line.ends_as = "failed";
                return Err(Failure::retry_as(FailureClass::Error, format!("claim {claim} fails as told")));
            }
            line.ends_as = "done";
            Ok(Success::Done(Some(format!(r#"{{"claim": {claim}}}"#))))
        })
    }
}

/// What the ledger says of a process that is about to take itself down.
pub(crate) const ABORTS: &str = "aborts";

/// One execution; its end is written however it comes, unless the process is gone.
struct Line {
    ledger: Arc<File>,
    job: i64,
    claim: i64,
    ends_as: &'static str,
}

impl Line {
    fn start(ledger: &Arc<File>, context: &Context) -> Self {
        let line = Self {
            ledger: ledger.clone(),
            job: context.job.id,
            claim: context.job.claim_id,
            ends_as: "dropped",
        };
        line.write("start");
        line
    }

    fn write(&self, what: &str) {
        let text = format!("{} {} {} {what} {}\n", self.job, self.claim, std::process::id(), clock::now());
        (&*self.ledger).write_all(text.as_bytes()).expect("the ledger takes it");
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.write(self.ends_as);
    }
}
