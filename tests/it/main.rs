//! The promises of the README, each on a real Postgres that the tests start themselves.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "a test binary has no public interface, and its support grows with the tests"
)]

mod bad_rows;
mod cancel;
mod cli_dead;
mod cli_doctor;
mod cli_enqueue;
mod cli_import;
mod cli_jobs;
mod cli_queues;
mod crash;
mod demo;
mod functions;
mod handlers_run;
mod jobs_run;
mod layers;
mod limits;
mod outage;
mod refused;
mod retries;
mod schema;
mod sql_headers;
mod sql_plans;
mod stop;
mod support;
