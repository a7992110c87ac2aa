//! Moments on the command line: RFC 3339, or counted from now by the database's clock.

use std::time::Duration;

use chrono::DateTime;

use crate::config::parse_duration;
use crate::store::{Moment, When};

/// Reads `2026-05-01T08:00:00Z`, `now`, `+10m`, `in 10m` or `infinity`.
pub(super) fn parse_when(text: &str) -> Result<When, String> {
    let text = text.trim();
    let relative = text.strip_prefix('+').or_else(|| text.strip_prefix("in "));
    if let Some(span) = relative {
        return parse_duration(span).map(When::In).map_err(|problem| format!("`{text}`: the time {problem}"));
    }
    match text {
        "now" => Ok(When::In(Duration::ZERO)),
        "infinity" => Ok(When::At(Moment::INFINITY)),
        _ => DateTime::parse_from_rfc3339(text)
            .map(|at| When::At(Moment::from_unix_micros(at.timestamp_micros())))
            .map_err(|error| {
                format!(
                    "`{text}` is no moment ({error}): expected RFC 3339 with a zone, as 2026-05-01T08:00:00Z, \
                     or a time from now, as +10m or \"in 10m\""
                )
            }),
    }
}

/// Reads a length of time, for clap.
pub(super) fn parse_span(text: &str) -> Result<Duration, String> {
    parse_duration(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_absolute_or_counted_from_now() {
        assert_eq!(parse_when("+10m"), Ok(When::In(Duration::from_mins(10))));
        assert_eq!(parse_when("in 2 h"), Ok(When::In(Duration::from_hours(2))));
        assert_eq!(parse_when("2000-01-01T01:00:00+01:00"), Ok(When::At(Moment(0))));
        assert_eq!(parse_when("infinity"), Ok(When::At(Moment::INFINITY)));
        for bad in ["", "tomorrow", "2026-05-01", "2026-05-01T08:00:00", "+10", "in ten minutes", "-10m"] {
            assert!(parse_when(bad).is_err(), "{bad}");
        }
    }
}
