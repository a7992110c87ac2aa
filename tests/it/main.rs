//! The promises of the README, each on a real Postgres that the tests start themselves.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "a test binary has no public interface, and its support grows with the tests"
)]

mod bad_rows;
mod bench_smoke;
mod blocking;
mod cancel;
mod children;
mod cli_dead;
mod cli_doctor;
mod cli_enqueue;
mod cli_import;
mod cli_jobs;
mod cli_queues;
mod crash;
mod demo;
mod enqueue_ways;
mod few_connections;
mod functions;
mod handlers_run;
mod hostile;
mod http_kinds;
mod jobs_run;
mod layers;
mod limits;
mod locked;
mod outage;
mod pooled;
mod process_examples;
mod process_run;
mod refused;
mod retries;
mod rust_api;
mod schema;
mod sql_broken;
mod sql_handler;
mod sql_headers;
mod sql_plans;
mod stop;
mod support;
mod suspects;
mod testing;
mod turns;
