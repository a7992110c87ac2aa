//! A trickle at a constant rate, for minutes, while a snapshot from before pins every dead row and reports
//! read the tables in long transactions: the claims at the end shall cost what those at the start did.

use std::io::{BufRead as _, BufReader};
use std::process::ChildStderr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_postgres::Client;

use super::Progress;
use super::drain::CONCURRENCY;
use super::report::{Axis, Goal, Line, Report};
use super::rig::Rig;
use super::workers::WorkerKind;

/// The time is cut into so many windows: minutes, of a quarter of an hour.
const WINDOWS: u32 = 15;
/// How many of them are the start, and the end.
const EDGE: usize = 3;
/// Clients that put jobs in, each a row and a commit at a time.
const CLIENTS: u32 = 8;
/// Reports that read the tables at the same time, each beginning a third of a transaction after the one before.
const REPORTS: u32 = 3;
/// A report's transaction takes so many windows, and reads both tables so many times in it.
const REPORT_WINDOWS: u32 = 2;
const REPORT_READS: u32 = 24;
/// How often a statement that does nothing is timed.
const NOTHING_EVERY: Duration = Duration::from_millis(10);
/// What the worker logs of its claims.
const LOG: &str = "warn,rowcrew::worker::dispatch::claims=debug";
const READS: &str = "select count(*), avg(length(payload::text)) from rowcrew.finished_jobs; \
    select count(*), avg(length(payload::text)) from rowcrew.jobs";

pub(super) async fn run(rig: &Rig<'_>) -> anyhow::Result<Report> {
    let time = rig.settings.steady_time;
    let window = time / WINDOWS;
    rig.begin(1, "a constant trickle");
    rig.keep_finished(true).await?;
    rig.exec("update rowcrew.queues set paused_until = null").await?;
    let pinned = rig.connect().await?;
    pinned.batch_execute("begin isolation level repeatable read; select count(*) from rowcrew.jobs").await?;
    let kind = WorkerKind { log: Some(LOG), ..WorkerKind::default() };
    let mut workers = rig.workers_of(1, CONCURRENCY, &kind).await?;
    let began = Instant::now();
    let claims = read_claims(workers.take_log().context("the worker has no log")?, began);
    let started_at = clock(&rig.client).await?;
    let load = Load::start(rig, time).await?;
    let (sender, nothings) = mpsc::channel();
    let nothing = tokio::spawn(time_nothing(rig.connect().await?, began, sender));
    let mut dead = Vec::new();
    for n in 1..=WINDOWS {
        rig.say(Progress::Doing(&format!(
            "steady: {} of {} s, {} jobs put in",
            (window * (n - 1)).as_secs(),
            time.as_secs(),
            load.put_in()
        )));
        tokio::time::sleep_until((began + window * n).into()).await;
        workers.check()?;
        dead.push(dead_rows(&rig.client).await?);
    }
    let (put_in, lasted) = (load.stop().await?, began.elapsed());
    nothing.abort();
    pinned.batch_execute("rollback").await?;
    rig.until_empty(&mut workers).await?;
    drop(workers);
    let claims: Vec<Claim> = claims.iter().collect();
    let nothings: Vec<Claim> = nothings.try_iter().collect();
    let found = Found {
        windows: windows(claims.iter(), window),
        sweeps: windows(claims.iter().filter(|claim| claim.sweep), window).0,
        nothings: windows(nothings.iter(), window),
        waits: waits(rig, started_at, window).await?,
        dead,
    };
    Ok(found.report(rig, put_in as f64 / lasted.as_secs_f64(), window))
}

/// One claim, as the worker logged it.
struct Claim {
    at: Duration,
    took_ms: f64,
    sweep: bool,
}

/// The worker's log, read on a thread of its own until the worker ends. What is no claim is passed on.
fn read_claims(log: ChildStderr, began: Instant) -> mpsc::Receiver<Claim> {
    let (sender, claims) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            match entry["duration_ms"].as_f64().filter(|_| entry["message"] == "claimed") {
                Some(took_ms) => {
                    let sweep = entry["claim.sweep"] == true;
                    drop(sender.send(Claim { at: began.elapsed(), took_ms, sweep }));
                }
                None => eprintln!("{line}"),
            }
        }
    });
    claims
}

/// Those who put jobs in, and those who read reports.
struct Load {
    inserters: JoinSet<anyhow::Result<()>>,
    reports: JoinSet<anyhow::Result<()>>,
    put_in: Arc<AtomicU64>,
}

impl Load {
    async fn start(rig: &Rig<'_>, time: Duration) -> anyhow::Result<Self> {
        let mut load =
            Self { inserters: JoinSet::new(), reports: JoinSet::new(), put_in: Arc::new(AtomicU64::new(0)) };
        let every = Duration::from_secs(1) * CLIENTS / rig.settings.steady_rate;
        for n in 0..CLIENTS {
            let (client, put_in) = (rig.connect().await?, load.put_in.clone());
            load.inserters.spawn(put_in_until(client, every * n / CLIENTS, every, time, put_in));
        }
        let lasting = time / WINDOWS * REPORT_WINDOWS;
        for n in 0..REPORTS {
            let client = rig.connect().await?;
            load.reports.spawn(read_reports(client, lasting * n / REPORTS, lasting));
        }
        Ok(load)
    }

    fn put_in(&self) -> u64 {
        self.put_in.load(Ordering::Relaxed)
    }

    /// Ends it, and answers how many jobs were put in; fails with what failed in the meantime.
    async fn stop(mut self) -> anyhow::Result<u64> {
        while let Some(inserter) = self.inserters.join_next().await {
            inserter??;
        }
        // They never end by themselves, unless something failed.
        while let Some(report) = self.reports.try_join_next() {
            report??;
        }
        self.reports.shutdown().await;
        Ok(self.put_in())
    }
}

/// Puts in a job each time it is due, however long the ones before took.
async fn put_in_until(
    client: Client,
    after: Duration,
    every: Duration,
    time: Duration,
    put_in: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let insert = client.prepare("insert into rowcrew.jobs (kind) values ('noop')").await?;
    let began = tokio::time::Instant::now();
    let mut ticks = tokio::time::interval_at(began + after, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while ticks.tick().await.duration_since(began) < time {
        client.execute(&insert, &[]).await?;
        put_in.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// One transaction after the other that reads both tables again and again.
async fn read_reports(client: Client, after: Duration, lasting: Duration) -> anyhow::Result<()> {
    tokio::time::sleep(after).await;
    loop {
        client.batch_execute("begin isolation level repeatable read").await?;
        let mut ticks = tokio::time::interval(lasting / REPORT_READS);
        for _ in 0..REPORT_READS {
            ticks.tick().await;
            client.batch_execute(READS).await?;
        }
        client.batch_execute("commit").await?;
    }
}

/// The server's clock, in seconds.
async fn clock(client: &Client) -> anyhow::Result<f64> {
    Ok(client.query_one("select extract(epoch from clock_timestamp())::float8", &[]).await?.get(0))
}

async fn dead_rows(client: &Client) -> anyhow::Result<i64> {
    let dead = "select coalesce(pg_stat_get_dead_tuples('rowcrew.jobs'::regclass), 0)";
    Ok(client.query_one(dead, &[]).await?.get(0))
}

/// The claims of one window, sweeps among them, or other things that took their time.
struct Window {
    count: usize,
    p50_ms: f64,
    p99_ms: f64,
    most_ms: f64,
}

fn windows<'a>(claims: impl Iterator<Item = &'a Claim>, window: Duration) -> (Vec<Window>, Window) {
    let mut times = vec![Vec::new(); WINDOWS as usize];
    for claim in claims {
        let n = (claim.at.as_secs_f64() / window.as_secs_f64()) as usize;
        if let Some(times) = times.get_mut(n) {
            times.push(claim.took_ms);
        }
    }
    let all = times.concat();
    (times.into_iter().map(Window::of).collect(), Window::of(all))
}

impl Window {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |part: f64| {
            times.get((times.len().saturating_sub(1) as f64 * part).round() as usize).copied().unwrap_or(0.0)
        };
        Self { count: times.len(), p50_ms: at(0.5), p99_ms: at(0.99), most_ms: at(1.0) }
    }
}

/// Times a statement that does nothing, until it is dropped: what the machine's load alone costs any statement.
async fn time_nothing(client: Client, began: Instant, times: mpsc::Sender<Claim>) -> anyhow::Result<()> {
    let nothing = client.prepare("select").await?;
    let mut ticks = tokio::time::interval(NOTHING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sent = Instant::now();
        client.execute(&nothing, &[]).await?;
        let took_ms = sent.elapsed().as_secs_f64() * 1e3;
        times.send(Claim { at: began.elapsed(), took_ms, sweep: false })?;
    }
}

/// How long the jobs of one window waited to be claimed, and how many waited at once.
struct Wait {
    longest_s: f64,
    backlog: i64,
}

/// What the finished jobs tell, window by window: nothing needs to be asked while it goes on.
async fn waits(rig: &Rig<'_>, started_at: f64, window: Duration) -> anyhow::Result<Vec<Wait>> {
    let rows = rig
        .client
        .query(
            "with moments as (
                select extract(epoch from created_at)::float8 as at, 1 as step,
                    extract(epoch from claimed_at - created_at)::float8 as waited
                from rowcrew.finished_jobs
                union all
                select extract(epoch from claimed_at)::float8, -1, 0 from rowcrew.finished_jobs
            ), counted as (
                select at, waited, sum(step) over (order by at, step desc) as waiting from moments
            )
            select max(waited), max(waiting) from counted
            group by least(floor((at - $1) / $2), $3)
            order by least(floor((at - $1) / $2), $3)",
            &[&started_at, &window.as_secs_f64(), &f64::from(WINDOWS - 1)],
        )
        .await?;
    Ok(rows.iter().map(|row| Wait { longest_s: row.get(0), backlog: row.get(1) }).collect())
}

/// All that is known at the end.
struct Found {
    windows: (Vec<Window>, Window),
    sweeps: Vec<Window>,
    nothings: (Vec<Window>, Window),
    waits: Vec<Wait>,
    dead: Vec<i64>,
}

impl Found {
    fn report(&self, rig: &Rig<'_>, put_in: f64, window: Duration) -> Report {
        let mut report = Report::new("steady");
        let (windows, all) = &self.windows;
        let mean = |some: &[Window]| some.iter().map(|w| w.p99_ms).sum::<f64>() / some.len() as f64;
        let longest = self.waits.iter().map(|wait| wait.longest_s).fold(0.0, f64::max);
        report.measure("put in, jobs/s", put_in);
        report.measure("claims, p50 ms", all.p50_ms);
        report.measure("claims, p99 ms", all.p99_ms);
        report.measure("claims at the start, p99 ms", mean(&windows[..EDGE]));
        report.measure("claims at the end, p99 ms", mean(&windows[windows.len() - EDGE..]));
        report.measure("a statement that does nothing, p99 ms", self.nothings.1.p99_ms);
        report.measure("longest wait of a due job, s", longest);
        report
            .measure("backlog at most, jobs", self.waits.iter().map(|w| w.backlog).max().unwrap_or(0) as f64);
        report.measure("dead rows at the end", self.dead.last().copied().unwrap_or(0) as f64);
        let (end, start) = ("claims at the end, p99 ms", "claims at the start, p99 ms");
        report.ratio("claims, p99: at the end / at the start", end, start, Goal::AtMost(2.0));
        report.absolute("claims, p99 ms", Goal::AtMost(5.0));
        report.absolute("longest wait of a due job, s", Goal::AtMost(1.0));
        self.draw(&mut report, window);
        report.notes.push(format!(
            "{} jobs/s, {} windows of {} s, a snapshot pinned all the time, {REPORTS} reports of {} s that overlap",
            rig.settings.steady_rate,
            WINDOWS,
            window.as_secs_f64(),
            (window * REPORT_WINDOWS).as_secs_f64()
        ));
        for (n, ((claims, wait), dead)) in windows.iter().zip(&self.waits).zip(&self.dead).enumerate() {
            let (sweeps, nothing) = (&self.sweeps[n], &self.nothings.0[n]);
            report.notes.push(format!(
                "window {}: {} claims, p50 {:.2} ms, p99 {:.2} ms; {} sweeps, {:.1} to {:.1} ms; a statement that \
                 does nothing p50 {:.2} ms, p99 {:.2} ms; longest wait {:.3} s, backlog at most {}, {dead} dead rows",
                n + 1, claims.count, claims.p50_ms, claims.p99_ms, sweeps.count, sweeps.p50_ms, sweeps.most_ms,
                nothing.p50_ms, nothing.p99_ms, wait.longest_s, wait.backlog
            ));
        }
        report
    }

    fn draw(&self, report: &mut Report, window: Duration) {
        let place = |n: usize| (n as f64 + 0.5) * window.as_secs_f64();
        let curve = |name: &str, points| Line { name: name.to_owned(), points };
        let of = |part: fn(&Window) -> f64| {
            self.windows.0.iter().enumerate().map(|(n, window)| (place(n), part(window))).collect()
        };
        let claims = "steady: time of a claim under a pinned snapshot";
        report.line(claims, Axis::Seconds, "ms", curve("p50", of(|window| window.p50_ms)));
        report.line(claims, Axis::Seconds, "ms", curve("p99", of(|window| window.p99_ms)));
        let waits = self.waits.iter().enumerate().map(|(n, wait)| (place(n), wait.longest_s * 1e3)).collect();
        let title = "steady: longest wait of a due job";
        report.line(title, Axis::Seconds, "ms", curve("longest wait in each window", waits));
    }
}
