//! Finds the file behind a program's name, as the system would.
//!
//! With a path in hand the standard library spawns by `posix_spawn`; with a bare name and an environment of its own
//! it forks, and a fork copies the page tables of the whole worker. Where the system could find anything else than is
//! found here, the search is left to it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The file that `name` stands for along `path`; `None` where the system has to look itself.
pub(super) fn found(name: &str, path: &OsStr) -> Option<PathBuf> {
    if name.contains('/') {
        return None;
    }
    for dir in path.as_bytes().split(|byte| *byte == b':') {
        let dir = Path::new(OsStr::from_bytes(dir));
        // It depends on where the command runs.
        if !dir.is_absolute() {
            return None;
        }
        let file = dir.join(name);
        if file.exists() {
            return runs_for_all(&file).then_some(file);
        }
    }
    None
}

/// Whether the kernel runs it, whoever asks. A script without its first line is run by a shell that the system adds.
fn runs_for_all(file: &Path) -> bool {
    let Ok(mut file) = File::open(file) else { return false };
    let executable = |file: &File| {
        file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 == 0o111)
    };
    let mut start = [0; 4];
    executable(&file)
        && file.read_exact(&mut start).is_ok()
        && (start == *b"\x7fELF" || start.starts_with(b"#!"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_name_is_its_first_file_along_the_path_and_in_doubt_the_systems() {
        let root = std::env::temp_dir().join(format!("rowcrew-search-{}", fastrand::u64(..)));
        let file = |name: &str, text: &str, mode: u32| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        };
        file("a/tool", "#!/bin/sh\n", 0o755);
        file("b/tool", "#!/bin/sh\n", 0o755);
        file("b/later", "#!/bin/sh\n", 0o755);
        file("a/plain", "echo\n", 0o755);
        file("a/closed", "#!/bin/sh\n", 0o744);
        file("b/closed", "#!/bin/sh\n", 0o755);
        fs::create_dir(root.join("a/folder")).expect("a folder");
        let (a, b) = (root.join("a").display().to_string(), root.join("b").display().to_string());
        let both = format!("{a}:{b}");
        for (name, path, expected) in [
            ("tool", &both, Some("a/tool")),
            ("later", &both, Some("b/later")),
            ("later", &format!("{root}/none:{b}", root = root.display()), Some("b/later")),
            ("none", &both, None),
            ("plain", &both, None),
            ("closed", &both, None),
            ("folder", &both, None),
            ("tool", &format!(".:{a}"), None),
            ("tool", &format!(":{a}"), None),
            ("tool", &String::new(), None),
            ("./tool", &a, None),
        ] {
            assert_eq!(
                found(name, OsStr::new(path)),
                expected.map(|file| root.join(file)),
                "{name} along {path}"
            );
        }
        fs::remove_dir_all(&root).expect("it goes");
    }
}
