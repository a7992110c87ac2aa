//! Looks for the Postgres that is already here, which is the fastest to start and the one people run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::environment::is_program;
use super::{Environment, Error};

/// The oldest version that is taken; below it rowcrew's SQL is not tested.
pub const MAJOR_MIN: u32 = 14;

/// What a cluster is made and run with. Fetched ones have no `psql`, so it is not asked for.
const PROGRAMS: [&str; 2] = ["initdb", "postgres"];

/// Where packages put Postgres, `*` being the version. Debian and Homebrew leave these off `PATH`.
const USUAL: [&str; 7] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/Library/PostgreSQL/*/bin",
];

/// A folder with Postgres programs that run on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// Holds at least `initdb` and `postgres`.
    pub bin_dir: PathBuf,
    /// The major version, such as 17.
    pub major: u32,
}

impl Binaries {
    /// Looks at one folder; `Err` says in words what it lacks.
    pub(super) fn at(bin_dir: &Path) -> Result<Self, String> {
        if let Some(absent) = PROGRAMS.iter().find(|name| !is_program(&bin_dir.join(name))) {
            return Err(format!("it has no {absent}"));
        }
        let output = Command::new(bin_dir.join("postgres"))
            .arg("--version")
            .output()
            .map_err(|error| format!("its postgres does not run: {error}"))?;
        let words = String::from_utf8_lossy(&output.stdout);
        let Some(major) = major_in(&words) else {
            let fault = String::from_utf8_lossy(&output.stderr);
            return Err(format!("its `postgres --version` says no version: {}", fault.trim()));
        };
        Ok(Self { bin_dir: bin_dir.to_owned(), major })
    }

    fn fits(&self, major: Option<u32>) -> bool {
        major.map_or(self.major >= MAJOR_MIN, |asked| self.major == asked)
    }
}

/// Finds Postgres: `PG_BIN_DIR`, `pg_config`, `PATH`, then the usual folders, highest version first.
///
/// With `major` only that version counts. `PG_BIN_DIR` is an order, not a hint: when it does not serve, that
/// is an error, and nothing else is looked at.
pub fn find(environment: &Environment, major: Option<u32>) -> Result<Option<Binaries>, Error> {
    if let Some(dir) = &environment.pg_bin_dir {
        return ordered(dir, major).map(Some).map_err(|reason| Error::BinDir { dir: dir.clone(), reason });
    }
    let near = pg_config_dir(environment).into_iter().chain(environment.path_dirs());
    if let Some(found) = near.filter_map(|dir| Binaries::at(&dir).ok()).find(|found| found.fits(major)) {
        return Ok(Some(found));
    }
    let usual = USUAL.iter().flat_map(|pattern| matches(pattern));
    let fitting = usual.filter_map(|dir| Binaries::at(&dir).ok()).filter(|found| found.fits(major));
    Ok(fitting.max_by_key(|found| found.major))
}

fn ordered(dir: &Path, major: Option<u32>) -> Result<Binaries, String> {
    let found = Binaries::at(dir)?;
    match major {
        Some(asked) if asked != found.major => {
            Err(format!("it holds version {}, and {asked} was asked for", found.major))
        }
        _ => Ok(found),
    }
}

/// What `pg_config` names. It comes with client libraries too, so the folder may hold no server.
fn pg_config_dir(environment: &Environment) -> Option<PathBuf> {
    let output = Command::new(environment.program("pg_config")?).arg("--bindir").output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(line.trim())).filter(|dir| dir.is_absolute())
}

/// The folders that fit a pattern with one `*`, which stands for the rest of one name.
fn matches(pattern: &str) -> Vec<PathBuf> {
    let (before, after) = pattern.split_once('*').unwrap_or((pattern, ""));
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(after.trim_start_matches('/')))
        .collect()
}

/// Reads `postgres (PostgreSQL) 17.10 (Debian ...)`, and `18beta1` as 18.
fn major_in(words: &str) -> Option<u32> {
    let version = words.split_once("(PostgreSQL) ")?.1;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Folder, fake_postgres};
    use super::*;

    fn environment(path: &Path, pg_bin_dir: Option<&Path>) -> Environment {
        Environment {
            pg_bin_dir: pg_bin_dir.map(Path::to_owned),
            pg_major: None,
            path: path.into(),
            cache_dir: None,
        }
    }

    #[test]
    fn versions_are_read_from_what_postgres_prints() {
        assert_eq!(major_in("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_in("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_in("bash: postgres: not found"), None);
    }

    #[test]
    fn a_named_folder_is_taken_or_refused_but_never_passed_over() {
        let folder = Folder::new();
        fake_postgres(&folder.join("16"), "16.1");
        let dir = folder.join("16");
        let found = find(&environment(&folder, Some(&dir)), None).expect("taken");
        assert_eq!(found, Some(Binaries { bin_dir: dir.clone(), major: 16 }));
        let refused = find(&environment(&dir, Some(&folder)), None).expect_err("no initdb there");
        assert!(refused.to_string().contains("it has no initdb"), "{refused}");
        let refused = find(&environment(&dir, Some(&dir)), Some(17)).expect_err("16 is not 17");
        assert!(refused.to_string().contains("17 was asked for"), "{refused}");
    }

    #[test]
    fn pg_config_of_a_client_library_is_passed_over_and_old_versions_are() {
        let folder = Folder::new();
        folder.script("client/pg_config", "echo /nonexistent/bin");
        fake_postgres(&folder.join("old"), "9.6.24");
        fake_postgres(&folder.join("new"), "97.1");
        let dirs = ["client", "old", "new"].map(|name| folder.join(name));
        let path = std::env::join_paths(&dirs).expect("no colon in them");
        let environment = Environment { path, ..environment(&folder, None) };
        let found = find(&environment, None).expect("no order").expect("found");
        assert_eq!((found.major, found.bin_dir), (97, dirs[2].clone()));
        assert_eq!(find(&environment, Some(96)).expect("no order"), None);
    }
}
