//! A job queue that is one Postgres table and one binary.
//!
//! Any program enqueues by inserting a row into `rowcrew.jobs`; a crew of workers claims rows and runs the handler
//! that each job's kind names. The binary runs HTTP calls, commands and SQL from a configuration file. This crate is
//! for handlers written in Rust: a whole worker is
//!
//! ```no_run
//! use rowcrew::{Context, Failure, Worker};
//!
//! #[derive(serde::Deserialize)]
//! struct Order {
//!     id: i64,
//!     cents: i64,
//! }
//!
//! async fn charge(order: Order, context: Context) -> Result<(), Failure> {
//!     if order.cents <= 0 {
//!         return Err(Failure::bury("nothing to charge")); // never tried again; any other error is
//!     }
//!     let tx = context.transaction().await?; // commits with the job's finish: exactly once
//!     tx.execute("update orders set paid = true where id = $1", &[&order.id]).await?;
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), rowcrew::Error> {
//!     let url = "postgres://localhost/app";
//!     rowcrew::migrate(url).await?;
//!     Worker::builder(url).handle("order.charge", charge).concurrency(50).run().await
//! }
//! ```
//!
//! - [`Worker::builder`] puts a worker together; [`StopHandle`] stops it from code.
//! - [`WorkerBuilder::handle`] takes async functions with a payload of their own type, and
//!   [`WorkerBuilder::handle_blocking`] functions that block.
//! - [`Context`] tells the attempt and its deadline, takes progress, opens a transaction that commits with the finish,
//!   and enqueues with it. [`Failure`] says what follows when it did not work.
//! - [`enqueue`] inserts a job in a transaction of yours; [`sql`] has the statements for other drivers.
//! - [`testing`] runs jobs in tests, on a private Postgres.
//!
//! Delivery is at-least-once: a handler runs again when its worker is lost in the middle. Only what is written in the
//! job's own transaction happens exactly once.

mod api;
mod backoff;
pub mod bench;
pub mod cli;
pub mod config;
pub mod embedded;
mod fingerprint;
pub mod handler;
mod job;
pub mod maintenance;
pub mod outbound;
mod outcome;
pub mod sql;
mod statement;
mod storable;
pub mod store;
pub mod testing;
pub mod text;
pub mod worker;

pub use api::{KindOptions, StopHandle, Worker, WorkerBuilder, migrate};
pub use backoff::{Backoff, Jitter};
pub use fingerprint::fingerprint;
pub use handler::{BlockingHandler, Context, Handler};
pub use job::{
    CRASHES_MAX, ClaimId, Job, JobDefaults, JobId, MAX_ATTEMPTS_DEFAULT, PRIORITY_HIGH, PRIORITY_LOW,
    PRIORITY_NORMAL, TIMEOUT_DEFAULT, WorkerId, parse_priority,
};
pub use outcome::{Failure, FailureClass, Outcome, Success, Verdict};
pub use statement::SqlStatement;
pub use store::{
    Enqueued, Error, NewJob, Transaction, When, enqueue, enqueue_in, enqueue_many, enqueue_many_in,
};
