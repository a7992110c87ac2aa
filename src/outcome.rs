//! How an attempt can end, as a handler says it.

use std::time::Duration;

/// What a handler answers.
pub type Outcome = Result<Success, Failure>;

/// An attempt that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Success {
    /// The work is done. The result is JSON text, kept with the finished job.
    Done(Option<String>),
    /// Not now: run it again after this time, at no cost of an attempt.
    Snooze(Duration),
}

/// An attempt that failed, and what shall follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What sort of thing went wrong; a stable word for grouping and statistics.
    pub class: FailureClass,
    /// One line for people.
    pub message: String,
    /// More to read: a stack, or the tail of the output.
    pub detail: Option<String>,
    /// What shall become of the job.
    pub verdict: Verdict,
}

/// What shall become of a job whose attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try again after the backoff, while attempts are left.
    Retry,
    /// Try again after this time, while attempts are left.
    RetryAfter(Duration),
    /// Put it back at no cost of an attempt, and begin no job of its kind before this time is over, in any worker:
    /// whoever the kind calls has asked for quiet.
    PauseKind(Duration),
    /// Never try again: the failure is permanent.
    Bury,
    /// Run it again after this time, at no cost of an attempt: it did not fail.
    Snooze(Duration),
    /// As [`Verdict::Bury`], and begin no job of its kind until an operator resumes it: whoever the kind calls wants
    /// no more calls.
    BuryAndDisableKind,
}

/// The sort of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The handler returned an error of its own.
    Error,
    /// The attempt took longer than its timeout.
    Timeout,
    /// A command ended with an exit code other than 0.
    ExitCode,
    /// A command was ended by a signal.
    Signal,
    /// A child process wrote what is no answer, or could not be spoken with.
    Protocol,
    /// The payload is not what the handler takes.
    Payload,
    /// An HTTP reply other than 2xx.
    Status,
    /// No HTTP reply: name, connection, TLS, or a broken reply.
    Network,
    /// A SQL statement failed.
    Sql,
    /// The handler panicked.
    Panic,
    /// The handler could not be started at all.
    Start,
    /// The worker that ran it was lost.
    LostWorker,
    /// The job's `expires_at` has passed.
    Expired,
    /// Somebody cancelled it.
    Cancelled,
}

impl FailureClass {
    /// The word that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::ExitCode => "exit_code",
            Self::Signal => "signal",
            Self::Protocol => "protocol",
            Self::Payload => "payload",
            Self::Status => "status",
            Self::Network => "network",
            Self::Sql => "sql",
            Self::Panic => "panic",
            Self::Start => "start",
            Self::LostWorker => "lost_worker",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Failure {
    /// A transient failure: the job is tried again after its backoff, while attempts are left.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::retry_as(FailureClass::Error, message)
    }

    /// A transient failure that says when to try again, while attempts are left.
    pub fn retry_after(wait: Duration, message: impl Into<String>) -> Self {
        Self::retry_after_as(FailureClass::Error, message, wait)
    }

    /// A permanent failure: the job goes to the dead letters at once.
    pub fn bury(message: impl Into<String>) -> Self {
        Self::bury_as(FailureClass::Error, message)
    }

    /// No failure at all, but "not now": the job runs again after this time, at no cost of an attempt.
    pub fn snooze(wait: Duration) -> Self {
        Self::snooze_because(wait, "")
    }

    /// The same, with the reason, which is seen as the job's `last_error` until it runs.
    pub fn snooze_because(wait: Duration, why: impl Into<String>) -> Self {
        let verdict = Verdict::Snooze(wait);
        Self { class: FailureClass::Error, message: why.into(), detail: None, verdict }
    }

    /// A transient failure for whatever serves as an error: `anyhow::Error`, a boxed error, a text.
    ///
    /// Errors that implement [`std::error::Error`] need none of it: `?` does the same.
    pub fn from_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let error: Box<dyn std::error::Error + Send + Sync> = error.into();
        Self::retry(crate::text::error_chain(&*error))
    }

    /// As [`Failure::retry`], with its class.
    pub fn retry_as(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), detail: None, verdict: Verdict::Retry }
    }

    /// As [`Failure::retry_after`], with its class.
    pub fn retry_after_as(class: FailureClass, message: impl Into<String>, wait: Duration) -> Self {
        Self { class, message: message.into(), detail: None, verdict: Verdict::RetryAfter(wait) }
    }

    /// As [`Failure::bury`], with its class.
    pub fn bury_as(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), detail: None, verdict: Verdict::Bury }
    }

    /// Adds something longer to read; an empty text is left out.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        self.detail = (!detail.trim().is_empty()).then_some(detail);
        self
    }
}

/// So that `?` in a handler means: try again.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::retry(crate::text::error_chain(&error))
    }
}
