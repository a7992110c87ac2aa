//! Tells failures that are the same from those that are not: a short hash of what does not differ from job to job.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::FailureClass;

/// Bytes of the hash that are kept; with 48 bits, a million sorts of failure make two alike once in 500 databases.
const BYTES: usize = 6;
/// Words after which a number, or a quoted name, is part of what went wrong and not of the case it went wrong for.
const TELLING: [&str; 4] = ["code", "status", "signal", "sqlstate"];
const NAMING: [&str; 9] =
    ["column", "constraint", "function", "index", "relation", "role", "schema", "table", "type"];
/// Numbers longer than that are no codes.
const CODE_CHARS_MAX: usize = 5;

/// Twelve hexadecimal digits that are the same for failures of one kind and class whose messages differ only in
/// numbers, ids, times, addresses, paths and quoted values.
///
/// Stable: SQL computes the same for lost workers and expired jobs, whose class says all, so that their message
/// does not count.
pub fn fingerprint(kind: &str, class: FailureClass, message: &str) -> String {
    let shape = match class {
        FailureClass::LostWorker | FailureClass::Expired => String::new(),
        _ => shape(message),
    };
    let hash = Sha256::digest(format!("{kind}\n{}\n{shape}", class.as_str()));
    hash[..BYTES].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The message without what differs from job to job: `#` stands for numbers and ids, `?` for other values.
fn shape(message: &str) -> String {
    let mut shape: Vec<String> = Vec::new();
    for word in without_quotes(message).split_whitespace() {
        let before = shape.last().map(|word| bare(word).to_ascii_lowercase()).unwrap_or_default();
        let core = bare(word);
        let word = if TELLING.contains(&before.as_str()) && core.len() <= CODE_CHARS_MAX {
            word.to_owned()
        } else if is_place(core) {
            word.replacen(core, "?", 1)
        } else if is_uuid(core) {
            word.replacen(core, "#", 1)
        } else {
            without_numbers(word)
        };
        // A list of numbers, and a date with its time, are one value.
        if is_value(&word) && shape.last().is_some_and(|last| is_value(last)) {
            continue;
        }
        shape.push(word);
    }
    shape.join(" ")
}

/// A word without the marks around it.
fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric() && !matches!(c, '/' | '?' | '#' | '~' | '\\'))
}

/// Nothing but numbers and marks.
fn is_value(word: &str) -> bool {
    word.contains('#') && !word.chars().any(char::is_alphanumeric)
}

/// A URL, an address of mail, a path.
fn is_place(word: &str) -> bool {
    let slashes = word.matches(['/', '\\']).count();
    word.contains("://")
        || (word.contains('@') && word.len() > 2)
        || (word.starts_with(['/', '~']) && slashes > 0 && word.len() > 1)
        || slashes > 1
}

fn is_uuid(word: &str) -> bool {
    let parts: Vec<&str> = word.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// With `#` for every run of letters and digits that has a digit in it, or is a long hexadecimal number without one;
/// what only marks divide is one number: a time, a version, an address.
fn without_numbers(word: &str) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let in_run = |c: char| c.is_alphanumeric() || c == '_';
        let words = in_run(first);
        let end = rest.find(|c| in_run(c) != words).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        rest = after;
        let number = words
            && (part.chars().any(char::is_numeric)
                || (part.len() >= 8 && part.chars().all(|c| c.is_ascii_hexdigit())));
        if !number {
            out.push_str(part);
            continue;
        }
        if let Some(at) = out.rfind('#')
            && !out[at..].chars().any(char::is_alphanumeric)
        {
            out.truncate(at);
        }
        out.push('#');
    }
    out
}

/// With `?` for what stands in quotation marks, but for the names of columns, constraints and the like.
fn without_quotes(message: &str) -> String {
    let mut out = String::new();
    let mut rest = message;
    while let Some(at) = rest.find(['"', '\'', '`', '“', '«']) {
        let (before, quoted) = rest.split_at(at);
        out.push_str(before);
        let open = quoted.chars().next().expect("found");
        let close = match open {
            '“' => '”',
            '«' => '»',
            other => other,
        };
        let inside = &quoted[open.len_utf8()..];
        // An apostrophe in a word opens nothing, and closes nothing.
        let in_word = out.ends_with(char::is_alphanumeric);
        let ends = inside
            .match_indices(close)
            .map(|(end, _)| end)
            .find(|end| open != '\'' || !inside[end + close.len_utf8()..].starts_with(char::is_alphanumeric));
        match ends {
            Some(end) if !(open == '\'' && in_word) => {
                let word = out.split_whitespace().next_back().unwrap_or_default().to_ascii_lowercase();
                out.push_str(if NAMING.contains(&word.as_str()) { &inside[..end] } else { "?" });
                rest = &inside[end + close.len_utf8()..];
            }
            _ => {
                out.push(open);
                rest = inside;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(message: &str) -> String {
        fingerprint("k", FailureClass::Error, message)
    }

    #[test]
    fn what_differs_from_job_to_job_makes_no_difference() {
        for (one, other) in [
            ("timed out after 300ms", "timed out after 1.5s"),
            ("user 17 has no order 4", "user 9 has no order 1234567"),
            ("no row f47ac10b-58cc-4372-a567-0e02b2c3d479", "no row abcdefab-cdef-abcd-efab-cdefabcdefab"),
            ("at 2026-01-02T03:04:05.678Z: late", "at 2031-11-12T13:14:15Z: late"),
            ("at 2026-01-02 03:04:05: late", "at 2031-11-12 13:14:15.5: late"),
            ("connect to 10.0.0.1:5432 refused", "connect to 192.168.17.250:80 refused"),
            ("connect to [fe80::1]:80 refused", "connect to [2001:db8::7]:443 refused"),
            ("GET https://a.example/x?y=1: reset", "GET http://b.example/: reset"),
            ("cannot open /tmp/a/b.txt: no such file", "cannot open /var/lib/c: no such file"),
            (
                r#"invalid input syntax for type integer: "abc""#,
                r#"invalid input syntax for type integer: "x y""#,
            ),
            ("it's no good: 'a'", "it's no good: 'bc d'"),
            ("mail to a@example.org bounced", "mail to bob.b@example.com bounced"),
            ("pointer 0xdeadbeef, token deadbeef", "pointer 0x1f, token cafebabe01"),
            ("rows [1, 2, 3] failed", "rows [7, 8] failed"),
        ] {
            assert_eq!(of(one), of(other), "{:?} {:?}", shape(one), shape(other));
        }
    }

    #[test]
    fn what_went_wrong_does_make_one() {
        for (one, other) in [
            ("connection refused", "connection reset"),
            ("ended with exit code 1", "ended with exit code 3"),
            ("ended by signal 9", "ended by signal 11"),
            ("no (SQLSTATE 23505)", "no (SQLSTATE 23503)"),
            (r#"column "name" does not exist"#, r#"column "size" does not exist"#),
            ("503 Service Unavailable", "502 Bad Gateway"),
        ] {
            assert_ne!(of(one), of(other), "{:?}", shape(one));
        }
        assert_ne!(of("x"), fingerprint("other", FailureClass::Error, "x"), "the kind");
        assert_ne!(of("x"), fingerprint("k", FailureClass::Panic, "x"), "the class");
    }

    #[test]
    fn a_fingerprint_stays_what_it_is() {
        // Dead letters keep theirs for months: a change here splits their groups in two.
        assert_eq!(of("timed out after 300ms").len(), 2 * BYTES);
        assert_eq!(shape("POST http://a/b: 503, try 2 of 5"), "POST ?: #, try # of #");
        let lost = |message| fingerprint("k", FailureClass::LostWorker, message);
        assert_eq!(lost("its worker was lost: a, id 1"), lost(""));
    }

    proptest! {
        #[test]
        fn other_numbers_and_ids_leave_it_the_same(
            words in proptest::collection::vec("[g-z]{3,9}", 1..6),
            a in any::<u64>(), b in any::<u64>(), id in any::<u128>(), other in any::<u128>(),
        ) {
            let text = |number: u64, id: u128| {
                let hex = format!("{id:032x}");
                let uuid = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
                format!("{} {number} ({uuid}), {}: '{number}'", words.join(" "), words[0])
            };
            prop_assert_eq!(of(&text(a, id)), of(&text(b, other)));
        }

        #[test]
        fn other_words_make_another_one(
            one in proptest::collection::vec("[g-z]{3,9}", 1..6),
            other in proptest::collection::vec("[g-z]{3,9}", 1..6),
        ) {
            prop_assume!(one != other);
            prop_assert_ne!(of(&one.join(" ")), of(&other.join(" ")));
        }

        #[test]
        fn any_text_has_one(text in ".{0,200}") {
            prop_assert_eq!(of(&text), of(&text));
        }
    }
}
