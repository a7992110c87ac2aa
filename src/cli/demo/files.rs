//! Finds the user's files that the demo works on.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Folders of things that were made or fetched; hidden ones are left out anyway.
const PASSED_OVER: [&str; 2] = ["target", "node_modules"];
/// Larger files say nothing more about the queue and cost only time.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// All files together: they are read twice, once by the workers and once by the proof.
const BYTES_MAX: u64 = 256 << 20;

/// One file, as it was when the demo began.
#[derive(Debug)]
pub(super) struct Found {
    /// Its place below the folder.
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) modified: Option<SystemTime>,
}

/// The files, and what was left out.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) found: Vec<Found>,
    pub(super) bytes: u64,
    /// Unreadable, or too large.
    pub(super) skipped: usize,
    /// There were more than wanted.
    pub(super) more: bool,
}

impl Files {
    /// Looks below `root`, in order of name, until `at_most` files are found.
    pub(super) fn below(root: &Path, at_most: usize) -> io::Result<Self> {
        let mut files = Self::default();
        // The folder that was named must be readable; those below it need not.
        fs::read_dir(root)?;
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(root.join(&folder)) else {
                files.skipped += 1;
                continue;
            };
            let mut entries: Vec<_> = entries.flatten().collect();
            entries.sort_by_key(fs::DirEntry::file_name);
            let mut inner = vec![];
            for entry in entries {
                let name = entry.file_name();
                let path = folder.join(&name);
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => {
                        let hidden = name.as_encoded_bytes().starts_with(b".");
                        if !hidden && PASSED_OVER.iter().all(|other| name != *other) {
                            inner.push(path);
                        }
                    }
                    // Links are not followed: they may lead in circles, or out of the folder.
                    Ok(kind) if kind.is_file() => files.take(root, path, at_most),
                    _ => {}
                }
                if files.more {
                    return Ok(files);
                }
            }
            folders.extend(inner.into_iter().rev());
        }
        Ok(files)
    }

    fn take(&mut self, root: &Path, path: PathBuf, at_most: usize) {
        let known = File::open(root.join(&path)).and_then(|file| file.metadata());
        let Some(known) = known.ok().filter(|known| known.len() <= FILE_BYTES_MAX) else {
            self.skipped += 1;
            return;
        };
        if self.found.len() >= at_most || self.bytes + known.len() > BYTES_MAX {
            self.more = true;
            return;
        }
        self.bytes += known.len();
        self.found.push(Found { path, bytes: known.len(), modified: known.modified().ok() });
    }
}

impl Found {
    /// Whether the file is not any more what it was at the beginning.
    pub(super) fn has_changed(&self, root: &Path) -> bool {
        fs::metadata(root.join(&self.path))
            .map_or(true, |now| now.len() != self.bytes || now.modified().ok() != self.modified)
    }
}

/// Writes a few small files for a folder that has none.
pub(super) fn write_samples(folder: &Path) -> io::Result<()> {
    (1..=12).try_for_each(|n| {
        fs::write(folder.join(format!("sample-{n:02}.txt")), format!("sample number {n}\n").repeat(n * 100))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_built_and_fetched_folders_are_left_out_and_the_limit_holds() {
        let root = std::env::temp_dir().join(format!("rowcrew-files-{}", std::process::id()));
        for file in ["a/one", "a/two", ".git/no", "target/no", "b/node_modules/no", "b/three", ".env"] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, file).expect("a file");
        }
        let names = |at_most| {
            let files = Files::below(&root, at_most).expect("readable");
            let names: Vec<_> = files.found.iter().map(|f| f.path.display().to_string()).collect();
            (names, files.more)
        };
        let all = [".env", "a/one", "a/two", "b/three"].map(str::to_owned).to_vec();
        assert_eq!(names(9), (all.clone(), false));
        assert_eq!(names(4), (all.clone(), false));
        assert_eq!(names(2), (all[..2].to_vec(), true));
        fs::remove_dir_all(&root).expect("removed");
    }
}
