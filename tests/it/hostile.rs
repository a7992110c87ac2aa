//! Commands that misuse what they are given meet a limit, say which, and leave the worker well.

use std::fmt::Write as _;

use crate::support::{Crew, Db, until_gone};

/// A user that nobody else runs as, so that nobody else's processes count.
const NOBODY_ELSE: u32 = 61_803;

/// One handler: its kind, further settings, and its shell script.
fn handler(config: &mut String, kind: &str, settings: &str, script: &str) {
    write!(
        config,
        "[handlers.{kind}]\ntype = \"command\"\nmax_attempts = 1\n{settings}\ncommand = [\"sh\", \"-c\", '''{script}''']\n"
    )
    .expect("text");
}

#[tokio::test]
async fn a_hostile_command_meets_its_limit_and_the_next_job_runs() {
    let db = Db::new().await;
    let root = rustix::process::geteuid().is_root();
    let as_user = if root { format!("uid = {NOBODY_ELSE}\ngid = {NOBODY_ELSE}") } else { String::new() };
    // Who is no root shares the limit with all of his processes: none is left for the script.
    let few = if root { 5 } else { 1 };
    let mut config = "[worker]\nconcurrency = 2\n".to_owned();
    let cases = [
        ("endless", "timeout = \"500ms\"", "yes", "timeout", ""),
        ("deaf", "timeout = \"500ms\"", "exec sleep 100", "timeout", ""),
        ("closes", "", "exec 0<&- 1>&- 2>&-; exit 3", "exit_code", "exit code 3"),
        ("loud", "", "head -c 1000000000 /dev/zero >&2; exit 4", "exit_code", "exit code 4"),
        ("busy", "cpu_seconds_max = 1", "while :; do :; done", "signal", "(SIGXCPU)"),
        (
            "greedy",
            "memory_bytes_max = 67108864",
            "head -c 200000000 /dev/zero | tail -n 1 >/dev/null || exit 7",
            "exit_code",
            "memory_bytes_max = 67108864",
        ),
        (
            "opens",
            "open_files_max = 16",
            "exec bash -c \"exec 17</dev/null\"",
            "exit_code",
            "open_files_max = 16",
        ),
        (
            "forks",
            &format!("processes_max = {few}\ntimeout = \"20s\"\n{as_user}"),
            "for n in 1 2 3 4 5 6 7 8 9; do sleep 60 & done",
            "exit_code",
            &format!("processes_max = {few}"),
        ),
    ];
    for (kind, settings, script, ..) in &cases {
        handler(&mut config, kind, settings, script);
    }
    handler(&mut config, "good", "", "echo well");
    let _worker = Crew::start(&db, &config).await;
    for (kind, .., class, words) in &cases {
        let payload = format!(r#"{{"a": "{}"}}"#, "x".repeat(200_000));
        let id = db.insert(kind, &payload).await;
        db.until_state(id, "dead").await;
        let row = db
            .client
            .query_one(
                "select errors -> 0 ->> 'class', last_error from rowcrew.dead_jobs where id = $1",
                &[&id],
            )
            .await
            .expect("a row");
        let (found, error): (&str, &str) = (row.get(0), row.get(1));
        assert!(found == *class && error.contains(words), "{kind}: {found}: {error}");
        let next = db.insert("good", "{}").await;
        db.until_state(next, "completed").await;
    }
}

#[tokio::test]
async fn a_command_runs_as_the_user_it_is_given_without_the_groups_of_the_worker() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let db = Db::new().await;
    let mut config = String::new();
    handler(
        &mut config,
        "who",
        &format!("uid = {NOBODY_ELSE}\ngid = {NOBODY_ELSE}\nnice = 3"),
        "echo $(id -u) $(id -g) $(id -G) $(nice) $PPID",
    );
    let worker = Crew::start(&db, &config).await;
    let id = db.insert("who", "{}").await;
    db.until_state(id, "completed").await;
    let result: String = db.one("select result #>> '{}' from rowcrew.finished_jobs").await;
    let words: Vec<_> = result.split(' ').collect();
    assert_eq!(words[..3], [NOBODY_ELSE.to_string().as_str(); 3], "{result}");
    assert_eq!(words[4], worker.pid().to_string(), "{result}");
}

#[tokio::test]
async fn a_limited_command_that_cannot_start_says_so_and_leaves_no_process() {
    let db = Db::new().await;
    let config = "[handlers.none]\ntype = \"command\"\nmax_attempts = 1\nopen_files_max = 64\ncommand = [\"/no/such\"]";
    let worker = Crew::start(&db, config).await;
    let id = db.insert("none", "{}").await;
    db.until_state(id, "dead").await;
    let error: String = db.one("select last_error from rowcrew.dead_jobs").await;
    assert!(error.contains("`/no/such` cannot be started"), "{error}");
    let pid = worker.pid() as i32;
    drop(worker);
    until_gone(pid).await;
}

#[tokio::test]
async fn no_payload_changes_the_arguments_of_a_real_child() {
    let db = Db::new().await;
    let config = "[worker]\nconcurrency = 4\n[handlers.shows]\ntype = \"command\"\n\
        command = [\"sh\", \"-c\", \"cat /proc/$$/cmdline\", \"name\", \"{payload.a}\", \"--\", \"{payload.b:dash}\"]\n";
    let _worker = Crew::start(&db, config).await;
    let pieces =
        ["$(id)", ";", "--flag", "\n", " ", "*", "`id`", "'", "\"", "\\", "é", "😀", "", "{payload.b}"];
    let mut sent = Vec::new();
    for n in 0..300 {
        let piece = |at: usize| pieces[at % pieces.len()];
        let a = format!("x{}{}", piece(n), piece(n / 14));
        let b = format!("{}{}", piece(n * 3), piece(n / 7));
        let payload = serde_json::json!({ "a": a, "b": b });
        let insert = "insert into rowcrew.jobs (kind, payload) values ('shows', $1) returning id";
        let row = db.client.query_one(insert, &[&payload]).await.expect("a job");
        sent.push((row.get::<_, i64>(0), a, b));
    }
    db.until("not exists (select from rowcrew.jobs)").await;
    for (id, a, b) in sent {
        let sql = format!("select result #>> '{{}}' from rowcrew.finished_jobs where id = {id}");
        let seen: String = db.one(&sql).await;
        // NUL ends each argument, and is kept as U+FFFD.
        let seen: Vec<_> = seen.split('\u{FFFD}').collect();
        assert_eq!(seen, ["sh", "-c", "cat /proc/$$/cmdline", "name", &a, "--", &b, ""]);
    }
}
