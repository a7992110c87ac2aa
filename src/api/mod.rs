//! What Rust programs run a worker with: [`Worker::builder`], and the handle that stops it.

mod builder;
mod signals;
mod worker;

pub use builder::{KindOptions, WorkerBuilder};
pub(crate) use signals::stop_on_signals;
pub use worker::{StopHandle, Worker, migrate};
