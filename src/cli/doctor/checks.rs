//! Judges facts: ok, or a warning with what to do.

use std::time::Duration;

use super::Finding;
use crate::store::{Error, Holder, IndexFacts, QueueFacts, ServerFacts, TableFacts};

/// The oldest server that is tested.
const VERSION_MIN: i32 = 140_000;
/// Clocks further apart than this make logs hard to read; the crew itself goes by the database's alone.
const CLOCK_APART_MAX: f64 = 2.0;
/// Dead rows fewer than this cost nothing worth a warning.
const DEAD_MIN: i64 = 100_000;
/// At 2^31 transactions the server stops taking writes; a vacuum at this age is late but not too late.
const AGE_FAIL: i64 = 1_200_000_000;
/// The part of the connections that may be taken.
const CONNECTIONS_MAX: f64 = 0.8;

pub(super) fn unreachable(error: &Error) -> Finding {
    let advice = "check database_url and direct_url (`rowcrew config show`), and that the server is up";
    Finding::fail("connection", crate::text::error_chain(error), advice)
}

pub(super) fn not_ready(error: &Error) -> Finding {
    // The error says what to do after its colon.
    Finding { advice: None, ..Finding::fail("schema", error.to_string(), "") }
}

pub(super) fn version(server: &ServerFacts) -> Finding {
    let found = format!("PostgreSQL {}, database {} as {}", server.version, server.database, server.role);
    if server.version_num < VERSION_MIN {
        return Finding::fail(
            "server",
            found,
            "rowcrew is tested with PostgreSQL 14 to 18; upgrade the server",
        );
    }
    Finding::ok("server", found)
}

pub(super) fn rights(server: &ServerFacts, lacking: &[String]) -> Finding {
    match lacking {
        [] => Finding::ok("rights", format!("{} may do all that the crew does", server.role)),
        lacking => {
            let more =
                if lacking.len() > 3 { format!(" and {} more", lacking.len() - 3) } else { String::new() };
            let found = format!("{} lacks {}{more}", server.role, lacking[..lacking.len().min(3)].join(", "));
            let advice = format!(
                "run the crew as the role that ran `rowcrew migrate`, or grant that role to {}; who only \
                 enqueues needs no more than insert on jobs",
                server.role
            );
            if lacking.iter().all(|right| right.starts_with("owner")) {
                return Finding::warn(
                    "rights",
                    format!("{found}: no partitions are made or dropped"),
                    advice,
                );
            }
            Finding::fail("rights", found, advice)
        }
    }
}

/// `pooled` and `direct` tell whether a transaction-mode pooler answers at either URL.
pub(super) fn pooler(pooled: Result<bool, Error>, direct: Result<bool, Error>, prepare: bool) -> Finding {
    let name = "pooler";
    match (pooled, direct, prepare) {
        (Err(error), ..) | (_, Err(error), _) => Finding::warn(
            name,
            format!("could not be looked for: {}", crate::text::error_chain(&error)),
            "see that two more connections can be opened",
        ),
        (_, Ok(true), _) => Finding::fail(
            name,
            "direct_url leads to a transaction-mode pooler: LISTEN and session locks do not work through it",
            "set direct_url to the server itself, or to a session-mode port",
        ),
        (Ok(true), Ok(false), true) => Finding::fail(
            name,
            "database_url leads to a transaction-mode pooler, and database.prepare is true",
            "set database.prepare = false, or add pgbouncer=true to database_url",
        ),
        (Ok(true), Ok(false), false) => {
            Finding::ok(name, "a transaction-mode pooler, with direct_url past it")
        }
        (Ok(false), Ok(false), _) => Finding::ok(name, "none, or one that keeps sessions"),
    }
}

/// Durability, clock, connections, notices, autovacuum.
pub(super) fn server(facts: &ServerFacts) -> Vec<Finding> {
    vec![durability(facts), clock(facts), connections(facts), notices(facts)]
}

fn durability(facts: &ServerFacts) -> Finding {
    let name = "durability";
    if !facts.fsync || !facts.full_page_writes {
        let which = if facts.fsync { "full_page_writes" } else { "fsync" };
        return Finding::warn(
            name,
            format!("{which} is off: a crash of the machine can destroy the database"),
            format!("set {which} = on in postgresql.conf, unless every job in it may be lost"),
        );
    }
    if facts.synchronous_commit == "off" {
        return Finding::warn(
            name,
            "synchronous_commit is off: a crash loses the last commits, enqueued jobs among them",
            "set synchronous_commit = on (ALTER ROLE or ALTER DATABASE ... SET)",
        );
    }
    Finding::ok(name, format!("fsync on, synchronous_commit {}", facts.synchronous_commit))
}

fn clock(facts: &ServerFacts) -> Finding {
    let (ahead, blur) = (facts.clock_ahead, facts.clock_blur);
    let found = format!(
        "this machine's is {:.1} s {} the server's",
        ahead.abs(),
        if ahead < 0.0 { "behind" } else { "ahead of" }
    );
    if ahead.abs() - blur > CLOCK_APART_MAX {
        let advice = "run a time service on both; jobs go by the server's clock, but logs and signed webhooks by this one";
        return Finding::warn("clock", found, advice);
    }
    Finding::ok("clock", found)
}

fn connections(facts: &ServerFacts) -> Finding {
    let found = format!("{} of {} are taken", facts.connections, facts.max_connections);
    if facts.connections as f64 > facts.max_connections as f64 * CONNECTIONS_MAX {
        let advice = "raise max_connections, or put a pooler before the apps; workers need 2 and database.pool_size each";
        return Finding::warn("connections", found, advice);
    }
    Finding::ok("connections", found)
}

fn notices(facts: &ServerFacts) -> Finding {
    let found = format!("{:.0}% of the queue of notices is used", facts.notify_usage * 100.0);
    let advice = "end the listening session that has been in a transaction for long; when the queue is full, every insert fails";
    match facts.notify_usage {
        usage if usage >= 0.9 => Finding::fail("notices", found, advice),
        usage if usage >= 0.1 => Finding::warn("notices", found, advice),
        _ => Finding::ok("notices", found),
    }
}

/// Those who keep dead rows from being removed for longer than `long`, or for an unknown time.
pub(super) fn holders(holders: &[Holder], long: Duration) -> Vec<Finding> {
    let is_long = |holder: &&Holder| holder.seconds.is_none_or(|seconds| seconds > long.as_secs_f64());
    let warn = |holder: &Holder| {
        let since = holder.seconds.map_or_else(String::new, |seconds| format!(" for {}", span(seconds)));
        Finding::warn(
            "transactions",
            format!("{} keeps dead rows{since} ({})", holder.who, holder.what),
            format!("let it end, or: {}", holder.end_by),
        )
    };
    let long_ones: Vec<Finding> = holders.iter().filter(is_long).take(5).map(warn).collect();
    if long_ones.is_empty() {
        return vec![Finding::ok("transactions", "none is open for long")];
    }
    long_ones
}

/// Dead rows, age, and the share of updates that touch no index.
pub(super) fn tables(server: &ServerFacts, tables: &[TableFacts]) -> Vec<Finding> {
    let mut bad = Vec::new();
    if !server.autovacuum {
        bad.push(Finding::warn(
            "vacuum",
            "autovacuum or track_counts is off: nothing removes dead rows",
            "turn both on",
        ));
    }
    for table in tables {
        bad.extend(dead_rows(table));
        bad.extend(age(server, table));
    }
    if bad.is_empty() {
        let jobs = tables.iter().find(|table| table.name == "jobs");
        let last = jobs.and_then(|jobs| jobs.last_autovacuum.as_deref()).map_or_else(
            || "not vacuumed yet".to_owned(),
            |at| format!("last vacuumed {}", super::super::table::moment(at)),
        );
        bad.push(Finding::ok("vacuum", format!("few dead rows; jobs {last}")));
    }
    bad
}

fn dead_rows(table: &TableFacts) -> Option<Finding> {
    if !table.autovacuum {
        let advice = format!("alter table {} reset (autovacuum_enabled)", table.qualified);
        return Some(Finding::warn(
            "vacuum",
            format!("{} is not vacuumed by the server", table.name),
            advice,
        ));
    }
    (table.dead > DEAD_MIN && table.dead > 2 * table.live).then(|| {
        let last = table.last_autovacuum.as_deref().map_or("never".to_owned(), super::super::table::moment);
        Finding::warn(
            "vacuum",
            format!(
                "{} has {} dead rows for {} live ones; last vacuumed: {last}",
                table.name, table.dead, table.live
            ),
            format!("end what keeps them (see transactions), then: vacuum {}", table.qualified),
        )
    })
}

fn age(server: &ServerFacts, table: &TableFacts) -> Option<Finding> {
    let found = format!("{} was last frozen {} transactions ago", table.name, table.age);
    let advice = format!("vacuum freeze {}; see what keeps autovacuum from it", table.qualified);
    if table.age > AGE_FAIL {
        return Some(Finding::fail("age", found, advice));
    }
    // A vacuum against wraparound begins at this age; at half as much again it has not got through.
    (table.age > server.freeze_max_age + server.freeze_max_age / 2)
        .then(|| Finding::warn("age", found, advice))
}

pub(super) fn indexes(indexes: &[IndexFacts]) -> Vec<Finding> {
    let judge = |index: &IndexFacts| {
        let (name, table) = (&index.name, &index.table);
        if index.invalid {
            return Finding::warn(
                "indexes",
                format!("{name} on {table} is invalid: it is written to and never read"),
                format!("drop index concurrently {name}, and build it again"),
            );
        }
        let columns = index.hot.as_deref().unwrap_or_default();
        Finding::warn(
            "indexes",
            format!(
                "{name} on {table} has {columns}, which every claim changes: claims cost several times more"
            ),
            format!("drop index concurrently {name}; running jobs are found through the view running"),
        )
    };
    if indexes.is_empty() {
        return vec![Finding::ok("indexes", "all valid, none on what claims change")];
    }
    indexes.iter().map(judge).collect()
}

/// Workers, kinds nobody serves, and queues whose first job is late.
pub(super) fn queues(facts: &QueueFacts, late: Duration) -> Vec<Finding> {
    let mut findings = vec![workers(facts)];
    for unserved in facts.unserved.iter().take(5).filter(|_| facts.workers > 0) {
        findings.push(Finding::warn(
            "kinds",
            format!("no live worker serves kind {}: {} jobs wait", unserved.kind, unserved.jobs),
            format!("add [handlers.\"{}\"] to a worker's configuration, or cancel them", unserved.kind),
        ));
    }
    let is_late = |seconds: f64| seconds > late.as_secs_f64();
    let late_ones: Vec<_> = facts.heads.iter().filter(|head| is_late(head.seconds)).collect();
    for head in late_ones.iter().take(5) {
        let found =
            format!("the first due job of queue {} has waited for {}", head.queue, span(head.seconds));
        let advice = match (head.paused, head.workers) {
            (true, _) => format!("it is paused; to go on: rowcrew queues resume {}", head.queue),
            (false, 0) => format!("no worker serves it; start one: rowcrew work --queue {}", head.queue),
            _ => "ask rowcrew.why(id); start more workers, or raise worker.concurrency".to_owned(),
        };
        findings.push(Finding::warn("queues", found, advice));
    }
    if late_ones.is_empty() {
        let paused = match &facts.paused[..] {
            [] => String::new(),
            names => format!("; paused: {}", names.join(", ")),
        };
        findings.push(Finding::ok("queues", format!("no job waits for long{paused}")));
    }
    findings
}

fn workers(facts: &QueueFacts) -> Finding {
    let alive = format!("{} in the crew", facts.workers);
    if facts.silent > 0 {
        let advice =
            "they are cut off, frozen or lost; a live worker gives their jobs back, so see that one runs";
        return Finding::warn("workers", format!("{alive}, {} silent for 30 s", facts.silent), advice);
    }
    if facts.workers == 0 && !facts.heads.is_empty() {
        return Finding::warn("workers", "none is alive, and jobs are due", "start one: rowcrew work");
    }
    Finding::ok("workers", alive)
}

/// Seconds in words of one unit.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level::{self, Fail, Ok as Good, Warn};

    fn healthy() -> ServerFacts {
        ServerFacts {
            version_num: 150_018,
            fsync: true,
            full_page_writes: true,
            synchronous_commit: "on".to_owned(),
            autovacuum: true,
            max_connections: 100,
            connections: 80,
            freeze_max_age: 200_000_000,
            ..ServerFacts::default()
        }
    }

    /// The level of one check of a server that is healthy but for this.
    fn level(check: &str, spoil: impl FnOnce(&mut ServerFacts)) -> Level {
        let mut facts = healthy();
        spoil(&mut facts);
        let findings = server(&facts);
        findings.iter().find(|finding| finding.check == check).expect("a finding").level
    }

    #[test]
    fn a_server_is_judged_by_its_settings() {
        assert!(server(&healthy()).iter().all(|finding| finding.level == Good));
        assert_eq!(level("durability", |facts| facts.fsync = false), Warn);
        assert_eq!(level("durability", |facts| facts.full_page_writes = false), Warn);
        assert_eq!(level("durability", |facts| facts.synchronous_commit = "off".to_owned()), Warn);
        assert_eq!(level("durability", |facts| facts.synchronous_commit = "remote_apply".to_owned()), Good);
        assert_eq!(level("connections", |facts| facts.connections = 81), Warn);
        assert_eq!(level("notices", |facts| facts.notify_usage = 0.1), Warn);
        assert_eq!(level("notices", |facts| facts.notify_usage = 0.9), Fail);
        assert_eq!(version(&ServerFacts { version_num: 130_022, ..healthy() }).level, Fail);
    }

    #[test]
    fn clocks_are_apart_only_beyond_what_the_answer_took() {
        for (ahead, blur, expected) in
            [(1.9, 0.0, Good), (-2.1, 0.0, Warn), (2.1, 0.5, Good), (30.0, 0.5, Warn)]
        {
            let found = level("clock", |facts| (facts.clock_ahead, facts.clock_blur) = (ahead, blur));
            assert_eq!(found, expected, "{ahead} s, {blur} s");
        }
    }

    #[test]
    fn a_transaction_mode_pooler_needs_unnamed_statements_and_a_way_past_it() {
        let level = |pooled, direct, prepare| pooler(Ok(pooled), Ok(direct), prepare).level;
        assert_eq!(level(false, false, true), Good);
        assert_eq!(level(true, false, false), Good);
        assert_eq!(level(true, false, true), Fail);
        assert_eq!(level(true, true, false), Fail);
        let unknown = || Err(Error::Input("no more connections".to_owned()));
        assert_eq!(pooler(unknown(), Ok(false), true).level, Warn);
    }

    #[test]
    fn a_table_is_old_when_its_vacuum_does_not_get_through() {
        let jobs =
            |age| TableFacts { name: "jobs".to_owned(), autovacuum: true, age, ..TableFacts::default() };
        for (age, expected) in [(300_000_000, Good), (300_000_001, Warn), (1_200_000_001, Fail)] {
            assert_eq!(tables(&healthy(), &[jobs(age)])[0].level, expected, "{age}");
        }
        let off = ServerFacts { autovacuum: false, ..healthy() };
        assert_eq!(tables(&off, &[jobs(0)])[0].level, Warn);
    }

    #[test]
    fn who_holds_rows_for_an_unknown_time_is_named_too() {
        let holder = |seconds| Holder {
            who: "replication slot old".to_owned(),
            what: "nobody reads it".to_owned(),
            seconds,
            end_by: "drop it".to_owned(),
        };
        let five = Duration::from_mins(5);
        assert_eq!(holders(&[holder(Some(299.0))], five)[0].level, Good);
        assert_eq!(holders(&[holder(Some(301.0))], five)[0].level, Warn);
        assert_eq!(holders(&[holder(None)], five)[0].level, Warn);
    }
}
