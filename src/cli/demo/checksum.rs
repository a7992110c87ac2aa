//! `rowcrew demo-checksum`, the program of the demo's command handler: payload in, checksum out.
//!
//! It is this binary, because no checksum program is the same on every system. Paths in a payload are JSON,
//! and so UTF-8; the bytes of one that is not travel beside it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Says to the command handler that the payload is at fault (`EX_DATAERR`).
const EXIT_BAD_DATA: u8 = 65;
/// Read at once from a file.
const CHUNK_BYTES: usize = 64 * 1024;

/// The payload that names a file; `webhook` asks for a webhook about it too.
pub(super) fn payload(file: usize, path: &Path, webhook: bool) -> String {
    let mut payload = json!({ "file": file, "path": crate::text::printable(path.as_os_str().as_bytes()) });
    if path.to_str().is_none() {
        payload["path_base64"] = BASE64_STANDARD.encode(path.as_os_str().as_bytes()).into();
    }
    if webhook {
        payload["notify"] = true.into();
    }
    payload.to_string()
}

/// The path in a payload; `None` when it has none.
fn path_in(payload: &Value) -> Option<PathBuf> {
    match payload["path_base64"].as_str() {
        Some(encoded) => Some(OsString::from_vec(BASE64_STANDARD.decode(encoded).ok()?).into()),
        None => payload["path"].as_str().map(PathBuf::from),
    }
}

/// Reads the payload on standard input and prints the file's checksum as JSON.
pub(in crate::cli) fn run() -> anyhow::Result<ExitCode> {
    let payload: Value = serde_json::from_reader(io::stdin().lock())?;
    let summed = path_in(&payload)
        .ok_or_else(|| io::Error::other("the payload names no file"))
        .and_then(|path| sha256(&path));
    match summed {
        Ok((sha256, bytes)) => {
            let result = json!({ "path": payload["path"], "bytes": bytes, "sha256": sha256 });
            crate::cli::output::print_bytes(result.to_string().as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(fault) => {
            eprintln!("{}: {fault}", payload["path"]);
            Ok(ExitCode::from(EXIT_BAD_DATA))
        }
    }
}

/// A file's SHA-256 in hexadecimal, and how many bytes it has.
pub(super) fn sha256(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            break;
        }
        hash.update(&chunk[..length]);
        bytes += length as u64;
    }
    let hex = hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    Ok((hex, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_survives_its_payload_whatever_its_bytes() {
        for bytes in [&b"src/main.rs"[..], b"caf\xe9 \xff", "caf\u{e9}".as_bytes()] {
            let path = PathBuf::from(OsString::from_vec(bytes.to_vec()));
            let payload: Value = serde_json::from_str(&payload(1, &path, false)).expect("JSON");
            assert_eq!(path_in(&payload), Some(path));
        }
        assert_eq!(path_in(&json!({ "path": null })), None);
    }
}
