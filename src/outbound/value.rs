//! Takes a field out of a payload, and makes it safe to stand in a URL.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The text of a string, a number (with all its digits), or a truth value, under a path like `user.id`.
pub(super) fn field(payload: &str, path: &[String]) -> Result<String, String> {
    // Borrowed text cannot hold escapes, owned text can.
    #[derive(Deserialize)]
    struct Object<'a>(#[serde(borrow)] HashMap<Cow<'a, str>, &'a RawValue>);

    let name = path.join(".");
    let missing = || format!("the payload has no field {name}");
    let mut at = payload;
    for key in path {
        let Object(fields) = serde_json::from_str(at).map_err(|_| missing())?;
        at = fields.get(key.as_str()).map(|raw| raw.get()).ok_or_else(missing)?;
    }
    match at.as_bytes().first() {
        Some(b'"') => serde_json::from_str(at).map_err(|_| missing()),
        Some(b'{' | b'[') => {
            Err(format!("the payload's field {name} is an object or a list: expected a text or a number"))
        }
        Some(b'n') | None => Err(format!("the payload's field {name} is null")),
        Some(_) => Ok(at.to_owned()),
    }
}

/// Where in a URL a field stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In one part between two dots of the host.
    Host,
    /// In the path.
    Path,
    /// Behind the `?`.
    Query,
}

/// The value as it may stand there; only letters, digits and `-_.~` are left as they are.
pub(super) fn escaped(value: &str, place: Place) -> Result<String, &'static str> {
    if value.is_empty() && place != Place::Query {
        return Err("is empty");
    }
    if value.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    match place {
        Place::Host => {
            let plain = value.len() <= 63
                && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !value.starts_with('-')
                && !value.ends_with('-');
            return if plain { Ok(value.to_owned()) } else { Err("is no part of a host's name") };
        }
        // Many servers decode these before they look at the path: escaped, they would still climb out of it.
        Place::Path if value.contains(['/', '\\']) => return Err("holds / or \\"),
        Place::Path | Place::Query => {}
    }
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(byte.into());
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(payload: &str, path: &str) -> Result<String, String> {
        field(payload, &path.split('.').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_field_is_a_text_a_number_or_a_truth_value() {
        let payload = r#"{"a": "x\ny", "n": 12345678901234567890123, "t": true, "u": {"i\u0064": 7}, "z": null, "l": [1]}"#;
        assert_eq!(get(payload, "a").as_deref(), Ok("x\ny"));
        assert_eq!(get(payload, "n").as_deref(), Ok("12345678901234567890123"));
        assert_eq!(get(payload, "t").as_deref(), Ok("true"));
        assert_eq!(get(payload, "u.id").as_deref(), Ok("7"));
        for (path, words) in [
            ("b", "has no field b"),
            ("u.x", "has no field u.x"),
            ("a.b", "has no field a.b"),
            ("z", "z is null"),
            ("l", "l is an object or a list"),
            ("u", "u is an object or a list"),
        ] {
            assert!(get(payload, path).expect_err(path).contains(words), "{path}");
        }
        for payload in ["null", "[1]", "\"a\"", "5"] {
            assert!(get(payload, "a").expect_err(payload).contains("has no field a"));
        }
    }
}
