//! What can be kept as a result: which JSON Postgres takes as `jsonb`, and how much of it.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// The bytes of a result that are kept unless the handler's settings say otherwise.
pub const RESULT_BYTES_MAX_DEFAULT: usize = 1024 * 1024;

/// The longest number kept as a number. `jsonb` takes 16,383 digits after the point, and fails above.
const NUMBER_BYTES_MAX: usize = 1000;
/// The longest exponent, sign included; -999 is well inside `jsonb`'s range, -20000 is outside.
const EXPONENT_BYTES_MAX: usize = 4;

/// The text without blanks around it if it is JSON that `jsonb` takes.
pub(crate) fn storable(text: &str) -> Option<&str> {
    let json = text.trim_ascii();
    serde_json::from_str::<Storable>(json).ok()?;
    numbers_fit(json).then_some(json)
}

/// Says whether valid JSON has only numbers in `jsonb`'s range; those too large for a float were refused before.
fn numbers_fit(json: &str) -> bool {
    let (mut in_string, mut escaped, mut in_exponent) = (false, false, false);
    let (mut number, mut exponent) = (0, 0);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'0'..=b'9' | b'-' | b'+' | b'.' => {
                number += 1;
                exponent += usize::from(in_exponent);
            }
            b'e' | b'E' if number > 0 => in_exponent = true,
            _ => (number, exponent, in_exponent) = (0, 0, false),
        }
        if number > NUMBER_BYTES_MAX || exponent > EXPONENT_BYTES_MAX {
            return false;
        }
    }
    true
}

/// Reads any JSON and keeps nothing, but refuses what serde takes and `jsonb` does not: `\u0000` in a text.
///
/// Lone surrogates, numbers beyond a float and more than 128 levels are refused by `serde_json` itself.
struct Storable;

impl<'de> Deserialize<'de> for Storable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Storable {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without \\u0000")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self, E> {
        if text.contains('\0') { Err(E::custom("NUL in a text")) } else { Ok(self) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_taken_without_the_blanks_around_it_unless_jsonb_would_refuse_it() {
        assert_eq!(storable(" {\"a\": [1, 1e-400]}\n"), Some("{\"a\": [1, 1e-400]}"));
        for refused in ["", "{", r#"["\u0000"]"#, r#"{"\ud800": 1}"#, "1e400", "1e-20000"] {
            assert_eq!(storable(refused), None, "{refused}");
        }
    }
}
