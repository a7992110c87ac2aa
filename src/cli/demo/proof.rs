//! The proof: what the database and the receiver say, against the files on the disk.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::app::{App, DOOMED, Dead, FLAKY, Total};
use super::checksum::sha256;
use super::course::Rescue;
use super::files::Files;
use super::receiver::Heard;

/// All that was checked; it holds when there are no faults.
#[derive(Debug, Serialize)]
pub(super) struct Proof {
    pub(super) ok: bool,
    /// What is not as promised, in words.
    pub(super) faults: Vec<String>,
    pub(super) files: usize,
    pub(super) bytes: u64,
    pub(super) ledger: Ledger,
    pub(super) checksums: Checksums,
    pub(super) webhooks: Webhooks,
    /// Jobs that failed first and completed then.
    pub(super) recovered: i64,
    pub(super) dead: Vec<Dead>,
    pub(super) rescue: Rescue,
    pub(super) kinds: Vec<Total>,
}

/// How often the files stand in the ledger.
#[derive(Debug, Default, Serialize)]
pub(super) struct Ledger {
    pub(super) once: usize,
    pub(super) missing: usize,
    pub(super) more_than_once: usize,
}

/// How the results compare with the files.
#[derive(Debug, Default, Serialize)]
pub(super) struct Checksums {
    pub(super) right: usize,
    /// No result, or another one, for a file that is not what it was when the demo began.
    pub(super) changed: usize,
    pub(super) wrong: usize,
    /// Files with more than one finished job.
    pub(super) doubled: usize,
}

/// What the receiver got.
#[derive(Debug, Serialize)]
pub(super) struct Webhooks {
    /// Files that were to be told of.
    pub(super) wanted: usize,
    /// Jobs that completed.
    pub(super) jobs: usize,
    pub(super) calls: usize,
    /// Different webhooks that were accepted.
    pub(super) accepted: usize,
    pub(super) refused: usize,
    pub(super) bad_signatures: usize,
    /// Completed jobs the receiver knows nothing of.
    pub(super) missing: usize,
}

impl Proof {
    /// Asks everybody and compares; reads all files again.
    pub(super) async fn collect(
        app: &App,
        root: &Path,
        files: &Arc<Files>,
        heard: &Heard,
        hooks: usize,
        rescue: Rescue,
    ) -> anyhow::Result<Self> {
        let counts = app.ledger().await?;
        let count = |file: usize| counts.get(&(file as i64)).copied().unwrap_or(0);
        let numbers = 1..=files.found.len();
        let ledger = Ledger {
            once: numbers.clone().filter(|file| count(*file) == 1).count(),
            missing: numbers.clone().filter(|file| count(*file) == 0).count(),
            more_than_once: numbers.filter(|file| count(*file) > 1).count(),
        };
        let results = app.checksums().await?;
        let (root, known) = (root.to_owned(), files.clone());
        let checksums = tokio::task::spawn_blocking(move || compare(&root, &known, &results)).await?;
        let ids = app.hooks().await?;
        let webhooks = Webhooks {
            wanted: hooks,
            jobs: ids.len(),
            calls: heard.calls,
            accepted: heard.ids.len(),
            refused: heard.refused.len(),
            bad_signatures: heard.bad_signatures,
            missing: ids.difference(&heard.ids).count(),
        };
        let mut proof = Self {
            ok: false,
            faults: vec![],
            files: files.found.len(),
            bytes: files.bytes,
            ledger,
            checksums,
            webhooks,
            recovered: app.recovered().await?,
            dead: app.dead().await?,
            rescue,
            kinds: app.kinds().await?,
        };
        proof.judge();
        Ok(proof)
    }

    fn judge(&mut self) {
        let doomed = self.dead.iter().filter(|dead| dead.file.is_none()).count();
        let of_files = self.dead.len() - doomed;
        let laws = [
            (self.ledger.once == self.files, "not every file stands in the ledger exactly once"),
            (self.checksums.wrong == 0, "a checksum is missing or differs from the file"),
            (self.checksums.doubled == 0, "a file has more than one finished checksum job"),
            (self.webhooks.jobs == self.webhooks.wanted, "a webhook was not delivered"),
            (self.webhooks.missing == 0, "a delivered webhook is not known to the receiver"),
            (self.webhooks.bad_signatures == 0, "a webhook had a bad signature"),
            (self.recovered == FLAKY as i64, "a job that fails at first did not recover"),
            (doomed == DOOMED, "the dead letters are not those that had to die"),
            (of_files <= self.checksums.changed, "a job about an unchanged file died"),
        ];
        self.faults = laws.iter().filter(|(holds, _)| !holds).map(|(_, fault)| (*fault).to_owned()).collect();
        self.ok = self.faults.is_empty();
    }
}

/// Compares the results with the files as they are now.
fn compare(root: &Path, files: &Files, results: &[(i64, Option<String>)]) -> Checksums {
    let mut sums = vec![vec![]; files.found.len()];
    for (file, sum) in results {
        if let Some(place) = usize::try_from(file - 1).ok().and_then(|at| sums.get_mut(at)) {
            place.push(sum.as_deref());
        }
    }
    let mut checksums = Checksums::default();
    for (file, sums) in files.found.iter().zip(&sums) {
        let now = sha256(&root.join(&file.path)).ok().map(|(sum, _)| sum);
        checksums.doubled += usize::from(sums.len() > 1);
        if now.is_some() && sums.first().copied().flatten() == now.as_deref() {
            checksums.right += 1;
        } else if file.has_changed(root) {
            checksums.changed += 1;
        } else {
            checksums.wrong += 1;
        }
    }
    checksums
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::super::files::Found;
    use super::*;

    #[test]
    fn a_checksum_that_differs_is_wrong_unless_the_file_has_changed() {
        let root = std::env::temp_dir().join(format!("rowcrew-proof-{}", std::process::id()));
        fs::create_dir_all(&root).expect("a folder");
        let found = |n: usize| {
            let path = PathBuf::from(format!("file{n}"));
            fs::write(root.join(&path), "content").expect("a file");
            let modified = fs::metadata(root.join(&path)).and_then(|known| known.modified()).ok();
            Found { path, bytes: 7, modified }
        };
        let files = Files { found: (1..=5).map(found).collect(), bytes: 35, ..Files::default() };
        let sum = sha256(&root.join("file1")).expect("readable").0;
        fs::write(root.join("file3"), "other content").expect("a file");
        fs::remove_file(root.join("file4")).expect("removed");
        let result = |file, sum: &str| (file, Some(sum.to_owned()));
        let results = [
            result(1, &sum),
            result(1, &sum),
            result(2, "no sum"),
            result(3, &sum),
            (4, None),
            result(9, &sum),
        ];
        let found = compare(&root, &files, &results);
        fs::remove_dir_all(&root).expect("removed");
        // The fifth has no result at all.
        assert_eq!((found.right, found.changed, found.wrong, found.doubled), (1, 2, 2, 1));
    }

    #[test]
    fn one_broken_law_breaks_the_proof() {
        let holds = || Proof {
            ok: false,
            faults: vec![],
            files: 2,
            bytes: 2,
            ledger: Ledger { once: 2, ..Ledger::default() },
            checksums: Checksums { right: 2, ..Checksums::default() },
            webhooks: Webhooks {
                wanted: 1,
                jobs: 1,
                calls: 2,
                accepted: 1,
                refused: 1,
                bad_signatures: 0,
                missing: 0,
            },
            recovered: FLAKY as i64,
            dead: (0..DOOMED as i64).map(|id| dead(id, None)).collect(),
            rescue: Rescue { worker: "w".to_owned(), pid: 1, held: 1, given_back: 1, after_ms: 1 },
            kinds: vec![],
        };
        let faults = |change: &dyn Fn(&mut Proof)| {
            let mut proof = holds();
            change(&mut proof);
            proof.judge();
            assert_eq!(proof.ok, proof.faults.is_empty());
            proof.faults.len()
        };
        assert_eq!(faults(&|_| {}), 0);
        assert_eq!(faults(&|proof| proof.ledger.once = 1), 1);
        assert_eq!(faults(&|proof| proof.checksums.wrong = 1), 1);
        assert_eq!(faults(&|proof| proof.webhooks.jobs = 0), 1);
        assert_eq!(faults(&|proof| proof.webhooks.bad_signatures = 1), 1);
        assert_eq!(faults(&|proof| proof.recovered = 0), 1);
        assert_eq!(faults(&|proof| proof.dead.clear()), 1);
        assert_eq!(faults(&|proof| proof.dead.push(dead(9, Some(1)))), 1);
    }

    fn dead(id: i64, file: Option<i64>) -> Dead {
        let (kind, reason) = ("demo.flaky".to_owned(), "permanent".to_owned());
        Dead { id, kind, reason, attempts: 1, error: String::new(), file }
    }
}
