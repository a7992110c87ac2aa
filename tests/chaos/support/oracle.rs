//! The oracle: what was acknowledged, what handlers did, and what became of each job, read from outside and
//! held against the invariants I1 to I11.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::clock;
use super::crew::{Crew, Death};
use super::site::Site;

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub job: i64,
    pub claim: i64,
    pub pid: u32,
    /// start, done, failed, cut, dropped.
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

/// What a scenario allows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowed {
    /// How long two executions of a job may overlap: nothing, unless a worker was frozen or cut off.
    pub overlap: Duration,
    /// Jobs are cancelled, revived and purged by hand.
    pub by_hand: bool,
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

type Check = fn(&Evidence, &Allowed) -> Vec<String>;

/// Every invariant with the check that holds it.
pub(crate) const INVARIANTS: [(&str, Check); 11] = [
    ("I1 acknowledged jobs end", acked_end),
    ("I2 one end for each job", one_end),
    ("I3 the last claim ends the job", last_claim_ends),
    ("I4 claims of a job only grow", claims_grow),
    ("I5 no more executions than attempts", executions_bounded),
    ("I6 no start after the end", no_start_after_end),
    ("I7 executions of a job do not overlap", no_overlap),
    ("I8 no start before it is due", not_early),
    ("I9 effects of SQL happen once", effects_once),
    ("I10 nothing is left behind", nothing_left),
    ("I11 one job at most for each key", keys_once),
];

impl Evidence {
    /// Reads everything there is; the workers should have stopped.
    pub(crate) async fn gather(site: &Site, crew: &Crew) -> Self {
        let wall = clock::from_wall();
        let micros = |name: &str| format!("(extract(epoch from {name}) * 1000000)::bigint");
        let sql = format!(
            "select what, job, claim, {}, coalesce(attempts, 0), coalesce(crashes, 0), max_attempts, {} - {}, said
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
        };
        let effects = site.rows("select job, count(*) from chaos.effects group by job").await;
        let due = "select (payload ->> 'n')::bigint from rowcrew.finished_jobs where kind = 'effect' and state = 'completed'";
        Self {
            acked: lines(&site.path("acked"), |line| line.parse().expect("an id")),
            keys: BTreeMap::new(),
            ledger: lines(&crew.order.ledger, entry),
            transitions: site.rows(&sql).await.iter().map(transition).collect(),
            deaths: crew.deaths.lock().expect("no panic").clone(),
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
        let deaths: HashMap<u32, Death> = self.deaths.iter().map(|death| (death.pid, *death)).collect();
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

    /// Of each execution that a kill cut short: milliseconds from the kill to the next start of the job.
    pub(crate) fn restarts_ms(&self) -> Vec<f64> {
        let all = self.executions();
        let mut by_job: HashMap<i64, Vec<&Execution>> = HashMap::new();
        for one in &all {
            by_job.entry(one.job).or_default().push(one);
        }
        let next = |one: &Execution| {
            let next = by_job[&one.job].iter().find(|other| other.start > one.start)?;
            Some(clock::ms(one.killed_at?, next.start))
        };
        all.iter().filter_map(next).collect()
    }

    /// Of each claim of a job that was given back without a start: milliseconds from the claim to that.
    pub(crate) fn unstarted_ms(&self) -> Vec<f64> {
        let started: BTreeSet<(i64, i64)> =
            self.ledger.iter().map(|entry| (entry.job, entry.claim)).collect();
        let mut claimed: HashMap<(i64, i64), i64> = HashMap::new();
        let mut held = Vec::new();
        for one in &self.transitions {
            let under = (one.job, one.claim.unwrap_or_default());
            match one.what.as_str() {
                "claimed" => claimed.extend([(under, one.at)]),
                "returned" if !started.contains(&under) && one.said.is_none() => {
                    held.extend(claimed.get(&under).map(|at| clock::ms(*at, one.at)));
                }
                _ => {}
            }
        }
        held
    }

    fn by_job(&self) -> BTreeMap<i64, Vec<&Transition>> {
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

fn is_end(transition: &Transition) -> bool {
    matches!(transition.what.as_str(), "completed" | "cancelled" | "dead")
}

fn acked_end(evidence: &Evidence, allowed: &Allowed) -> Vec<String> {
    let purged = |one: &&Transition| allowed.by_hand && one.what == "removed";
    let ended: BTreeSet<i64> =
        evidence.transitions.iter().filter(|one| is_end(one) || purged(one)).map(|one| one.job).collect();
    let lost =
        evidence.acked.iter().filter(|id| !ended.contains(id) && !evidence.remains.pending.contains(id));
    let pending = evidence.remains.pending.iter().map(|id| format!("job {id} never ended"));
    lost.map(|id| format!("job {id} is lost")).chain(pending).collect()
}

fn one_end(evidence: &Evidence, allowed: &Allowed) -> Vec<String> {
    let wrong = |(job, all): (&i64, &Vec<&Transition>)| {
        let count = |what: &str| all.iter().filter(|one| one.what == what).count();
        let ends = all.iter().filter(|one| is_end(one)).count();
        let (put_in, removed) = (count("enqueued"), count("removed"));
        let pending = usize::from(evidence.remains.pending.contains(job));
        let balanced =
            put_in == removed + pending && (ends == removed || (allowed.by_hand && ends <= removed));
        (!balanced || (!allowed.by_hand && ends > 1)).then(|| {
            format!("job {job} was put in {put_in} times, removed {removed} times, and ended {ends} times")
        })
    };
    evidence.by_job().iter().filter_map(wrong).collect()
}

fn last_claim_ends(evidence: &Evidence, _: &Allowed) -> Vec<String> {
    let mut wrong = Vec::new();
    for (job, all) in evidence.by_job() {
        let mut latest = None;
        let mut removed_under = None;
        for one in all {
            match one.what.as_str() {
                "claimed" => latest = one.claim,
                "stolen" => wrong.push(format!("job {job} was claimed while it ran under a claim")),
                "removed" => removed_under = one.claim,
                // The ending's own word says under which claim it was reached.
                "completed" | "dead" | "returned" => {
                    let holds = if one.what == "returned" { one.claim } else { removed_under };
                    let said = one.said.as_deref().and_then(|said| {
                        said.split(|c: char| !c.is_ascii_digit()).find_map(|word| word.parse::<i64>().ok())
                    });
                    let speaks = one.what == "completed"
                        || one.said.as_deref().is_some_and(|said| said.contains("claim "));
                    if speaks && said.is_some_and(|said| Some(said) != holds) {
                        wrong.push(format!(
                            "job {job}: {:?} was written while claim {holds:?} held it",
                            one.said
                        ));
                    }
                    if one.what == "completed" && holds != latest {
                        wrong.push(format!(
                            "job {job} ended under claim {holds:?}, but {latest:?} was the last"
                        ));
                    }
                }
                _ => {}
            }
        }
    }
    wrong
}

fn claims_grow(evidence: &Evidence, _: &Allowed) -> Vec<String> {
    let mut last: HashMap<i64, i64> = HashMap::new();
    let mut wrong = Vec::new();
    for one in evidence.transitions.iter().filter(|one| one.what == "claimed") {
        let claim = one.claim.unwrap_or_default();
        if let Some(before) = last.insert(one.job, claim).filter(|before| *before >= claim) {
            wrong.push(format!("job {} was claimed under {before} and then under {claim}", one.job));
        }
    }
    wrong
}

fn executions_bounded(evidence: &Evidence, _: &Allowed) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut starts: BTreeMap<(i64, i64), usize> = BTreeMap::new();
    for entry in evidence.ledger.iter().filter(|entry| entry.what == "start") {
        *starts.entry((entry.job, entry.claim)).or_default() += 1;
    }
    let claimed: BTreeSet<(i64, i64)> = evidence
        .transitions
        .iter()
        .filter(|one| one.what == "claimed")
        .map(|one| (one.job, one.claim.unwrap_or_default()))
        .collect();
    for (execution, count) in starts {
        if count > 1 {
            wrong.push(format!("job {} started {count} times under claim {}", execution.0, execution.1));
        }
        if !claimed.contains(&execution) {
            wrong.push(format!("job {} started under claim {}, which never was", execution.0, execution.1));
        }
    }
    for one in evidence.transitions.iter().filter(|one| one.what == "removed") {
        if one.attempts - one.crashes > one.max_attempts.unwrap_or(5) {
            wrong.push(format!("job {} had {} attempts and {} crashes", one.job, one.attempts, one.crashes));
        }
    }
    wrong
}

fn no_start_after_end(evidence: &Evidence, allowed: &Allowed) -> Vec<String> {
    // The two clocks are placed beside each other by a few readings: a millisecond is left for that.
    const READINGS: i64 = 1_000_000;
    if allowed.by_hand {
        return Vec::new();
    }
    let ends: HashMap<i64, i64> =
        evidence.transitions.iter().filter(|one| is_end(one)).map(|one| (one.job, one.at)).collect();
    let late = |entry: &&Entry| ends.get(&entry.job).is_some_and(|end| entry.at > end + READINGS);
    let say = |entry: &Entry| {
        format!(
            "job {} started again {:.1} ms after its end",
            entry.job,
            clock::ms(ends[&entry.job], entry.at)
        )
    };
    evidence.ledger.iter().filter(|entry| entry.what == "start").filter(late).map(say).collect()
}

fn no_overlap(evidence: &Evidence, allowed: &Allowed) -> Vec<String> {
    let mut before: HashMap<i64, Execution> = HashMap::new();
    let mut wrong = Vec::new();
    for one in evidence.executions() {
        if let Some(other) = before.insert(one.job, one) {
            let overlap = other.end.min(one.end) - one.start;
            if overlap > clock::nanos(allowed.overlap) {
                wrong.push(format!(
                    "job {} ran {:.1} ms under claims {} (process {}) and {} (process {}) at once",
                    one.job,
                    overlap as f64 / 1e6,
                    other.claim,
                    other.pid,
                    one.claim,
                    one.pid
                ));
            }
        }
    }
    wrong
}

fn not_early(evidence: &Evidence, _: &Allowed) -> Vec<String> {
    let claims = evidence.transitions.iter().filter(|one| one.what == "claimed");
    let early = claims.filter_map(|one| Some((one.job, one.due_us.filter(|due| *due < 0)?)));
    early.map(|(job, due)| format!("job {job} was claimed {} us before it was due", -due)).collect()
}

fn effects_once(evidence: &Evidence, _: &Allowed) -> Vec<String> {
    let all: BTreeSet<i64> =
        evidence.effects.keys().copied().chain(evidence.effects_due.iter().copied()).collect();
    let times = |n: &i64| evidence.effects.get(n).copied().unwrap_or(0);
    let due = |n: &i64| i64::from(evidence.effects_due.contains(n));
    let wrong = all.iter().filter(|n| times(n) != due(n));
    wrong.map(|n| format!("the effect of {n} happened {} times and was due {}", times(n), due(n))).collect()
}

fn nothing_left(evidence: &Evidence, _: &Allowed) -> Vec<String> {
    let remains = &evidence.remains;
    let counts = [
        (remains.claims, "records of claims"),
        (remains.idle_in_transaction, "open transactions"),
        (remains.locks_of_nobody, "advisory locks of no worker"),
        (remains.processes.len() as i64, "processes"),
    ];
    counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what} are left"))
        .collect()
}

fn keys_once(evidence: &Evidence, _: &Allowed) -> Vec<String> {
    let mut jobs: HashMap<&str, usize> = HashMap::new();
    for one in evidence.transitions.iter().filter(|one| one.what == "enqueued") {
        if let Some(key) = &one.said {
            *jobs.entry(key).or_default() += 1;
        }
    }
    let wrong = |(key, acked): (&String, &bool)| {
        let count = jobs.get(key.as_str()).copied().unwrap_or(0);
        (count > 1 || (*acked && count == 0))
            .then(|| format!("key {key} has {count} jobs; acknowledged: {acked}"))
    };
    evidence.keys.iter().filter_map(wrong).collect()
}
