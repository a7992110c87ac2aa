//! Every step there is from a state, and where it leads.

use std::collections::{BTreeMap, BTreeSet};

use crate::state::{
    Claiming, Life, Process, REST, Row, Rules, SUBJECT, Stage, State, Statement, Step, Ticket, WORKERS_MAX,
    Worker,
};

pub(crate) const OWN: &str = "an ending is written only under the claim it ran under";
pub(crate) const ONCE: &str = "no job is executed twice at once";
pub(crate) const FOUND: &str = "somebody answers for every job that runs";

/// The rules it plays by, and how far.
pub(crate) struct Crew {
    pub(crate) rules: Rules,
    pub(crate) jobs: usize,
    /// Claims in one run at most.
    pub(crate) claims: u8,
    pub(crate) faults: u8,
    /// Whether jobs get processes of their own.
    pub(crate) hands_over: bool,
}

impl Crew {
    pub(crate) fn first(&self) -> State {
        State {
            jobs: vec![Row::Available; self.jobs],
            workers: BTreeMap::from([(1, 0), (2, 0)]),
            claims: BTreeMap::new(),
            next_claim: 1,
            next_worker: 3,
            processes: std::array::from_fn(|at| Process::new(at as u8 + 1)),
            underway: BTreeSet::new(),
            taken: BTreeSet::new(),
            faults_left: self.faults,
            trespass: false,
            refused: false,
        }
    }

    /// Everything that may happen next.
    pub(crate) fn steps(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        let subject = &state.processes[SUBJECT];
        let fault = state.faults_left > 0;
        let available = state.jobs.contains(&Row::Available);
        if subject.life != Life::Dead {
            // What is sent the server executes, whether its sender is frozen or not.
            let sent = subject.claiming.as_ref().is_some_and(|claim| claim.answer.is_none());
            steps.extend(sent.then_some(Step::ExecuteClaim));
            steps.extend(subject.writing.as_ref().map(|_| Step::Write));
        }
        if subject.life == Life::Frozen {
            steps.push(Step::Thaw);
        }
        if subject.life == Life::Up {
            if subject.claiming.is_none() && !subject.silent && available {
                steps.push(Step::SendClaim);
            }
            let answered = subject.claiming.as_ref().is_some_and(|claim| claim.answer.is_some());
            steps.extend(answered.then_some(Step::ReadClaim));
            steps.extend(subject.lost_claims.iter().map(|(worker, batch)| Step::Forget(*worker, *batch)));
            for ticket in &subject.tickets {
                match ticket.stage {
                    Stage::Runs => {
                        steps.push(Step::HandlerEnds(*ticket));
                        steps.extend(self.hands_over.then_some(Step::HandOver(*ticket)));
                    }
                    Stage::Handed => {
                        steps.push(Step::GiveUpWaiting(*ticket));
                        let taken = state.taken.contains(&(ticket.job, ticket.claim));
                        steps.extend(taken.then_some(Step::HearTaken(*ticket)));
                    }
                    Stage::Gone | Stage::Completed | Stage::Released => {}
                }
            }
            if subject.writing.is_none() && subject.tickets.iter().any(Ticket::has_ended) {
                steps.push(Step::Gather);
            }
            steps.push(Step::Beat);
            if fault {
                steps.extend([Step::LoseClaim, Step::LoseWrite, Step::Leave, Step::Freeze, Step::Kill]);
            }
        }
        if state.is_lost(subject.worker, self.rules) {
            steps.push(Step::Rescue(subject.worker));
            steps.extend(fault.then_some(Step::LoseRescue(subject.worker)));
        }
        steps.extend(available.then_some(Step::RestClaims));
        for ticket in &state.processes[REST].tickets {
            steps.extend([Stage::Completed, Stage::Released].map(|stage| Step::RestEnds(*ticket, stage)));
        }
        steps.push(Step::Reclaim);
        steps.extend(state.underway.iter().cloned().map(Step::Arrive));
        steps.push(Step::Tick);
        steps
    }

    /// `None`: it does not apply.
    pub(crate) fn next(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        state.faults_left -= u8::from(step.is_fault());
        let batch = before.unused_batch();
        let subject = &mut state.processes[SUBJECT];
        match step {
            Step::SendClaim => {
                subject.claiming = Some(Claiming { worker: subject.worker, batch, answer: None });
            }
            Step::ExecuteClaim => {
                let Claiming { worker, batch, .. } = *subject.claiming.as_ref()?;
                let jobs = state.claim(worker, batch);
                state.processes[SUBJECT].claiming.as_mut()?.answer = Some(jobs);
            }
            Step::ReadClaim => {
                let claiming = subject.claiming.take()?;
                subject.take_in(&claiming, self.rules);
            }
            Step::LoseClaim => {
                let Claiming { worker, batch, answer } = subject.claiming.take()?;
                if self.rules != Rules::ForgetNothing {
                    subject.lost_claims.insert((worker, batch));
                }
                if answer.is_none() {
                    state.underway.insert(Statement::Claim { worker, batch });
                }
            }
            Step::Forget(worker, batch) => {
                subject.lost_claims.remove(&(worker, batch));
                state.forget(worker, batch, self.rules);
            }
            Step::HandlerEnds(ticket) => subject.ends(ticket, Stage::Completed),
            Step::HandOver(ticket) => state.hand_over(ticket),
            Step::HearTaken(ticket) => state.wait_no_more(ticket, Stage::Gone),
            Step::GiveUpWaiting(ticket) => state.wait_no_more(ticket, Stage::Released),
            Step::Gather => subject.gather(self.rules),
            Step::Write => {
                let group = subject.writing.take()?;
                state.finish(&group, self.rules);
            }
            Step::LoseWrite => {
                let group = subject.writing.clone()?;
                state.underway.insert(Statement::Finish(group));
            }
            Step::Freeze => subject.life = Life::Frozen,
            Step::Thaw => subject.life = Life::Up,
            Step::Beat => state.beat(self.rules),
            Step::Rescue(worker) => state.strike_out(worker),
            Step::LoseRescue(worker) => drop(state.underway.insert(Statement::Rescue { worker })),
            Step::Reclaim => {
                let crew: BTreeSet<Worker> = state.workers.keys().copied().collect();
                state.drop_claims(|worker| !crew.contains(&worker));
            }
            Step::Leave => {
                let worker = subject.worker;
                state.strike_out(worker);
                state.die();
            }
            Step::Kill => state.die(),
            Step::RestClaims => state.rest_claims(batch, self.rules),
            Step::RestEnds(ticket, how) => state.rest_ends(ticket, how, self.rules),
            Step::Arrive(statement) => {
                state.underway.remove(&statement);
                state.execute(&statement, self.rules);
            }
            Step::Tick => state.tick(),
        }
        self.is_bounded(&state).then_some(state)
    }

    pub(crate) fn is_bounded(&self, state: &State) -> bool {
        state.next_claim <= self.claims + 1 && state.next_worker <= WORKERS_MAX + 1
    }

    /// The promise that a state breaks.
    pub(crate) fn broken(state: &State) -> Option<&'static str> {
        let mut jobs = 0..state.jobs.len();
        if state.trespass {
            return Some(OWN);
        }
        if jobs.clone().any(|job| state.executions(job) > 1) {
            return Some(ONCE);
        }
        (!jobs.all(|job| state.is_answered_for(job))).then_some(FOUND)
    }
}
