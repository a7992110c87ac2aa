//! Real children. A script that must not outlive its attempt holds a connection to the test, as do all its
//! descendants; the connection's end is the news that the last of them is gone.

use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::super::testing::{PATIENCE, context, done, job, run};
use super::*;
use crate::Verdict;

fn settings(words: &[&str]) -> CommandSettings {
    let inherited = vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())];
    CommandSettings { inherited, ..CommandSettings::new(words.iter().map(ToString::to_string).collect()) }
}

fn bash(script: &str) -> CommandHandler {
    CommandHandler::new(settings(&["bash", "-c", script])).expect("good settings")
}

async fn failed(script: &str) -> Failure {
    run(bash(script), "{}").await.expect_err(script)
}

/// A script with a background child of its own, told on a connection that both hold.
struct Family {
    listener: TcpListener,
    handler: Arc<CommandHandler>,
}

impl Family {
    /// `script` begins when the background child runs.
    async fn new(script: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let handler =
            bash(&format!("exec 3<>/dev/tcp/127.0.0.1/{port}; sleep 1000 & echo ready >&3; {script}"));
        Self { listener, handler: Arc::new(handler) }
    }

    async fn ready(&self) -> BufReader<TcpStream> {
        let (stream, _) = self.listener.accept().await.expect("the script");
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("a line");
        assert_eq!(line, "ready\n");
        stream
    }
}

async fn all_gone(mut stream: BufReader<TcpStream>) {
    let end = tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await;
    assert_eq!(end.expect("a process lives on").unwrap_or(0), 0);
}

#[tokio::test]
async fn standard_output_becomes_the_result() {
    assert_eq!(run(bash("cat"), r#"{"a": "å"}"#).await, done(r#"{"a": "å"}"#));
    assert_eq!(run(bash("echo done; echo noise >&2"), "{}").await, done("\"done\""));
    assert_eq!(run(bash("true"), "{}").await, Ok(Success::Done(None)));
    assert_eq!(run(bash(r"printf 'a\0b\377\n'"), "{}").await, done("\"a\u{FFFD}b\u{FFFD}\""));
}

#[tokio::test]
async fn the_words_of_the_command_are_passed_as_they_are() {
    let words = ["printf", "[%s]", "; touch x", "$(id)", "a\nb", "--flag", "", "*"];
    let handler = CommandHandler::new(settings(&words)).expect("good settings");
    let expected = format!("[{}]", words[2..].join("]["));
    assert_eq!(run(handler, "{}").await, done(&serde_json::to_string(&expected).expect("text")));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_program_called_by_its_name_is_told_that_name_and_a_script_needs_no_first_line() {
    let dir = std::env::temp_dir().join(format!("rowcrew-names-{}", fastrand::u64(..)));
    std::fs::create_dir(&dir).expect("a folder");
    for (name, text) in [("bare-script", "cat"), ("headed-script", "#!/bin/sh\ncat")] {
        let path = dir.join(name);
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    }
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", dir.display());
    let named = |words: &[&str]| {
        let settings = CommandSettings { env: vec![("PATH".into(), path.clone())], ..settings(words) };
        CommandHandler::new(settings).expect("good settings")
    };
    for script in ["bare-script", "headed-script"] {
        assert_eq!(run(named(&[script]), "{\"n\":1}").await, done("{\"n\":1}"), "{script}");
    }
    assert_eq!(run(named(&["cat", "/proc/self/comm"]), "{}").await, done("\"cat\""));
    let words = ["sed", "s/\\x00.*//", "/proc/self/cmdline"];
    assert_eq!(run(named(&words), "{}").await, done("\"sed\""), "its own name for itself");
    std::fs::remove_dir_all(&dir).expect("it goes");
}

#[tokio::test]
async fn the_environment_has_the_job_and_not_the_database() {
    let mut all = settings(&["env"]);
    for name in [
        "DATABASE_URL",
        "ROWCREW_TOKEN",
        "ROWCREW_JOB_ID",
        "AWS_KEY",
        "AWSX",
        "HOME",
        "LANG",
        "LC_TIME",
        "EDITOR",
    ] {
        all.inherited.push((name.into(), "inherited".into()));
    }
    all.env = vec![("LANG".into(), "set".into())];
    let asked_for = ["DATABASE_URL", "AWS_*", "ROWCREW*"].map(str::to_owned).to_vec();
    let more = CommandSettings { inherit_env: asked_for, ..all.clone() };
    let path = "PATH=/usr/local/bin:/usr/bin:/bin";
    let own = ["ROWCREW_ATTEMPT=1", "ROWCREW_JOB_ID=42", "ROWCREW_KIND=email.send", "ROWCREW_QUEUE=default"];
    let parent = "ROWCREW_TRACEPARENT=00-1-2-01";
    let usual = ["HOME=inherited", "LANG=set", "LC_TIME=inherited", path];
    let with_more = [&["AWS_KEY=inherited", "DATABASE_URL=inherited"][..], &usual].concat();
    for (settings, inherited) in [(all, usual.to_vec()), (more, with_more)] {
        let mut job = job("{}");
        job.traceparent = Some("00-1-2-01".into());
        let handler = Arc::new(CommandHandler::new(settings).expect("good settings"));
        let Ok(Success::Done(Some(result))) = handler.run(context(job, PATIENCE)).await else { panic!() };
        let result: String = serde_json::from_str(&result).expect("a string");
        let (family, mut lines): (Vec<_>, Vec<_>) =
            result.lines().partition(|line| line.starts_with("ROWCREW_FAMILY="));
        lines.sort_unstable();
        assert_eq!(family.len(), 1);
        assert_eq!(lines, [&inherited[..], &own, &[parent]].concat());
    }
}

#[tokio::test]
async fn a_command_runs_where_it_is_told() {
    let settings = CommandSettings { dir: Some("/".into()), ..settings(&["pwd"]) };
    assert_eq!(run(CommandHandler::new(settings).expect("good settings"), "{}").await, done("\"/\""));
}

#[tokio::test]
async fn an_exit_code_decides_between_retry_and_burial() {
    for (code, verdict) in
        [(1, Verdict::Retry), (64, Verdict::Retry), (65, Verdict::Bury), (255, Verdict::Retry)]
    {
        let failure = failed(&format!("echo why >&2; exit {code}")).await;
        assert_eq!((failure.class, failure.verdict), (FailureClass::ExitCode, verdict), "{code}");
        assert!(failure.message.contains(&format!("`bash`: exit code {code}")), "{}", failure.message);
        assert_eq!(failure.detail.as_deref(), Some("why\n"));
    }
}

#[tokio::test]
async fn a_signal_is_tried_again() {
    for signal in [9, 11] {
        let failure = failed(&format!("kill -{signal} $$")).await;
        assert_eq!((failure.class, failure.verdict), (FailureClass::Signal, Verdict::Retry));
        assert!(failure.message.contains(&format!("signal {signal}")), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_command_that_cannot_start_says_what_to_check() {
    let no_dir = CommandSettings { dir: Some("/no/such/dir".into()), ..settings(&["true"]) };
    let not_executable = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for (settings, name, check) in [
        (settings(&["no-such-program"]), "`no-such-program`", "PATH"),
        (settings(&["/no/such/program"]), "`/no/such/program`", "installed"),
        (settings(&[not_executable]), not_executable, "executable"),
        (no_dir, "`true`", "`dir`"),
    ] {
        let failure = run(CommandHandler::new(settings).expect("good settings"), "{}").await.expect_err(name);
        assert_eq!((failure.class, failure.verdict), (FailureClass::Start, Verdict::Retry));
        assert!(failure.message.contains(name) && failure.message.contains(check), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_command_need_not_read_its_payload() {
    let payload = format!("\"{}\"", "x".repeat(1_000_000));
    assert_eq!(run(bash("exec 0<&-; echo 1"), &payload).await, done("1"));
    assert_eq!(run(bash("echo 2"), &payload).await, done("2"));
    assert_eq!(run(bash("head -c 4"), &payload).await, done("\"\\\"xxx\""));
    // Both pipes are full at once: the command echoes while it is still being fed.
    assert!(run(bash("cat"), &payload).await == done(&payload));
}

#[tokio::test]
async fn a_hundred_megabytes_of_output_are_read_and_cut() {
    let mut settings = settings(&["bash", "-c", "yes | head -c 100000000"]);
    settings.result_bytes_max = 4;
    let handler = CommandHandler::new(settings).expect("good settings");
    assert_eq!(run(handler, "{}").await, done(r#"{"truncated":true,"bytes":100000000,"text":"y\ny\n"}"#));
    let failure = failed("yes | head -c 10000000 >&2; exit 1").await;
    let detail = failure.detail.expect("the tail");
    assert!(detail.starts_with("(9983616 bytes before) …"), "{}", &detail[..40]);
}

#[tokio::test]
async fn a_background_grandchild_neither_holds_up_the_end_nor_outlives_it() {
    let family = Family::new("echo 5; exit 0").await;
    let start = Instant::now();
    let attempt = family.handler.clone().run(context(job("{}"), PATIENCE));
    let (outcome, stream) = tokio::join!(attempt, family.ready());
    assert_eq!(outcome, done("5"));
    assert!(start.elapsed() < PATIENCE / 2);
    all_gone(stream).await;
}

#[tokio::test]
async fn a_cancelled_command_may_tidy_up() {
    let family = Family::new("trap 'echo tidy >&2; exit 0' TERM; echo trapped >&3; wait").await;
    let context = context(job("{}"), PATIENCE);
    let cancelled = context.cancelled.clone();
    let cancel = async {
        let mut stream = family.ready().await;
        stream.read_line(&mut String::new()).await.expect("the trap is set");
        cancelled.cancel();
        stream
    };
    let (outcome, stream) = tokio::join!(family.handler.clone().run(context), cancel);
    let failure = outcome.expect_err("cancelled");
    assert_eq!((failure.class, failure.verdict), (FailureClass::Cancelled, Verdict::Retry));
    assert_eq!(failure.detail.as_deref(), Some("tidy\n"));
    all_gone(stream).await;
}

#[tokio::test]
async fn a_cancelled_command_that_will_not_end_is_killed() {
    let family = Family::new("trap '' TERM; echo trapped >&3; while :; do sleep 1000; done").await;
    let context = context(job("{}"), PATIENCE);
    let cancelled = context.cancelled.clone();
    let cancel = async {
        let mut stream = family.ready().await;
        stream.read_line(&mut String::new()).await.expect("the trap is set");
        cancelled.cancel();
        stream
    };
    let (outcome, stream) = tokio::join!(family.handler.clone().run(context), cancel);
    assert_eq!(outcome.expect_err("cancelled").class, FailureClass::Cancelled);
    all_gone(stream).await;
}

#[tokio::test]
async fn a_command_past_its_time_is_killed_with_all_it_started() {
    let family = Family::new("wait").await;
    let attempt = family.handler.clone().run(context(job("{}"), Duration::from_secs(1)));
    let (outcome, stream) = tokio::join!(attempt, family.ready());
    let failure = outcome.expect_err("too long");
    assert_eq!((failure.class, failure.verdict), (FailureClass::Timeout, Verdict::Retry));
    all_gone(stream).await;
}

#[tokio::test]
async fn a_dropped_attempt_leaves_no_process_and_no_zombie() {
    let family = Family::new("echo $$ >&3; wait").await;
    let attempt = tokio::spawn(family.handler.clone().run(context(job("{}"), PATIENCE)));
    let mut stream = family.ready().await;
    let mut line = String::new();
    stream.read_line(&mut line).await.expect("its process id");
    let id = rustix::process::Pid::from_raw(line.trim().parse().expect("a number")).expect("an id");
    attempt.abort();
    all_gone(stream).await;
    let collected = async {
        while rustix::process::test_kill_process(id).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, collected).await.expect("a zombie is left");
}

#[test]
fn faulty_settings_are_named() {
    let good = settings(&["true"]);
    let with_env =
        |name: &str, value: &str| CommandSettings { env: vec![(name.into(), value.into())], ..good.clone() };
    for (settings, word) in [
        (settings(&[]), "command is empty"),
        (settings(&[""]), "command is empty"),
        (settings(&["a", "b\0"]), "NUL"),
        (settings(&["{payload.program}"]), "the program cannot come"),
        (settings(&["a", "--b={payload.b}"]), "whole argument"),
        (with_env("A=B", "hidden"), "A=B"),
        (with_env("", "hidden"), "env"),
        (with_env("ROWCREW_KIND", "hidden"), "ROWCREW_KIND"),
        (with_env("A", "hidden\0"), "NUL"),
        (CommandSettings { result_bytes_max: usize::MAX, ..good.clone() }, "result_bytes_max"),
    ] {
        let fault = CommandHandler::new(settings).expect_err(word);
        assert!(fault.contains(word) && !fault.contains("hidden"), "{fault}");
    }
    assert!(!format!("{:?}", with_env("A", "hidden")).contains("hidden"));
}

#[tokio::test]
async fn an_argument_from_the_payload_reaches_the_program_as_it_is() {
    let words = ["printf", "[%s]", "{payload.a}", "--", "{payload.b:dash}"];
    let values = ["; touch x", "$(id)", "a\nb", "", "*", "\u{1F600} é", "'\"\\", "--flag", "{payload.a}"];
    for (at, b) in values.iter().enumerate() {
        let a = values[(at + 1) % values.len()];
        let payload = serde_json::json!({ "a": a, "b": b }).to_string();
        let handler = CommandHandler::new(settings(&words)).expect("good settings");
        let outcome = run(handler, &payload).await;
        if a.starts_with('-') {
            let failure = outcome.expect_err("an option");
            assert_eq!((failure.class, failure.verdict), (FailureClass::Start, Verdict::Bury));
            assert!(failure.message.contains("`printf` was not started"), "{}", failure.message);
        } else {
            let expected = format!("[{a}][--][{b}]");
            assert_eq!(outcome, done(&serde_json::to_string(&expected).expect("text")));
        }
    }
}
