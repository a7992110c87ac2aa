//! How long a job waits between attempts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest wait between two attempts; a longer one is almost surely a slip of units.
pub(crate) const DELAY_MS_MAX: u64 = 366 * 24 * 3600 * 1000;

/// The waits between the attempts of a job, as written in a handler's table or in a job's `backoff` column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Backoff {
    /// `base_ms * factor^(attempt - 1)`, at most `max_ms`, then jitter.
    Exponential {
        /// Milliseconds before the second attempt, before jitter.
        #[serde(default = "base_ms_default")]
        base_ms: u64,
        /// What each further wait is multiplied with.
        #[serde(default = "factor_default")]
        factor: f64,
        /// The longest wait in milliseconds.
        #[serde(default = "max_ms_default")]
        max_ms: u64,
        /// How the wait is spread, so that jobs that failed together do not return together.
        #[serde(default)]
        jitter: Jitter,
        /// Milliseconds after the job's creation from which no attempt follows any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        give_up_after_ms: Option<u64>,
    },
    /// The same wait each time.
    Fixed {
        /// Milliseconds.
        delay_ms: u64,
        /// How the wait is spread; by default it is not.
        #[serde(default = "no_jitter")]
        jitter: Jitter,
        /// As for `exponential`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        give_up_after_ms: Option<u64>,
    },
    /// One wait after each attempt; the last one serves for all that follow.
    Custom {
        /// Milliseconds, the first entry after the first attempt.
        delays_ms: Vec<u64>,
        /// How the wait is spread; by default it is not.
        #[serde(default = "no_jitter")]
        jitter: Jitter,
        /// As for `exponential`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        give_up_after_ms: Option<u64>,
    },
}

/// How a wait is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Anything from zero to the wait: spreads best
    /// (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
    #[default]
    Full,
    /// Half the wait, and anything up to the whole.
    Equal,
    /// The wait itself.
    None,
}

fn base_ms_default() -> u64 {
    1_000
}
fn factor_default() -> f64 {
    2.0
}
fn max_ms_default() -> u64 {
    600_000
}
fn no_jitter() -> Jitter {
    Jitter::None
}

impl Default for Backoff {
    /// 1 s, doubling up to 10 min, full jitter.
    fn default() -> Self {
        Self::Exponential {
            base_ms: base_ms_default(),
            factor: factor_default(),
            max_ms: max_ms_default(),
            jitter: Jitter::Full,
            give_up_after_ms: None,
        }
    }
}

impl Eq for Backoff {}

impl Backoff {
    /// The wait after the given attempt (1 is the first), and `None` when the job's time is over by then.
    ///
    /// `age` is the time since the job was created; `random` is a number from 0 to 1.
    pub fn delay_after(&self, attempt: i32, age: Duration, random: f64) -> Option<Duration> {
        let full = self.full_delay_ms(attempt).min(DELAY_MS_MAX);
        let spread = match self.jitter() {
            Jitter::Full => (full as f64 * random) as u64,
            Jitter::Equal => full / 2 + (full as f64 / 2.0 * random) as u64,
            Jitter::None => full,
        };
        let delay = Duration::from_millis(spread);
        match self.give_up_after() {
            Some(limit) if age + delay >= limit => None,
            _ => Some(delay),
        }
    }

    /// Names what is wrong with the numbers, if anything is.
    pub fn check(&self) -> Result<(), String> {
        let over = |name: &str, ms: u64| {
            if ms > DELAY_MS_MAX {
                Err(format!("{name} = {ms}: at most {DELAY_MS_MAX} (366 days)"))
            } else {
                Ok(())
            }
        };
        match self {
            Self::Exponential { base_ms, factor, max_ms, .. } => {
                if !(1.0..=100.0).contains(factor) {
                    return Err(format!("factor = {factor}: expected 1 to 100"));
                }
                if base_ms > max_ms {
                    return Err(format!("base_ms = {base_ms} is more than max_ms = {max_ms}"));
                }
                over("max_ms", *max_ms)
            }
            Self::Fixed { delay_ms, .. } => over("delay_ms", *delay_ms),
            Self::Custom { delays_ms, .. } if delays_ms.is_empty() => {
                Err("delays_ms is empty: give at least one wait".to_owned())
            }
            Self::Custom { delays_ms, .. } => delays_ms.iter().try_for_each(|ms| over("delays_ms", *ms)),
        }
    }

    fn full_delay_ms(&self, attempt: i32) -> u64 {
        let step = attempt.max(1) - 1;
        match self {
            Self::Exponential { base_ms, factor, max_ms, .. } => {
                let wait = *base_ms as f64 * factor.powi(step);
                if wait >= *max_ms as f64 { *max_ms } else { wait as u64 }
            }
            Self::Fixed { delay_ms, .. } => *delay_ms,
            Self::Custom { delays_ms, .. } => {
                delays_ms.get(step as usize).or(delays_ms.last()).copied().unwrap_or_default()
            }
        }
    }

    fn jitter(&self) -> Jitter {
        match self {
            Self::Exponential { jitter, .. } | Self::Fixed { jitter, .. } | Self::Custom { jitter, .. } => {
                *jitter
            }
        }
    }

    fn give_up_after(&self) -> Option<Duration> {
        match self {
            Self::Exponential { give_up_after_ms, .. }
            | Self::Fixed { give_up_after_ms, .. }
            | Self::Custom { give_up_after_ms, .. } => give_up_after_ms.map(Duration::from_millis),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(json: &str) -> Backoff {
        serde_json::from_str(json).expect(json)
    }

    #[test]
    fn exponential_waits_double_up_to_the_cap() {
        let backoff = parse(r#"{"type":"exponential","base_ms":1000,"max_ms":5000,"jitter":"none"}"#);
        let waits: Vec<_> =
            (1..=5).map(|n| backoff.delay_after(n, Duration::ZERO, 0.5).map(|d| d.as_millis())).collect();
        assert_eq!(waits, [Some(1000), Some(2000), Some(4000), Some(5000), Some(5000)]);
    }

    #[test]
    fn a_custom_list_ends_with_its_last_wait() {
        let backoff = parse(r#"{"type":"custom","delays_ms":[10,20]}"#);
        let waits: Vec<_> = (1..=3)
            .filter_map(|n| backoff.delay_after(n, Duration::ZERO, 0.9))
            .map(|d| d.as_millis())
            .collect();
        assert_eq!(waits, [10, 20, 20]);
    }

    #[test]
    fn no_attempt_follows_the_give_up_time() {
        let backoff = parse(r#"{"type":"fixed","delay_ms":1000,"give_up_after_ms":5000}"#);
        assert!(backoff.delay_after(1, Duration::from_millis(3999), 0.0).is_some());
        assert!(backoff.delay_after(1, Duration::from_secs(4), 0.0).is_none());
    }

    #[test]
    fn senseless_numbers_are_named() {
        for (json, word) in [
            (r#"{"type":"exponential","factor":0.5}"#, "factor"),
            (r#"{"type":"exponential","base_ms":10,"max_ms":5}"#, "base_ms"),
            (r#"{"type":"custom","delays_ms":[]}"#, "delays_ms"),
            (r#"{"type":"fixed","delay_ms":99999999999999}"#, "delay_ms"),
        ] {
            let fault = parse(json).check().expect_err(json);
            assert!(fault.contains(word), "{fault}");
        }
    }

    proptest! {
        #[test]
        fn a_wait_is_never_longer_than_the_cap(attempt in 1..i32::MAX, random in 0.0..1.0f64) {
            let wait = Backoff::default().delay_after(attempt, Duration::ZERO, random);
            prop_assert!(wait.expect("no give-up time") <= Duration::from_mins(10));
        }
    }
}
