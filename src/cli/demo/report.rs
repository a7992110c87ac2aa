//! The proof, as a person reads it.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use super::app::FLAKY;
use super::proof::Proof;

/// Lines above, below and under the header; none between rows.
const STYLE: TableStyle = UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none());

/// The whole report.
pub(super) fn text(proof: &Proof) -> String {
    let mut lines = vec!["\nThe proof".to_owned(), String::new()];
    lines.extend(checks(proof).into_iter().map(|(holds, line)| {
        let mark = if holds { "ok    " } else { "FAILED" };
        format!("  {mark} {line}")
    }));
    lines.push(String::new());
    lines.push("What the jobs did (a look at finished_jobs and dead_jobs)".to_owned());
    lines.push(kinds(proof).to_string());
    lines.push("The dead letters (rowcrew.dead_jobs): each of these was made to fail".to_owned());
    lines.push(dead(proof).to_string());
    lines.extend(proof.faults.iter().map(|fault| format!("FAILED: {fault}")));
    lines.join("\n")
}

fn checks(proof: &Proof) -> Vec<(bool, String)> {
    let Proof { ledger, checksums, webhooks, rescue, files, .. } = proof;
    let changed = match checksums.changed {
        0 => String::new(),
        n => format!(" ({n} changed on the disk meanwhile)"),
    };
    vec![
        (
            ledger.once == *files,
            format!(
                "{} of {files} files stand in demo.ledger exactly once; missing {}, more than once {}",
                ledger.once, ledger.missing, ledger.more_than_once
            ),
        ),
        (
            checksums.wrong + checksums.doubled == 0,
            format!("{} of {files} checksums are those of the files on the disk{changed}", checksums.right),
        ),
        (
            webhooks.jobs == webhooks.wanted && webhooks.missing + webhooks.bad_signatures == 0,
            format!(
                "{} of {} webhooks in {} calls, {} bad signatures; {} were refused once with 503 and came again",
                webhooks.accepted, webhooks.wanted, webhooks.calls, webhooks.bad_signatures, webhooks.refused
            ),
        ),
        (
            proof.recovered == FLAKY as i64,
            format!("{} jobs failed at first, were tried again and completed", proof.recovered),
        ),
        // Without a rescue there is no proof at all: the course of events waits for it.
        (
            true,
            format!(
                "{} was killed; {} jobs it held were given back after {} ms and ran elsewhere",
                rescue.worker, rescue.given_back, rescue.after_ms
            ),
        ),
    ]
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.to_vec());
    table
}

fn kinds(proof: &Proof) -> Table {
    let mut table = table(&["kind", "handler", "jobs", "completed", "dead", "further tries", "jobs/s"]);
    for kind in &proof.kinds {
        let name = kind.kind.as_deref();
        table.add_row(vec![
            name.unwrap_or("all").to_owned(),
            name.map_or("", handler).to_owned(),
            kind.jobs.to_string(),
            kind.completed.to_string(),
            kind.dead.to_string(),
            kind.more_tries.to_string(),
            format!("{:.0}", kind.per_second),
        ]);
    }
    for column in 2..7 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn handler(kind: &str) -> &'static str {
    match kind {
        "demo.record" => "sql",
        "demo.checksum" => "command",
        "demo.notify" => "http",
        "demo.flaky" => "fail",
        "demo.nap" => "sleep",
        _ => "echo",
    }
}

fn dead(proof: &Proof) -> Table {
    let mut table = table(&["id", "kind", "reason", "attempts", "last error"]);
    for dead in &proof.dead {
        table.add_row(vec![
            dead.id.to_string(),
            dead.kind.clone(),
            dead.reason.clone(),
            dead.attempts.to_string(),
            crate::text::truncated(&dead.error, 120),
        ]);
    }
    table
}
