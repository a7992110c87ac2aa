//! The owner's end of the pipe to `watchdog.sh`, which outlives an owner that is killed.
//!
//! A parent-death signal would not do: it fires when the thread that forked ends, and tests are threads.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use super::user::User;
use super::{Binaries, Error};
use crate::text;

const SCRIPT: &str = include_str!("watchdog.sh");
/// The longest wait for one reply; above [`Patience::ORDINARY`], so that the script can still say what failed.
const REPLY_WAIT_MAX: Duration = Duration::from_mins(1);
/// How much of the log an error shows.
const LOG_BYTES_MAX: usize = 2000;
/// What libpq and the server would otherwise take from the owner's own settings.
const FOREIGN: [&str; 9] = [
    "PGDATA",
    "PGPORT",
    "PGHOST",
    "PGUSER",
    "PGOPTIONS",
    "PGDATESTYLE",
    "PGTZ",
    "PGCLIENTENCODING",
    "PGGEQO",
];

/// How long the script waits for a server, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) start_s: u32,
    /// Above the 5 s after which a server that is told to quit kills its own children.
    pub(super) end_s: u32,
}

impl Patience {
    pub(super) const ORDINARY: Self = Self { start_s: 50, end_s: 15 };
}

/// The running script, and through it the server and its folder.
#[derive(Debug)]
pub(super) struct Watchdog {
    child: Child,
    orders: Option<ChildStdin>,
    replies: Receiver<String>,
    bin_dir: PathBuf,
    folder: PathBuf,
}

impl Watchdog {
    /// Starts the script and learns where its folder is; the server comes later, see [`Watchdog::expect`].
    pub(super) fn spawn(
        binaries: &Binaries,
        conf: &str,
        user: Option<User>,
        patience: Patience,
    ) -> Result<Self, Error> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "rowcrew-watchdog"]).arg(&binaries.bin_dir).arg(conf);
        command.args([patience.start_s.to_string(), patience.end_s.to_string()]);
        // Its own group, or the terminal's Ctrl-C would stop the server before the worker has drained.
        command.process_group(0).current_dir("/").env("LC_ALL", "C");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        for name in FOREIGN {
            command.env_remove(name);
        }
        if let Some(user) = user {
            command.uid(user.uid).gid(user.gid);
        }
        let mut child = command.spawn().map_err(|source| fault("does not start", source))?;
        let orders = child.stdin.take();
        let stdout =
            child.stdout.take().ok_or_else(|| fault("has no pipe", io::ErrorKind::BrokenPipe.into()))?;
        let (sender, replies) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines();
            lines.map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut watchdog =
            Self { child, orders, replies, bin_dir: binaries.bin_dir.clone(), folder: PathBuf::new() };
        let reply = watchdog.expect("folder ", "making its folder")?;
        watchdog.folder = PathBuf::from(reply);
        Ok(watchdog)
    }

    /// The socket's folder; the data and the log are in it too.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives one order; its reply is to be awaited with [`Watchdog::expect`].
    pub(super) fn order(&mut self, order: &str) -> Result<(), Error> {
        let Some(orders) = &mut self.orders else {
            return Err(fault("takes no orders", io::ErrorKind::BrokenPipe.into()));
        };
        writeln!(orders, "{order}").map_err(|source| fault("takes no orders", source))
    }

    /// Waits for a reply and answers with what follows its name; any other reply is the step's failure.
    pub(super) fn expect(&self, name: &str, step: &'static str) -> Result<String, Error> {
        let reply = self.replies.recv_timeout(REPLY_WAIT_MAX);
        if let Some(rest) = reply.as_deref().ok().and_then(|line| line.strip_prefix(name)) {
            return Ok(rest.to_owned());
        }
        let written = fs::read(self.folder.join("log")).unwrap_or_default();
        let words = match reply {
            Ok(line) if line != "failed" => line,
            Ok(_) => String::new(),
            Err(error) => format!("(no reply from its watchdog: {error})"),
        };
        let log = format!("{}{words}", text::tail(&text::printable(&written), LOG_BYTES_MAX));
        Err(Error::Step { step, folder: self.folder.clone(), bin_dir: self.bin_dir.clone(), log })
    }

    /// Ends the pipe, which ends the server and the folder, and waits until both are gone.
    pub(super) fn close(&mut self) -> io::Result<()> {
        drop(self.orders.take());
        self.child.wait().map(drop)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

pub(super) fn fault(what: &'static str, source: io::Error) -> Error {
    Error::Watchdog { what, source }
}
