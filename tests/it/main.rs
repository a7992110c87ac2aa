//! The promises of the README, each on a real Postgres that the tests start themselves.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "a test binary has no public interface, and its support grows with the tests"
)]

mod bad_rows;
mod jobs_run;
mod layers;
mod sql_headers;
mod sql_plans;
mod support;
