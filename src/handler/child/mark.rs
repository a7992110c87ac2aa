//! The mark that every child carries in its environment, and its own children after it.
//!
//! A process may leave its group, its session and its parent, but what it starts inherits its environment. Only a
//! program that wipes or overwrites the environment of its children hides them.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The variable that carries the mark.
pub(super) const VARIABLE: &str = "ROWCREW_FAMILY";

/// This worker process, among all that ever ran: process numbers come again.
static WORKER: LazyLock<String> =
    LazyLock::new(|| format!("{}-{:016x}", std::process::id(), fastrand::u64(..)));
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The mark of a whole worker; those of its children begin with it and a point.
pub(super) fn worker() -> &'static str {
    &WORKER
}

/// A mark for one child of this worker.
pub(super) fn child() -> String {
    format!("{}.{}", *WORKER, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Whether an environment, as `/proc` shows it, carries this mark or one that belongs to this worker's mark.
pub(super) fn is_in(environment: &[u8], mark: &str) -> bool {
    environment.split(|byte| *byte == 0).any(|variable| {
        let value = variable.strip_prefix(VARIABLE.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        let rest = value.and_then(|value| value.strip_prefix(mark.as_bytes()));
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_the_childs_or_its_workers_and_nobody_elses() {
        for (environment, mark, expected) in [
            ("A=1\0ROWCREW_FAMILY=7-ab.12\0B=2\0", "7-ab.12", true),
            ("ROWCREW_FAMILY=7-ab.12", "7-ab", true),
            ("ROWCREW_FAMILY=7-ab.12", "7-ab.1", false),
            ("ROWCREW_FAMILY=7-abc.12", "7-ab", false),
            ("XROWCREW_FAMILY=7-ab.12", "7-ab", false),
            ("ROWCREW_FAMILY7-ab.12", "7-ab", false),
            ("A=ROWCREW_FAMILY=7-ab.12", "7-ab", false),
            ("", "7-ab", false),
        ] {
            assert_eq!(is_in(environment.as_bytes(), mark), expected, "{environment:?} {mark}");
        }
        let (one, other) = (child(), child());
        assert!(one != other && one.starts_with(&format!("{}.", worker())));
    }
}
