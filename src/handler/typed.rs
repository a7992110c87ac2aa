//! Functions and closures as handlers: the payload comes as a type of theirs, their result goes as JSON.

use std::any::type_name;
use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::output::{Head, RESULT_BYTES_MAX_DEFAULT};
use super::{BlockingHandler, Context, Handler, Work};
use crate::{Failure, FailureClass, Job, Outcome, Success};

/// An async function that can run jobs: `async fn(Payload) -> Result<T, E>`, or with a [`Context`] as a second
/// parameter. Closures that return a future serve too.
///
/// The payload is anything serde can read; one that cannot be read is a permanent failure and never reaches the
/// function. `T` is kept as the job's result, `()` keeps none. `E` is any error: a [`Failure`] says itself what
/// follows, every other one means "try again".
///
/// `M` tells the two forms apart; it is never written out.
pub trait IntoHandler<M> {
    /// Makes the handler.
    fn into_handler(self) -> Arc<dyn Handler>;
}

/// A function that can run jobs on a blocking thread: as [`IntoHandler`], but not async.
pub trait IntoBlocking<M> {
    /// Makes the handler.
    fn into_blocking(self) -> Arc<dyn BlockingHandler>;
}

/// What a handler may answer instead of a result: a [`Failure`], or anything that turns into a boxed error, as
/// every [`std::error::Error`], `anyhow::Error` and plain texts do.
pub trait IntoFailure {
    /// Says what shall follow.
    fn into_failure(self) -> Failure;
}

impl IntoFailure for Failure {
    fn into_failure(self) -> Failure {
        self
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> IntoFailure for E {
    fn into_failure(self) -> Failure {
        Failure::from_error(self)
    }
}

/// A handler made of a closure.
struct Closure<F>(F);

impl<F: Fn(Context) -> Work + Send + Sync + 'static> Handler for Closure<F> {
    fn run(self: Arc<Self>, context: Context) -> Work {
        (self.0)(context)
    }
}

impl<F: Fn(Context) -> Outcome + Send + Sync + 'static> BlockingHandler for Closure<F> {
    fn run(&self, context: Context) -> Outcome {
        (self.0)(context)
    }
}

impl<F, P, W, T, E> IntoHandler<(P,)> for F
where
    F: Fn(P) -> W + Send + Sync + 'static,
    P: DeserializeOwned,
    W: Future<Output = Result<T, E>> + Send + 'static,
    T: Serialize,
    E: IntoFailure,
{
    fn into_handler(self) -> Arc<dyn Handler> {
        Arc::new(Closure(move |context: Context| match payload(&context.job) {
            Ok(payload) => answered(self(payload)),
            Err(failure) => refused(failure),
        }))
    }
}

impl<F, P, W, T, E> IntoHandler<(P, Context)> for F
where
    F: Fn(P, Context) -> W + Send + Sync + 'static,
    P: DeserializeOwned,
    W: Future<Output = Result<T, E>> + Send + 'static,
    T: Serialize,
    E: IntoFailure,
{
    fn into_handler(self) -> Arc<dyn Handler> {
        Arc::new(Closure(move |context: Context| match payload(&context.job) {
            Ok(payload) => answered(self(payload, context)),
            Err(failure) => refused(failure),
        }))
    }
}

impl<F, P, T, E> IntoBlocking<(P,)> for F
where
    F: Fn(P) -> Result<T, E> + Send + Sync + 'static,
    P: DeserializeOwned,
    T: Serialize,
    E: IntoFailure,
{
    fn into_blocking(self) -> Arc<dyn BlockingHandler> {
        Arc::new(Closure(move |context: Context| outcome(self(payload(&context.job)?))))
    }
}

impl<F, P, T, E> IntoBlocking<(P, Context)> for F
where
    F: Fn(P, Context) -> Result<T, E> + Send + Sync + 'static,
    P: DeserializeOwned,
    T: Serialize,
    E: IntoFailure,
{
    fn into_blocking(self) -> Arc<dyn BlockingHandler> {
        Arc::new(Closure(move |context: Context| outcome(self(payload(&context.job)?, context))))
    }
}

fn answered<T: Serialize, E: IntoFailure>(work: impl Future<Output = Result<T, E>> + Send + 'static) -> Work {
    Box::pin(async move { outcome(work.await) })
}

fn refused(failure: Failure) -> Work {
    Box::pin(std::future::ready(Err(failure)))
}

/// A payload that cannot be read now cannot be read later either.
fn payload<P: DeserializeOwned>(job: &Job) -> Result<P, Failure> {
    serde_json::from_str(&job.payload).map_err(|fault| {
        let message = format!("the payload of {} is no {}: {fault}", job.kind, type_name::<P>());
        Failure::bury_as(FailureClass::Payload, message)
    })
}

fn outcome<T: Serialize, E: IntoFailure>(answer: Result<T, E>) -> Outcome {
    let value = answer.map_err(IntoFailure::into_failure)?;
    let json = serde_json::to_string(&value).map_err(|fault| {
        Failure::bury(format!("done, but its result, a {}, is no JSON: {fault}", type_name::<T>()))
    })?;
    if json == "null" {
        return Ok(Success::Done(None));
    }
    let mut head = Head::new(RESULT_BYTES_MAX_DEFAULT);
    head.push(json.as_bytes());
    Ok(Success::Done(head.into_result(Some(json.len() as u64))))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{PATIENCE, context, done, job};
    use super::*;
    use crate::Verdict;

    #[derive(serde::Deserialize)]
    struct Email {
        to: String,
    }

    async fn run<M>(handler: impl IntoHandler<M>, payload: &str) -> Outcome {
        handler.into_handler().run(context(job(payload), PATIENCE)).await
    }

    #[tokio::test]
    async fn a_function_gets_its_payload_and_its_result_is_kept() {
        async fn send(email: Email) -> Result<String, Failure> {
            Ok(format!("to {}", email.to))
        }
        assert_eq!(run(send, r#"{"to": "a"}"#).await, done(r#""to a""#));
        let with_context = |email: Email, context: Context| async move {
            Ok::<_, std::io::Error>((email.to, context.attempt()))
        };
        assert_eq!(run(with_context, r#"{"to": "b"}"#).await, done(r#"["b",1]"#));
        let quiet = |_: serde_json::Value| async { Ok::<_, String>(()) };
        assert_eq!(run(quiet, "{}").await, Ok(Success::Done(None)));
        let blocking = (|email: Email| Ok::<_, Failure>(email.to)).into_blocking();
        assert_eq!(blocking.run(context(job(r#"{"to": "c"}"#), PATIENCE)), done(r#""c""#));
    }

    #[tokio::test]
    async fn a_payload_that_does_not_fit_is_buried_and_says_what_is_missing() {
        let never = |_: Email| async { panic!("it must not be called") as Result<(), Failure> };
        let failure = run(never, r#"{"from": "a"}"#).await.expect_err("no `to`");
        assert_eq!((failure.class, failure.verdict), (FailureClass::Payload, Verdict::Bury));
        for words in ["payload of email.send", "Email", "missing field `to`"] {
            assert!(failure.message.contains(words), "{}", failure.message);
        }
    }

    #[tokio::test]
    async fn any_error_means_try_again_and_a_failure_says_itself_what_follows() {
        let number = |text: String| async move { text.parse::<u32>().map(drop) };
        let failure = run(number, r#""x""#).await.expect_err("no number");
        assert_eq!((failure.verdict, &*failure.message), (Verdict::Retry, "invalid digit found in string"));
        let words = |_: serde_json::Value| async { Err::<(), _>("not now") };
        assert_eq!(run(words, "{}").await, Err(Failure::retry("not now")));
        let gone = |_: serde_json::Value| async { Err::<(), _>(Failure::bury("gone")) };
        assert_eq!(run(gone, "{}").await, Err(Failure::bury("gone")));
    }

    #[tokio::test]
    async fn a_result_over_the_limit_is_cut_and_says_so() {
        let long = |n: usize| async move { Ok::<_, Failure>("ä".repeat(n)) };
        let Ok(Success::Done(Some(result))) = run(long, "1000000").await else { panic!("a result") };
        let result: serde_json::Value = serde_json::from_str(&result).expect("JSON");
        assert_eq!((&result["truncated"], &result["bytes"]), (&true.into(), &2_000_002.into()));
    }
}
