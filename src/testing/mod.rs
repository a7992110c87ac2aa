//! Helpers for the tests of programs that use rowcrew: a private Postgres, one job run on the spot, a queue
//! drained, and a look at what was enqueued.
//!
//! A handler alone needs no database:
//!
//! ```
//! use rowcrew::{Failure, Success, testing};
//!
//! async fn double(n: u32) -> Result<u32, Failure> {
//!     n.checked_mul(2).ok_or_else(|| Failure::bury("too large"))
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! assert_eq!(testing::perform(double, 21).await, Ok(Success::Done(Some("42".to_owned()))));
//! assert_eq!(testing::perform(double, u32::MAX).await, Err(Failure::bury("too large")));
//! # });
//! ```
//!
//! With a database of its own, which is started for you and gone with the test's process, a job goes all the way:
//!
//! ```
//! use rowcrew::{Context, Failure, NewJob, Worker, WorkerBuilder, testing::Database};
//! use serde_json::json;
//!
//! async fn greet(name: String, context: Context) -> Result<String, Failure> {
//!     context.enqueue(NewJob::new("email.send", &json!({ "to": name }))?)?;
//!     Ok(format!("hello {name}"))
//! }
//!
//! fn worker(url: &str) -> WorkerBuilder {
//!     Worker::builder(url).handle("greet", greet)
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let db = Database::start().await;
//! let ran = db.run(worker(db.url()), "greet", "you").await;
//! assert_eq!((ran.state.as_str(), ran.result), ("completed", Some(json!("hello you"))));
//! db.assert_enqueued("email.send", &json!({ "to": "you" })).await;
//! # });
//! ```
//!
//! All of them panic with words when something is wrong, as tests like it.

mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Client;
use tokio_postgres::types::{FromSqlOwned, Json, ToSql};
use tokio_util::sync::CancellationToken;

use crate::api::WorkerBuilder;
use crate::handler::{Context, IntoHandler};
use crate::store::{NewJob, enqueue};
use crate::{Backoff, Jitter, Job, JobId, Outcome};

/// How long a worker of a test may take before the test fails; only one that hangs meets it.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks whether the worker is done.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The queue in which [`Database::run`] runs its job, alone.
const INLINE: &str = "rowcrew.testing";

/// A migrated database of one test's own, on a private Postgres that all tests of the process share.
///
/// The server is found on this machine or fetched once into the user's cache (about 1 s to start; a database takes
/// about 0.1 s), listens on no network, and is gone when the process ends.
pub struct Database {
    url: String,
    client: Client,
}

/// What became of one job that was run on the spot.
#[derive(Debug, Clone, PartialEq)]
pub struct Ran {
    /// Its id.
    pub id: JobId,
    /// completed, cancelled, dead; retrying after a failure or a snooze.
    pub state: String,
    /// Tries it had.
    pub attempts: i32,
    /// What its handler answered.
    pub result: Option<Value>,
    /// Why its last try failed.
    pub error: Option<String>,
}

/// What became of the jobs while a queue was drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Jobs completed.
    pub completed: i64,
    /// Jobs cancelled.
    pub cancelled: i64,
    /// Jobs that died.
    pub dead: i64,
    /// Jobs left: scheduled, waiting for their next try, or of kinds and queues that the worker does not serve.
    pub left: i64,
}

/// Runs a handler once, without a worker and a database, and answers what it answers.
///
/// The job is the first try of the kind `test`. What the handler reports as progress is dropped; a transaction and
/// [`Context::enqueue`] fail: [`Database::run`] has them.
pub async fn perform<M>(handler: impl IntoHandler<M>, payload: impl Serialize) -> Outcome {
    let payload = serde_json::to_string(&payload).expect("a payload that can be JSON");
    let job = Job { kind: "test".into(), payload: payload.into(), ..Job::example() };
    let context = Context::new(Arc::new(job), Instant::now() + PATIENCE, CancellationToken::new());
    handler.into_handler().run(context).await
}

impl Database {
    /// Makes one; the first one of a process starts the server.
    pub async fn start() -> Self {
        Self::at(&server::make_database().await).await
    }

    /// One that is there already, migrated, by its URL.
    pub async fn at(url: &str) -> Self {
        Self { client: server::connect(url).await, url: url.to_owned() }
    }

    /// Its URL, for [`crate::Worker::builder`] and for your own pool.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection to it, as superuser.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Enqueues a job and runs it on the spot, one try, with the worker's handlers and everything they can do; its
    /// queue is one of its own, so that no other job runs.
    pub async fn run(&self, worker: WorkerBuilder, kind: &str, payload: impl Serialize) -> Ran {
        // A failed try is looked at before the next one: no backoff of moments.
        let wait = Backoff::Fixed { delay_ms: 3_600_000, jitter: Jitter::None, give_up_after_ms: None };
        let job =
            NewJob::new(kind, &payload).expect("a payload that can be JSON").queue(INLINE).backoff(&wait);
        let id = match enqueue(&self.client, &job).await {
            Ok(enqueued) => enqueued.id(),
            Err(error) => panic!("{kind} cannot be enqueued: {error}"),
        };
        self.work(worker.queues([INLINE])).await;
        let row = self.client.query_one(include_str!("sql/job.sql"), &[&id]).await.expect("job_status");
        Ran { id, state: row.get(0), attempts: row.get(1), result: row.get(2), error: row.get(3) }
    }

    /// Runs a worker until nothing that it can run is due, jobs enqueued meanwhile included. Jobs that wait for
    /// their time or their next try are left.
    pub async fn drain(&self, worker: WorkerBuilder) -> Drained {
        let before = self.counts().await;
        self.work(worker).await;
        let after = self.counts().await;
        Drained {
            completed: after[0] - before[0],
            cancelled: after[1] - before[1],
            dead: after[2] - before[2],
            left: after[3],
        }
    }

    /// The payloads of the unfinished jobs of a kind, the oldest first.
    pub async fn enqueued(&self, kind: &str) -> Vec<Value> {
        self.all(include_str!("sql/enqueued.sql"), &[&kind]).await
    }

    /// Checks that an unfinished job of the kind has a payload that contains this (as `@>` of Postgres: further
    /// fields may be there).
    pub async fn assert_enqueued(&self, kind: &str, payload: &Value) {
        let found = self.matching(kind, payload).await > 0;
        let there = if found { String::new() } else { self.there(kind).await };
        assert!(found, "no job {kind} with {payload} is enqueued; {there}");
    }

    /// Checks that there is no such job.
    pub async fn assert_not_enqueued(&self, kind: &str, payload: &Value) {
        let found = self.matching(kind, payload).await > 0;
        let there = if found { self.there(kind).await } else { String::new() };
        assert!(!found, "a job {kind} with {payload} is enqueued; {there}");
    }

    async fn matching(&self, kind: &str, payload: &Value) -> i64 {
        self.all(include_str!("sql/matching.sql"), &[&kind, &Json(payload)]).await[0]
    }

    /// What there is instead, in words.
    async fn there(&self, kind: &str) -> String {
        let payloads = self.enqueued(kind).await;
        if !payloads.is_empty() {
            let payloads: Vec<String> = payloads.iter().map(Value::to_string).collect();
            return format!("of that kind there are: {}", payloads.join(", "));
        }
        match self.all::<String>(include_str!("sql/kinds.sql"), &[]).await {
            kinds if kinds.is_empty() => "nothing is enqueued".to_owned(),
            kinds => format!("none of that kind; there are: {}", kinds.join(", ")),
        }
    }

    async fn counts(&self) -> [i64; 4] {
        let row = self.client.query_one(include_str!("sql/counts.sql"), &[]).await.expect("counts");
        [row.get(0), row.get(1), row.get(2), row.get(3)]
    }

    async fn all<T: FromSqlOwned>(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Vec<T> {
        let rows = self.client.query(sql, params).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn work(&self, worker: WorkerBuilder) {
        let (kinds, queues) = worker.serves();
        let worker = worker.without_signals().build().unwrap_or_else(|error| panic!("{error}"));
        let stop = worker.stop_handle();
        let running = tokio::spawn(worker.run());
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let began = Instant::now();
        // It ends early only with an error.
        while !running.is_finished()
            && self.all::<bool>(include_str!("sql/due.sql"), &[&kinds, &queues]).await[0]
        {
            assert!(began.elapsed() < PATIENCE, "the worker is not done within {PATIENCE:?}");
            looks.tick().await;
        }
        stop.drain();
        running.await.expect("no panic").unwrap_or_else(|error| panic!("the worker: {error}"));
    }
}
