//! Turns what a command printed or a server replied into a job's result.
//!
//! A result must be JSON that Postgres takes as `jsonb`, whatever came in; and it has a limit, because a result is
//! kept in the table next to the queue.

use std::collections::VecDeque;

use serde::Serialize;

pub use crate::storable::RESULT_BYTES_MAX_DEFAULT;
use crate::storable::storable;
use crate::text;

/// The most that settings may ask for; above it a few jobs' results would weigh more than the queue.
pub const RESULT_BYTES_MAX_LIMIT: usize = 64 * 1024 * 1024;

/// Names what is wrong with a limit of results, if anything is.
pub(super) fn check_result_bytes_max(bytes: usize) -> Result<(), String> {
    if bytes > RESULT_BYTES_MAX_LIMIT {
        return Err(format!("result_bytes_max = {bytes}: at most {RESULT_BYTES_MAX_LIMIT} (64 MiB)"));
    }
    Ok(())
}

/// Keeps the beginning of an output and counts the rest.
#[derive(Debug)]
pub(super) struct Head {
    kept: Vec<u8>,
    seen: u64,
    max: usize,
}

/// Keeps the end of an output, where programs say why they failed.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    kept: VecDeque<u8>,
    seen: u64,
    max: usize,
}

/// What a result over the limit becomes.
#[derive(Serialize)]
struct OverLimit<'a> {
    truncated: bool,
    /// Of the whole output, where that is known.
    bytes: Option<u64>,
    text: &'a str,
}

impl Head {
    pub(super) fn new(max: usize) -> Self {
        Self { kept: Vec::new(), seen: 0, max }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.seen += bytes.len() as u64;
        let room = self.max - self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// More came than is kept.
    pub(super) fn is_over(&self) -> bool {
        self.seen > self.max as u64
    }

    /// All bytes that came, kept or not.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// What is kept, as text that can be stored.
    pub(super) fn text(&self) -> String {
        text::printable(&self.kept)
    }

    /// The result as JSON text.
    ///
    /// Nothing but space is no result; JSON stays what it is; anything else becomes a JSON string without the line
    /// ends after it. Too much becomes `{"truncated": true, "bytes": total, "text": "the beginning"}`.
    pub(super) fn into_result(self, total: Option<u64>) -> Option<String> {
        if self.is_over() {
            let text = self.text();
            // The cut may have split a character.
            let text = text.trim_end_matches('\u{FFFD}');
            return json(&OverLimit { truncated: true, bytes: total, text });
        }
        if self.kept.trim_ascii().is_empty() {
            return None;
        }
        match storable_json(&self.kept) {
            Some(value) => Some(value.to_owned()),
            None => json(self.text().trim_end_matches(['\r', '\n'])),
        }
    }
}

impl Tail {
    pub(super) fn new(max: usize) -> Self {
        Self { kept: VecDeque::new(), seen: 0, max }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.seen += bytes.len() as u64;
        let bytes = &bytes[bytes.len().saturating_sub(self.max)..];
        let surplus = (self.kept.len() + bytes.len()).saturating_sub(self.max);
        self.kept.drain(..surplus);
        self.kept.extend(bytes);
    }

    /// What is kept, as text that can be stored; it says how much came before.
    pub(super) fn text(mut self) -> String {
        let before = self.seen - self.kept.len() as u64;
        let text = text::printable(self.kept.make_contiguous());
        if before == 0 { text } else { format!("({before} bytes before) …{text}") }
    }
}

fn json(value: &(impl Serialize + ?Sized)) -> Option<String> {
    // Plain text and numbers always serialize.
    serde_json::to_string(value).ok()
}

/// The bytes as JSON text if `jsonb` takes them.
fn storable_json(bytes: &[u8]) -> Option<&str> {
    storable(str::from_utf8(bytes).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn result(bytes: &[u8], max: usize) -> Option<String> {
        let mut head = Head::new(max);
        for part in bytes.chunks(3) {
            head.push(part);
        }
        let seen = head.seen();
        head.into_result(Some(seen))
    }

    #[test]
    fn json_stays_what_it_is_and_anything_else_becomes_a_string() {
        for (output, expected) in [
            ("", None),
            (" \r\n", None),
            ("{\"a\": [1, null, 1.5e3]}\n", Some("{\"a\": [1, null, 1.5e3]}")),
            ("null", Some("null")),
            ("\"é\"", Some("\"é\"")),
            ("done\n", Some("\"done\"")),
            ("two\nlines\r\n", Some("\"two\\nlines\"")),
            ("{\"a\": 1} {\"a\": 2}", Some("\"{\\\"a\\\": 1} {\\\"a\\\": 2}\"")),
        ] {
            assert_eq!(result(output.as_bytes(), 100).as_deref(), expected, "{output:?}");
        }
    }

    #[test]
    fn json_that_postgres_refuses_becomes_a_string() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        let long = format!("0.{}", "1".repeat(20_000));
        for refused in
            [r#""\u0000""#, r#"{"\u0000": 1}"#, r#"["\ud800"]"#, "1e400", "[1e-20000]", "NaN", &deep, &long]
        {
            let stored = result(refused.as_bytes(), 100_000).expect(refused);
            assert_eq!(serde_json::from_str::<String>(&stored).expect(refused), refused);
        }
        for taken in ["1e-400", "-1.5E+300", r#"{"e": "1e-20000", "\"": "e99999"}"#, "[true,false,12]"] {
            assert_eq!(result(taken.as_bytes(), 100).as_deref(), Some(taken));
        }
    }

    #[test]
    fn foreign_bytes_are_replaced() {
        assert_eq!(result(b"a\0b\xff", 100).as_deref(), Some("\"a\u{FFFD}b\u{FFFD}\""));
    }

    #[test]
    fn a_result_over_the_limit_says_so() {
        assert_eq!(result(b"1234", 4).as_deref(), Some("1234"));
        assert_eq!(
            result("abc€".as_bytes(), 4).as_deref(),
            Some(r#"{"truncated":true,"bytes":6,"text":"abc"}"#)
        );
        assert_eq!(result(b"x", 0).as_deref(), Some(r#"{"truncated":true,"bytes":1,"text":""}"#));
    }

    #[test]
    fn a_tail_says_how_much_came_before() {
        let mut tail = Tail::new(4);
        tail.push(b"ab");
        tail.push(b"cdef");
        tail.push(b"0123456\xff");
        assert_eq!(tail.text(), "(10 bytes before) …456\u{FFFD}");
    }

    proptest! {
        #[test]
        fn whatever_comes_the_result_is_json_without_nul(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            max in 0usize..300,
        ) {
            if let Some(result) = result(&bytes, max) {
                prop_assert!(storable_json(result.as_bytes()).is_some(), "{result}");
            }
        }
    }
}
