//! Real worker processes on a real Postgres, faults from a seeded schedule, and an oracle that no part of
//! rowcrew can talk to. `docs/reliability.md` says how to run the long form and what was measured.

#![allow(
    unreachable_pub,
    dead_code,
    reason = "a test binary has no public interface, and its support grows with the scenarios"
)]

#[cfg(feature = "chaos")]
mod cancelled;
mod clocks;
mod data;
mod disk;
mod effects;
mod killed;
mod memory;
mod network;
mod notices;
mod oracle_holds;
mod planner;
mod promoted;
mod replies;
mod server;
mod sessions;
mod starved;
mod storms;
mod support;
