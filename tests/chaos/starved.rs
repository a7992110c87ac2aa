//! Workers without time.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::crew::Crew;
use crate::support::invariants::Allowed;
use crate::support::load::Load;
use crate::support::oracle::Evidence;
use crate::support::run::Run;
use crate::support::site::Site;

/// Blocked runtime: handlers that never yield hold every thread of their runtime.
#[tokio::test(flavor = "multi_thread")]
async fn c03_handlers_that_block_every_thread_cost_their_worker_no_job() {
    let Some(run) = Run::begin_if_asked("C03") else { return };
    let site = Site::shared(&run).await;
    let mut crew = Crew::new(&site);
    crew.start(&site, 2).await;
    // Longer than the self-stop and, in the long form, than what others wait for.
    let ms = run.size(8_000, 20_000);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let jobs = run.size(2 * threads, 4 * threads);
    site.exec(&format!(
        "insert into rowcrew.jobs (kind, payload) select 'spin', '{{\"ms\": {ms}}}' from generate_series(1, {jobs})"
    ))
    .await;
    site.drained().await;
    let lost: i64 = site.one("select count(*) from rowcrew.events where action = 'rescue'").await;
    crew.stop().await;
    let evidence = Evidence::gather(&site, &crew).await;
    evidence.hold(&Allowed::default());
    let starts = evidence.executions().len();
    run.figure("workers taken for lost", lost, lost == 0, "0");
    run.figure("executions of so many jobs", format!("{starts} of {jobs}"), starts == jobs, "one each");
    let stops = crew.said("this worker stops its jobs");
    run.figure("workers that stopped their jobs", stops, stops == 0, "0");
    assert_eq!(lost, 0, "a live worker was taken for lost");
    run.end();
}

/// A group of processes with a share of one processor; removed when dropped.
struct Quota(PathBuf);

impl Quota {
    /// `None` where there is no writable `cpu` controller of cgroups, version 1.
    fn new(percent: u64) -> Option<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.split_once(":cpu:").map(|(_, path)| path.to_owned()))?;
        let folder = PathBuf::from(format!("/sys/fs/cgroup/cpu{own}/rowcrew-chaos-{}", std::process::id()));
        std::fs::create_dir(&folder).ok()?;
        let quota = Self(folder);
        std::fs::write(quota.0.join("cpu.cfs_period_us"), "100000").ok()?;
        std::fs::write(quota.0.join("cpu.cfs_quota_us"), (percent * 1_000).to_string()).ok()?;
        Some(quota)
    }

    fn hold(&self, pid: u32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("a process that can be moved");
    }

    fn lift(&self) {
        std::fs::write(self.0.join("cpu.cfs_quota_us"), "-1").expect("a quota that can be lifted");
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// CPU starvation: two of four workers get a twentieth of a processor each.
#[tokio::test(flavor = "multi_thread")]
async fn c04_workers_that_hardly_get_a_processor_are_slow_and_not_lost() {
    let Some(run) = Run::begin_if_asked("C04") else { return };
    let site = Site::shared(&run).await;
    let Some(quota) = Quota::new(10) else {
        println!("C04: skipped, no cpu controller of cgroups (version 1) can be written to");
        return;
    };
    let mut crew = Crew::new(&site);
    crew.start(&site, run.size(2, 4)).await;
    let starved = crew.workers.len() / 2;
    crew.workers[..starved].iter().for_each(|worker| quota.hold(worker.pid()));
    let load = Load { long_percent: 2, ..Load::usual(run.size(400, 10_000)) };
    load.put_in(&run, &site).await;
    tokio::time::sleep(Duration::from_secs(run.size(8, 60))).await;
    let lost: i64 = site.one("select count(*) from rowcrew.events where action = 'rescue'").await;
    quota.lift();
    site.drained().await;
    crew.stop().await;
    Evidence::gather(&site, &crew).await.hold(&Allowed::default());
    run.figure("workers taken for lost", lost, lost == 0, "0");
    let stops = crew.said("this worker stops its jobs");
    run.note("workers that stopped their jobs", stops);
    run.end();
}
