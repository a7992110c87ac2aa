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
