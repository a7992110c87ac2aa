//! Which of the worker's variables a command gets.
//!
//! A worker's environment holds what no job should see: the database's address, keys of a cloud. So only what
//! programs need to find their files and speak their language is passed on, and what is asked for by name.

use std::ffi::OsStr;

/// Passed on always; a name that ends in `*` stands for all that begin so.
const INHERITED: [&str; 7] = ["PATH", "HOME", "LANG", "LC_*", "TZ", "TMPDIR", "USER"];
/// Passed on only under their full names.
const DATABASE_URL: &str = "DATABASE_URL";
pub(super) const OWN_PREFIX: &str = "ROWCREW_";

/// Whether a command gets this variable when these are asked for beside the usual ones.
pub(super) fn passes(name: &OsStr, asked_for: &[String]) -> bool {
    let name = name.as_encoded_bytes();
    let own = name == DATABASE_URL.as_bytes() || name.starts_with(OWN_PREFIX.as_bytes());
    let wanted = INHERITED.into_iter().chain(asked_for.iter().map(String::as_str));
    wanted.into_iter().any(|wanted| match wanted.strip_suffix('*') {
        Some(beginning) => !own && name.starts_with(beginning.as_bytes()),
        None => name == wanted.as_bytes(),
    })
}
