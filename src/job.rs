//! What a claimed job is to the code that runs it: plain words, no database and no runtime.

use std::sync::Arc;
use std::time::Duration;

use crate::Backoff;

/// Identifies a job for as long as any trace of it is kept.
pub type JobId = i64;

/// Names one claim of one job; drawn from a sequence, so a later claim always has the larger number.
///
/// Everything a worker writes about a job carries it. A worker whose claim was taken over finds no row
/// with its number any more, and its word is dropped.
pub type ClaimId = i64;

/// Identifies one start of one worker process; never reused.
pub type WorkerId = i64;

/// The priority a job has unless it names one; 0 is the most urgent, 9 the least.
pub const PRIORITY_NORMAL: i16 = 5;
/// What `high` stands for on the command line and in the API.
pub const PRIORITY_HIGH: i16 = 2;
/// What `low` stands for on the command line and in the API.
pub const PRIORITY_LOW: i16 = 8;

/// The tries a job gets when neither its row nor its handler says.
pub const MAX_ATTEMPTS_DEFAULT: i32 = 5;
/// How long one attempt may run when neither the job's row nor its handler says.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_mins(15);
/// How often a job may take its worker down with it before it is buried as `crashed`.
pub const CRASHES_MAX: i32 = 3;

/// One claimed job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Which job this is.
    pub id: JobId,
    /// Under which claim it runs.
    pub claim_id: ClaimId,
    /// Names the handler that runs it. Shared, because a batch holds a few kinds many times.
    pub kind: Arc<str>,
    /// The lane it came from.
    pub queue: Arc<str>,
    /// 0 (first) to 9 (last).
    pub priority: i16,
    /// The payload as JSON text, exactly as Postgres prints the `jsonb`.
    pub payload: Box<str>,
    /// Bytes that a large payload can have at most, while it is still to be fetched; handlers have it whole, and `None`
    /// here.
    pub payload_left: Option<usize>,
    /// Tries begun so far, this one included: 1 on the first.
    pub attempt: i32,
    /// Times a worker died while running it.
    pub crashes: i32,
    /// The row's own limit of tries; `None` takes the handler's.
    pub max_attempts: Option<i32>,
    /// The row's own backoff as JSON text; `None` takes the handler's.
    pub backoff: Option<Box<str>>,
    /// The row's own time limit of one attempt; `None` takes the handler's.
    pub timeout: Option<Duration>,
    /// What is left until `expires_at`; zero when that moment has passed.
    pub expires_in: Option<Duration>,
    /// Time since the job was created; `give_up_after_ms` is measured from there.
    pub age: Duration,
    /// Time it was due before it was claimed.
    pub waited: Duration,
    /// Somebody asked for its cancellation while it ran in a worker that did not hear of it.
    pub cancel_requested: bool,
    /// Whether a trace of it is kept when it is finished.
    pub keep: bool,
    /// `meta.traceparent`, passed on to handlers.
    pub traceparent: Option<Box<str>>,
}

impl Job {
    /// A job that no table has: the first try of a job of kind `example`, due just now.
    pub fn example() -> Self {
        Self {
            id: 1,
            claim_id: 1,
            kind: "example".into(),
            queue: "default".into(),
            priority: PRIORITY_NORMAL,
            payload: "{}".into(),
            payload_left: None,
            attempt: 1,
            crashes: 0,
            max_attempts: None,
            backoff: None,
            timeout: None,
            expires_in: None,
            age: Duration::ZERO,
            waited: Duration::ZERO,
            cancel_requested: false,
            keep: true,
            traceparent: None,
        }
    }
}

/// What is decided for a job from its row and from its handler's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDefaults {
    /// Tries a job of this kind gets.
    pub max_attempts: i32,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How long to wait between tries.
    pub backoff: Backoff,
}

impl Default for JobDefaults {
    fn default() -> Self {
        Self { max_attempts: MAX_ATTEMPTS_DEFAULT, timeout: TIMEOUT_DEFAULT, backoff: Backoff::default() }
    }
}

/// Reads a priority as people write it: a digit 0 to 9, or `high`, `normal`, `low`.
pub fn parse_priority(word: &str) -> Result<i16, String> {
    match word {
        "high" => Ok(PRIORITY_HIGH),
        "normal" => Ok(PRIORITY_NORMAL),
        "low" => Ok(PRIORITY_LOW),
        digits => digits.parse().ok().filter(|p| (0..=9).contains(p)).ok_or_else(|| {
            format!("priority `{word}`: expected 0 (first) to 9 (last), or high, normal, low")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_a_digit_or_one_of_three_words() {
        assert_eq!(parse_priority("high"), Ok(2));
        assert_eq!(parse_priority("0"), Ok(0));
        assert_eq!(parse_priority("9"), Ok(9));
        for bad in ["10", "-1", "urgent", ""] {
            assert!(parse_priority(bad).is_err(), "{bad}");
        }
    }
}
