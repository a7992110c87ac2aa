//! `type = "command"`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::Serialize;

use crate::config::check::filled;
use crate::config::secret;
use crate::config::table::Table;

/// The program and its surroundings.
#[derive(Debug, Clone, Serialize)]
pub struct Command {
    /// The program and its arguments; never a shell's line. Not empty.
    pub command: Vec<String>,
    /// Variables of the worker's environment that it gets beside the usual ones; a name may end in `*`.
    pub inherit_env: Vec<String>,
    /// Environment variables of its own; values may be secret.
    #[serde(serialize_with = "secret::map")]
    pub env: BTreeMap<String, SecretString>,
    /// The directory it starts in; `None` for the worker's.
    pub dir: Option<PathBuf>,
    /// Bytes of address space of each process.
    pub memory_bytes_max: Option<u64>,
    /// Seconds of processor time of each process.
    pub cpu_seconds_max: Option<u64>,
    /// Open files of each process.
    pub open_files_max: Option<u64>,
    /// Processes and threads of the user it runs as.
    pub processes_max: Option<u64>,
    /// Added to the worker's niceness.
    pub nice: Option<i32>,
    /// The number of the user it runs as.
    pub uid: Option<u32>,
    /// The number of the group it runs as.
    pub gid: Option<u32>,
}

/// Below it hardly a program starts.
const MEMORY_MIN: u64 = 16 * 1024 * 1024;

impl Command {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        const EXPECTED: &str = "the program and its arguments, as [\"convert\", \"-\", \"-\"]";
        if !table.has("command") {
            table.missing("command", EXPECTED);
        }
        let command = table.read("command", |given| match given.list()? {
            list if list.first().is_some_and(|program| !program.is_empty()) => Ok(list),
            _ => Err(format!("names no program: expected {EXPECTED}")),
        });
        let env = table.secrets("env", |name, _| {
            let named = !name.is_empty() && !name.contains(['=', '\0']);
            if named { Ok(()) } else { Err("is no name of an environment variable".to_owned()) }
        });
        let inherit_env =
            table.read("inherit_env", |given| match given.list()? {
                list if list.iter().all(|name| is_name_or_beginning(name)) => Ok(list),
                _ => Err("has an entry that is no name of an environment variable; only its end may be *"
                    .to_owned()),
            });
        let uid = table.read("uid", |given| given.whole(&(0..=u32::MAX - 1)));
        let gid = table.read("gid", |given| given.whole(&(0..=u32::MAX - 1)));
        if uid.is_some() != gid.is_some() {
            table.fault("uid", "and gid belong together: expected both or neither");
        }
        Self {
            command: command.unwrap_or_default(),
            inherit_env: inherit_env.unwrap_or_default(),
            env,
            dir: table.text("dir", filled).map(PathBuf::from),
            memory_bytes_max: table.read("memory_bytes_max", |given| given.whole(&(MEMORY_MIN..=1 << 50))),
            cpu_seconds_max: table.read("cpu_seconds_max", |given| given.whole(&(1..=604_800))),
            open_files_max: table.read("open_files_max", |given| given.whole(&(16..=1_048_576))),
            processes_max: table.read("processes_max", |given| given.whole(&(1..=4_194_304))),
            nice: table.read("nice", |given| given.whole(&(-40..=39))),
            uid,
            gid,
        }
    }
}

fn is_name_or_beginning(name: &str) -> bool {
    let rest = name.strip_suffix('*').unwrap_or(name);
    !name.is_empty() && !rest.contains(['=', '\0', '*'])
}
