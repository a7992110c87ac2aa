//! The command line of a job: the words of the configuration, with fields of the payload in their places.
//!
//! Nothing a payload holds makes two words out of one, or an option out of a value, or reaches a shell.

use std::collections::HashMap;
use std::fmt;

use serde_json::value::RawValue;

/// Linux takes no longer word, its final NUL included.
const WORD_BYTES_MAX: usize = 128 * 1024 - 1;
const BEGIN: &str = "{payload.";
/// After a field's name: its value may begin with `-`.
const DASH: &str = ":dash";

/// One word of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// Passed as it is.
    Fixed(String),
    /// The value of a field of the payload.
    Field {
        /// The names on the way from the top of the payload.
        path: Vec<String>,
        may_begin_with_dash: bool,
    },
}

/// Why a payload makes no command line. It says nothing of the value, which may be a secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    field: String,
    why: &'static str,
}

impl Word {
    /// Reads a word of the configuration.
    pub(super) fn parse(word: &str) -> Result<Self, String> {
        if word.contains('\0') {
            return Err(format!("command: {word:?} contains NUL"));
        }
        if !word.contains(BEGIN) {
            return Ok(Self::Fixed(word.to_owned()));
        }
        let inner = word.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix('}'));
        let inner = inner.filter(|inner| !inner.contains(['{', '}']));
        let inner = inner.ok_or_else(|| {
            format!("command: {word:?}: a field of the payload is a whole argument, as \"{{payload.width}}\"")
        })?;
        let (path, may_begin_with_dash) = match inner.strip_suffix(DASH) {
            Some(path) => (path, true),
            None => (inner, false),
        };
        let path: Vec<_> = path.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(format!("command: {word:?} has an empty name"));
        }
        Ok(Self::Field { path, may_begin_with_dash })
    }

    /// The argument that this word is for a job with this payload.
    fn for_payload(&self, payload: &str) -> Result<String, Unfit> {
        let (path, may_begin_with_dash) = match self {
            Self::Fixed(word) => return Ok(word.clone()),
            Self::Field { path, may_begin_with_dash } => (path, *may_begin_with_dash),
        };
        let unfit = |why| Unfit { field: path.join("."), why };
        let value = field(payload, path).ok_or_else(|| unfit("is missing"))?;
        let text = match value.as_bytes().first() {
            Some(b'"') => serde_json::from_str(value).map_err(|_| unfit("is no valid text"))?,
            Some(b'{' | b'[') => {
                return Err(unfit("is a list or an object: expected a text, a number or a boolean"));
            }
            Some(b'n') | None => return Err(unfit("is null")),
            // Numbers as they were written: no digit is lost.
            Some(_) => value.to_owned(),
        };
        if text.starts_with('-') && !may_begin_with_dash {
            return Err(unfit("begins with `-`, and might be taken for an option"));
        }
        if text.contains('\0') {
            return Err(unfit("contains NUL"));
        }
        if text.len() > WORD_BYTES_MAX {
            return Err(unfit(
                "is longer than 131071 bytes, the most an argument may have: read it from stdin",
            ));
        }
        Ok(text)
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the payload's field {:?} {}", self.field, self.why)
    }
}

/// The arguments for a job with this payload.
pub(super) fn argv(words: &[Word], payload: &str) -> Result<Vec<String>, Unfit> {
    words.iter().map(|word| word.for_payload(payload)).collect()
}

/// The JSON text of a field; of two with one name the last counts, as in Postgres.
fn field<'a>(mut json: &'a str, path: &[String]) -> Option<&'a str> {
    for name in path {
        let object: HashMap<String, &'a RawValue> = serde_json::from_str(json).ok()?;
        json = object.get(name)?.get();
    }
    Some(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(words: &[&str]) -> Vec<Word> {
        words.iter().map(|word| Word::parse(word).expect("a word")).collect()
    }

    fn one(word: &str, payload: &str) -> Result<String, String> {
        argv(&words(&[word]), payload).map(|argv| argv[0].clone()).map_err(|unfit| unfit.to_string())
    }

    #[test]
    fn a_field_of_the_payload_is_one_argument() {
        let payload =
            r#"{"a": {"b": "x y; $(id)"}, "n": 12345678901234567890.50, "t": true, "e": "", "a.b": 1}"#;
        for (word, expected) in [
            ("{payload.a.b}", "x y; $(id)"),
            ("{payload.n}", "12345678901234567890.50"),
            ("{payload.t}", "true"),
            ("{payload.e}", ""),
            ("{}", "{}"),
            ("{payload}", "{payload}"),
        ] {
            assert_eq!(one(word, payload).as_deref(), Ok(expected), "{word}");
        }
    }

    #[test]
    fn a_payload_that_does_not_fit_is_explained_without_its_value() {
        let long = format!(r#"{{"a": "{}"}}"#, "x".repeat(WORD_BYTES_MAX + 1));
        for (payload, why) in [
            ("{}", "is missing"),
            (r#"["a"]"#, "is missing"),
            (r#"{"a": null}"#, "is null"),
            (r#"{"a": ["hunter2"]}"#, "is a list"),
            (r#"{"a": "--hunter2"}"#, "begins with `-`"),
            (r#"{"a": -5}"#, "begins with `-`"),
            (r#"{"a": "hunter2\u0000"}"#, "contains NUL"),
            (&long, "longer than"),
        ] {
            let unfit = one("{payload.a}", payload).expect_err(payload);
            assert!(unfit.contains("\"a\"") && unfit.contains(why) && !unfit.contains("hunter2"), "{unfit}");
        }
        assert_eq!(one("{payload.a:dash}", r#"{"a": -5}"#).as_deref(), Ok("-5"));
    }

    #[test]
    fn a_placeholder_that_is_no_whole_argument_is_refused() {
        for word in
            ["--size={payload.a}", "{payload.a}x", "{payload.a}{payload.b}", "{payload.}", "{payload.a..b}"]
        {
            assert!(Word::parse(word).is_err(), "{word}");
        }
    }

    /// What shells, parsers and option readers trip over, among any text.
    fn nasty() -> impl Strategy<Value = String> {
        let pieces = [
            "\0",
            "\n",
            "$(id)",
            "`id`",
            ";",
            "--flag",
            "-",
            "'",
            "\"",
            "\\",
            "*",
            "é",
            "\u{1F600}",
            " ",
            "{payload.b}",
        ];
        let piece = prop_oneof![proptest::sample::select(pieces.to_vec()).prop_map(str::to_owned), ".{0,6}"];
        proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn no_payload_changes_the_number_or_the_places_of_arguments(a in nasty(), b in nasty()) {
            let payload = serde_json::json!({ "a": a, "b": b, "c": a }).to_string();
            let words = words(&["convert", "{payload.a}", "--", "{payload.b:dash}"]);
            match argv(&words, &payload) {
                Ok(argv) => {
                    prop_assert!(!a.starts_with('-') && !a.contains('\0') && !b.contains('\0'));
                    prop_assert_eq!(argv, ["convert", &a, "--", &b]);
                }
                Err(_) => prop_assert!(a.starts_with('-') || a.contains('\0') || b.contains('\0')),
            }
        }
    }
}
