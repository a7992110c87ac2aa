//! Reads single values as what they are meant to be.

use std::time::Duration;

use super::params::{Params, UrlError};

/// The longest time that a parameter may ask for; a longer one is almost surely a slip of units.
const SECONDS_MAX: u64 = 24 * 3600;

/// What a word stands for, if it is one of these.
pub(super) fn one_of<T: Copy>(words: &[(&str, T)], word: &str) -> Option<T> {
    words.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
}

/// `true` or `false`, the second if not given.
pub(super) fn flag(params: &mut Params, name: &'static str) -> Result<bool, UrlError> {
    let words = [("true", true), ("1", true), ("on", true), ("false", false), ("0", false), ("off", false)];
    match params.take(name) {
        None => Ok(false),
        Some(word) => one_of(&words, &word).ok_or(UrlError::Value { name, expected: "true or false" }),
    }
}

/// A number above zero; zero counts as not given.
pub(super) fn number(
    params: &mut Params,
    name: &'static str,
    max: u64,
    expected: &'static str,
) -> Result<Option<u64>, UrlError> {
    match params.take(name).map(|digits| digits.parse::<u64>()) {
        None | Some(Ok(0)) => Ok(None),
        Some(Ok(number)) if number <= max => Ok(Some(number)),
        Some(_) => Err(UrlError::Value { name, expected }),
    }
}

/// A time in whole units; zero counts as not given.
pub(super) fn duration(
    params: &mut Params,
    name: &'static str,
    unit: Duration,
) -> Result<Option<Duration>, UrlError> {
    let per_second = (1000 / unit.as_millis()) as u64;
    let expected = if per_second == 1 { "0 to 86400 (seconds)" } else { "0 to 86400000 (milliseconds)" };
    let count = number(params, name, SECONDS_MAX * per_second, expected)?;
    Ok(count.map(|count| unit * count as u32))
}
