//! Records as compact tables for people, or as JSON for programs.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use super::output;
use crate::store::Record;

/// The longest text in a cell; the whole is in `show` and in `--json`.
const CELL_CHARS_MAX: usize = 60;

/// A column: its title, the field it shows (`outer.inner` for one of a record inside), and how.
pub(super) struct Column(pub(super) &'static str, pub(super) &'static str, pub(super) Form);

/// How a field is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is, on one line.
    Text,
    /// A number, to the right.
    Number,
    /// A moment, to the second.
    Moment,
    /// Milliseconds, to the right, in a unit that fits.
    Millis,
}

/// Prints records: as one JSON array, or as a table; `none` when there are none.
pub(super) fn print(records: &[Record], json: bool, columns: &[Column], none: &str) -> anyhow::Result<()> {
    if json {
        let objects: Vec<_> = records.iter().map(|record| record.get()).collect();
        let text = if objects.is_empty() { "[]".into() } else { format!("[\n{}\n]", objects.join(",\n")) };
        return output::print(&format!("{text}\n")).map(drop);
    }
    if records.is_empty() {
        eprintln!("{none}");
        return Ok(());
    }
    let rows =
        records.iter().map(|record| serde_json::from_str(record.get())).collect::<Result<Vec<_>, _>>()?;
    output::print(&format!("{}\n", render(&rows, columns))).map(drop)
}

/// Makes a table.
pub(super) fn render(rows: &[Value], columns: &[Column]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|Column(title, ..)| *title));
    for row in rows {
        table.add_row(columns.iter().map(|Column(_, path, form)| show(field(row, path), *form)));
    }
    for (at, Column(.., form)) in columns.iter().enumerate() {
        if let Some(column) = table.column_mut(at)
            && matches!(form, Form::Number | Form::Millis)
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

fn field<'a>(row: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(row, |value, name| &value[name])
}

/// One value in the words of a person.
pub(super) fn show(value: &Value, form: Form) -> String {
    match (value, form) {
        (Value::Null, _) => "-".to_owned(),
        (Value::String(text), Form::Moment) => moment(text),
        (Value::String(text), _) => one_line(text),
        (Value::Array(items), _) => items.iter().map(|item| show(item, form)).collect::<Vec<_>>().join(","),
        (Value::Number(number), Form::Millis) => millis(number.as_f64().unwrap_or_default()),
        (other, _) => other.to_string(),
    }
}

/// `2026-05-01T08:00:00.123456+00:00` as `2026-05-01 08:00:00Z`.
pub(super) fn moment(text: &str) -> String {
    match text.strip_suffix("+00:00") {
        Some(utc) => format!("{}Z", utc.split('.').next().unwrap_or(utc).replacen('T', " ", 1)),
        None => text.to_owned(),
    }
}

/// The first line, without what a terminal would take for a command, and not too long.
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let cut = line.chars().count() > CELL_CHARS_MAX;
    let mut shown: String = line.chars().take(CELL_CHARS_MAX).map(harmless).collect();
    if cut || text.lines().nth(1).is_some() {
        shown.push('…');
    }
    shown
}

/// Control characters in what users wrote could rewrite the reader's terminal.
pub(super) fn harmless(c: char) -> char {
    if c.is_control() && c != '\n' { '\u{FFFD}' } else { c }
}

fn millis(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.1}ms"),
        ms if ms < 10_000.0 => format!("{ms:.0}ms"),
        ms if ms < 600_000.0 => format!("{:.1}s", ms / 1000.0),
        ms => format!("{:.0}m", ms / 60_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cell_is_one_short_harmless_line() {
        assert_eq!(show(&json!("a\u{1b}[2Jb\nc"), Form::Text), "a\u{FFFD}[2Jb…");
        assert_eq!(show(&json!("x".repeat(100)), Form::Text).chars().count(), CELL_CHARS_MAX + 1);
        assert_eq!(show(&json!("2026-05-01T08:00:00.123+00:00"), Form::Moment), "2026-05-01 08:00:00Z");
        assert_eq!(show(&json!("infinity"), Form::Moment), "infinity");
        assert_eq!(show(&json!(12_345.6), Form::Millis), "12.3s");
        assert_eq!(show(&json!(null), Form::Number), "-");
    }
}
