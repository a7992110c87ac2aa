//! The helpers for other people's tests.

use std::time::Duration;

use rowcrew::testing::{Database, Drained, perform};
use rowcrew::{Context, Failure, FailureClass, NewJob, Worker, WorkerBuilder};
use serde_json::json;

async fn countdown(n: u32, context: Context) -> Result<u32, Failure> {
    match n {
        0 => Ok(0),
        13 => Err(Failure::bury("unlucky")),
        99 => Err(Failure::retry_after(Duration::from_mins(10), "not today")),
        n => {
            context.enqueue(NewJob::new("countdown", &(n - 1))?)?;
            Ok(n)
        }
    }
}

fn worker(url: &str) -> WorkerBuilder {
    Worker::builder(url).handle("countdown", countdown)
}

#[tokio::test]
async fn a_queue_is_drained_with_all_that_its_jobs_enqueue() {
    let db = Database::start().await;
    for n in [3, 13, 99] {
        rowcrew::enqueue(db.client(), &NewJob::new("countdown", &n).expect("JSON")).await.expect("enqueued");
    }
    let later = NewJob::new("countdown", &0).expect("JSON").run_at(Duration::from_hours(1));
    rowcrew::enqueue(db.client(), &later).await.expect("enqueued");
    let drained = db.drain(worker(db.url())).await;
    assert_eq!(drained, Drained { completed: 4, cancelled: 0, dead: 1, left: 2 });
}

#[tokio::test]
async fn one_job_is_run_on_the_spot_and_no_other() {
    let db = Database::start().await;
    let first = db.run(worker(db.url()), "countdown", 2).await;
    assert_eq!((first.state.as_str(), first.attempts, first.result), ("completed", 1, Some(json!(2))));
    assert_eq!(db.enqueued("countdown").await, [json!(1)], "what it enqueued waits");
    let dead = db.run(worker(db.url()), "countdown", 13).await;
    assert_eq!((dead.state.as_str(), dead.error.as_deref()), ("dead", Some("unlucky")));
    let failed = db.run(worker(db.url()), "countdown", 99).await;
    assert_eq!((failed.state.as_str(), failed.error.as_deref()), ("retrying", Some("not today")));
}

#[tokio::test]
async fn a_look_at_what_is_enqueued_says_what_there_is_instead() {
    let db = Database::start().await;
    let said = async |kind: &'static str, payload: serde_json::Value| {
        let url = db.url().to_owned();
        let look = async move { Database::at(&url).await.assert_enqueued(kind, &payload).await };
        let panic = tokio::spawn(look).await.expect_err("it is not there").into_panic();
        panic.downcast_ref::<String>().expect("words").clone()
    };
    assert_eq!(said("a", json!({"n": 1})).await, r#"no job a with {"n":1} is enqueued; nothing is enqueued"#);
    for n in [2, 3] {
        let job = NewJob::new("a", &json!({"n": n, "more": true})).expect("JSON");
        rowcrew::enqueue(db.client(), &job).await.expect("enqueued");
    }
    db.assert_enqueued("a", &json!({"n": 2})).await;
    db.assert_not_enqueued("a", &json!({"n": 1})).await;
    assert!(said("a", json!({"n": 1})).await.contains(r#"of that kind there are: {"more":true,"n":2}"#));
    assert!(said("b", json!({})).await.ends_with("none of that kind; there are: a (2)"));
}

#[tokio::test]
async fn a_handler_alone_is_performed_without_a_database() {
    assert_eq!(perform(countdown, 13).await, Err(Failure::bury("unlucky")));
    let no_worker = perform(countdown, 5).await.expect_err("it wants to enqueue");
    assert!(no_worker.message.contains("no worker"), "{}", no_worker.message);
    let unreadable = perform(countdown, "five").await.expect_err("no number");
    assert_eq!(unreadable.class, FailureClass::Payload);
}
