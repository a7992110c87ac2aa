//! Starts real clusters, and looks for what they leave behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::watchdog::{Patience, Watchdog};
use super::*;

/// Makes a re-run of the test binary the owner of a cluster; the value says when it is to be killed.
const OWNER: &str = "ROWCREW_TEST_OWNER";

/// A folder of a test's own, removed at its end.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rowcrew-test-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    /// Writes a program. A child does it: a file this process has open for writing may be held by a fork of
    /// another test's thread, and then it cannot be run ("text file busy").
    pub(super) fn script(&self, name: &str, text: &str) {
        let line = r#"mkdir -p "${1%/*}" && printf '#!/bin/sh\n%s\n' "$2" >"$1" && chmod 755 "$1""#;
        let status = Command::new("sh").args(["-c", line, "sh"]).arg(self.join(name)).arg(text).status();
        assert!(status.expect("sh").success());
    }
}

impl Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes a folder of programs that only tell their version.
pub(super) fn fake_postgres(dir: &Path, version: &str) {
    let folder = std::mem::ManuallyDrop::new(Folder(dir.to_owned()));
    for name in ["initdb", "postgres"] {
        folder.script(name, &format!("echo 'postgres (PostgreSQL) {version}'"));
    }
}

fn binaries() -> Binaries {
    static FOUND: OnceLock<Binaries> = OnceLock::new();
    let find = || locate(&Environment::read(), None, &mut |line| eprintln!("{line}")).expect("Postgres");
    FOUND.get_or_init(find).clone()
}

fn options() -> Options {
    Options { durable: false, ..Options::new(binaries()) }
}

/// Asks through `psql`; `None` where this Postgres came without it.
fn answer(url: &str, sql: &str) -> Option<String> {
    let psql = binaries().bin_dir.join("psql");
    if !psql.exists() {
        return None;
    }
    let output = Command::new(psql).args(["-XAtd", url, "-c", sql]).output().expect("psql runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn server_pid(folder: &Path) -> String {
    let file = fs::read_to_string(folder.join("data/postmaster.pid")).expect("a running server");
    file.lines().next().expect("its pid").to_owned()
}

/// What Linux tells of a process, from its state on, see proc(5): state, parent, group, ...
fn stat(pid: &str) -> Option<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(line.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

/// Whether the process still runs. One that ended but that init has not collected yet does not.
fn is_alive(pid: &str) -> bool {
    if Path::new("/proc/self/stat").exists() {
        return stat(pid).is_some_and(|fields| !["Z", "X"].contains(&fields[0].as_str()));
    }
    let status = Command::new("sh").args(["-c", "kill -0 \"$1\" 2>/dev/null", "sh", pid]).status();
    status.expect("sh").success()
}

/// Waits for the end of what is no child of this process, and so cannot be waited for otherwise.
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_cluster_answers_and_leaves_nothing_when_dropped() {
    let settings = vec![("application_name".to_owned(), "it's \\ me".to_owned())];
    let cluster = Cluster::start(&Options { max_connections: 17, settings, ..options() }).expect("started");
    let (folder, pid) = (cluster.socket_dir().to_owned(), server_pid(cluster.socket_dir()));
    let sql = "select concat_ws(' ', current_user, current_setting('max_connections'), \
               current_setting('fsync'), current_setting('server_encoding'), inet_server_port())";
    if let Some(words) = answer(&cluster.url("postgres"), sql) {
        assert_eq!(words, "postgres 17 off UTF8");
    }
    let conf = fs::read_to_string(cluster.data_dir().join("postgresql.conf")).expect("a data folder");
    assert!(conf.contains(r"application_name = 'it''s \\ me'"));
    assert!(is_alive(&pid));
    if let (Some(server), Some(own)) = (stat(&pid), stat("self")) {
        assert_ne!(server[2], own[2], "the terminal's Ctrl-C would reach the server");
    }
    drop(cluster);
    assert!(!folder.exists() && !is_alive(&pid));
}

#[test]
fn the_psql_line_works_in_a_shell() {
    let cluster = Cluster::start(&options()).expect("started");
    let line = format!("{} -XAtc 'select 1'", cluster.psql_line("postgres"));
    if binaries().bin_dir.join("psql").exists() {
        let output = Command::new("sh").args(["-c", &line]).output().expect("sh");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1", "{line}");
    }
    let folder = cluster.socket_dir().to_owned();
    cluster.stop().expect("stopped");
    assert!(!folder.exists());
}

#[test]
fn committed_rows_are_there_after_a_crash() {
    let cluster = Cluster::start(&Options { tcp: true, ..Options::new(binaries()) }).expect("started");
    let url = cluster.tcp_url("postgres").expect("asked for");
    answer(&url, "create table kept as select 7 as n");
    let before = server_pid(cluster.socket_dir());
    cluster.restart_immediate().expect("up again");
    assert_ne!(server_pid(cluster.socket_dir()), before);
    for url in [url, cluster.url("postgres")] {
        assert!(answer(&url, "select n from kept").is_none_or(|n| n == "7"));
    }
    let pid = server_pid(cluster.socket_dir());
    cluster.crash().expect("down");
    assert!(!is_alive(&pid));
    let folder = cluster.socket_dir().to_owned();
    drop(cluster);
    assert!(!folder.exists());
}

#[test]
fn two_clusters_start_at_once() {
    let both = thread::scope(|scope| {
        let starts = [(); 2].map(|()| scope.spawn(|| Cluster::start(&options()).expect("started")));
        starts.map(|start| start.join().expect("no panic"))
    });
    assert_ne!(both[0].socket_dir(), both[1].socket_dir());
    assert!(both.iter().all(|cluster| answer(&cluster.url("postgres"), "select 1").is_none_or(|n| n == "1")));
}

#[test]
fn a_server_that_does_not_start_says_why_and_leaves_nothing() {
    let settings = vec![("shared_buffers".to_owned(), "plenty".to_owned())];
    let error = Cluster::start(&Options { settings, ..options() }).expect_err("no number");
    assert!(error.to_string().contains("shared_buffers"), "{error}");
    let Error::Step { folder, step, .. } = error else { panic!("{error}") };
    assert_eq!(step, "starting the server");
    assert!(!folder.exists());
}

#[test]
fn programs_that_do_not_run_are_named() {
    let folder = Folder::new();
    folder.script("initdb", "echo no such luck >&2; exit 1");
    let broken = Binaries { bin_dir: folder.to_path_buf(), major: 17 };
    let error = Cluster::start(&Options::new(broken)).expect_err("no initdb").to_string();
    assert!(error.contains("failed at initdb") && error.contains("no such luck"), "{error}");
    let absent = Binaries { bin_dir: folder.join("absent"), major: 17 };
    let error = Cluster::start(&Options::new(absent)).expect_err("no folder").to_string();
    assert!(error.contains("absent/initdb: not found") || error.contains("No such file"), "{error}");
}

#[test]
fn nothing_is_left_of_an_owner_killed_with_its_server_up() {
    let (mut owner, folder) = owner("ready");
    let pid = server_pid(&folder);
    owner.kill().expect("SIGKILL");
    owner.wait().expect("dead");
    wait_until("removal of the folder", || !folder.exists());
    assert!(!is_alive(&pid));
}

#[test]
fn a_server_that_hangs_at_its_start_is_ended_too() {
    let folder = Folder::new();
    folder.script("initdb", "mkdir data");
    folder.script("postgres", "echo $$ >data/pid; trap '' QUIT; while :; do sleep 1; done");
    let status = Command::new("chmod").args(["-R", "go+rX"]).arg(&*folder).status();
    assert!(status.expect("chmod").success());
    let hanging = Binaries { bin_dir: folder.to_path_buf(), major: 17 };
    let watchdog =
        Watchdog::spawn(&hanging, "", user::for_server().expect("a user"), Patience { start_s: 1, end_s: 1 })
            .expect("started");
    watchdog.expect("created", "initdb").expect("created");
    let pid_file = watchdog.folder().join("data/pid");
    let pid = || fs::read_to_string(&pid_file).unwrap_or_default().trim().to_owned();
    wait_until("its start", || !pid().is_empty());
    let pid = pid();
    assert!(is_alive(&pid));
    drop(watchdog);
    assert!(!is_alive(&pid));
}

#[test]
fn nothing_is_left_of_an_owner_killed_during_initdb() {
    let (mut owner, folder) = owner("initdb");
    owner.kill().expect("SIGKILL");
    owner.wait().expect("dead");
    wait_until("removal of the folder", || !folder.exists());
}

/// Runs `owner_process` in a process of its own and answers with the folder of its cluster.
fn owner(moment: &str) -> (Child, PathBuf) {
    let mut child = Command::new(std::env::current_exe().expect("this test binary"))
        .args(["--exact", "embedded::tests::owner_process", "--nocapture"])
        .env(OWNER, moment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test binary runs");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let mut folders = lines.filter_map(|line| Some(PathBuf::from(line.split_once("FOLDER=")?.1)));
    let folder = folders.next().expect("a folder");
    (child, folder)
}

/// Holds a cluster until it is killed; nothing to do in an ordinary run.
#[test]
fn owner_process() {
    let park = |folder: &Path| {
        println!("FOLDER={}", folder.display());
        let _ = std::io::stdin().read_line(&mut String::new());
    };
    match std::env::var(OWNER).as_deref() {
        Ok("ready") => park(Cluster::start(&options()).expect("started").socket_dir()),
        Ok("initdb") => {
            let user = user::for_server().expect("a user");
            park(Watchdog::spawn(&binaries(), "", user, Patience::ORDINARY).expect("started").folder());
        }
        _ => (),
    }
}
