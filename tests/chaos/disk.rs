//! The disk of the server's log fills up.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::clock;
use crate::support::crew::Crew;
use crate::support::invariants::Allowed;
use crate::support::load::Load;
use crate::support::oracle::Evidence;
use crate::support::run::{Run, percentile};
use crate::support::site::Site;

/// A file system of its own with little room; unmounted when dropped.
struct Small(PathBuf);

impl Small {
    /// `None` where this process may not mount one.
    fn mount(folder: PathBuf, megabytes: u32) -> Option<Self> {
        std::fs::create_dir(&folder).expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "rowcrew-chaos"]).arg(&folder);
        let done = mount.output().ok()?;
        done.status.success().then_some(Self(folder))
    }

    /// Takes what room is left.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("ballast")).expect("a file");
        let block = vec![0_u8; 64 * 1024];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("ballast")).expect("what was put there");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Moves the server's log to another file system, while it is down.
fn move_log(data: &Path, small: &Small) {
    use std::os::unix::fs::MetadataExt;
    let (from, to) = (data.join("pg_wal"), small.0.join("pg_wal"));
    let owner = std::fs::metadata(data).expect("its data");
    let copied = Command::new("cp").arg("-a").arg(&from).arg(&to).status().expect("cp");
    assert!(copied.success(), "the log fits");
    std::fs::remove_dir_all(&from).expect("the old place");
    std::os::unix::fs::symlink(&to, &from).expect("a link");
    chown(&to, Some(owner.uid()), Some(owner.gid())).expect("its owner");
}

/// Disk full: the server cannot write its log, panics, and comes back when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn d10_a_disk_that_fills_up_loses_no_job_and_no_worker() {
    let run = Run::begin("D10");
    let settings = [("min_wal_size", "32MB"), ("max_wal_size", "48MB"), ("wal_recycle", "off")];
    let site = Site::own(&run, &settings).await;
    let Some(small) = Small::mount(site.path("small"), 120) else {
        println!("D10: skipped, no file system can be mounted here");
        return;
    };
    site.cluster().crash().expect("a crash");
    move_log(&site.cluster().data_dir(), &small);
    site.cluster().recover().expect("a server that starts again");
    let mut crew = Crew::new(&site);
    crew.start(&site, run.size(2, 4)).await;
    let pause = Duration::from_millis(60);
    let (mut back, mut producers) = (Vec::new(), Vec::new());
    for _ in 0..run.size(1, 5) {
        let load = Load { pause, long_percent: 2, ..Load::usual(run.size(600, 4_000)) };
        producers.extend(load.produce(&run, &site));
        tokio::time::sleep(Duration::from_millis(run.rng("full").u64(500..1_000))).await;
        small.fill();
        // Uses up the pieces of the log that are there, until there is no room for the next.
        let client = site.client().await;
        while client
            .batch_execute("select pg_logical_emit_message(false, 'chaos', repeat('x', 8000000))")
            .await
            .is_ok()
        {}
        tokio::time::sleep(Duration::from_millis(300)).await;
        small.free();
        site.cluster().recover().expect("a server that starts again");
        back.push(clock::now());
        // Some that surely come after it.
        Load { long_percent: 0, ..Load::usual(40) }.put_in(&run, &site).await;
        for producer in producers.drain(..) {
            producer.await.expect("a producer that is done");
        }
        site.drained().await;
    }
    for worker in &mut crew.workers {
        assert!(!worker.has_ended(), "a worker ended");
    }
    let lost: i64 = site.one("select count(*) from rowcrew.events where action = 'rescue'").await;
    let log = std::fs::read(site.cluster().socket_dir().join("log")).expect("the server's log");
    let panics = String::from_utf8_lossy(&log).matches("PANIC").count();
    crew.stop().await;
    let evidence = Evidence::gather(&site, &crew).await;
    evidence.hold(&Allowed::default());
    run.note("panics of the server", panics);
    assert!(panics > 0, "the disk was never full");
    let claims: Vec<i64> =
        evidence.transitions.iter().filter(|t| t.what == "claimed").map(|t| t.at).collect();
    let first = |at: &i64| claims.iter().find(|claim| **claim > *at).map(|claim| clock::ms(*at, *claim));
    let mut firsts: Vec<f64> = back.iter().filter_map(first).collect();
    let worst = percentile(&mut firsts, 100.0);
    run.figure("server back to first claim, worst ms", format!("{worst:.0}"), worst <= 5_000.0, "<= 5000");
    run.figure("workers taken for lost", lost, lost == 0, "0");
    assert_eq!(lost, 0, "a live worker was taken for lost");
    run.end();
}
