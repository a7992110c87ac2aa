//! What an `http` handler signs its calls with, and says it is: secrets, passwords, certificates, mostly from files.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::config::check::filled;
use crate::config::file::read_text;
use crate::config::secret;
use crate::config::table::Table;

/// Read at the start; what was given is kept for `config show`, without the secrets.
#[derive(Debug, Clone, Serialize)]
pub struct Credentials {
    /// What requests are signed with, the newest first; several during a rotation, none for no signature.
    #[serde(skip)]
    pub secrets: Vec<SecretString>,
    /// The token of `Authorization: Bearer`.
    #[serde(skip)]
    pub token: Option<SecretString>,
    /// The password that goes with `basic_user`.
    #[serde(skip)]
    pub password: Option<SecretString>,
    /// The user of `Authorization: Basic`.
    pub basic_user: Option<String>,
    /// The authorities that are believed instead of the machine's, in PEM form.
    #[serde(skip)]
    pub ca: Option<String>,
    /// The certificate to show and its key, in PEM form.
    #[serde(skip)]
    pub client: Option<(String, SecretString)>,
    #[serde(serialize_with = "secret::one")]
    secret: Option<SecretString>,
    secret_file: Option<String>,
    secret_files: Option<Vec<String>>,
    #[serde(serialize_with = "secret::one")]
    bearer: Option<SecretString>,
    bearer_file: Option<String>,
    #[serde(serialize_with = "secret::one")]
    basic_password: Option<SecretString>,
    basic_password_file: Option<String>,
    ca_file: Option<String>,
    client_cert_file: Option<String>,
    client_key_file: Option<String>,
}

impl Credentials {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        only_one(table, &["secret", "secret_file", "secret_files"]);
        only_one(table, &["bearer", "bearer_file", "basic_user"]);
        only_one(table, &["basic_password", "basic_password_file"]);
        needs(table, "basic_user", &["basic_password", "basic_password_file"]);
        needs(table, "basic_password", &["basic_user"]);
        needs(table, "basic_password_file", &["basic_user"]);
        needs(table, "client_cert_file", &["client_key_file"]);
        needs(table, "client_key_file", &["client_cert_file"]);
        let (secret, secret_file, secret_from_file) = secret_or_file(table, "secret", "secret_file");
        let secret_files = table.read("secret_files", |given| match given.list()? {
            files if files.is_empty() => Err("is empty: expected at least one file".to_owned()),
            files => Ok(files),
        });
        let mut secrets: Vec<_> = secret.iter().cloned().chain(secret_from_file).collect();
        secrets.extend(secret_files.iter().flatten().filter_map(|path| file(table, "secret_files", path)));
        let (bearer, bearer_file, bearer_from_file) = secret_or_file(table, "bearer", "bearer_file");
        let (basic_password, basic_password_file, password_from_file) =
            secret_or_file(table, "basic_password", "basic_password_file");
        let basic_user = table.text("basic_user", filled);
        let mut pem = |key: &str| {
            let path = table.text(key, |_| Ok(()))?;
            let text = file(table, key, &path);
            Some((path, text))
        };
        let (ca_file, ca) = pem("ca_file").unzip();
        let (client_cert_file, certificate) = pem("client_cert_file").unzip();
        let (client_key_file, key) = pem("client_key_file").unzip();
        Self {
            secrets,
            token: bearer.clone().or(bearer_from_file),
            password: basic_password.clone().or(password_from_file),
            basic_user,
            ca: ca.flatten().as_ref().map(exposed),
            client: certificate.flatten().as_ref().map(exposed).zip(key.flatten()),
            secret,
            secret_file,
            secret_files,
            bearer,
            bearer_file,
            basic_password,
            basic_password_file,
            ca_file,
            client_cert_file,
            client_key_file,
        }
    }
}

/// A secret given as it is, or the path of its file and what stands in it.
fn secret_or_file(
    table: &mut Table<'_>,
    key: &str,
    file_key: &str,
) -> (Option<SecretString>, Option<String>, Option<SecretString>) {
    let given = table.secret(key, filled);
    let path = table.text(file_key, |_| Ok(()));
    let read = path.as_deref().and_then(|path| file(table, file_key, path));
    (given, path, read)
}

/// What stands in a file, without the blanks around it.
fn file(table: &Table<'_>, key: &str, path: &str) -> Option<SecretString> {
    file_text(table, key, path, filled)
}

/// The same, of text that must pass a check.
pub(super) fn file_text(
    table: &Table<'_>,
    key: &str,
    path: &str,
    check: impl Fn(&str) -> Result<(), String>,
) -> Option<SecretString> {
    let read = || {
        let text = read_text(Path::new(path)).map_err(|(_, problem)| problem)?;
        check(text.trim())?;
        Ok::<_, String>(SecretString::from(text.trim()))
    };
    read().map_err(|problem| table.fault(key, format!("names {path:?}, which {problem}"))).ok()
}

fn exposed(text: &SecretString) -> String {
    text.expose_secret().to_owned()
}

pub(super) fn only_one(table: &Table<'_>, keys: &[&str]) {
    let given: Vec<_> = keys.iter().filter(|key| table.has(key)).collect();
    if let [first, second, ..] = given[..] {
        table.fault(second, format!("is given beside {first}: expected only one of the two"));
    }
}

fn needs(table: &Table<'_>, key: &str, others: &[&str]) {
    if table.has(key) && !others.iter().any(|other| table.has(other)) && table.is_whole() {
        table.fault(key, format!("is given alone: expected {} as well", others.join(" or ")));
    }
}
