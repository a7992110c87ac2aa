//! Clocks that are wrong: those of workers, and that of the server.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rowcrew::embedded::Binaries;

use crate::support::clock;
use crate::support::crew::{Crew, faketime};
use crate::support::invariants::Allowed;
use crate::support::load::Load;
use crate::support::oracle::Evidence;
use crate::support::run::{Run, percentile};
use crate::support::site::Site;

/// Worker clocks: an hour ahead, an hour behind, and twice as fast.
#[tokio::test(flavor = "multi_thread")]
async fn t01_what_a_workers_wall_clock_says_changes_nothing() {
    let run = Run::begin("T01");
    let site = Site::shared(&run).await;
    let mut crew = Crew::new(&site);
    for shift in ["", "+1h", "-1h", "+0 x2"] {
        crew.order.faketime = (!shift.is_empty()).then(|| shift.to_owned());
        if !crew.can_start() {
            println!("T01: skipped, faketime is not installed");
            return;
        }
        crew.start(&site, 1).await;
    }
    site.exec(
        "insert into rowcrew.jobs (kind, payload, run_at) select 'nap', '{\"ms\": 2, \"fails\": 1}', now() + n * interval '20 ms'
        from generate_series(1, 200) n",
    )
    .await;
    // Spread: what waits for a slot says nothing of clocks.
    let pause = Duration::from_millis(run.size(0, 500));
    let load = Load { long_percent: 1, pause, ..Load::usual(run.size(300, 10_000)) };
    load.put_in(&run, &site).await;
    tokio::time::sleep(Duration::from_secs(run.size(3, 10))).await;
    site.drained().await;
    let lost: i64 = site.one("select count(*) from rowcrew.events where action = 'rescue'").await;
    crew.stop().await;
    let evidence = Evidence::gather(&site, &crew).await;
    evidence.hold(&Allowed::default());
    run.figure("workers taken for lost", lost, lost == 0, "0");
    assert_eq!(lost, 0, "a live worker was taken for lost");
    let scheduled = evidence.transitions.iter().filter(|one| one.what == "claimed" && one.attempts == 1);
    let mut late: Vec<f64> = scheduled.filter_map(|one| Some(one.due_us? as f64 / 1e3)).collect();
    let p99 = percentile(&mut late, 99.0);
    run.figure("due to claimed, p99 ms", format!("{p99:.0}"), p99 < 1_000.0, "< 1000");
    run.end();
}

/// Programs of Postgres of which the server reads its wall clock's shift from a file, at every look.
fn with_false_clock(folder: &Path, binaries: &Binaries, library: &Path) -> Binaries {
    let own = folder.join("bin");
    std::fs::create_dir(&own).expect("a folder");
    let of = |program: &str| binaries.bin_dir.join(program).display().to_string();
    let server = format!(
        "LD_PRELOAD='{}' FAKETIME_TIMESTAMP_FILE='{}' FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
         exec '{}' \"$@\"",
        library.display(),
        clock_file(folder).display(),
        of("postgres")
    );
    set_clock(folder, "+0");
    for (program, line) in [("postgres", server), ("initdb", format!("exec '{}' \"$@\"", of("initdb")))] {
        std::fs::write(own.join(program), format!("#!/bin/sh\n{line}\n")).expect("a script");
        std::fs::set_permissions(own.join(program), std::fs::Permissions::from_mode(0o755))
            .expect("its mode");
    }
    Binaries { bin_dir: own, major: binaries.major }
}

fn clock_file(folder: &Path) -> PathBuf {
    folder.join("clock")
}

/// Shifts the server's clock, in the words of faketime; whoever reads the file sees the old or the new.
fn set_clock(folder: &Path, shift: &str) {
    let fresh = folder.join("clock.new");
    std::fs::write(&fresh, format!("{shift}\n")).expect("a file");
    std::fs::rename(fresh, clock_file(folder)).expect("a file in its place");
}

/// Server clock: an hour back, two hours forward. What was due then is due again when the clock says so.
#[tokio::test(flavor = "multi_thread")]
async fn t02_a_server_whose_clock_is_set_takes_nobody_for_lost_and_starts_new_jobs_as_ever() {
    let run = Run::begin("T02");
    let Some(library) = faketime() else {
        println!("T02: skipped, faketime is not installed");
        return;
    };
    let site = Site::own_with(&run, &[], |folder, own| with_false_clock(folder, &own, &library)).await;
    let mut crew = Crew::new(&site);
    crew.start(&site, run.size(2, 4)).await;
    let load = Load { long_percent: 2, long_ms: 1_000..2_000, ..Load::usual(run.size(200, 5_000)) };
    let client = site.client().await;
    let mut waits = Vec::new();
    let mut sent = Vec::new();
    for shift in ["+0", "-1h", "+1h"] {
        set_clock(&site.folder, shift);
        let before: i64 = site.one("select extract(epoch from clock_timestamp())::bigint").await;
        let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let hour = (before - real.as_secs() as i64 + 1_800).div_euclid(3_600);
        assert_eq!(format!("{hour:+}"), shift.trim_end_matches('h'), "the server's clock");
        // The first of them beside what is still running, and one after the other.
        for _ in 0..run.size(3, 20) {
            let inserted = clock::now();
            let row =
                client.query_one("insert into rowcrew.jobs (kind) values ('nap') returning id", &[]).await;
            sent.push((row.expect("a job").get::<_, i64>(0), inserted));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        load.put_in(&run, &site).await;
        // Beats and looks of the watchers, before and after.
        tokio::time::sleep(Duration::from_millis(run.size(800, 30_000))).await;
    }
    site.drained().await;
    let lost: i64 = site.one("select count(*) from rowcrew.events where action = 'rescue'").await;
    crew.stop().await;
    let evidence = Evidence::gather(&site, &crew).await;
    evidence.hold(&Allowed { clock_set: true, ..Allowed::default() });
    run.note("jobs", evidence.acked.len() + sent.len());
    run.figure("workers taken for lost", lost, lost == 0, "0");
    assert_eq!(lost, 0, "a live worker was taken for lost");
    let starts = evidence.executions();
    for (id, inserted) in sent {
        let start = starts.iter().find(|one| one.job == id).expect("a start");
        waits.push(clock::ms(inserted, start.start));
    }
    let worst = percentile(&mut waits, 100.0);
    run.figure("insert to start, worst ms", format!("{worst:.0}"), worst <= 2_500.0, "<= 2500: a sweep");
    run.end();
}
