//! A private, throw-away Postgres for the demo, the tests and the benchmarks.
//!
//! It exists so that none of them asks a person to install or configure a server first: [`locate`] finds
//! Postgres on the machine or fetches it, [`Cluster`] runs it on a unix socket and leaves nothing behind.
//! It knows nothing of jobs, speaks to no database itself, and needs no runtime.

mod advice;
mod cluster;
mod environment;
mod error;
mod find;
mod obtain;
#[cfg(test)]
mod tests;
mod user;
mod watchdog;

pub use cluster::{Cluster, Options};
pub use environment::Environment;
pub use error::Error;
pub use find::{Binaries, MAJOR_MIN, find};
pub use obtain::{MAJOR_DEFAULT, obtain};

/// Finds Postgres on this machine, else obtains it into the cache.
///
/// `major` asks for that version and no other; without it `PG_MAJOR` does, and without that the machine's own
/// is taken, and [`MAJOR_DEFAULT`] is what is fetched. `progress` gets a line before anything that takes seconds.
pub fn locate(
    environment: &Environment,
    major: Option<u32>,
    progress: &mut dyn FnMut(&str),
) -> Result<Binaries, Error> {
    let major = major.or(environment.pg_major);
    match find(environment, major)? {
        Some(binaries) => Ok(binaries),
        None => obtain(environment, major.unwrap_or(MAJOR_DEFAULT), progress),
    }
}
