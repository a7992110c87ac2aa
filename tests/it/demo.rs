//! `rowcrew demo`: needs nothing, proves what it says, and leaves nothing behind, however it ends.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

/// Far beyond what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A folder of files to work on; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn with_files(count: usize) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name =
            format!("rowcrew-test-files-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("deep/er")).expect("a folder");
        for n in 0..count {
            let below = ["", "deep", "deep/er"][n % 3];
            fs::write(path.join(below).join(format!("file {n}.txt")), "line\n".repeat(n)).expect("a file");
        }
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running demo: its story line by line, and what it started.
struct Demo {
    child: Child,
    stdout: BufReader<ChildStdout>,
    story: Receiver<String>,
    heard: String,
    /// The workers, and the private Postgres.
    pids: Vec<i32>,
    folder: PathBuf,
}

impl Demo {
    fn start(dir: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rowcrew"));
        command.arg("demo").arg(dir).arg("--json").args(flags);
        // What the user has set for a crew of their own is not the demo's business.
        command.env("ROWCREW_WORKER__CONCURRENCY", "nonsense");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, story) = mpsc::channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, stdout, story, heard: String::new(), pids: vec![], folder: PathBuf::new() }
    }

    /// Hears the story until a line has these words.
    fn hear(&mut self, words: &str) {
        loop {
            let line = self.story.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("never told of {words:?}:\n{}", self.heard));
            self.heard.push_str(&line);
            self.heard.push('\n');
            if let Some((_, rest)) = line.split_once("runs in ") {
                self.folder = rest.split(';').next().expect("a folder").into();
                let file = fs::read_to_string(self.folder.join("data/postmaster.pid")).expect("it runs");
                self.pids.push(file.lines().next().expect("a line").parse().expect("a pid"));
            }
            if let Some((_, rest)) = line.split_once("starts (pid ") {
                self.pids.push(rest.split(')').next().expect("a pid").parse().expect("a pid"));
            }
            if line.contains(words) {
                return;
            }
        }
    }

    /// The proof, which must be there when this is asked.
    fn proof(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("readable");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}\n{}", self.rest()))
    }

    fn rest(&mut self) -> String {
        let _ = self.child.kill();
        self.heard.extend(self.story.iter().map(|line| line + "\n"));
        self.heard.clone()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).expect("a pid"), signal).expect("a signal");
    }

    fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("waiting works") {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the demo does not end:\n{}", self.rest());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the guard of the private Postgres runs, which is long before Postgres does.
    fn until_guarded(&mut self) {
        let began = Instant::now();
        let child = self.child.id().to_string();
        while self.pids.is_empty() {
            assert!(began.elapsed() < PATIENCE, "no guard was started: {}", self.rest());
            let listed = Command::new("ps").args(["-A", "-o", "ppid=,pid=,args="]).output().expect("ps");
            for line in String::from_utf8_lossy(&listed.stdout).lines() {
                let words: Vec<_> = line.split_whitespace().take(2).collect();
                if words[0] == child && line.contains("rowcrew-watchdog") {
                    self.pids.push(words[1].parse().expect("a pid"));
                }
            }
        }
    }

    /// What is left of it: its folder, its processes, and those that were started with the folder's name.
    fn left(&self) -> Vec<String> {
        assert!(!self.pids.is_empty(), "it told of no process: {}", self.heard);
        let alive = |pid: &&i32| test_kill_process(Pid::from_raw(**pid).expect("a pid")).is_ok();
        let mut left: Vec<_> = self.pids.iter().filter(alive).map(|pid| format!("process {pid}")).collect();
        // A demo that was ended early has told of no folder; its guard removes one before it ends itself.
        if let Some(folder) = self.folder.to_str().filter(|folder| !folder.is_empty()) {
            left.extend(self.folder.exists().then(|| folder.to_owned()));
            let listed = Command::new("ps").args(["-A", "-o", "args="]).output().expect("ps");
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            left.extend(listed.lines().filter(|line| line.contains(folder)).map(str::to_owned));
        }
        left
    }

    /// For ends that nobody could wait for.
    fn until_nothing_is_left(&self) {
        let began = Instant::now();
        while !self.left().is_empty() {
            assert!(began.elapsed() < PATIENCE, "still there: {:#?}", self.left());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn assert_proves(proof: &Value, files: usize) {
    assert_eq!(proof["ok"], true, "{proof:#}");
    assert_eq!(proof["files"], files);
    assert_eq!(proof["ledger"]["once"], files);
    assert_eq!(proof["checksums"]["right"], files);
    assert_eq!(proof["webhooks"]["accepted"], files.div_ceil(10));
    assert_eq!(proof["webhooks"]["bad_signatures"], 0);
    assert_eq!(proof["recovered"], 3);
    let reasons: Vec<_> =
        proof["dead"].as_array().expect("a list").iter().map(|dead| &dead["reason"]).collect();
    assert_eq!(reasons, ["exhausted", "permanent", "permanent"]);
    let rescued = |field: &str| proof["rescue"][field].as_i64().expect("a number");
    assert!(rescued("held") >= 1 && rescued("given_back") == rescued("held"), "{proof:#}");
    assert!(rescued("after_ms") > 0, "{proof:#}");
}

#[test]
fn the_demo_proves_that_every_file_was_recorded_exactly_once_and_leaves_nothing_behind() {
    let folder = Folder::with_files(40);
    let mut demo = Demo::start(&folder.0, &[]);
    demo.hear("jobs have ended; ");
    let proof = demo.proof();
    assert!(demo.ended().success(), "{}", demo.rest());
    assert_proves(&proof, 40);
    assert_eq!(proof["pids"].as_array().map(Vec::len), Some(3));
    assert_eq!(demo.left(), [""; 0]);
}

#[test]
fn a_demo_takes_file_names_that_are_not_utf8_and_folders_without_files() {
    let folder = Folder::with_files(2);
    let name = OsString::from_vec(b"caf\xe9 \xff 'quoted' $1.txt".to_vec());
    if fs::write(folder.0.join(&name), "odd name").is_err() {
        return; // A file system that takes only UTF-8.
    }
    let mut demo = Demo::start(&folder.0, &[]);
    demo.hear("jobs have ended; ");
    let proof = demo.proof();
    assert!(demo.ended().success());
    assert_proves(&proof, 3);

    let empty = Folder::with_files(0);
    let mut demo = Demo::start(&empty.0, &[]);
    demo.hear("has no files to work on");
    demo.hear("jobs have ended; ");
    assert_proves(&demo.proof(), 12);
    assert!(demo.ended().success());
    assert_eq!(demo.left(), [""; 0]);
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind_at_any_moment() {
    let folder = Folder::with_files(40);
    for (moment, signal) in [
        ("They are only read", Signal::TERM),
        ("runs in", Signal::INT),
        ("worker-2 starts", Signal::INT),
        ("SIGKILL to worker-", Signal::HUP),
    ] {
        let mut demo = Demo::start(&folder.0, &[]);
        demo.hear(moment);
        if moment == "They are only read" {
            demo.until_guarded();
        }
        demo.signal(signal);
        demo.hear("Interrupted");
        assert_eq!(demo.ended().code(), Some(1), "{moment}: {}", demo.rest());
        assert_eq!(demo.left(), [""; 0], "{moment}");
    }
}

#[test]
fn a_killed_demo_takes_its_workers_and_its_database_with_it() {
    let folder = Folder::with_files(40);
    let mut demo = Demo::start(&folder.0, &[]);
    demo.hear("SIGKILL to worker-");
    demo.signal(Signal::KILL);
    demo.ended();
    demo.until_nothing_is_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_demo_runs_what_is_inserted_by_hand_until_it_is_interrupted() {
    let folder = Folder::with_files(5);
    let mut demo = Demo::start(&folder.0, &["--keep"]);
    demo.hear("Your job is run at once");
    let proof = demo.proof();
    assert_proves(&proof, 5);
    let client = crate::support::connect(proof["database_url"].as_str().expect("a URL")).await;
    let insert =
        r#"insert into rowcrew.jobs (kind, payload) values ('demo.echo', '{"hello": "world"}') returning id"#;
    let id: i64 = client.query_one(insert, &[]).await.expect("inserted").get(0);
    demo.hear(&format!("job {id} (demo.echo) is completed"));
    let look = "select state, result ->> 'hello' from rowcrew.job_status where id = $1";
    let seen = client.query_one(look, &[&id]).await.expect("kept");
    assert_eq!((seen.get(0), seen.get(1)), ("completed", "world"));
    drop(client);
    demo.signal(Signal::INT);
    assert!(demo.ended().success(), "{}", demo.rest());
    assert_eq!(demo.left(), [""; 0]);
}

#[test]
fn a_demo_that_cannot_do_what_is_asked_says_so() {
    let output = crate::support::rowcrew(&["demo", "/nonexistent/folder"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("/nonexistent/folder"), "{}", output.stderr);
    let output = crate::support::rowcrew(&["demo", "--database-url", "postgres://nowhere/app"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("private Postgres of its own"), "{}", output.stderr);
}
