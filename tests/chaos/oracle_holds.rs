//! Each invariant's check finds what breaks it, and nothing in a history that is sound.

use std::time::Duration;

use crate::support::crew::Death;
use crate::support::invariants::{Allowed, INVARIANTS};
use crate::support::oracle::{Entry, Evidence, Transition};

fn entry(job: i64, claim: i64, pid: u32, what: &str, at: i64) -> Entry {
    Entry { job, claim, pid, what: what.to_owned(), at: at * 1_000_000 }
}

fn transition(what: &str, job: i64, claim: Option<i64>, at: i64) -> Transition {
    Transition { what: what.to_owned(), job, claim, at: at * 1_000_000, attempts: 1, ..Transition::default() }
}

fn said(said: &str, transition: Transition) -> Transition {
    Transition { said: Some(said.to_owned()), ..transition }
}

/// Job 1 fails once and completes; job 2's worker is killed; job 3 has a key and runs in SQL. Times in ms.
fn sound() -> Evidence {
    let claimed =
        |job, claim, at| Transition { due_us: Some(5), ..transition("claimed", job, Some(claim), at) };
    Evidence {
        acked: vec![1, 2, 3],
        keys: [("k".to_owned(), true), ("never".to_owned(), false)].into(),
        ledger: vec![
            entry(1, 10, 7, "start", 10),
            entry(1, 10, 7, "failed", 20),
            entry(1, 12, 7, "start", 30),
            entry(2, 11, 8, "start", 12),
            entry(1, 12, 7, "done", 40),
            entry(2, 13, 7, "start", 50),
            entry(2, 13, 7, "done", 60),
        ],
        transitions: vec![
            transition("enqueued", 1, None, 0),
            transition("enqueued", 2, None, 0),
            said("k", transition("enqueued", 3, None, 0)),
            claimed(1, 10, 5),
            claimed(2, 11, 5),
            said("claim 10 fails as told", transition("returned", 1, Some(10), 21)),
            claimed(1, 12, 25),
            transition("returned", 2, Some(11), 26),
            transition("removed", 1, Some(12), 41),
            said("12", transition("completed", 1, None, 41)),
            claimed(2, 13, 45),
            transition("removed", 2, Some(13), 61),
            said("13", transition("completed", 2, None, 61)),
            claimed(3, 14, 62),
            transition("removed", 3, Some(14), 63),
            transition("completed", 3, None, 63),
        ],
        deaths: vec![Death { pid: 8, killed_at: 14_000_000, gone_at: 15_000_000 }],
        effects: [(3, 1)].into(),
        effects_due: [3].into(),
        ..Evidence::default()
    }
}

/// Which invariants a history breaks, by their numbers.
fn broken(change: impl FnOnce(&mut Evidence)) -> Vec<String> {
    let mut evidence = sound();
    change(&mut evidence);
    let violations = evidence.violations(&Allowed::default());
    let broken = INVARIANTS.iter().filter(|(name, _)| violations.iter().any(|v| v.starts_with(name)));
    broken.map(|(name, _)| name.split(' ').next().expect("a number").to_owned()).collect()
}

#[test]
fn a_sound_history_breaks_nothing() {
    assert_eq!(sound().violations(&Allowed::default()), [""; 0]);
    assert_eq!(sound().restarts_ms(), (vec![36.0], vec![]));
}

#[test]
fn each_invariant_is_broken_by_what_it_forbids() {
    assert_eq!(broken(|e| e.acked.push(99)), ["I1"], "lost");
    assert_eq!(
        broken(|e| e.transitions.retain(|t| t.job != 3 || t.what == "enqueued")),
        ["I1", "I2"],
        "vanished"
    );
    assert_eq!(broken(|e| e.transitions.push(transition("cancelled", 3, None, 64))), ["I2"], "two ends");
    let zombie = |e: &mut Evidence| e.transitions[12].said = Some("11".to_owned());
    assert_eq!(broken(zombie), ["I3"], "an older claim's result");
    assert_eq!(
        broken(|e| e.transitions[5].said = Some("claim 9 fails".to_owned())),
        ["I3"],
        "an older claim's failure"
    );
    assert_eq!(broken(|e| e.transitions[11].claim = Some(11)), ["I3"], "ended under an older claim");
    assert_eq!(broken(|e| e.transitions.push(transition("stolen", 2, Some(15), 58))), ["I3"]);
    assert_eq!(broken(|e| e.transitions.push(transition("handed", 2, Some(15), 58))), ["I3"], "it had begun");
    assert_eq!(broken(|e| e.transitions.swap(4, 10)), ["I3", "I4"], "claims in another order");
    assert_eq!(broken(|e| e.ledger.push(entry(1, 12, 9, "start", 40))), ["I5"], "two starts of a claim");
    assert_eq!(broken(|e| e.ledger.push(entry(1, 77, 9, "start", 40))), ["I5"], "a claim that never was");
    assert_eq!(broken(|e| e.transitions[8].attempts = 6), ["I5"], "more attempts than allowed");
    let again = |e: &mut Evidence| {
        e.transitions.insert(8, Transition { due_us: Some(5), ..transition("claimed", 1, Some(13), 25) });
        e.transitions[9].claim = Some(13);
        e.transitions[10].said = Some("13".to_owned());
        e.ledger.push(entry(1, 13, 9, "start", 50));
    };
    assert_eq!(broken(again), ["I6"], "a start after the end");
    assert_eq!(broken(|e| e.ledger[1].at = 35_000_000), ["I7"], "ran twice at once");
    assert_eq!(broken(|e| e.deaths[0].gone_at = 51_000_000), ["I7"], "restarted before it was gone");
    assert_eq!(broken(|e| e.transitions[3].due_us = Some(-1)), ["I8"], "early");
    assert_eq!(broken(|e| e.effects.extend([(3, 2)])), ["I9"], "twice");
    assert_eq!(broken(|e| e.effects.clear()), ["I9"], "never");
    assert_eq!(broken(|e| e.effects.extend([(4, 1)])), ["I9"], "without its job");
    assert_eq!(broken(|e| e.remains.idle_in_transaction = 1), ["I10"]);
    assert_eq!(broken(|e| e.remains.locks_of_nobody = 1), ["I10"]);
    assert_eq!(broken(|e| e.remains.claims = 1), ["I10"]);
    assert_eq!(broken(|e| e.remains.processes.push(1)), ["I10"]);
    assert_eq!(broken(|e| e.keys.extend([("gone".to_owned(), true)])), ["I11"], "acknowledged and not there");
    let twice = |e: &mut Evidence| {
        e.transitions[0].said = Some("k".to_owned());
    };
    assert_eq!(broken(twice), ["I11"], "two jobs for a key");
}

#[test]
fn a_scenario_may_allow_some_overlap_and_no_more() {
    let mut evidence = sound();
    evidence.ledger[1].at = 35_000_000;
    let allowed = |ms| Allowed { overlap: Duration::from_millis(ms), ..Allowed::default() };
    assert_eq!(evidence.violations(&allowed(6)), [""; 0]);
    assert_eq!(evidence.violations(&allowed(4)).len(), 1);
}
