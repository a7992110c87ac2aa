//! What the tests stand on: one private Postgres for the run, one database for each test, and the real binary.

mod db;
mod process;
mod server;

pub(crate) use db::Db;
pub(crate) use process::{Crew, rowcrew};
pub(crate) use server::connect;
