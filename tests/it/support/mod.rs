//! What the tests stand on: one private Postgres for the run, one database for each test, and the real binary.

mod db;
mod files;
mod own;
mod pooler;
mod process;
mod server;
mod standby;

pub(crate) use db::Db;
pub(crate) use files::{Scratch, is_alive, until_gone};
pub(crate) use own::OwnServer;
pub(crate) use pooler::Pooler;
pub(crate) use process::{Crew, Output, rowcrew, rowcrew_on, spawn, spawn_alone};
pub(crate) use server::connect;
pub(crate) use standby::Standby;

/// A worker that holds the jobs of a kind as long as they say.
pub(crate) const HOLDS: &str = r#"
    [worker]
    concurrency = 10
    [handlers.job]
    type = "sleep"
"#;
/// One that does the same jobs at once.
pub(crate) const DOES: &str = r#"
    [worker]
    concurrency = 10
    [handlers.job]
    type = "echo"
"#;
/// The payload of a job that is not to end by itself.
pub(crate) const FOR_EVER: &str = r#"{"ms": 600000}"#;
