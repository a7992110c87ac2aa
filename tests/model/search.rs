//! The way through all states.

use std::collections::HashSet;
use std::rc::Rc;

use crate::state::{Row, SUBJECT, State, Statement, Step};
use crate::steps::Crew;

impl Crew {
    /// Looks at every state, the nearest first, until a promise is broken; answers with the way there.
    pub(crate) fn search(&self) -> Result<Seen, (&'static str, Vec<Step>)> {
        let first = Rc::new(self.first());
        let mut known = HashSet::from([first.clone()]);
        // Each state with the one it came from.
        let mut found = vec![(first, None::<(usize, Step)>)];
        let mut seen = Seen::default();
        let mut at = 0;
        while at < found.len() {
            let state = found[at].0.clone();
            if let Some(promise) = Self::broken(&state) {
                let mut way = Vec::new();
                while let Some((from, step)) = &found[at].1 {
                    way.push(step.clone());
                    at = *from;
                }
                way.reverse();
                return Err((promise, way));
            }
            seen.note(&state);
            for step in self.steps(&state) {
                let Some(next) = self.next(&state, step.clone()).map(Rc::new) else { continue };
                if known.insert(next.clone()) {
                    found.push((next, Some((at, step))));
                }
            }
            at += 1;
        }
        Ok(seen)
    }
}

/// What a search came by, to show that it got somewhere.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is something that was seen or not")]
pub(crate) struct Seen {
    pub(crate) states: usize,
    pub(crate) every_job_ended: bool,
    pub(crate) late_ending_refused: bool,
    pub(crate) late_claim_blocked: bool,
    pub(crate) entered_again: bool,
}

impl Seen {
    fn note(&mut self, state: &State) {
        self.states += 1;
        self.every_job_ended |= state.jobs.iter().all(|row| *row == Row::Ended);
        self.late_ending_refused |= state.refused;
        self.entered_again |= state.processes[SUBJECT].worker > 2;
        self.late_claim_blocked |= state.underway.iter().any(|statement| match statement {
            Statement::Claim { worker, batch } => state.claims.contains_key(&(*worker, *batch)),
            _ => false,
        });
    }
}
