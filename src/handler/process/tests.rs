//! Real children, as hostile as they come. Each test ends with a job that runs as if nothing had been.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::testing::{PATIENCE, context, done, job};
use super::*;
use crate::{Failure, FailureClass, Job, Verdict};

/// Takes a line apart.
const READ: &str = r#"
next() { IFS= read -r line && [[ $line =~ \"id\":([0-9]+) ]] && id=${BASH_REMATCH[1]} &&
    [[ $line =~ \"payload\":(.*)\}$ ]] && payload=${BASH_REMATCH[1]}; }
say() { printf '%s\n' "$1"; }
"#;

/// Does what the payload says, and answers with the payload when that is nothing special.
const HOSTILE: &str = r#"
echo begun >&2
while next; do
    case $payload in
        '"rubbish"') say 'hello world' ;;
        '"binary"') printf '\377\000{"id":\n' ;;
        '"other"') say '{"id":99999,"ok":1}' ;;
        '"no_id"') say '{"ok":1}' ;;
        '"both"') say "{\"id\":$id,\"ok\":1,\"progress\":1}" ;;
        '"endless"') head -c 3000000 /dev/zero | tr '\0' a ;;
        '"closes"') exec 1>&-; sleep 1000 ;;
        '"dies"') echo why >&2; exit 3 ;;
        '"killed"') kill -9 $$ ;;
        '"half"') printf '{"id":%s,"ok"' "$id"; exit 0 ;;
        '"hangs"') trap '' TERM; while :; do sleep 1; done ;;
        '"waits"') sleep 1000 ;;
        '"floods"') head -c 6000000 /dev/zero | tr '\0' '\n' >&2; say "{\"id\":$id,\"ok\":\"flooded\"}" ;;
        '"twice"') say "{\"id\":$id,\"ok\":1}"; say "{\"id\":$id,\"ok\":2}" ;;
        '"xxx'*) say "{\"id\":$id,\"ok\":\"large\"}" ;;
        '"pid"') say "{\"id\":$id,\"ok\":$$}" ;;
        *) say "{\"id\":$id,\"ok\":$payload}" ;;
    esac
done
"#;

fn settings(script: &str) -> ProcessSettings {
    let words = ["bash", "-c", &format!("{READ}{script}")];
    let mut command = CommandSettings::new(words.iter().map(ToString::to_string).collect());
    command.inherited = vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())];
    command.result_bytes_max = 4096;
    ProcessSettings { kind: "score".into(), command, processes: 1, concurrency: None, ready_within: None }
}

fn start(settings: ProcessSettings) -> Arc<ProcessHandler> {
    Arc::new(ProcessHandler::new(settings).expect("good settings"))
}

fn numbered(id: i64, payload: &str) -> Job {
    Job { id, ..job(payload) }
}

async fn run(handler: &Arc<ProcessHandler>, id: i64, payload: &str) -> Outcome {
    handler.clone().run(context(numbered(id, payload), PATIENCE)).await
}

async fn run_for(handler: &Arc<ProcessHandler>, id: i64, payload: &str, time: Duration) -> Outcome {
    handler.clone().run(context(numbered(id, payload), time)).await
}

fn spawn(handler: &Arc<ProcessHandler>, id: i64, payload: &str) -> JoinHandle<Outcome> {
    tokio::spawn(handler.clone().run(context(numbered(id, payload), PATIENCE)))
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_child_answers_one_job_after_the_other() {
    let handler = start(settings(HOSTILE));
    let first = run(&handler, 1, "\"pid\"").await.expect("an answer");
    assert_eq!(run(&handler, 2, r#"{"a": [1, "}"]}"#).await, done(r#"{"a": [1, "}"]}"#));
    assert_eq!(run(&handler, 3, "null").await, Ok(Success::Done(None)));
    assert_eq!(run(&handler, 4, "\"pid\"").await, Ok(first), "the child lives on");
}

#[tokio::test]
async fn whatever_a_child_does_its_jobs_fail_with_a_reason_and_the_next_one_runs() {
    use FailureClass::{ExitCode, Protocol, Signal};
    let handler = start(settings(HOSTILE));
    for (id, (payload, class, words)) in [
        ("rubbish", Protocol, "not JSON; standard output is for answers alone"),
        ("rubbish", Protocol, "`hello world`"),
        ("binary", Protocol, "a line that is no answer"),
        ("other", Protocol, "spoke of job 99999, which it does not have in hand"),
        ("no_id", Protocol, "it has no id"),
        ("both", Protocol, "an answer has one of ok, error, progress, snooze_ms"),
        ("endless", Protocol, "a line without an end"),
        ("closes", Protocol, "closed its standard output and lived on"),
        ("dies", ExitCode, "`bash`: the child process ended with exit code 3"),
        ("killed", Signal, "signal 9 (SIGKILL), often because memory ran out"),
        ("half", ExitCode, "exit code 0"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = id as i64 + 1;
        let failure = run(&handler, id, &format!("\"{payload}\"")).await.expect_err(payload);
        assert_eq!((failure.class, failure.verdict), (class, Verdict::Retry), "{payload}: {failure:?}");
        assert!(failure.message.contains(words), "{payload}: {}", failure.message);
        let detail = failure.detail.expect("its standard error");
        assert!(detail.starts_with("begun\n") && detail.contains("why") == (payload == "dies"), "{detail}");
        assert_eq!(run(&handler, id + 1000, "7").await, done("7"), "after {payload}");
    }
}

#[tokio::test]
async fn only_the_first_of_two_answers_counts() {
    let handler = start(settings(HOSTILE));
    let before = run(&handler, 1, "\"pid\"").await;
    assert_eq!(run(&handler, 2, "\"twice\"").await, done("1"));
    // The second answer may come while the next job is on its way, and then takes it along.
    let next = run(&handler, 3, "7").await;
    assert!(
        next == done("7") || next.as_ref().is_err_and(|f| f.message.contains("spoke of job 2")),
        "{next:?}"
    );
    assert_ne!(run(&handler, 4, "\"pid\"").await, before, "another child");
}

#[tokio::test]
async fn a_flood_on_standard_error_is_taken_and_a_job_that_hangs_is_ended() {
    let handler = start(settings(HOSTILE));
    assert_eq!(run(&handler, 1, "\"floods\"").await, done("\"flooded\""));
    for (id, payload) in [(2, "\"hangs\""), (3, "\"waits\"")] {
        let failure = run_for(&handler, id, payload, Duration::from_millis(200)).await.expect_err(payload);
        assert_eq!((failure.class, failure.verdict), (FailureClass::Timeout, Verdict::Retry));
        assert_eq!(run(&handler, id + 10, "7").await, done("7"), "after {payload}");
    }
}

#[tokio::test]
async fn a_child_that_reads_nothing_more_holds_up_nobody_else() {
    let settings = ProcessSettings { processes: 2, concurrency: Some(2), ..settings(HOSTILE) };
    let handler = start(settings);
    until("both children are up", || {
        handler.start_children();
        handler.capacity() == 4
    })
    .await;
    let stuck = spawn(&handler, 1, "\"waits\"");
    // Far more than a pipe holds. One of the two goes to the child that does not read.
    let large = format!("\"{}\"", "x".repeat(1_000_000));
    let others: Vec<_> = (2..=3)
        .map(|id| {
            let context = context(numbered(id, &large), Duration::from_secs(2));
            tokio::spawn(handler.clone().run(context))
        })
        .collect();
    for id in 4..40 {
        let outcome = run_for(&handler, id, "7", Duration::from_millis(900)).await;
        let timed_out = outcome.as_ref().is_err_and(|failure| failure.class == FailureClass::Timeout);
        assert!(outcome == done("7") || timed_out, "{id}: {outcome:?}");
    }
    for other in others {
        let outcome = other.await.expect("no panic");
        let timed_out = outcome.as_ref().is_err_and(|failure| failure.class == FailureClass::Timeout);
        // Or given back: the child that did not read is ended for the first one whose time is over.
        let given_back = outcome == Ok(Success::Snooze(Duration::ZERO));
        assert!(outcome == done("\"large\"") || timed_out || given_back, "{outcome:?}");
    }
    stuck.abort();
    until("the child is replaced", || handler.capacity() == 4).await;
    assert_eq!(run(&handler, 50, "7").await, done("7"));
}

#[tokio::test]
async fn a_hostile_child_harms_no_job_of_another_child() {
    let handler = start(ProcessSettings { processes: 2, ..settings(HOSTILE) });
    until("both children are up", || {
        handler.start_children();
        handler.capacity() == 2
    })
    .await;
    let beside = spawn(&handler, 1, "\"waits\"");
    until("it has begun", || handler.pool.in_hand() == 1).await;
    for (id, payload) in ["rubbish", "other", "endless", "dies", "killed"].iter().enumerate() {
        run(&handler, 10 + id as i64, &format!("\"{payload}\"")).await.expect_err(payload);
        assert_eq!(run(&handler, 20 + id as i64, "7").await, done("7"));
    }
    assert!(!beside.is_finished());
    beside.abort();
}

/// A child that takes several jobs at once, and gives one up when it is asked to.
const COOPERATIVE: &str = r#"
say '{"ready":{"name":"coop","version":"1.2","protocol":1,"concurrency":3,"cancel":true}}'
while next; do
    case $line in
        *'"cancel":true'*) say "{\"id\":$id,\"error\":\"gave up\"}" ;;
        *'"waits"'*) ;;
        *) say "{\"id\":$id,\"ok\":$payload}" ;;
    esac
done
"#;

/// As `next`, for lines that have no payload.
const LENIENT: &str = r#"next() { IFS= read -r line && [[ $line =~ \"id\":([0-9]+) ]] && id=${BASH_REMATCH[1]};
    [[ $line =~ \"payload\":(.*)\}$ ]] && payload=${BASH_REMATCH[1]}; [[ -n $line ]]; }
"#;

#[tokio::test]
async fn a_child_that_says_so_has_several_jobs_in_hand_and_gives_one_up_when_asked() {
    let handler = start(settings(&format!("{LENIENT}{COOPERATIVE}")));
    let waiting: Vec<_> = (1..=2).map(|id| spawn(&handler, id, "\"waits\"")).collect();
    until("both are in hand", || handler.pool.in_hand() == 2).await;
    assert_eq!(handler.capacity(), 3);
    assert_eq!(run(&handler, 3, "7").await, done("7"));

    let given_up = context(numbered(4, "\"waits\""), PATIENCE);
    let cancelled = given_up.cancelled.clone();
    let attempt = tokio::spawn(handler.clone().run(given_up));
    until("three are in hand", || handler.pool.in_hand() == 3).await;
    cancelled.cancel();
    let failure = attempt.await.expect("no panic").expect_err("cancelled");
    assert_eq!(failure.message, "gave up");
    assert!(waiting.iter().all(|job| !job.is_finished()), "its neighbours go on");
    assert_eq!(run(&handler, 5, "7").await, done("7"));
}

#[tokio::test]
async fn the_settings_bound_what_a_child_takes_and_a_dropped_attempt_is_cancelled() {
    let settings = settings(&format!("{LENIENT}{COOPERATIVE}"));
    let handler = start(ProcessSettings { concurrency: Some(2), ..settings });
    let waiting: Vec<_> = (1..=3).map(|id| spawn(&handler, id, "\"waits\"")).collect();
    until("two are in hand", || handler.pool.in_hand() == 2).await;
    assert_eq!(handler.capacity(), 2);
    waiting[0].abort();
    until("the third one takes its place", || handler.pool.ids_in_hand() == HashSet::from([2, 3])).await;
}

#[tokio::test]
async fn a_child_that_is_ended_for_one_job_gives_its_neighbours_back_at_no_cost() {
    let handler = start(ProcessSettings { concurrency: Some(2), ..settings(HOSTILE) });
    let neighbour = spawn(&handler, 1, "\"waits\"");
    until("it has begun", || handler.pool.in_hand() == 1).await;
    let failure = run_for(&handler, 2, "7", Duration::from_millis(200)).await.expect_err("behind the other");
    assert_eq!(failure.class, FailureClass::Timeout);
    assert_eq!(neighbour.await.expect("no panic"), Ok(Success::Snooze(Duration::ZERO)));
    assert_eq!(run(&handler, 3, "7").await, done("7"));
}

fn waits_for_a_child(outcome: &Outcome) -> bool {
    matches!(outcome, Err(Failure { verdict: Verdict::Snooze(_), message, .. })
        if message.starts_with("waits for a child process: "))
}

#[tokio::test]
async fn no_job_is_wanted_while_no_child_starts() {
    for broken in ["exit 1", "exec no-such-program", "say rubbish; sleep 1000"] {
        // On a busy machine a program may take long to end; without a word from it, it never counts as started.
        let handler = start(ProcessSettings { ready_within: Some(PATIENCE), ..settings(broken) });
        let outcome = run(&handler, 1, "7").await;
        assert!(waits_for_a_child(&outcome), "{broken}: {outcome:?}");
        assert_eq!(handler.capacity(), 0, "{broken}");
    }
    let mut missing = settings("");
    missing.command.command = vec!["no-such-program-anywhere".into()];
    let handler = start(missing);
    let outcome = run(&handler, 1, "7").await;
    assert!(waits_for_a_child(&outcome), "{outcome:?}");
    assert_eq!(handler.capacity(), 0);
}

#[tokio::test]
async fn a_child_that_must_say_when_it_is_ready_gets_no_job_before() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let loads =
        format!("exec 3<>/dev/tcp/127.0.0.1/{port}; read -r -u 3 go; say '{{\"ready\":{{}}}}'; {HOSTILE}");
    let handler = start(ProcessSettings { ready_within: Some(PATIENCE), ..settings(&loads) });
    let attempt = spawn(&handler, 1, "7");
    let (mut stream, _) = listener.accept().await.expect("the child");
    assert_eq!((handler.capacity(), handler.pool.in_hand()), (0, 0));
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"go\n").await.expect("a connection");
    assert_eq!(attempt.await.expect("no panic"), done("7"));

    let late = ProcessSettings { ready_within: Some(Duration::from_millis(100)), ..settings(HOSTILE) };
    let outcome = run(&start(late), 1, "7").await;
    assert!(waits_for_a_child(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn stopping_ends_children_that_listen_and_children_that_do_not() {
    for script in [HOSTILE, "trap '' TERM; while :; do sleep 1; done"] {
        // The child and all it started hold the connection.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let handler = start(settings(&format!("exec 3<>/dev/tcp/127.0.0.1/{port}; sleep 1000 & {script}")));
        handler.start(&Arc::default());
        let (mut stream, _) = listener.accept().await.expect("the child");
        let began = Instant::now();
        handler.stop().await;
        assert!(began.elapsed() < Duration::from_secs(5));
        let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await.expect("a process lives on");
        assert_eq!(end.unwrap_or(0), 0);
        assert_eq!(run(&handler, 1, "7").await, Ok(Success::Snooze(Duration::ZERO)));
    }
}

#[tokio::test]
async fn a_handler_that_is_dropped_leaves_no_child_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let handler = start(settings(&format!("exec 3<>/dev/tcp/127.0.0.1/{port}; {HOSTILE}")));
    assert_eq!(run(&handler, 1, "7").await, done("7"));
    let (mut stream, _) = listener.accept().await.expect("the child");
    drop(handler);
    let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await.expect("a process lives on");
    assert_eq!(end.unwrap_or(0), 0);
}

#[tokio::test]
async fn children_learn_from_the_environment_what_they_are() {
    let script = r#"while next; do
        say "{\"id\":$id,\"ok\":\"$ROWCREW_PROTOCOL $ROWCREW_KIND $ROWCREW_PROCESS $ROWCREW_CONCURRENCY $SECRET\"}"
    done"#;
    let mut settings = ProcessSettings { concurrency: Some(1), ..settings(script) };
    settings.command.env = vec![("SECRET".into(), "s".into())];
    assert!(!format!("{settings:?}").contains("\"s\""));
    assert_eq!(run(&start(settings), 1, "7").await, done("\"1 score 1 1 s\""));
}

#[test]
fn bad_settings_are_refused() {
    for (settings, words) in [
        (ProcessSettings { processes: 0, ..settings("") }, "processes = 0: expected 1 to 256"),
        (
            ProcessSettings { concurrency: Some(1001), ..settings("") },
            "concurrency = 1001: expected 1 to 1000",
        ),
        (ProcessSettings { command: CommandSettings::new(vec![]), ..settings("") }, "command is empty"),
    ] {
        let fault = ProcessHandler::new(settings).expect_err(words);
        assert!(fault.contains(words), "{fault}");
    }
}
