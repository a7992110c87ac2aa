//! Child processes: how every handler that starts programs starts and ends them.

mod group;

pub(super) use self::group::{Group, Pipes};
