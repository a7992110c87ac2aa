//! A job queue that is one Postgres table and one binary.

mod backoff;
pub mod bench;
pub mod cli;
pub mod config;
pub mod embedded;
pub mod handler;
mod job;
pub mod maintenance;
pub mod outbound;
mod outcome;
pub mod store;
pub mod text;
pub mod worker;

pub use backoff::{Backoff, Jitter};
pub use job::{
    CRASHES_MAX, ClaimId, Job, JobDefaults, JobId, MAX_ATTEMPTS_DEFAULT, PRIORITY_HIGH, PRIORITY_LOW,
    PRIORITY_NORMAL, TIMEOUT_DEFAULT, WorkerId, parse_priority,
};
pub use outcome::{Failure, FailureClass, Outcome, Success, Verdict};
