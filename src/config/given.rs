//! One value as it was given, and how it is read as the type that is wanted.
//!
//! Environment variables and flags are text; what they mean is decided here, by the type wanted, and not
//! by their looks: `00123` stays a string where a string is wanted, and is 123 where a number is. A file
//! has types of its own and is held to them.

use std::fmt::Display;
use std::ops::RangeInclusive;

use figment::value::{Dict, Value};

use super::suggest::{did_you_mean, nearest};

/// A value, and whether it is bare text from outside a file.
pub(super) struct Given {
    pub(super) value: Value,
    pub(super) bare: bool,
}

impl Given {
    pub(super) fn text(&self) -> Result<String, String> {
        match &self.value {
            Value::String(_, text) if text.contains('\0') => Err("holds a NUL character".to_owned()),
            Value::String(_, text) => Ok(text.clone()),
            other => Err(mismatch(other, "a string")),
        }
    }

    pub(super) fn whole<T>(&self, range: &RangeInclusive<T>) -> Result<T, String>
    where
        T: TryFrom<i128> + PartialOrd + Display + Copy,
    {
        let expected = || format!("a whole number, {} to {}", range.start(), range.end());
        let number = match &self.value {
            Value::String(_, text) if self.bare => {
                text.trim().parse().map_err(|_| format!("is {text:?}: expected {}", expected()))?
            }
            value => integer(value).ok_or_else(|| mismatch(value, &expected()))?,
        };
        T::try_from(number)
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("is {number}: expected {} to {}", range.start(), range.end()))
    }

    pub(super) fn truth(&self) -> Result<bool, String> {
        match &self.value {
            Value::Bool(_, truth) => Ok(*truth),
            Value::String(_, text) if self.bare => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Ok(true),
                "false" | "no" | "off" | "0" => Ok(false),
                _ => Err(format!("is {text:?}: expected true or false")),
            },
            other => Err(mismatch(other, "true or false")),
        }
    }

    /// What one of a few words stands for.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, String> {
        let word = self.text()?;
        choices.iter().find(|(name, _)| *name == word).map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            let hint = did_you_mean(nearest(&word, names.iter().copied()));
            format!("is {word:?}: expected one of {}{hint}", names.join(", "))
        })
    }

    /// A list of strings; as bare text a TOML array, or words with commas between.
    pub(super) fn list(&self) -> Result<Vec<String>, String> {
        const EXPECTED: &str = "a list of strings";
        let items = match &self.value {
            Value::String(_, text) if self.bare && text.trim_start().starts_with('[') => {
                match toml_value(text) {
                    Some(Value::Array(_, items)) => items,
                    _ => return Err(format!("is not a TOML array: expected {EXPECTED}")),
                }
            }
            Value::String(_, text) if self.bare => {
                return Ok(text.split(',').map(|word| word.trim().to_owned()).collect());
            }
            Value::Array(_, items) => items.clone(),
            other => return Err(mismatch(other, EXPECTED)),
        };
        items
            .into_iter()
            .map(|value| Self { value, bare: false }.text().map_err(|e| format!("has an entry that {e}")))
            .collect()
    }

    /// A table; as bare text a TOML inline table.
    pub(super) fn table(&self) -> Result<Dict, String> {
        match &self.value {
            Value::Dict(_, dict) => Ok(dict.clone()),
            Value::String(_, text) if self.bare => match toml_value(text) {
                Some(Value::Dict(_, dict)) => Ok(dict),
                _ => Err("is a string: expected a table, as { key = \"value\" }".to_owned()),
            },
            other => Err(mismatch(other, "a table")),
        }
    }
}

fn integer(value: &Value) -> Option<i128> {
    let number = value.to_num()?;
    number.to_i128().or_else(|| number.to_u128()?.try_into().ok())
}

/// Reads text as the right-hand side of a TOML assignment.
pub(super) fn toml_value(text: &str) -> Option<Value> {
    toml::from_str::<Dict>(&format!("value = {text}")).ok()?.remove("value")
}

/// Names the type only: the value may be a secret in the wrong place.
fn mismatch(value: &Value, expected: &str) -> String {
    let found = match value {
        Value::String(..) | Value::Char(..) => "a string",
        Value::Bool(..) => "true or false",
        Value::Num(_, number) if number.to_f64().is_some() => "a number with a fraction",
        Value::Num(..) => "a number",
        // How the TOML parser passes a date through serde.
        Value::Dict(_, dict) if dict.contains_key("$__toml_private_datetime") => "a date",
        Value::Dict(..) => "a table",
        Value::Array(..) => "a list",
        Value::Empty(..) => "nothing",
    };
    format!("is {found}: expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(text: &str) -> Given {
        Given { value: text.into(), bare: true }
    }

    #[test]
    fn bare_text_becomes_what_is_wanted_and_never_what_it_looks_like() {
        assert_eq!(bare("00123").text(), Ok("00123".to_owned()));
        assert_eq!(bare("true").text(), Ok("true".to_owned()));
        assert_eq!(bare("00123").whole(&(1..=200)), Ok(123));
        assert_eq!(bare("ON").truth(), Ok(true));
        assert_eq!(bare("a, 1").list(), Ok(vec!["a".to_owned(), "1".to_owned()]));
        assert_eq!(bare(r#"["a,b"]"#).list(), Ok(vec!["a,b".to_owned()]));
    }

    #[test]
    fn a_file_is_held_to_its_types() {
        let given = |text| Given { value: toml_value(text).expect(text), bare: false };
        assert!(given("\"5\"").whole(&(1..=9)).is_err());
        assert!(given("5.0").whole(&(1..=9)).expect_err("a fraction").contains("fraction"));
        assert!(given("5").text().is_err());
        assert_eq!(given("2020-01-01").text(), Err("is a date: expected a string".to_owned()));
        assert!(given("[5]").list().is_err());
        assert!(given("\"a\"").list().is_err());
        assert_eq!(given("-1").whole(&(1..=9_usize)), Err("is -1: expected 1 to 9".to_owned()));
    }
}
