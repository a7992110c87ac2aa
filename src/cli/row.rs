//! A line of `rowcrew enqueue --rows`: a job with its columns.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::enqueue::{parse_backoff, parse_timeout};
use super::when::parse_when;
use super::{json, queues};
use crate::parse_priority;
use crate::store::NewJob;

/// The columns of a job that a user may set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row<'a> {
    kind: Option<String>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    queue: Option<String>,
    #[serde(borrow)]
    priority: Option<&'a RawValue>,
    run_at: Option<String>,
    max_attempts: Option<i32>,
    #[serde(borrow)]
    backoff: Option<&'a RawValue>,
    timeout: Option<String>,
    expires_at: Option<String>,
    unique_key: Option<String>,
    group_key: Option<String>,
    tags: Option<Vec<String>>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
}

impl Row<'_> {
    /// Reads a line; `base` has what it leaves out. The fault begins with its column where it has one.
    pub(super) fn read(line: &[u8], base: &NewJob) -> Result<NewJob, String> {
        let text =
            json::check(line).map_err(|fault| format!("column {}: {}", fault.column, fault.problem))?;
        let row: Row<'_> = serde_json::from_str(text).map_err(|error| {
            let words = error.to_string();
            format!("column {}: {}", error.column(), words.split(" at line ").next().unwrap_or_default())
        })?;
        row.job(base)
    }

    fn job(self, base: &NewJob) -> Result<NewJob, String> {
        let raw = |value: Option<&RawValue>| value.map(|value| value.get().to_owned());
        let kind = self.kind.unwrap_or_else(|| base.kind.clone());
        if kind.is_empty() {
            return Err("kind is missing: name it in the line or on the command line".to_owned());
        }
        let max_attempts = self.max_attempts.or(base.max_attempts);
        if max_attempts.is_some_and(|tries| !(1..=10_000).contains(&tries)) {
            return Err("max_attempts: expected 1 to 10000".to_owned());
        }
        Ok(NewJob {
            kind: queues::name(&kind).map_err(|problem| format!("kind: {problem}"))?,
            payload: raw(self.payload).unwrap_or_else(|| base.payload.clone()),
            queue: parsed("queue", self.queue.as_deref(), queues::name)?.or_else(|| base.queue.clone()),
            priority: parsed("priority", self.priority.map(RawValue::get), priority)?.or(base.priority),
            run_at: parsed("run_at", self.run_at.as_deref(), parse_when)?.or(base.run_at),
            max_attempts,
            backoff: parsed("backoff", self.backoff.map(RawValue::get), parse_backoff)?
                .or_else(|| base.backoff.clone()),
            timeout: parsed("timeout", self.timeout.as_deref(), parse_timeout)?.or(base.timeout),
            expires_at: parsed("expires_at", self.expires_at.as_deref(), parse_when)?.or(base.expires_at),
            unique_key: self.unique_key,
            group_key: self.group_key.or_else(|| base.group_key.clone()),
            tags: self.tags.or_else(|| base.tags.clone()),
            meta: raw(self.meta).or_else(|| base.meta.clone()),
        })
    }
}

fn parsed<T>(
    name: &str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    text.map(|text| parse(text).map_err(|problem| format!("{name}: {problem}"))).transpose()
}

/// A number, or a word in quotes.
fn priority(text: &str) -> Result<i16, String> {
    parse_priority(&serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_the_command_line_does_not() {
        let base = NewJob { kind: "a".into(), payload: "{}".into(), priority: Some(3), ..NewJob::default() };
        let job = Row::read(br#"{"kind": "b", "payload": [1e30], "priority": "high", "tags": ["x"]}"#, &base)
            .expect("a job");
        assert_eq!((job.kind.as_str(), job.payload.as_str(), job.priority), ("b", "[1e30]", Some(2)));
        let job = Row::read(b"{}", &base).expect("a job");
        assert_eq!((job.kind.as_str(), job.payload.as_str(), job.priority), ("a", "{}", Some(3)));
    }

    #[test]
    fn a_faulty_line_names_the_column() {
        let base = NewJob::default();
        for (line, word) in [
            (r"{}", "kind"),
            (r#"{"kind": "a", "priority": -1}"#, "priority"),
            (r#"{"kind": "a", "prio": 1}"#, "unknown field `prio`"),
            (r#"{"kind": "a", "run_at": "soon"}"#, "run_at"),
            (r#"{"kind": "a", "max_attempts": 0}"#, "max_attempts"),
            (r#"{"kind": "a", "backoff": {"type": "fixed"}}"#, "backoff"),
            (r"[1]", "column"),
        ] {
            let fault = Row::read(line.as_bytes(), &base).expect_err(line);
            assert!(fault.contains(word), "{fault}");
        }
    }
}
