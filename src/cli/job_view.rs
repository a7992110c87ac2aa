//! One job in full.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::output;
use super::table::{Form, harmless, show};
use crate::store::JobShown;

/// What stands above the payload, in this order; what is null is left out.
const FIELDS: [(&str, Form); 24] = [
    ("id", Form::Number),
    ("kind", Form::Text),
    ("state", Form::Text),
    ("why", Form::Text),
    ("reason", Form::Text),
    ("queue", Form::Text),
    ("priority", Form::Number),
    ("attempts", Form::Number),
    ("max_attempts", Form::Number),
    ("crashes", Form::Number),
    ("created_at", Form::Moment),
    ("run_at", Form::Moment),
    ("retry_at", Form::Moment),
    ("claimed_at", Form::Moment),
    ("claimed_by", Form::Number),
    ("finished_at", Form::Moment),
    ("died_at", Form::Moment),
    ("expires_at", Form::Moment),
    ("timeout", Form::Text),
    ("backoff", Form::Text),
    ("unique_key", Form::Text),
    ("group_key", Form::Text),
    ("tags", Form::Text),
    ("meta", Form::Text),
];

/// Prints everything of it.
pub(super) fn print(shown: &JobShown, json: bool) -> anyhow::Result<ExitCode> {
    let text = if json { format!("{}\n", shown.job.get()) } else { report(shown)? };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn report(shown: &JobShown) -> anyhow::Result<String> {
    let job: Value = serde_json::from_str(shown.job.get())?;
    let mut text = String::new();
    for (name, form) in FIELDS {
        match &job[name] {
            Value::Null => {}
            // The sentence is not to be cut.
            Value::String(why) if name == "why" => writeln!(text, "{name:<13} {}", clean(why))?,
            value => writeln!(text, "{name:<13} {}", show(value, form))?,
        }
    }
    section(&mut text, "payload", Some(&shown.payload));
    section(&mut text, "result", shown.result.as_deref().filter(|result| *result != "null"));
    let progress = job.get("progress").filter(|progress| !progress.is_null()).map(Value::to_string);
    section(&mut text, "progress", progress.as_deref());
    if let Some(errors) = job["errors"].as_array() {
        text.push_str("\nerrors\n");
        for error in errors {
            text.push_str(&error_lines(error));
        }
    } else {
        section(&mut text, "last_error", job["last_error"].as_str());
    }
    Ok(text)
}

fn section(text: &mut String, title: &str, body: Option<&str>) {
    if let Some(body) = body {
        let _ = writeln!(text, "\n{title}\n{}", indented(body));
    }
}

/// One failed try: when, what, and its detail below.
fn error_lines(error: &Value) -> String {
    let mut text = format!("  attempt {} at {}", error["attempt"], show(&error["at"], Form::Moment));
    for (word, name) in [("worker", "worker"), ("class", "class")] {
        if !error[name].is_null() {
            let _ = write!(text, ", {word} {}", show(&error[name], Form::Text));
        }
    }
    text.push('\n');
    for name in ["error", "detail"] {
        if let Some(body) = error[name].as_str() {
            let _ = writeln!(text, "{}", indented(&indented(body)));
        }
    }
    text
}

fn indented(body: &str) -> String {
    body.lines().map(|line| format!("  {}", clean(line))).collect::<Vec<_>>().join("\n")
}

fn clean(text: &str) -> String {
    text.chars().map(harmless).collect()
}
