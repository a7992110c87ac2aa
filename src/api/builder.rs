//! Puts a worker together; every default is that of `rowcrew.toml`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::worker::Worker;
use crate::handler::{BlockingHandler, Entry, Handler, IntoBlocking, IntoHandler, Registry, Runner};
use crate::store::{Error, Kept, ServerUrl, Settings, Store};
use crate::worker::Stopping;
use crate::{JobDefaults, config, worker};

/// A worker to be: where its jobs are, what runs them, how many at once.
#[must_use = "a builder does nothing until it is built or run"]
pub struct WorkerBuilder {
    url: String,
    direct_url: Option<String>,
    schema: String,
    pool_size: usize,
    prepare: bool,
    settings: worker::Settings,
    kept: Kept,
    registry: Registry,
    signals: bool,
}

/// What the jobs of a kind get when their rows do not say, and how many of them run at once.
#[derive(Debug, Clone, Default)]
pub struct KindOptions {
    /// Attempts, time limit and backoff.
    pub defaults: JobDefaults,
    /// Jobs of the kind at once in this worker; `None` for as many as the worker runs.
    pub concurrency: Option<usize>,
}

impl WorkerBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            direct_url: None,
            schema: "rowcrew".to_owned(),
            pool_size: 4,
            prepare: true,
            settings: worker::Settings {
                name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
                queues: vec!["default".to_owned()],
                concurrency: 100,
                drain: Duration::from_secs(25),
                poll: Duration::from_secs(1),
                sql_connections: 4,
                blocking_threads: 32,
                keep_finished: true,
                program: None,
            },
            kept: Kept { finished_days: 7, dead_days: 90, stats_days: 30 },
            registry: Registry::new(),
            signals: true,
        }
    }

    /// Runs the jobs of a kind with an async function or closure: `async fn(Payload) -> Result<T, E>`, or with a
    /// [`crate::Context`] as second parameter. See [`IntoHandler`].
    pub fn handle<M>(self, kind: &str, handler: impl IntoHandler<M>) -> Self {
        self.handle_with(kind, KindOptions::default(), handler)
    }

    /// As [`WorkerBuilder::handle`], with settings of the kind.
    pub fn handle_with<M>(self, kind: &str, options: KindOptions, handler: impl IntoHandler<M>) -> Self {
        self.entry(kind, options, Runner::Handler(handler.into_handler()))
    }

    /// Runs the jobs of a kind with a function that blocks, on one of the blocking threads: a file system, a
    /// driver that is not async, long computations. See [`IntoBlocking`].
    pub fn handle_blocking<M>(self, kind: &str, handler: impl IntoBlocking<M>) -> Self {
        self.handle_blocking_with(kind, KindOptions::default(), handler)
    }

    /// As [`WorkerBuilder::handle_blocking`], with settings of the kind.
    pub fn handle_blocking_with<M>(
        self,
        kind: &str,
        options: KindOptions,
        handler: impl IntoBlocking<M>,
    ) -> Self {
        self.entry(kind, options, Runner::Blocking(handler.into_blocking()))
    }

    /// Runs the jobs of a kind with a [`Handler`]: one of rowcrew's own, or a type of yours.
    pub fn handler(self, kind: &str, options: KindOptions, handler: impl Handler) -> Self {
        self.entry(kind, options, Runner::Handler(Arc::new(handler)))
    }

    /// Runs the jobs of a kind with a [`BlockingHandler`].
    pub fn blocking_handler(self, kind: &str, options: KindOptions, handler: impl BlockingHandler) -> Self {
        self.entry(kind, options, Runner::Blocking(Arc::new(handler)))
    }

    fn entry(mut self, kind: &str, options: KindOptions, runner: Runner) -> Self {
        let KindOptions { defaults, concurrency } = options;
        let entry = Entry { runner, defaults: Arc::new(defaults), concurrency };
        self.registry = self.registry.with_entry(kind, entry);
        self
    }

    /// The queues it serves; `default` unless set.
    pub fn queues<T: Into<String>>(mut self, queues: impl IntoIterator<Item = T>) -> Self {
        self.settings.queues = queues.into_iter().map(Into::into).collect();
        self
    }

    /// Jobs at once at most; 100 unless set. Connections do not grow with it.
    pub fn concurrency(mut self, jobs: usize) -> Self {
        self.settings.concurrency = jobs.max(1);
        self
    }

    /// Threads for blocking handlers at most; 32 unless set. They start when they are needed.
    pub fn blocking_threads(mut self, threads: usize) -> Self {
        self.settings.blocking_threads = threads.max(1);
        self
    }

    /// Jobs at once that may have a transaction ([`crate::Context::transaction`]); 4 unless set.
    pub fn sql_connections(mut self, connections: usize) -> Self {
        self.settings.sql_connections = connections.max(1);
        self
    }

    /// How long running jobs may take to end when the worker is stopped; 25 s unless set.
    pub fn drain_time(mut self, time: Duration) -> Self {
        self.settings.drain = time;
        self
    }

    /// The longest pause between two looks for jobs; 1 s unless set. New jobs wake it at once anyway.
    pub fn poll_every(mut self, pause: Duration) -> Self {
        self.settings.poll = pause;
        self
    }

    /// What it is called in lists and logs; the host's name unless set.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// The schema of the tables; `rowcrew` unless set.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// The URL is that of a transaction-mode pooler; this one goes past it, for LISTEN and locks.
    pub fn through_pooler(mut self, direct_url: impl Into<String>) -> Self {
        self.direct_url = Some(direct_url.into());
        self.prepare = false;
        self
    }

    /// Days that finished jobs are kept; 7 unless set, 0 keeps none.
    pub fn keep_finished_days(mut self, days: u16) -> Self {
        self.kept.finished_days = days.into();
        self.settings.keep_finished = days > 0;
        self
    }

    /// Runs jobs that a worker was lost with in processes beside it: this program, started again with the same
    /// arguments, which must come to running this worker again. There it runs those jobs and no others: several that
    /// were in one crash, and a job that was in two alone.
    ///
    /// Without it the latter has the whole worker for itself: the worker waits until all others have ended, and claims
    /// nothing meanwhile.
    pub fn isolate_suspects(mut self) -> Self {
        self.settings.program = config::program_in_memory().ok();
        self
    }

    /// Leaves SIGTERM and SIGINT to the rest of the program, which then stops the worker by its handle.
    pub fn without_signals(mut self) -> Self {
        self.signals = false;
        self
    }

    /// The kinds it has handlers for, and the queues it serves.
    pub(crate) fn serves(&self) -> (Vec<String>, Vec<String>) {
        (self.registry.iter().map(|(kind, _)| kind.to_string()).collect(), self.settings.queues.clone())
    }

    /// Makes the worker; connects to nothing yet.
    pub fn build(self) -> Result<Worker, Error> {
        if self.registry.iter().next().is_none() {
            return Err(Error::Input("the worker has no handlers, so it could run nothing".to_owned()));
        }
        if self.settings.queues.is_empty() {
            return Err(Error::Input("the worker serves no queue, so it would find nothing".to_owned()));
        }
        let url = ServerUrl::parse(&self.url)?;
        let direct_url = match &self.direct_url {
            Some(direct) => ServerUrl::parse(direct)?,
            None => url.clone(),
        };
        let store = Store::new(Settings {
            url,
            direct_url,
            schema: self.schema,
            pool_size: self.pool_size,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            prepare: self.prepare,
        })?;
        Ok(Worker {
            store,
            registry: self.registry,
            settings: self.settings,
            kept: self.kept,
            signals: self.signals,
            stop: watch::Sender::new(Stopping::No),
        })
    }

    /// Builds the worker and runs it until it is stopped: see [`Worker::run`].
    pub async fn run(self) -> Result<(), Error> {
        self.build()?.run().await
    }
}
