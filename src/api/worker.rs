//! A worker inside a Rust program, and the means to stop it.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::builder::WorkerBuilder;
use super::signals::stop_on_signals;
use crate::handler::Registry;
use crate::store::{Error, Kept, Migrated, ServerUrl, Settings, Store};
use crate::worker::Stopping;
use crate::{maintenance, worker};

/// The largest payload that the table takes unless `rowcrew migrate` says otherwise.
const PAYLOAD_BYTES_MAX: u32 = 1024 * 1024;

/// A worker that is ready to run.
pub struct Worker {
    pub(super) store: Store,
    pub(super) registry: Registry,
    pub(super) settings: worker::Settings,
    pub(super) kept: Kept,
    pub(super) signals: bool,
    pub(super) stop: watch::Sender<Stopping>,
}

/// Stops a worker from elsewhere in the program. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StopHandle(watch::Sender<Stopping>);

impl Worker {
    /// Begins to put a worker together; the URL is that of `DATABASE_URL`, `postgres://...`.
    pub fn builder(url: impl Into<String>) -> WorkerBuilder {
        WorkerBuilder::new(url.into())
    }

    /// What stops it.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(self.stop.clone())
    }

    /// Runs until it is stopped: by its [`StopHandle`], by SIGTERM or Ctrl-C (unless the builder says no), or by
    /// dropping this future, which gives all jobs back at once.
    ///
    /// Stopped in order, it claims nothing more, lets running jobs end within the drain time, gives the rest back
    /// at no cost of an attempt, and returns. It also does the crew's upkeep, as every worker.
    pub async fn run(self) -> Result<(), Error> {
        let dropped = StopWhenDropped(self.stop_handle());
        // In a task of its own, for a worker that is dropped half-way could not give its jobs back.
        let ran = tokio::spawn(self.run_to_end()).await;
        std::mem::forget(dropped);
        ran.unwrap_or_else(|broken| std::panic::resume_unwind(broken.into_panic()))
    }

    async fn run_to_end(self) -> Result<(), Error> {
        let signals = self.signals.then(|| stop_on_signals(self.stop.clone())).transpose();
        let signals =
            signals.map_err(|fault| Error::Input(format!("signals cannot be listened to: {fault}")))?;
        let _signals = signals.map(InBackground::new);
        let does_upkeep = !self.settings.is_for_handed_jobs();
        let ready = Box::pin(async {
            self.store.check_ready().await?;
            if does_upkeep {
                maintenance::prepare(&self.store, self.kept).await;
            }
            Ok(())
        });
        if worker::unless_stopped(self.stop.subscribe(), ready).await?.is_none() {
            return Ok(());
        }
        let _upkeep = does_upkeep.then(|| InBackground::new(maintenance::run(self.store.clone(), self.kept)));
        worker::run(self.store, self.registry, self.settings, self.stop.subscribe()).await
    }
}

impl StopHandle {
    /// Lets the worker claim nothing more, end what it runs within its drain time, and return.
    pub fn drain(&self) {
        self.at_least(Stopping::Drain);
    }

    /// Lets the worker give everything back at once, and return.
    pub fn stop_now(&self) {
        self.at_least(Stopping::Now);
    }

    fn at_least(&self, asked: Stopping) {
        self.0.send_if_modified(|now| {
            let more = asked > *now;
            *now = asked.max(*now);
            more
        });
    }
}

struct StopWhenDropped(StopHandle);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.stop_now();
    }
}

/// A task that ends with its owner.
struct InBackground(JoinHandle<()>);

impl InBackground {
    fn new(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl Drop for InBackground {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes or upgrades the tables in the schema `rowcrew`, as `rowcrew migrate` does; harmless when there is nothing
/// to do and when several programs do it at once.
pub async fn migrate(url: &str) -> Result<Migrated, Error> {
    let url = ServerUrl::parse(url)?;
    let settings = Settings {
        direct_url: url.clone(),
        url,
        schema: "rowcrew".to_owned(),
        pool_size: 1,
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(30),
        prepare: true,
    };
    Store::new(settings)?.migrate(PAYLOAD_BYTES_MAX).await
}
