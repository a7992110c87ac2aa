//! Child processes: how every handler that starts programs starts and ends them.
//!
//! Three nets, one below the other. The process group: one signal reaches a command and most of what it started.
//! The mark in the environment: finds those that moved to a group or session of their own. The guard: a process
//! beside the worker that does the same when the worker itself was killed.

mod group;
pub mod guard;
mod kin;
mod mark;

pub(super) use self::group::{Group, Pipes};
