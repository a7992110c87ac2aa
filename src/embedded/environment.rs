//! What this module takes from the process's environment, as a value, so that a test can give its own.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::user;

/// Where root keeps fetched binaries: the server's own user has to read them, and `/root` is closed to it.
const CACHE_OF_ROOT: &str = "/var/cache";

/// The places where Postgres may be, or may be put.
#[derive(Debug, Clone)]
pub struct Environment {
    /// `PG_BIN_DIR`: the folder to take, and no other.
    pub pg_bin_dir: Option<PathBuf>,
    /// `PG_MAJOR`: the version to take when none is asked for, as 14.
    pub pg_major: Option<u32>,
    /// `PATH`: where programs are looked up, here and by the programs themselves.
    pub path: OsString,
    /// The folder that holds one folder of fetched binaries for each major version. Nobody else may write
    /// to it, so a user without a home has none.
    pub cache_dir: Option<PathBuf>,
}

impl Environment {
    /// Reads `PG_BIN_DIR`, `PG_MAJOR`, `PATH`, `XDG_CACHE_HOME` and `HOME`; the one place of this module that does.
    pub fn read() -> Self {
        let folder = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = if user::is_root() {
            Some(PathBuf::from(CACHE_OF_ROOT))
        } else {
            folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))
        };
        Self {
            pg_bin_dir: env::var_os("PG_BIN_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from),
            pg_major: env::var("PG_MAJOR").ok().and_then(|major| major.trim().parse().ok()),
            path: env::var_os("PATH").unwrap_or_default(),
            cache_dir: cache.map(|dir| dir.join("rowcrew").join("postgres")),
        }
    }

    /// The folders of `PATH`; relative ones are left out, for what they hold depends on where one stands.
    pub(super) fn path_dirs(&self) -> impl Iterator<Item = PathBuf> + '_ {
        env::split_paths(&self.path).filter(|dir| dir.is_absolute())
    }

    /// The first program of that name on `PATH`.
    pub(super) fn program(&self, name: &str) -> Option<PathBuf> {
        self.path_dirs().map(|dir| dir.join(name)).find(|file| is_program(file))
    }
}

/// Whether the file is there and may be run by somebody.
pub(super) fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
