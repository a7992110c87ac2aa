//! The kinds of jobs that are measured: one for each type of handler, and the program of `process` as a command.

use super::{CALLS, CHILDREN, CONNECTIONS, IN_HAND, Stage};
use crate::bench::drain::CONCURRENCY;
use crate::bench::reference::bare_sql;
use crate::bench::rig::Rig;

/// Inserts a row, as the handler of `sql` does and its floor.
pub(super) const STATEMENT: &str = "insert into bench_rows (n) values (($1::jsonb ->> 'n')::bigint)";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Noop,
    Process,
    Command,
    /// The program of [`Kind::Process`], started for each job.
    Spawned,
    Http,
    Sql,
}

impl Kind {
    pub(super) const ALL: [Self; 6] =
        [Self::Noop, Self::Process, Self::Command, Self::Spawned, Self::Http, Self::Sql];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Noop => "noop",
            Self::Process => "process",
            Self::Command => "command",
            Self::Spawned => "spawned",
            Self::Http => "http",
            Self::Sql => "sql",
        }
    }

    /// The payload of job `n`, in SQL.
    pub(super) fn payload(self) -> &'static str {
        match self {
            // What its program reads is the line of a child.
            Self::Spawned => "jsonb_build_object('id', n, 'payload', jsonb_build_object('n', n))",
            _ => "jsonb_build_object('n', n)",
        }
    }

    /// Whether it is compared with a floor.
    pub(super) fn has_floor(self) -> bool {
        self != Self::Spawned
    }

    pub(super) fn rate(self) -> String {
        format!("{}, jobs/s", self.name())
    }

    pub(super) fn floor(self) -> String {
        format!("{}: floor, jobs/s", self.name())
    }

    /// Jobs of one run: seconds of each, however slow.
    pub(super) fn jobs(self, rig: &Rig<'_>) -> i64 {
        let part = match self {
            Self::Noop => 1,
            Self::Process => 2,
            Self::Http => 4,
            Self::Sql => 20,
            Self::Command => 50,
            Self::Spawned => 1_000,
        };
        (rig.settings.jobs / part).max(10)
    }
}

impl Stage {
    /// Jobs at once in the worker.
    pub(super) fn at_once(&self, kind: Kind) -> i64 {
        match kind {
            Kind::Noop | Kind::Sql => CONCURRENCY,
            Kind::Process => (CHILDREN * IN_HAND) as i64,
            Kind::Command | Kind::Spawned => self.spawns as i64,
            Kind::Http => CALLS as i64,
        }
    }

    /// The kind's handler, as TOML.
    pub(super) fn config(&self, kind: Kind) -> String {
        let list = |words: &[&str]| toml::Value::from(words.to_vec()).to_string();
        match kind {
            // Every worker of a bench has it.
            Kind::Noop => String::new(),
            Kind::Process => format!(
                "[handlers.process]\ntype = 'process'\nprocesses = {CHILDREN}\nconcurrency = {IN_HAND}\ncommand = {}\n",
                list(&self.program.argv())
            ),
            Kind::Command => "[handlers.command]\ntype = 'command'\ncommand = ['true']\n".to_owned(),
            Kind::Spawned => {
                format!("[handlers.spawned]\ntype = 'command'\ncommand = {}\n", list(&self.program.argv()))
            }
            Kind::Http => format!("[handlers.http]\ntype = 'http'\nurl = '{}'\n", self.server.url()),
            Kind::Sql => format!(
                "worker.sql_connections = {CONNECTIONS}\n[handlers.sql]\ntype = 'sql'\nstatement = {}\n",
                toml::Value::from(STATEMENT)
            ),
        }
    }

    /// The rate of the kind's floor.
    pub(super) async fn floor(&self, rig: &Rig<'_>, kind: Kind) -> anyhow::Result<f64> {
        let jobs = kind.jobs(rig);
        match kind {
            Kind::Noop => {
                super::fill(rig, kind, jobs).await?;
                Ok(bare_sql(rig, jobs).await?.rate)
            }
            Kind::Process => self.program.piped(jobs).await,
            Kind::Command | Kind::Spawned => super::floors::spawns(self.spawns, jobs).await,
            Kind::Http => self.server.called(jobs).await,
            Kind::Sql => super::floors::statements(rig, jobs).await,
        }
    }

    /// What one job does, and its floor.
    pub(super) fn words(&self, kind: Kind) -> String {
        let (program, spawns) = (self.program.words(), self.spawns);
        match kind {
            Kind::Noop => "nothing; floor: the bare SQL loop of `drain`".to_owned(),
            Kind::Process => format!(
                "{CHILDREN} children ({program}), {IN_HAND} jobs in hand each; floor: the same children at bare pipes"
            ),
            Kind::Command => format!("spawns `true`, {spawns} at once; floor: a bare loop of spawns"),
            Kind::Spawned => format!("spawns {program}, {spawns} at once"),
            Kind::Http => format!(
                "posts to a server in the bench, {CALLS} at once; floor: a bare loop of calls by the same client"
            ),
            Kind::Sql => format!(
                "inserts a row, {CONNECTIONS} connections; floor: the statement alone, prepared, a transaction each"
            ),
        }
    }
}
