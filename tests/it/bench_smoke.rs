//! `rowcrew bench all` works: every bench reports, with figures that are numbers. Not how fast.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Db, Scratch, rowcrew, rowcrew_on, spawn_alone, until_gone};

/// So little of everything that it takes seconds.
const SMALL: [&str; 14] = [
    "--rounds=1",
    "--jobs=2000",
    "--payload-bytes=40",
    "--error-rate=0.01",
    "--backlog=2000",
    "--workers=1,2",
    "--at-once=50",
    "--nap-ms=50",
    "--clients=4",
    "--seconds=0.2",
    "--inserts=10",
    "--minutes=0.05",
    "--rate=200",
    "--json",
];

#[test]
fn bench_measures_everything_and_draws_it() {
    let scratch = Scratch::new();
    let plot = scratch.path("out.svg");
    let output = rowcrew(&[&["bench", "all"][..], &SMALL, &["--plot", &plot]].concat());
    assert!(output.ok, "{output:?}");
    let reports: BTreeMap<String, Value> = output
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect(line))
        .map(|report| (report["bench"].as_str().expect("a name").to_owned(), report))
        .collect();
    let names: Vec<&str> = reports.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "backlog",
            "bloat",
            "concurrency",
            "drain",
            "enqueue",
            "handlers",
            "latency",
            "pooler",
            "replicas",
            "steady"
        ]
    );
    for (name, report) in &reports {
        let list = |key: &str| report[key].as_array().expect("a list").clone();
        if name == "pooler" && Command::new("pgbouncer").arg("--version").output().is_err() {
            assert!(report["notes"][0].as_str().expect("a note").contains("skipped: pgbouncer"), "{report}");
            continue;
        }
        assert!(!list("figures").is_empty(), "{report}");
        for figure in list("measured").iter().chain(&list("figures")) {
            let rounds = figure["rounds"].as_array().expect("rounds");
            // A value that is no finite number is null in JSON.
            let finite = rounds.iter().all(Value::is_number);
            assert!(finite && rounds.len() == 1 && figure["median"].is_number(), "{name}: {figure}");
        }
    }
    let svg = std::fs::read_to_string(&plot).expect("the drawing");
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    for title in ["drain: jobs", "latency: from", "steady: time of a claim"] {
        assert!(svg.contains(title), "{title}");
    }
}

#[tokio::test]
async fn a_bench_in_a_database_of_others_leaves_its_queue_open_and_its_bell_in_place() {
    let db = Db::new().await;
    let args = ["bench", "enqueue", "--here", "--rounds=1", "--jobs=200", "--clients=2", "--seconds=0.1"];
    let output = rowcrew_on(&db, &args, b"");
    assert!(output.ok, "{output:?}");
    let left: bool = db
        .one(
            "select not exists (select from rowcrew.jobs) and to_regclass('bench_rows') is null
                 and not exists (select from rowcrew.queues where paused_until is not null or retention is not null)
                 and (select tgenabled = 'O' from pg_trigger where tgname = 'jobs_ring' and tgrelid = 'rowcrew.jobs'::regclass)",
        )
        .await;
    assert!(left);
}

/// The processes that this one started, and those started by them.
fn descendants(pid: u32) -> Vec<(i32, String)> {
    let listed = Command::new("ps").args(["-A", "-o", "ppid=,pid=,args="]).output().expect("ps");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let all: Vec<(i32, i32, &str)> = listed
        .lines()
        .filter_map(|line| {
            let (parent, rest) = line.trim_start().split_once(' ')?;
            let (pid, args) = rest.trim_start().split_once(' ')?;
            Some((parent.parse().ok()?, pid.parse().ok()?, args))
        })
        .collect();
    let mut known = vec![pid as i32];
    let mut found = Vec::new();
    let mut next = 0;
    while let Some(&parent) = known.get(next) {
        next += 1;
        for (_, pid, args) in all.iter().filter(|(of, ..)| *of == parent) {
            known.push(*pid);
            found.push((*pid, (*args).to_owned()));
        }
    }
    found
}

#[tokio::test]
async fn a_bench_that_is_stopped_or_killed_leaves_no_process_behind() {
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let mut bench = spawn_alone(&["bench", "steady", "--minutes=10", "--rate=10"]);
        let began = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let started = loop {
            ticks.tick().await;
            let started = descendants(bench.id());
            let work = started.iter().any(|(_, args)| args.contains("--exit-with-stdin"));
            if work && started.iter().any(|(_, args)| args.contains("postgres")) {
                break started;
            }
            assert!(
                bench.try_wait().expect("waiting works").is_none(),
                "it ended: {:?}",
                bench.wait_with_output()
            );
            assert!(began.elapsed() < Duration::from_mins(1), "no worker was started: {started:?}");
        };
        kill_process(Pid::from_raw(bench.id() as i32).expect("a pid"), signal).expect("a signal");
        let output = bench.wait_with_output().expect("it ends");
        let words = String::from_utf8_lossy(&output.stderr);
        match signal {
            Signal::INT => assert!(words.contains("stopped by Ctrl-C"), "{words}"),
            Signal::TERM => assert!(words.contains("stopped by SIGTERM"), "{words}"),
            _ => {}
        }
        for (pid, _) in started {
            until_gone(pid).await;
        }
    }
}
