//! `type = "http"`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use secrecy::SecretString;
use serde::Serialize;

use crate::config::check::filled;
use crate::config::file::read_text;
use crate::config::secret;
use crate::config::table::Table;

/// Where the POST goes, and how it is signed.
#[derive(Debug, Clone, Serialize)]
pub struct Http {
    /// `http` or `https`, without a password.
    pub url: String,
    /// Further headers; names are unique without regard to case, values may be secret.
    #[serde(serialize_with = "secret::map")]
    pub headers: BTreeMap<String, SecretString>,
    /// What requests are signed with, the newest first; several during a rotation, none for no signature.
    #[serde(skip)]
    pub secrets: Vec<SecretString>,
    // How the secrets were given, for `config show`.
    #[serde(serialize_with = "secret::one")]
    secret: Option<SecretString>,
    secret_file: Option<String>,
    secret_files: Option<Vec<String>>,
}

impl Http {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        if !table.has("url") {
            table.missing("url", "where the request goes, http:// or https://");
        }
        let given: Vec<_> =
            ["secret", "secret_file", "secret_files"].into_iter().filter(|key| table.has(key)).collect();
        let url = table.text("url", url).unwrap_or_default();
        let headers = headers(table);
        let secret = table.secret("secret", filled);
        let secret_file = table.text("secret_file", |_| Ok(()));
        let secret_files = table.read("secret_files", |given| match given.list()? {
            files if files.is_empty() => Err("is empty: expected at least one file".to_owned()),
            files => Ok(files),
        });
        let mut secrets: Vec<_> = secret.iter().cloned().collect();
        for (key, path) in secret_file
            .iter()
            .map(|path| ("secret_file", path))
            .chain(secret_files.iter().flatten().map(|path| ("secret_files", path)))
        {
            match secret_from(path) {
                Ok(secret) => secrets.push(secret),
                Err(problem) => table.fault(key, format!("names {path:?}, which {problem}")),
            }
        }
        if let [first, second, ..] = given[..] {
            table.fault(second, format!("is given beside {first}: expected only one of the two"));
        }
        Self { url, headers, secrets, secret, secret_file, secret_files }
    }
}

fn secret_from(path: &str) -> Result<SecretString, String> {
    let text = read_text(Path::new(path)).map_err(|(_, problem)| problem)?;
    filled(&text)?;
    Ok(text.trim().into())
}

fn url(text: &str) -> Result<(), String> {
    // The text is not repeated in a fault: it may hold what should be in `headers`.
    let url = reqwest::Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("has the scheme {}: expected http or https", url.scheme()));
    }
    if url.password().is_some() || !url.username().is_empty() {
        return Err("holds a user or password: expected them in headers, as Authorization".to_owned());
    }
    Ok(())
}

fn headers(table: &mut Table<'_>) -> BTreeMap<String, SecretString> {
    let headers = table.secrets("headers", |name, value| {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            return Err("is no header name".to_owned());
        }
        if value.chars().any(char::is_control) {
            return Err("holds a control character".to_owned());
        }
        Ok(())
    });
    let mut seen = BTreeSet::new();
    for name in headers.keys() {
        if !seen.insert(name.to_ascii_lowercase()) {
            table.fault("headers", format!("names {name:?} twice, in upper and lower case"));
        }
    }
    headers
}
