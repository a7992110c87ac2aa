//! What can go wrong, where, and what to do next.

use std::io;
use std::path::PathBuf;

/// Why there is no private Postgres.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder that was asked for by name does not serve.
    #[error(
        "PG_BIN_DIR is {}, but {reason}; point it at a folder with initdb and postgres, or unset it",
        dir.display()
    )]
    BinDir {
        /// The value of `PG_BIN_DIR`.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// None on the machine, and no client could fetch one.
    #[error("Postgres {major} is not on this machine and could not be fetched:\n{}\n{advice}", tried.join("\n"))]
    NoPostgres {
        /// The version that was wanted.
        major: u32,
        /// One line for each way tried: what it was and why it failed.
        tried: Vec<String>,
        /// The line to type on this system.
        advice: String,
    },
    /// Root cannot run Postgres, and there is nobody to hand it to.
    #[error(
        "Postgres refuses to run as root, and /etc/passwd has no user `postgres` or `nobody` to run it; \
         add one, or start this as an ordinary user"
    )]
    NoUser,
    /// A setting that cannot be written into `postgresql.conf`.
    #[error("`{name}` is not the name of a Postgres setting; use letters, digits, `_` and `.`")]
    Setting {
        /// The name as given.
        name: String,
    },
    /// The shell that guards the server did not start, or is gone.
    #[error("the `sh` that guards the private Postgres {what}: {source}")]
    Watchdog {
        /// What it failed at.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// No port of 127.0.0.1 could be taken.
    #[error("no free TCP port on 127.0.0.1 for the private Postgres: {0}")]
    Port(#[source] io::Error),
    /// A step was taken and failed.
    #[error("the private Postgres failed at {step} in {}, run from {}. Its log ends with:\n{log}", folder.display(), bin_dir.display())]
    Step {
        /// Which step.
        step: &'static str,
        /// Where its data was; removed by now.
        folder: PathBuf,
        /// Where its programs are.
        bin_dir: PathBuf,
        /// The end of what initdb and the server wrote.
        log: String,
    },
}
