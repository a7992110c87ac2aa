//! The lines that worker and child exchange, as `docs/protocol.md` describes them. Pure: no pipes, no state.
//!
//! What a child writes is foreign. Nothing in it is believed but what this file can read, and what it cannot read
//! is a [`Rubbish`] with words for the author of the child.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::context::PROGRESS_BYTES_MAX;
use super::super::output::Head;
use crate::storable::storable;
use crate::text::{printable, truncated};
use crate::{Failure, Job, JobId, Outcome, Success};

/// The version of the protocol that this worker speaks; children find it in `ROWCREW_PROTOCOL`.
pub(super) const VERSION: u32 = 1;
/// Jobs that one child may have in hand at most; more of them would make its death too costly.
pub(super) const CONCURRENCY_MAX: usize = 1_000;
/// The largest number that every language's JSON reads exactly (2^53 - 1). Larger ids travel as strings.
const EXACT_MAX: u64 = (1 << 53) - 1;
/// What a progress report gains when it is cut: words around it, and an escape for each sign of its text at worst.
const OVER_LIMIT_BYTES: usize = PROGRESS_BYTES_MAX / 2 + 100;
/// How much of a line that cannot be read is repeated in the error.
const QUOTED_BYTES_MAX: usize = 200;

/// What a child said in one line.
#[derive(Debug)]
pub(super) enum Said {
    /// It has started, and says something of itself.
    Ready(Ready),
    /// How far a job is: JSON that can be stored.
    Progress(JobId, Box<RawValue>),
    /// How a job ended.
    Ended(JobId, Outcome),
}

/// What a child says of itself.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(super) struct Ready {
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    /// The version of the protocol it was written for.
    protocol: Option<u32>,
    /// Jobs it can have in hand at once.
    pub(super) concurrency: Option<usize>,
    /// Whether it understands the line that cancels a job.
    #[serde(default)]
    pub(super) cancel: bool,
}

/// A line that cannot be understood: words that go on behind "the child".
#[derive(Debug, PartialEq)]
pub(super) struct Rubbish(pub(super) String);

/// A line as it is written; which keys are there says what it is.
#[derive(Deserialize)]
struct Line<'a> {
    id: Option<Id>,
    #[serde(default, borrow, deserialize_with = "given")]
    ok: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "given")]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<Cow<'a, str>>,
    retry: Option<bool>,
    after_ms: Option<f64>,
    snooze_ms: Option<f64>,
    #[serde(default, borrow, deserialize_with = "given")]
    progress: Option<&'a RawValue>,
    ready: Option<Ready>,
}

/// Writes the line that gives a job to a child.
pub(super) fn job_line(job: &Job, time_left: Duration, line: &mut Vec<u8>) {
    open(job.id, line);
    text_field("kind", &job.kind, line);
    text_field("queue", &job.queue, line);
    let _ = write!(line, r#","attempt":{},"timeout_ms":{}"#, job.attempt, time_left.as_millis());
    if let Some(traceparent) = &job.traceparent {
        text_field("traceparent", traceparent, line);
    }
    line.extend_from_slice(br#","payload":"#);
    let start = line.len();
    line.extend_from_slice(job.payload.as_bytes());
    // Between two words of JSON a line's end is a blank, and inside of a string there is none.
    line[start..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    line.extend_from_slice(b"}\n");
}

/// Writes the line that asks a child to give a job up.
pub(super) fn cancel_line(id: JobId, line: &mut Vec<u8>) {
    open(id, line);
    line.extend_from_slice(b",\"cancel\":true}\n");
}

fn open(id: JobId, line: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = if id.unsigned_abs() > EXACT_MAX {
        write!(line, r#"{{"id":"{id}""#)
    } else {
        write!(line, r#"{{"id":{id}"#)
    };
}

fn text_field(name: &str, text: &str, line: &mut Vec<u8>) {
    let _ = write!(line, r#","{name}":"#);
    let _ = text.serialize(&mut serde_json::Serializer::new(line));
}

/// Reads one line of a child; `None` for a blank one.
pub(super) fn read(line: &[u8], result_bytes_max: usize) -> Result<Option<Said>, Rubbish> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(None);
    }
    understand(line, result_bytes_max).map(Some).map_err(|why| {
        let quoted = truncated(&printable(line), QUOTED_BYTES_MAX);
        Rubbish(format!("wrote a line that is no answer ({why}): `{quoted}`"))
    })
}

fn understand(line: &[u8], result_bytes_max: usize) -> Result<Said, Cow<'static, str>> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|fault| match fault.classify() {
        serde_json::error::Category::Data => Cow::from(fault.to_string()),
        _ => {
            Cow::from("not JSON; standard output is for answers alone, print other things to standard error")
        }
    })?;
    if let Some(ready) = line.ready {
        return ready.checked().map(Said::Ready);
    }
    let Some(Id(id)) = line.id else { return Err("it has no id".into()) };
    Ok(match (line.ok, line.error, line.progress, line.snooze_ms) {
        (Some(ok), None, None, None) if ok.get() == "false" => {
            let why = "it answered \"ok\": false, and no \"error\" that says what went wrong";
            Said::Ended(id, Err(Failure::retry(why)))
        }
        (Some(ok), None, None, None) => {
            Said::Ended(id, Ok(Success::Done(result(ok.get(), result_bytes_max))))
        }
        (ok, Some(error), None, None) if ok.is_none_or(|ok| ok.get() == "false") => {
            Said::Ended(id, Err(failure(error.get(), line.detail, line.retry, line.after_ms)?))
        }
        (None, None, Some(progress), None) => Said::Progress(id, report(progress.get())),
        (None, None, None, Some(ms)) => Said::Ended(id, Ok(Success::Snooze(millis("snooze_ms", ms)?))),
        _ => return Err("an answer has one of ok, error, progress, snooze_ms".into()),
    })
}

impl Ready {
    fn checked(self) -> Result<Self, Cow<'static, str>> {
        if let Some(other) = self.protocol.filter(|version| *version != VERSION) {
            return Err(
                format!("it was written for version {other} of the protocol; this is {VERSION}").into()
            );
        }
        if self.concurrency.is_some_and(|jobs| !(1..=CONCURRENCY_MAX).contains(&jobs)) {
            return Err(format!("ready.concurrency: expected 1 to {CONCURRENCY_MAX}").into());
        }
        Ok(self)
    }
}

fn result(json: &str, max: usize) -> Option<String> {
    if json == "null" {
        return None;
    }
    if json.len() <= max
        && let Some(kept) = storable(json)
    {
        return Some(kept.to_owned());
    }
    let mut head = Head::new(max);
    head.push(json.as_bytes());
    head.into_result(Some(json.len() as u64))
}

/// As a result: what the database would not take becomes text, and too much of it says so.
fn report(json: &str) -> Box<RawValue> {
    let json = result(json, PROGRESS_BYTES_MAX - OVER_LIMIT_BYTES).unwrap_or_else(|| "null".to_owned());
    RawValue::from_string(json).unwrap_or_default()
}

fn failure(
    error: &str,
    detail: Option<Cow<'_, str>>,
    retry: Option<bool>,
    after_ms: Option<f64>,
) -> Result<Failure, Cow<'static, str>> {
    let message = serde_json::from_str::<String>(error).unwrap_or_else(|_| error.to_owned());
    let failure = match (retry, after_ms) {
        (Some(false), _) => Failure::bury(message),
        (_, Some(ms)) => Failure::retry_after(millis("after_ms", ms)?, message),
        _ => Failure::retry(message),
    };
    Ok(failure.with_detail(detail.unwrap_or_default()))
}

fn millis(name: &str, ms: f64) -> Result<Duration, Cow<'static, str>> {
    Duration::try_from_secs_f64(ms / 1e3)
        .map_err(|_| format!("{name}: expected milliseconds, 0 or more").into())
}

/// So that a key whose value is `null` is told from one that is not there.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// A job's id: a number, or a string of digits where a language's numbers are not exact.
struct Id(JobId);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IdVisitor)
    }
}

struct IdVisitor;

impl Visitor<'_> for IdVisitor {
    type Value = Id;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the id of a job")
    }

    fn visit_i64<E>(self, id: i64) -> Result<Id, E> {
        Ok(Id(id))
    }

    fn visit_u64<E: de::Error>(self, id: u64) -> Result<Id, E> {
        JobId::try_from(id).map(Id).map_err(E::custom)
    }

    /// Lua, and others whose only number is a float, write 42.0.
    fn visit_f64<E: de::Error>(self, id: f64) -> Result<Id, E> {
        let exact = id.fract() == 0.0 && id.abs() <= EXACT_MAX as f64;
        exact.then_some(Id(id as JobId)).ok_or_else(|| E::invalid_value(de::Unexpected::Float(id), &self))
    }

    fn visit_str<E: de::Error>(self, id: &str) -> Result<Id, E> {
        id.parse().map(Id).map_err(|_| E::invalid_value(de::Unexpected::Str(id), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::job;
    use super::*;
    use crate::{FailureClass, Verdict};

    fn said(line: &str) -> Result<Option<Said>, Rubbish> {
        read(line.as_bytes(), 100)
    }

    fn ended(line: &str) -> Outcome {
        match said(line) {
            Ok(Some(Said::Ended(7, outcome))) => outcome,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn ready(line: &str) -> Ready {
        match said(line) {
            Ok(Some(Said::Ready(ready))) => ready,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn progress(line: &str) -> String {
        match said(line) {
            Ok(Some(Said::Progress(7, json))) => json.get().to_owned(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_job_is_one_line_of_json() {
        let mut line = Vec::new();
        let mut job = job("{\"a\":\n[1]}");
        job.kind = "a\"b\n".into();
        job.traceparent = Some("00-1-2-01".into());
        job_line(&job, Duration::from_millis(1500), &mut line);
        job.id = i64::MAX;
        cancel_line(42, &mut line);
        cancel_line(i64::MAX, &mut line);
        let text = String::from_utf8(line).expect("text");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                r#"{"id":42,"kind":"a\"b\n","queue":"default","attempt":1,"timeout_ms":1500,"traceparent":"00-1-2-01","payload":{"a": [1]}}"#,
                r#"{"id":42,"cancel":true}"#,
                r#"{"id":"9223372036854775807","cancel":true}"#,
            ]
        );
        for line in lines {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        }
    }

    #[test]
    fn an_answer_ends_its_job_as_it_says() {
        let done = |result: &str| Ok(Success::Done(Some(result.to_owned())));
        assert_eq!(ended(r#"{"id":7,"ok":{"a": 1}}"#), done(r#"{"a": 1}"#));
        assert_eq!(ended(r#" {"ok":true , "id":"7", "more":[]}"#), done("true"));
        assert_eq!(
            ended("{\"id\":7.0,\"ok\":\"a\\u0000\"}"),
            done(r#""\"a\\u0000\"""#),
            "what jsonb refuses"
        );
        assert_eq!(ended(r#"{"id":7,"ok":null}"#), Ok(Success::Done(None)));
        assert_eq!(ended(r#"{"id":7,"snooze_ms":1.5e3}"#), Ok(Success::Snooze(Duration::from_millis(1500))));
        let long = format!(r#"{{"id":7,"ok":"{}"}}"#, "x".repeat(200));
        assert!(
            ended(&long)
                .is_ok_and(|s| matches!(s, Success::Done(Some(r)) if r.contains("\"truncated\":true")))
        );
        for (line, message, detail, verdict) in [
            (r#"{"id":7,"error":"no"}"#, "no", None, Verdict::Retry),
            (r#"{"id":7,"ok":false,"error":"no"}"#, "no", None, Verdict::Retry),
            (r#"{"id":7,"error":{"code":1},"detail":"at x"}"#, r#"{"code":1}"#, Some("at x"), Verdict::Retry),
            (r#"{"id":7,"error":"no","retry":false,"after_ms":5}"#, "no", None, Verdict::Bury),
            (
                r#"{"id":7,"error":"no","retry":true,"after_ms":5}"#,
                "no",
                None,
                Verdict::RetryAfter(Duration::from_millis(5)),
            ),
        ] {
            let failure = ended(line).expect_err(line);
            assert_eq!((failure.message.as_str(), failure.detail.as_deref()), (message, detail), "{line}");
            assert_eq!((failure.class, failure.verdict), (FailureClass::Error, verdict), "{line}");
        }
        assert!(ended(r#"{"id":7,"ok":false}"#).is_err_and(|f| f.message.contains("no \"error\"")));
    }

    #[test]
    fn what_is_no_answer_is_refused_with_a_reason() {
        assert!(matches!(said(" \r"), Ok(None)));
        for (line, why) in [
            ("hello", "not JSON"),
            ("{\"id\":7,\"ok\":1} x", "not JSON"),
            ("[7]", "invalid"),
            (r#"{"id":7}"#, "one of ok, error, progress, snooze_ms"),
            (r#"{"id":7,"ok":1,"error":"x"}"#, "one of ok, error"),
            (r#"{"ok":1}"#, "it has no id"),
            (r#"{"id":7.5,"ok":1}"#, "the id of a job"),
            (r#"{"id":"x","ok":1}"#, "the id of a job"),
            (r#"{"id":18446744073709551615,"ok":1}"#, "out of range"),
            (r#"{"id":7,"ok":1,"ok":2}"#, "duplicate field"),
            (r#"{"id":7,"error":"x","retry":"no"}"#, "expected a boolean"),
            (r#"{"id":7,"error":"x","after_ms":-1}"#, "after_ms: expected milliseconds"),
            (r#"{"id":7,"snooze_ms":1e300}"#, "snooze_ms: expected milliseconds"),
            (r#"{"ready":{"protocol":2}}"#, "version 2 of the protocol; this is 1"),
            (r#"{"ready":{"concurrency":0}}"#, "expected 1 to 1000"),
        ] {
            let rubbish = said(line).expect_err(line);
            assert!(rubbish.0.contains(why) && rubbish.0.contains(&format!("`{line}`")), "{}", rubbish.0);
        }
        let rubbish = said(&"x".repeat(5000)).expect_err("long");
        assert!(rubbish.0.len() < 400);
    }

    #[test]
    fn a_child_says_something_of_itself_or_of_the_way_a_job_has_gone() {
        let all = Ready { name: Some("n".into()), concurrency: Some(5), cancel: true, ..Ready::default() };
        assert_eq!(ready(r#"{"ready":{"name":"n","concurrency":5,"cancel":true}}"#), all);
        assert_eq!(ready(r#"{"ready":{}}"#), Ready::default());
        assert_eq!(progress(r#"{"id":7,"progress":{"done": 3}}"#), r#"{"done": 3}"#);
        assert_eq!(progress(r#"{"id":7,"progress":null}"#), "null");
        assert_eq!(progress("{\"id\":7,\"progress\":\"\\u0000\"}"), r#""\"\\u0000\"""#);
        let long = progress(&format!(r#"{{"id":7,"progress":"{}"}}"#, "\\\"".repeat(20_000)));
        assert!(long.len() <= PROGRESS_BYTES_MAX && long.contains("\"truncated\":true"), "{}", long.len());
    }
}
