//! Proposes settings from what was measured; each with the facts it comes from.

use std::fmt::{Display, Write as _};

use serde::Serialize;

use super::look::Sight;
use crate::config::{Config, Run};
use crate::store::TableFacts;

/// This machine.
pub(super) struct Machine {
    pub(super) cores: usize,
    /// Where the system says.
    pub(super) memory_bytes: Option<u64>,
}

/// One setting, as it is and as it could be.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Proposal {
    pub(super) setting: &'static str,
    pub(super) now: String,
    pub(super) proposed: String,
    pub(super) because: String,
}

impl Proposal {
    fn new(setting: &'static str, now: &impl Display, proposed: &impl Display, because: String) -> Self {
        Self { setting, now: now.to_string(), proposed: proposed.to_string(), because }
    }

    pub(super) fn line(&self) -> String {
        let change = if self.now == self.proposed {
            format!("keep {}", self.now)
        } else {
            format!("{} instead of {}", self.proposed, self.now)
        };
        format!("tune  {:<20}  {change}: {}", self.setting, self.because)
    }
}

pub(super) fn proposals(sight: &Sight, machine: &Machine, config: &Config) -> Vec<Proposal> {
    let jobs = sight.tables.iter().find(|table| table.name == "jobs");
    let local = sight.server.local.then_some(machine);
    [
        Some(concurrency(sight, machine, config)),
        Some(pool_size(sight, config)),
        jobs.map(|jobs| fillfactor(sight, jobs)),
        local.and_then(|machine| shared_buffers(sight, machine)),
        Some(max_wal_size(sight)),
        wal_compression(sight),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Jobs at once: those that arrive while one runs (Little's law), with room for twice the busiest minute.
fn concurrency(sight: &Sight, machine: &Machine, config: &Config) -> Proposal {
    const ROOM: f64 = 2.0;
    /// Tries, below which an hour says nothing.
    const ENDED_MIN: f64 = 100.0;
    let name = "worker.concurrency";
    let now = config.worker.concurrency;
    let load = &sight.load;
    let commands = config.handlers.values().any(|handler| matches!(handler.run, Run::Command(_)));
    let Some(run_ms) = load.run_ms.filter(|_| load.ended_1h >= ENDED_MIN) else {
        let because = format!("only {:.0} tries ended in the last hour, too few to go by", load.ended_1h);
        return Proposal::new(name, &now, &now, because);
    };
    let workers = load.workers.max(1);
    let at_once = load.busiest_per_second * run_ms / 1e3;
    let wanted = (at_once * ROOM / workers as f64).ceil() as usize;
    // A buffer's worth at the least: claims take no more than there are free slots.
    let least = if commands { machine.cores * 2 } else { 100 };
    let proposed = wanted.clamp(least, 20_000).div_ceil(10) * 10;
    let mut because = format!(
        "the busiest minute had {:.1} tries/s of {run_ms:.1} ms, {at_once:.1} at once, for {workers} workers; \
         twice that is room for bursts, and {least} the least",
        load.busiest_per_second
    );
    if commands {
        let _ = write!(
            because,
            "; commands are processes: give those that compute a concurrency of {} ({} cores)",
            machine.cores, machine.cores
        );
    }
    Proposal::new(name, &now, &proposed, because)
}

/// Statements are batches, so few connections carry much; what counts is that all workers' fit.
fn pool_size(sight: &Sight, config: &Config) -> Proposal {
    const ENOUGH: usize = 4;
    let now = config.database.pool_size;
    let sql = config.handlers.values().any(|handler| matches!(handler.run, Run::Sql(_)));
    // Two private ones, two for claims.
    let fixed = 4 + if sql { config.worker.sql_connections } else { 0 };
    let workers = sight.load.workers.max(1) as usize;
    let others = (sight.server.connections as usize).saturating_sub(workers * (now + fixed));
    let free = (sight.server.max_connections as usize).saturating_sub(others + 3);
    let fits = (free / workers).saturating_sub(fixed);
    let proposed = ENOUGH.min(fits).max(2);
    let because = format!(
        "claims and endings go in batches of up to 1,000, so {ENOUGH} are enough; {workers} workers with {} each take {} of \
         {} connections",
        proposed + fixed,
        workers * (proposed + fixed),
        sight.server.max_connections
    );
    Proposal::new("database.pool_size", &now, &proposed, because)
}

/// Room on each page for the second version of a row, which a claim writes.
fn fillfactor(sight: &Sight, jobs: &TableFacts) -> Proposal {
    const HALF: i64 = 45;
    /// The share from which on claims are as cheap as they get.
    const SHARE: f64 = 0.9;
    /// Updates, below which the share says nothing.
    const UPDATES_MIN: i64 = 10_000;
    let share = jobs.heap_only as f64 / jobs.updates.max(1) as f64;
    let mut because = if jobs.updates < UPDATES_MIN {
        format!("only {} updates so far; half a page free lets every claim touch no index", jobs.updates)
    } else {
        format!("{:.0}% of {} updates touched no index", share * 100.0, jobs.updates)
    };
    let keep = jobs.updates >= UPDATES_MIN && share >= SHARE;
    let proposed = if keep { jobs.fillfactor } else { HALF };
    if jobs.updates >= UPDATES_MIN && !keep && jobs.fillfactor <= HALF {
        because += "; the room is there, so look for an index on state (see indexes) or rows that were updated often";
    } else if proposed != jobs.fillfactor {
        because += "; alter table ... set (fillfactor = 45) holds for pages written from then on";
    }
    if let Some(bytes) = sight.load.payload_bytes {
        let _ = write!(because, "; payloads are {bytes:.0} bytes stored (mean of {})", sight.load.sampled);
    }
    Proposal::new("jobs fillfactor", &jobs.fillfactor, &proposed, because)
}

/// A quarter of the memory, where the server has the machine for itself.
fn shared_buffers(sight: &Sight, machine: &Machine) -> Option<Proposal> {
    let memory = machine.memory_bytes?;
    let now = sight.server.shared_buffers_bytes;
    let hot: u64 = sight.tables.iter().map(|table| table.table_bytes + table.index_bytes).sum();
    let quarter = memory / 4;
    let enough = now >= quarter / 2 || hot * 2 <= now;
    let proposed = if enough { now } else { quarter };
    let because = format!(
        "this machine has {} and runs the server; the crew's tables take {}, the database {}",
        size(memory),
        size(hot),
        size(sight.server.database_bytes)
    );
    Some(Proposal::new("shared_buffers", &size(now), &size(proposed), because))
}

/// What the log takes between two checkpoints: short of it they come early, and write whole pages again.
fn max_wal_size(sight: &Sight) -> Proposal {
    /// WAL of one job, enqueued, claimed and kept as finished, about.
    const JOB_BYTES: f64 = 1_500.0;
    const CHECKPOINT_SECONDS: f64 = 300.0;
    const STEP: u64 = 1 << 30;
    let now = sight.server.max_wal_bytes;
    let bytes = JOB_BYTES + 3.0 * sight.load.payload_bytes.unwrap_or(0.0);
    let wanted = (sight.load.busiest_per_second * bytes * CHECKPOINT_SECONDS * 2.0) as u64;
    let proposed = if wanted > now { wanted.div_ceil(STEP) * STEP } else { now };
    let because = format!(
        "the busiest minute's {:.1} jobs/s write about {} in the 5 min between two checkpoints",
        sight.load.busiest_per_second,
        size((sight.load.busiest_per_second * bytes * CHECKPOINT_SECONDS) as u64)
    );
    Proposal::new("max_wal_size", &size(now), &size(proposed), because)
}

fn wal_compression(sight: &Sight) -> Option<Proposal> {
    /// From this mean size on.
    const LARGE: f64 = 500.0;
    let bytes = sight.load.payload_bytes.filter(|bytes| *bytes >= LARGE)?;
    let now = if sight.server.wal_compression { "on" } else { "off" };
    let because =
        format!("payloads are {bytes:.0} bytes, and whole pages of them go to the log after each checkpoint");
    Some(Proposal::new("wal_compression", &now, &"on", because))
}

/// Bytes as the server writes them.
fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 10 << 30 => format!("{}GB", b >> 30),
        b if b >= 1 << 20 => format!("{}MB", b >> 20),
        b => format!("{}kB", b >> 10),
    }
}
