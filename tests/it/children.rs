//! No process that a job started outlives its worker or its attempt, wherever it went.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::support::{Crew, Db, Scratch, is_alive, until_gone};

/// Starts children in every way a shell has, and writes all their numbers to `$1`: in its own group, in a session
/// of their own, without a parent, without an environment.
const TREE: &str = r#"
    echo $$ >> "$FILE"
    sleep 600 & echo $! >> "$FILE"
    (trap '' TERM HUP INT; sleep 600) & echo $! >> "$FILE"
    setsid sh -c 'echo $$ >> "$FILE"; exec sleep 600' &
    (setsid sh -c 'sh -c "echo \$\$ >> \"\$FILE\"; exec sleep 600" & exit' &)
    env -i sleep 600 & echo $! >> "$FILE"
    wait; wait
"#;
const TREE_SIZE: usize = 6;

fn config(scratch: &Scratch, file: &str, script: &str) -> String {
    let path = scratch.path(&format!("{file}.sh"));
    std::fs::write(&path, script).expect("a file");
    format!(
        "[worker]\nconcurrency = 8\n[handlers.tree]\ntype = \"command\"\ncommand = [\"sh\", \"{path}\"]\n\
         env = {{ FILE = \"{}\" }}\n",
        scratch.path(file)
    )
}

/// How long after the call the last of these was gone.
async fn gone_after(pids: &[i32]) -> Duration {
    let began = Instant::now();
    for pid in pids {
        until_gone(*pid).await;
    }
    began.elapsed()
}

/// The guards of a worker. A machine that is out of something for a moment shows none.
fn guards_of(worker: u32) -> Vec<i32> {
    let Ok(numbers) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = numbers.flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
            parent == Some(worker) && line.contains("\0guard\0")
        })
        .collect()
}

async fn until_guarded(worker: u32, not_by: Option<i32>) -> i32 {
    let began = Instant::now();
    loop {
        if let Some(guard) = guards_of(worker).into_iter().find(|guard| Some(*guard) != not_by) {
            return guard;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "no guard");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn no_process_of_a_job_outlives_a_worker_that_is_killed() {
    let rounds = std::env::var("ROWCREW_TEST_ROUNDS").map_or(3, |rounds| rounds.parse().expect("a number"));
    let db = Db::new().await;
    let scratch = Scratch::new();
    let mut times = Vec::new();
    for round in 0..rounds {
        let file = format!("tree{round}");
        let mut worker = Crew::start(&db, &config(&scratch, &file, TREE)).await;
        db.insert_many("tree", "'{}'", 3).await;
        let tree = scratch.pids(&file, 3 * TREE_SIZE).await;
        assert!(tree.iter().all(|pid| is_alive(*pid)));
        worker.kill();
        times.push(gone_after(&tree).await);
        db.exec("delete from rowcrew.jobs").await;
    }
    times.sort_unstable();
    println!("median {:?}, longest {:?} of {rounds}", times[rounds / 2], times[rounds - 1]);
    assert!(times[rounds - 1] < Duration::from_secs(1), "{times:?}");
}

#[tokio::test]
async fn the_guard_survives_what_kills_the_whole_group_of_the_worker_and_ends_after_it() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let mut worker = Crew::start_in_group(&db, &config(&scratch, "tree", TREE)).await;
    let guard = until_guarded(worker.pid(), None).await;
    db.insert("tree", "{}").await;
    let tree = scratch.pids("tree", TREE_SIZE).await;
    kill_process_group(Pid::from_raw(worker.pid() as i32).expect("a pid"), Signal::KILL).expect("a signal");
    worker.ended(Duration::from_secs(20)).await;
    assert!(gone_after(&tree).await < Duration::from_secs(1));
    until_gone(guard).await;
}

#[tokio::test]
async fn a_guard_that_is_killed_is_replaced_and_the_next_one_knows_the_children() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let mut worker = Crew::start(&db, &config(&scratch, "tree", TREE)).await;
    db.insert("tree", "{}").await;
    let tree = scratch.pids("tree", TREE_SIZE).await;
    let first = until_guarded(worker.pid(), None).await;
    kill_process(Pid::from_raw(first).expect("a pid"), Signal::KILL).expect("a signal");
    worker.until_log("another is started").await;
    let second = until_guarded(worker.pid(), Some(first)).await;
    // It is ready when it has a session of its own.
    while rustix::process::getsid(Pid::from_raw(second)).expect("its session").as_raw_nonzero().get()
        != second
    {
        tokio::task::yield_now().await;
    }
    assert!(tree.iter().all(|pid| is_alive(*pid)));
    worker.kill();
    assert!(gone_after(&tree).await < Duration::from_secs(1));
}

#[tokio::test]
async fn a_worker_that_is_only_frozen_keeps_its_children() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let mut worker = Crew::start(&db, &config(&scratch, "tree", TREE)).await;
    db.insert("tree", "{}").await;
    let tree = scratch.pids("tree", TREE_SIZE).await;
    worker.signal(Signal::STOP);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(tree.iter().all(|pid| is_alive(*pid)), "the guard killed for nothing");
    worker.kill();
    assert!(gone_after(&tree).await < Duration::from_secs(1));
}

/// None of these lives; who looks says of what.
fn all_dead(pids: &[i32], worker: &Crew) {
    let alive: Vec<_> = pids.iter().filter(|pid| is_alive(**pid)).collect();
    assert!(alive.is_empty(), "{alive:?} of {pids:?} live on; {}", worker.log());
}

#[tokio::test]
async fn all_that_a_job_started_is_dead_before_its_cancellation_or_timeout_is_written() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let worker = Crew::start(&db, &config(&scratch, "tree", TREE)).await;
    let id = db.insert("tree", "{}").await;
    let tree = scratch.pids("tree", TREE_SIZE).await;
    db.exec(&format!("select rowcrew.cancel({id})")).await;
    db.until_state(id, "cancelled").await;
    all_dead(&tree, &worker);
    let late: i64 = db
        .one("insert into rowcrew.jobs (kind, timeout, max_attempts) values ('tree', interval '2 s', 1) returning id")
        .await;
    let tree = scratch.pids("tree", 2 * TREE_SIZE).await;
    db.until_state(late, "dead").await;
    all_dead(&tree, &worker);
}

/// Notes its number and takes jobs, which it neither does nor gives up; it does not end when asked to either.
const STUBBORN: &str = r#"
    trap '' TERM
    echo $$ >> "$FILE"
    while read -r line; do sleep 600 & echo $! >> "$FILE"; wait; done
"#;

#[tokio::test]
async fn a_child_that_does_not_give_a_job_up_is_dead_before_the_jobs_end_is_written() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let config = config(&scratch, "child", STUBBORN).replace("\"command\"", "\"process\"");
    let worker = Crew::start(&db, &config).await;
    let id = db.insert("tree", "{}").await;
    let pids = scratch.pids("child", 2).await;
    db.exec(&format!("select rowcrew.cancel({id})")).await;
    db.until_state(id, "cancelled").await;
    all_dead(&pids[..2], &worker);
    let before = scratch.pids("child", 3).await.len();
    let late: i64 = db
        .one("insert into rowcrew.jobs (kind, timeout, max_attempts) values ('tree', interval '300 ms', 1) returning id")
        .await;
    let pids = scratch.pids("child", before + 1).await;
    db.until_state(late, "dead").await;
    all_dead(&pids[..=before], &worker);
}

#[tokio::test]
async fn a_worker_that_stops_gives_a_job_back_when_its_processes_are_dead() {
    let db = Db::new().await;
    let scratch = Scratch::new();
    let config = config(&scratch, "tree", TREE).replace("[worker]", "[worker]\ndrain_ms = 0");
    let mut worker = Crew::start(&db, &config).await;
    let id = db.insert("tree", "{}").await;
    let tree = scratch.pids("tree", TREE_SIZE).await;
    worker.signal(Signal::TERM);
    db.until_state(id, "available").await;
    all_dead(&tree, &worker);
    let (status, _) = worker.ended(Duration::from_secs(20)).await;
    assert!(status.success());
}
