//! What a configuration is made from: everything `Config::load` looks at comes in here, so that a test can
//! give it without touching the process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use figment::value::Value;
use secrecy::{ExposeSecret, SecretString};

use super::env::{DATABASE_URL, PREFIX};

/// Where settings may come from. The default is none of these: every setting has its default.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file named with `--config`; it must exist.
    pub file: Option<PathBuf>,
    /// Where else to look, in this order, when `file` is `None`; the first that exists is taken.
    pub places: Vec<PathBuf>,
    /// Environment variables; those without meaning here are passed over.
    pub env: BTreeMap<String, OsString>,
    /// What the command line says; stronger than everything else.
    pub flags: Overrides,
}

impl Sources {
    /// The sources of a real process: `rowcrew.toml` here or in `/etc`, and its environment.
    pub fn of_process(file: Option<PathBuf>, flags: Overrides) -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(PREFIX) || name == DATABASE_URL)
            .collect();
        Self { file, places: vec!["rowcrew.toml".into(), "/etc/rowcrew.toml".into()], env, flags }
    }
}

/// All variables of this process, for handlers that pass them on.
pub fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

/// The file of this program, for those who start it once more.
pub fn program() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}

/// The program of this process under a name that stays right when an upgrade has replaced its file.
pub fn program_in_memory() -> std::io::Result<PathBuf> {
    let own = PathBuf::from("/proc/self/exe");
    if own.exists() { Ok(own) } else { program() }
}

/// What this program was started with, its own name first.
pub fn arguments() -> std::env::ArgsOs {
    std::env::args_os()
}

/// A variable that is no setting: one process says something to another with it.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The folder for files that are soon gone.
pub fn scratch() -> PathBuf {
    std::env::temp_dir()
}

/// Shows the names of the variables only: values hold passwords.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, places, env, flags } = self;
        let env: Vec<_> = env.keys().collect();
        f.debug_struct("Sources")
            .field("file", file)
            .field("places", places)
            .field("env", &env)
            .field("flags", flags)
            .finish()
    }
}

/// The settings that have a flag. `None` and an empty list leave the weaker sources in force.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--database-url`
    pub database_url: Option<SecretString>,
    /// `--schema`
    pub schema: Option<String>,
    /// `--queue`, once for each
    pub queues: Vec<String>,
    /// `--concurrency`
    pub concurrency: Option<u64>,
    /// `--name`
    pub name: Option<String>,
    /// `--drain-ms`
    pub drain_ms: Option<u64>,
    /// `--log-level`
    pub log_level: Option<String>,
    /// `--log-format`
    pub log_format: Option<String>,
}

impl Overrides {
    /// The flags given: name, path of the setting, value.
    pub(super) fn settings(&self) -> Vec<(&'static str, &'static [&'static str], Value)> {
        let text = |value: &Option<String>| value.as_deref().map(Value::from);
        let number = |value: Option<u64>| value.map(Value::from);
        let url = self.database_url.as_ref().map(|url| url.expose_secret().into());
        let queues = (!self.queues.is_empty()).then(|| self.queues.clone().into());
        let all: [(&'static str, &'static [&'static str], Option<Value>); 8] = [
            ("--database-url", &["database_url"], url),
            ("--schema", &["schema"], text(&self.schema)),
            ("--queue", &["worker", "queues"], queues),
            ("--concurrency", &["worker", "concurrency"], number(self.concurrency)),
            ("--name", &["worker", "name"], text(&self.name)),
            ("--drain-ms", &["worker", "drain_ms"], number(self.drain_ms)),
            ("--log-level", &["log", "level"], text(&self.log_level)),
            ("--log-format", &["log", "format"], text(&self.log_format)),
        ];
        all.into_iter().filter_map(|(flag, path, value)| Some((flag, path, value?))).collect()
    }
}
