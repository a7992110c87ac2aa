//! The settings of our sessions.

use std::time::Duration;

/// Further settings, for a session in which there is one way only to run its statements.
pub(in crate::store) const ONE_PLAN: &str =
    "; set enable_sort = off; set enable_seqscan = off; set plan_cache_mode = force_generic_plan";

/// A further setting, for sessions whose every transaction is begun as one that writes: a statement that was sent
/// right behind a beginning that failed must not have its effect by itself.
pub(in crate::store) const READ_ONLY_OUTSIDE: &str = "; set default_transaction_read_only = on";

/// The session settings that our promises rest on, whatever the role's defaults are.
///
/// Without bitmap scans, and without reading a small table as a whole, rows found by an array of ids are visited,
/// and so locked, in order of id.
///
/// Plans are made for each execution (about 0.3 ms). A kept one is made for the size that the tables have
/// then: a worker that idles beside empty tables would keep plans that read all of jobs for every row it
/// looks up, until the next autovacuum, which is a minute or more after a million jobs came in.
///
/// `read_write` is the text of the statement of that name.
pub(in crate::store) fn session_settings(
    statement_timeout: Duration,
    lock_timeout: Duration,
    read_write: &str,
) -> String {
    SETTINGS
        .iter()
        .map(|(name, value)| format!("set {name} = {value}"))
        .chain([
            format!("set statement_timeout = {}", statement_timeout.as_millis()),
            format!("set lock_timeout = {}", lock_timeout.as_millis()),
            "set default_transaction_isolation = 'read committed'; set default_transaction_deferrable = off"
                .to_owned(),
            read_write.to_owned(),
        ])
        .collect::<Vec<_>>()
        .join("; ")
}

/// The same for one transaction, where the session is not ours; what a transaction begins with says the rest.
pub(in crate::store) fn local_settings(statement_timeout: Duration, lock_timeout: Duration) -> String {
    let limits = [("statement_timeout", statement_timeout), ("lock_timeout", lock_timeout)];
    let limits = limits.map(|(name, limit)| format!("set local {name} = {}", limit.as_millis()));
    let settings = SETTINGS.iter().map(|(name, value)| format!("set local {name} = {value}"));
    settings.chain(limits).collect::<Vec<_>>().join("; ")
}

const SETTINGS: [(&str, &str); 11] = [
    ("idle_in_transaction_session_timeout", "0"),
    ("search_path", "pg_catalog"),
    ("timezone", "'UTC'"),
    ("datestyle", "'ISO, YMD'"),
    ("intervalstyle", "'postgres'"),
    ("jit", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_seqscan", "off"),
    ("plan_cache_mode", "force_custom_plan"),
    ("bytea_output", "'hex'"),
    ("standard_conforming_strings", "on"),
];
