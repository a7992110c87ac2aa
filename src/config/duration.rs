//! Lengths of time as people write them: `500ms`, `30s`, `15m`, `2h`, `7d`.

use std::time::Duration;

use serde::{Serialize as _, Serializer};

const UNITS: [(&str, u64); 5] =
    [("d", 24 * 3600 * 1000), ("h", 3600 * 1000), ("m", 60 * 1000), ("s", 1000), ("ms", 1)];

/// Reads a whole number and its unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    UNITS
        .iter()
        .find(|(name, _)| *name == unit.trim_start())
        .and_then(|(_, ms)| number.parse::<u64>().ok()?.checked_mul(*ms))
        .map(Duration::from_millis)
        .ok_or_else(|| {
            format!("is {text:?}: expected a whole number and its unit, as 500ms, 30s, 15m, 2h, 7d")
        })
}

/// Writes what [`parse_duration`] reads, in the largest unit that leaves no fraction.
pub fn format_duration(time: Duration) -> String {
    let ms = time.as_millis();
    let (name, size) = UNITS
        .into_iter()
        .find(|(_, size)| ms != 0 && ms.is_multiple_of(u128::from(*size)))
        .unwrap_or(("ms", 1));
    format!("{}{name}", ms / u128::from(size))
}

pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format_duration(*time))
}

#[allow(clippy::ref_option, reason = "serde passes a reference to the field")]
pub(super) fn serialize_some<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    time.map(format_duration).serialize(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_duration_is_a_number_and_its_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration(" 15 m "), Ok(Duration::from_mins(15)));
        assert_eq!(format_duration(Duration::from_secs(90)), "90s");
        assert_eq!(format_duration(Duration::from_hours(48)), "2d");
        for bad in ["", "5", "m", "-5s", "1.5h", "5 weeks", "99999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ms in 0..10_000_000_000u64) {
            let time = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(time)), Ok(time));
        }
    }
}
