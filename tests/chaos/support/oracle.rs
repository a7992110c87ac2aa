//! The oracle: what was acknowledged, what handlers did, and what became of each job, read from outside and
//! held against the invariants I1 to I11.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::clock;
use super::crew::{Crew, Death};
use super::frames::name_of;
use super::invariants::{Allowed, Check, INVARIANTS};
use super::role::ABORTS;
use super::run::{Run, percentile};
use super::site::Site;

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub job: i64,
    pub claim: i64,
    pub pid: u32,
    /// start, done, failed, cut, dropped, aborts.
    pub what: String,
    pub at: i64,
}

/// One line of the log of transitions; moments are on the ledger's clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Transition {
    pub what: String,
    pub job: i64,
    pub claim: Option<i64>,
    pub at: i64,
    pub attempts: i32,
    pub crashes: i32,
    pub max_attempts: Option<i32>,
    /// How long it had been due when it was claimed, in microseconds by the database's clock.
    pub due_us: Option<i64>,
    pub said: Option<String>,
    /// The name of the statement that gave the job back.
    pub by: Option<String>,
}

/// What is left when a scenario is over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Remains {
    pub pending: BTreeSet<i64>,
    pub claims: i64,
    pub idle_in_transaction: i64,
    pub locks_of_nobody: i64,
    pub processes: Vec<u32>,
}

/// Everything the oracle knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence {
    pub acked: Vec<i64>,
    /// Idempotency keys that were sent, and whether one of the sends was answered.
    pub keys: BTreeMap<String, bool>,
    pub ledger: Vec<Entry>,
    pub transitions: Vec<Transition>,
    pub deaths: Vec<Death>,
    /// How often the effect of each SQL job happened.
    pub effects: HashMap<i64, i64>,
    /// SQL jobs that completed.
    pub effects_due: BTreeSet<i64>,
    pub remains: Remains,
}

/// One execution of a job: a start and, if the process lived, its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Execution {
    pub job: i64,
    pub claim: i64,
    pub pid: u32,
    pub start: i64,
    pub end: i64,
    /// Its process was killed in the middle.
    pub killed_at: Option<i64>,
}

impl Evidence {
    /// Reads everything there is; the workers should have stopped.
    pub(crate) async fn gather(site: &Site, crew: &Crew) -> Self {
        let wall = clock::from_wall();
        let deaths = crew.deaths.lock().expect("no panic").clone();
        let micros = |name: &str| format!("(extract(epoch from {name}) * 1000000)::bigint");
        let sql = format!(
            "select what, job, claim, {}, coalesce(attempts, 0), coalesce(crashes, 0), max_attempts, {} - {}, said, by
            from chaos.log order by seq",
            micros("at"),
            micros("claimed_at"),
            micros("case when due_at <> '-infinity' and due_at <> 'infinity' then due_at end"),
        );
        let transition = |row: &tokio_postgres::Row| Transition {
            what: row.get(0),
            job: row.get(1),
            claim: row.get(2),
            at: row.get::<_, i64>(3) * 1000 + wall,
            attempts: row.get(4),
            crashes: row.get(5),
            max_attempts: row.get(6),
            due_us: row.get(7),
            said: row.get(8),
            by: row.get::<_, Option<String>>(9).map(|head| name_of(head.as_bytes())),
        };
        let effects = site.rows("select job, count(*) from chaos.effects group by job").await;
        let due = "select (payload ->> 'n')::bigint from rowcrew.finished_jobs where kind = 'effect' and state = 'completed'";
        Self {
            acked: lines(&site.path("acked"), |line| line.parse().expect("an id")),
            keys: BTreeMap::new(),
            ledger: lines(&crew.order.ledger, entry),
            transitions: site.rows(&sql).await.iter().map(transition).collect(),
            deaths,
            effects: effects.iter().map(|row| (row.get(0), row.get(1))).collect(),
            effects_due: site.rows(due).await.iter().map(|row| row.get(0)).collect(),
            remains: Remains::gather(site, crew).await,
        }
    }

    /// What breaks an invariant, each with the invariant's name.
    pub(crate) fn violations(&self, allowed: &Allowed) -> Vec<String> {
        let named = |(name, check): &(&str, Check)| {
            check(self, allowed).into_iter().map(|what| format!("{name}: {what}")).collect::<Vec<_>>()
        };
        INVARIANTS.iter().flat_map(named).collect()
    }

    /// Fails with the first violations.
    pub(crate) fn hold(&self, allowed: &Allowed) {
        let violations = self.violations(allowed);
        let first = violations[..violations.len().min(20)].join("\n");
        assert!(violations.is_empty(), "{} violations:\n{first}", violations.len());
    }

    /// All executions, in order of their starts.
    pub(crate) fn executions(&self) -> Vec<Execution> {
        let mut deaths: HashMap<u32, Death> = self.deaths.iter().map(|death| (death.pid, *death)).collect();
        for Entry { pid, at, .. } in self.ledger.iter().filter(|entry| entry.what == ABORTS) {
            deaths.entry(*pid).or_insert(Death { pid: *pid, killed_at: *at, gone_at: *at });
        }
        let mut ends: HashMap<(i64, i64, u32), i64> = HashMap::new();
        for entry in self.ledger.iter().filter(|entry| entry.what != "start") {
            ends.entry((entry.job, entry.claim, entry.pid)).or_insert(entry.at);
        }
        let of = |entry: &Entry| {
            let end = ends.get(&(entry.job, entry.claim, entry.pid)).copied();
            let death = deaths.get(&entry.pid).filter(|_| end.is_none());
            Execution {
                job: entry.job,
                claim: entry.claim,
                pid: entry.pid,
                start: entry.at,
                end: end.or(death.map(|death| death.gone_at)).unwrap_or(i64::MAX),
                killed_at: death.map(|death| death.killed_at),
            }
        };
        let mut all: Vec<Execution> = self.ledger.iter().filter(|e| e.what == "start").map(of).collect();
        all.sort_unstable_by_key(|one| one.start);
        all
    }

    /// Of each execution that a kill cut short: milliseconds from the kill to the next start of the job; first of those
    /// in the worker that was killed, then of those beside it, which ended themselves.
    pub(crate) fn restarts_ms(&self) -> (Vec<f64>, Vec<f64>) {
        let all = self.executions();
        let mut by_job: HashMap<i64, Vec<&Execution>> = HashMap::new();
        for one in &all {
            by_job.entry(one.job).or_default().push(one);
        }
        let cut: BTreeSet<(i64, i64)> = self
            .ledger
            .iter()
            .filter(|entry| entry.what == "cut")
            .map(|entry| (entry.job, entry.claim))
            .collect();
        let (mut inside, mut beside) = (Vec::new(), Vec::new());
        for one in &all {
            let next = by_job[&one.job].iter().find(|other| other.start > one.start);
            let Some(next) = next else { continue };
            if let Some(killed_at) = one.killed_at {
                inside.push(clock::ms(killed_at, next.start));
            } else if cut.contains(&(one.job, one.claim)) {
                beside.push(clock::ms(one.end, next.start));
            }
        }
        (inside, beside)
    }

    /// Of each claim of a job that was given back without a start: milliseconds from the claim to that, by the name of
    /// the statement that gave it back.
    fn unstarted_ms(&self) -> BTreeMap<&str, Vec<f64>> {
        let started: BTreeSet<(i64, i64)> =
            self.ledger.iter().map(|entry| (entry.job, entry.claim)).collect();
        let mut claimed: HashMap<(i64, i64), i64> = HashMap::new();
        let mut held: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for one in &self.transitions {
            let under = (one.job, one.claim.unwrap_or_default());
            match one.what.as_str() {
                "claimed" | "handed" => claimed.extend([(under, one.at)]),
                "returned" if !started.contains(&under) && one.said.is_none() => {
                    let by = one.by.as_deref().unwrap_or_default();
                    let took = claimed.get(&under).map(|at| clock::ms(*at, one.at));
                    held.entry(by).or_default().extend(took);
                }
                _ => {}
            }
        }
        held
    }

    /// Reports how long claimed jobs were held that came back without a start, and how long at most by those claims that
    /// no worker had heard of. (A worker that had them gave the others back: it stopped, or a statement had no
    /// connection, twice with the same error.)
    pub(crate) fn report_unstarted(&self, run: &Run) {
        let mut unheard = Vec::new();
        for (by, mut held) in self.unstarted_ms() {
            let worst = percentile(&mut held, 100.0);
            run.note(&format!("came back unstarted by {by}"), format!("{}, worst {worst:.0} ms", held.len()));
            if matches!(by, "claim_forget" | "claims_reclaim") {
                unheard.extend(held);
            }
        }
        let worst = percentile(&mut unheard, 100.0);
        run.figure(
            "claimed unheard to given back, worst ms",
            format!("{worst:.0}"),
            worst <= 1_000.0,
            "<= 1000",
        );
    }

    pub(super) fn by_job(&self) -> BTreeMap<i64, Vec<&Transition>> {
        let mut jobs: BTreeMap<i64, Vec<&Transition>> = BTreeMap::new();
        for one in &self.transitions {
            jobs.entry(one.job).or_default().push(one);
        }
        jobs
    }
}

impl Remains {
    async fn gather(site: &Site, crew: &Crew) -> Self {
        let idle = "select count(*) from pg_stat_activity where datname = current_database()
            and state like 'idle in transaction%' and now() - state_change > interval '1 s'";
        let locks = "select count(*) from pg_locks l where l.locktype = 'advisory' and l.objsubid = 1
            and l.database = (select oid from pg_database where datname = current_database())
            and not exists (select from rowcrew.workers w where l.objid::bigint = w.lock_key & 4294967295)";
        let pending = site.rows("select id from rowcrew.jobs").await;
        Self {
            pending: pending.iter().map(|row| row.get(0)).collect(),
            claims: site.one("select count(*) from rowcrew.claims where job_ids <> '{}'").await,
            idle_in_transaction: site.one(idle).await,
            locks_of_nobody: site.one(locks).await,
            processes: processes_of(&crew.order.ledger.to_string_lossy()),
        }
    }
}

/// Processes that were started with this ledger and are still there.
fn processes_of(ledger: &str) -> Vec<u32> {
    let there = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    there
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            String::from_utf8_lossy(&environ).contains(ledger)
        })
        .collect()
}

fn lines<T>(path: &std::path::Path, read: impl Fn(&str) -> T) -> Vec<T> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(read).collect()
}

fn entry(line: &str) -> Entry {
    let words: Vec<&str> = line.split(' ').collect();
    let [job, claim, pid, what, at] = words[..] else { panic!("not a line of the ledger: {line}") };
    let number = |word: &str| word.parse::<i64>().unwrap_or_else(|_| panic!("not a number in: {line}"));
    Entry {
        job: number(job),
        claim: number(claim),
        pid: number(pid) as u32,
        what: what.into(),
        at: number(at),
    }
}
