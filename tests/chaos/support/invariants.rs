//! The invariants I1 to I11, each with the check that finds what breaks it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::clock;
use super::oracle::{Entry, Evidence, Execution, Transition};

/// What a scenario allows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowed {
    /// How long two executions of a job may overlap: nothing, unless a worker was frozen or cut off.
    pub overlap: Duration,
    /// Jobs are cancelled, revived and purged by hand.
    pub by_hand: bool,
    /// The database's clock was set: what it says cannot be placed beside the ledger's.
    pub clock_set: bool,
}

pub(super) type Check = fn(&Evidence, &Allowed) -> Vec<String>;

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

fn is_claim(transition: &Transition) -> bool {
    matches!(transition.what.as_str(), "claimed" | "handed")
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
    let started: BTreeSet<(i64, i64)> =
        evidence.ledger.iter().map(|entry| (entry.job, entry.claim)).collect();
    for (job, all) in evidence.by_job() {
        let mut latest = None;
        let mut removed_under = None;
        for one in all {
            match one.what.as_str() {
                "claimed" => latest = one.claim,
                "handed" => {
                    let before = std::mem::replace(&mut latest, one.claim);
                    if before.is_none_or(|before| started.contains(&(job, before))) {
                        wrong.push(format!("job {job} was handed over after it had begun"));
                    }
                }
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
    for one in evidence.transitions.iter().filter(|one| is_claim(one)) {
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
        .filter(|one| is_claim(one))
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
    if allowed.by_hand || allowed.clock_set {
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
    // Buried by a person while a worker held it, and revived: that worker hears of it a moment later, and may even
    // begin with it after another has.
    let by_hand: BTreeSet<(i64, Option<i64>)> = evidence
        .transitions
        .iter()
        .filter(|one| allowed.by_hand && one.what == "dead")
        .map(|one| (one.job, one.claim))
        .collect();
    let mut before: HashMap<i64, Execution> = HashMap::new();
    let mut wrong = Vec::new();
    for one in evidence.executions() {
        if let Some(other) = before.insert(one.job, one) {
            let overlap = other.end.min(one.end) - one.start;
            let buried =
                [one.claim, other.claim].iter().any(|claim| by_hand.contains(&(one.job, Some(*claim))));
            if overlap > clock::nanos(allowed.overlap) && !buried {
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
