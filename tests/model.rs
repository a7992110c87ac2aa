//! The protocol of claims as a model, every state of which is looked at: one worker to whom everything happens that
//! may, another that is well and stands for all the rest, one or two jobs.
//!
//! It uses the words of the code: a row of `jobs` runs under a claim id; `claims` records each batch; a worker
//! that was taken for lost is struck out of `workers` and enters again under a new id; the finisher gathers
//! endings, strikes them out of what is held, and writes them as a group. One step is one statement that the
//! server executes, or one thing that a process does by itself. `docs/model.md` says what is left out.
//!
//! Each test but the first breaks one rule and must find what that rule is there for.

#![allow(
    clippy::similar_names,
    clippy::too_many_lines,
    clippy::struct_excessive_bools,
    clippy::absurd_extreme_comparisons,
    clippy::maybe_infinite_iter,
    reason = "a model: its steps stand in one table, its bounds are for any setting, its numbers never run out"
)]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

/// The process that faults befall, and the one that is well.
const SUBJECT: usize = 0;
const REST: usize = 1;
/// Worker ids make the space infinite otherwise.
const WORKERS_MAX: u8 = 3;
/// A process that counts more ticks than this since its last beat stops its jobs (6 s in the code).
const SELF_STOP: u8 = 0;
/// A worker whose beat has not changed for so many ticks is taken for lost (10 s in the code).
const LOST_AFTER: u8 = 2;

type Job = usize;
type Claim = u8;
type Worker = u8;
type Batch = u8;

/// What the code does, or with one rule broken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    Kept,
    /// An ending asks only whether the job runs, not under which claim.
    FinishById,
    /// A worker is taken for lost because its job is old, not because its beat stands still.
    RescueByAge,
    /// Endings are grouped without a look at what is held now: an old one goes under a newer claim of the group.
    GroupWithoutStrike,
    /// A claim that is answered after the worker stopped itself is begun.
    BeginWhileSilent,
    /// A claim whose answer was lost is not settled.
    ForgetNothing,
    /// A claim whose answer was lost is given back if it is there, and nothing keeps it from arriving later.
    ForgetWithoutBlock,
}

/// A row of `jobs`.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum Row {
    Available,
    Running {
        claim: Claim,
        worker: Worker,
    },
    /// In `finished_jobs` or `dead_jobs`.
    Ended,
}

/// Jobs ended or given back under the claims they ran under, as one group of endings carries them.
#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    worker: Worker,
    endings: Vec<(Job, Claim, bool)>,
    /// Claims of which nothing is left.
    batches: Vec<Batch>,
}

/// A statement whose sender does not wait for it any more: it may still be executed, or never.
#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
enum Statement {
    Claim { worker: Worker, batch: Batch },
    Finish(Group),
    Rescue { worker: Worker },
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Runs,
    Completed,
    /// To be given back, or to be tried again.
    Released,
}

/// A claimed job on its way through a process.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket {
    job: Job,
    claim: Claim,
    batch: Batch,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum Life {
    Up,
    Frozen,
    Dead,
}

/// A claim that was sent; `answer` once the server has executed it.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct Claiming {
    worker: Worker,
    batch: Batch,
    answer: Option<Vec<(Job, Claim)>>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct Process {
    life: Life,
    worker: Worker,
    /// Ticks since a beat went through.
    silence: u8,
    /// It stopped its jobs because no beat went through.
    silent: bool,
    held: BTreeMap<Job, Claim>,
    tickets: BTreeSet<Ticket>,
    /// Jobs left of each claim.
    left: BTreeMap<Batch, u8>,
    writing: Option<Group>,
    claiming: Option<Claiming>,
    lost_claims: BTreeSet<(Worker, Batch)>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct State {
    jobs: Vec<Row>,
    /// The crew, and for how many ticks each one's beat has not changed.
    workers: BTreeMap<Worker, u8>,
    claims: BTreeMap<(Worker, Batch), (Claim, Vec<Job>)>,
    next_claim: Claim,
    next_worker: Worker,
    processes: [Process; 2],
    underway: BTreeSet<Statement>,
    faults_left: u8,
    /// An ending was written to a job that ran under another claim.
    trespass: bool,
    /// An ending came too late and was refused.
    refused: bool,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
enum Step {
    /// A process sends a claim; the server executes it; the process reads the answer.
    SendClaim,
    ExecuteClaim,
    ReadClaim,
    /// Nobody waits for the claim any more.
    LoseClaim,
    Forget(Worker, Batch),
    HandlerEnds(Ticket),
    /// The rest of the crew, which is well, does each of these at one go.
    RestClaims,
    RestEnds(Ticket, Stage),
    Gather,
    Write,
    /// The write is sent, nobody hears the answer, and it is sent again.
    LoseWrite,
    Beat,
    Rescue(Worker),
    LoseRescue(Worker),
    /// Claims of workers that are not in the crew are given back.
    Reclaim,
    Leave,
    Arrive(Statement),
    Tick,
    Freeze,
    Thaw,
    Kill,
}

impl Step {
    fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::LoseClaim | Self::LoseWrite | Self::LoseRescue(_) | Self::Leave | Self::Freeze | Self::Kill
        )
    }
}

struct Crew {
    rules: Rules,
    jobs: usize,
    /// Claims in one run at most.
    claims: u8,
    faults: u8,
}

impl State {
    fn give_back(&mut self, job: Job, under: Claim) {
        if matches!(self.jobs[job], Row::Running { claim, .. } if claim == under) {
            self.jobs[job] = Row::Available;
        }
    }

    /// `job_claim.sql`; an empty answer also when the batch is recorded already, which fails.
    fn claim(&mut self, worker: Worker, batch: Batch) -> Vec<(Job, Claim)> {
        let due: Vec<Job> = (0..self.jobs.len()).filter(|job| self.jobs[*job] == Row::Available).collect();
        if due.is_empty() || self.claims.contains_key(&(worker, batch)) {
            return Vec::new();
        }
        let claim = self.next_claim;
        self.next_claim += 1;
        for job in &due {
            self.jobs[*job] = Row::Running { claim, worker };
        }
        self.claims.insert((worker, batch), (claim, due.clone()));
        due.into_iter().map(|job| (job, claim)).collect()
    }

    /// `claim_forget.sql`.
    fn forget(&mut self, worker: Worker, batch: Batch, rules: Rules) {
        match self.claims.remove(&(worker, batch)) {
            Some((claim, jobs)) => jobs.into_iter().for_each(|job| self.give_back(job, claim)),
            None if rules == Rules::ForgetWithoutBlock => {}
            None => {
                self.claims.insert((worker, batch), (0, Vec::new()));
            }
        }
    }

    /// `job_finish.sql` and `job_requeue.sql`: the claims of a group are checked as a set.
    fn finish(&mut self, group: &Group, rules: Rules) {
        let claims: BTreeSet<Claim> = group.endings.iter().map(|(_, claim, _)| *claim).collect();
        for (job, ran_under, completed) in &group.endings {
            match self.jobs[*job] {
                Row::Running { claim, .. } if claims.contains(&claim) || rules == Rules::FinishById => {
                    self.trespass |= claim != *ran_under;
                    self.jobs[*job] = if *completed { Row::Ended } else { Row::Available };
                }
                _ => self.refused = true,
            }
        }
        for batch in &group.batches {
            self.claims.remove(&(group.worker, *batch));
        }
    }

    /// `worker_rescue.sql` and `worker_leave.sql`.
    fn strike_out(&mut self, worker: Worker) {
        if self.workers.remove(&worker).is_some() {
            self.drop_claims(|of| of == worker);
        }
    }

    fn drop_claims(&mut self, of: impl Fn(Worker) -> bool) {
        let (gone, kept) =
            std::mem::take(&mut self.claims).into_iter().partition(|((worker, _), _)| of(*worker));
        self.claims = kept;
        let gone: BTreeMap<_, (Claim, Vec<Job>)> = gone;
        for (claim, jobs) in gone.into_values() {
            for job in jobs {
                self.give_back(job, claim);
            }
        }
    }

    /// `worker_beat.sql`; a worker that was struck out stops everything and enters again.
    fn beat(&mut self, rules: Rules) {
        let process = &mut self.processes[SUBJECT];
        if let Some(ticks) = self.workers.get_mut(&process.worker) {
            *ticks = 0;
            if rules != Rules::RescueByAge {
                // A rescue names the beat it saw.
                self.underway.remove(&Statement::Rescue { worker: process.worker });
            }
        } else {
            process.stop(|_| true);
            process.worker = self.next_worker;
            self.next_worker += 1;
            self.workers.insert(process.worker, 0);
        }
        process.silence = 0;
        process.silent = false;
    }

    /// Time passes; a process that runs looks at its clock.
    fn tick(&mut self) {
        let process = &mut self.processes[SUBJECT];
        if let Some(ticks) = self.workers.get_mut(&process.worker) {
            *ticks = (*ticks + 1).min(LOST_AFTER);
        }
        process.silence = (process.silence + 1).min(SELF_STOP + 1);
        if process.life == Life::Up && process.silence > SELF_STOP && !process.silent {
            process.silent = true;
            process.stop(|_| true);
        }
    }

    /// The process is gone; what it has sent may still arrive.
    fn die(&mut self) {
        let worker = self.processes[SUBJECT].worker;
        let dead = Process { life: Life::Dead, ..Process::new(worker) };
        let gone = std::mem::replace(&mut self.processes[SUBJECT], dead);
        let claim = gone.claiming.filter(|claim| claim.answer.is_none());
        self.underway
            .extend(claim.map(|claim| Statement::Claim { worker: claim.worker, batch: claim.batch }));
        self.underway.extend(gone.writing.map(Statement::Finish));
    }

    /// A number that nothing speaks of. (The code takes one that never was; fewer states this way.)
    fn unused_batch(&self) -> Batch {
        let of_process = |process: &Process| {
            let lost = process.lost_claims.iter().map(|(_, batch)| *batch);
            let writing = process.writing.iter().flat_map(|group| group.batches.clone());
            let claiming = process.claiming.iter().map(|claiming| claiming.batch);
            lost.chain(writing).chain(claiming).chain(process.left.keys().copied()).collect::<Vec<_>>()
        };
        let underway = self.underway.iter().flat_map(|statement| match statement {
            Statement::Claim { batch, .. } => vec![*batch],
            Statement::Finish(group) => group.batches.clone(),
            Statement::Rescue { .. } => vec![],
        });
        let recorded = self.claims.keys().map(|(_, batch)| *batch);
        let used: BTreeSet<Batch> =
            self.processes.iter().flat_map(of_process).chain(underway).chain(recorded).collect();
        (1..).find(|batch| !used.contains(batch)).expect("a number")
    }

    fn is_lost(&self, worker: Worker, rules: Rules) -> bool {
        let alive = |process: &Process| process.worker == worker && process.life != Life::Dead;
        let old = self.jobs.iter().any(|row| matches!(row, Row::Running { worker: w, .. } if *w == worker));
        self.workers.get(&worker).is_some_and(|ticks| {
            // Of one that is dead the lock is gone, in two looks.
            *ticks >= LOST_AFTER || !self.processes.iter().any(alive) || (rules == Rules::RescueByAge && old)
        })
    }

    /// Whether somebody will do something about a job that runs.
    fn is_answered_for(&self, job: Job) -> bool {
        let Row::Running { claim, worker } = self.jobs[job] else { return true };
        let mut records = self
            .claims
            .iter()
            .filter(|((w, _), (c, jobs))| *w == worker && *c == claim && jobs.contains(&job));
        let Some(((_, batch), _)) = records.next() else { return false };
        let knows = |process: &Process| {
            process.tickets.iter().any(|ticket| (ticket.job, ticket.claim) == (job, claim))
                || process.writing.iter().any(|w| w.endings.iter().any(|e| (e.0, e.1) == (job, claim)))
                || process.lost_claims.contains(&(worker, *batch))
                || process.claiming.iter().any(|c| (c.worker, c.batch) == (worker, *batch))
        };
        let is_its = |process: &Process| process.worker == worker && process.life != Life::Dead;
        !self.workers.contains_key(&worker)
            || !self.processes.iter().any(is_its)
            || self.processes.iter().any(|process| is_its(process) && knows(process))
    }

    /// Executions of a job in processes that run and believe in their claims. One that was just thawed and has
    /// not yet looked at its clock is not counted: this is the overlap that is stated.
    fn executions(&self, job: Job) -> usize {
        let counts =
            |process: &&Process| process.life == Life::Up && (process.silence <= SELF_STOP || process.silent);
        let runs = |process: &Process| {
            process.tickets.iter().filter(|ticket| ticket.job == job && ticket.stage == Stage::Runs).count()
        };
        self.processes.iter().filter(counts).map(runs).sum()
    }
}

impl Process {
    fn new(worker: Worker) -> Self {
        Self {
            life: Life::Up,
            worker,
            silence: 0,
            silent: false,
            held: BTreeMap::new(),
            tickets: BTreeSet::new(),
            left: BTreeMap::new(),
            writing: None,
            claiming: None,
            lost_claims: BTreeSet::new(),
        }
    }

    fn stop(&mut self, which: impl Fn(&Ticket) -> bool) {
        let stop = |mut ticket: Ticket| {
            if ticket.stage == Stage::Runs && which(&ticket) {
                ticket.stage = Stage::Released;
            }
            ticket
        };
        self.tickets = std::mem::take(&mut self.tickets).into_iter().map(stop).collect();
    }

    fn take_in(&mut self, claiming: &Claiming, rules: Rules) {
        let Claiming { worker: named, batch, answer: Some(jobs) } = claiming else { return };
        if jobs.is_empty() {
            return;
        }
        let (named, batch) = (*named, *batch);
        self.left.insert(batch, jobs.len() as u8);
        // Claimed in a name that is struck out, or while nobody can be sure to see this worker: not begun.
        let begins = self.worker == named && (!self.silent || rules == Rules::BeginWhileSilent);
        let stage = if begins { Stage::Runs } else { Stage::Released };
        for &(job, claim) in jobs {
            self.held.insert(job, claim);
            self.stop(|older| older.job == job);
            self.tickets.insert(Ticket { job, claim, batch, stage });
        }
    }

    fn ends(&mut self, mut ticket: Ticket, stage: Stage) {
        self.tickets.remove(&ticket);
        ticket.stage = stage;
        self.tickets.insert(ticket);
    }

    /// The finisher's group: all that has ended, less what is held under a newer claim by now.
    fn gather(&mut self, rules: Rules) {
        let (ended, running): (BTreeSet<_>, BTreeSet<_>) =
            std::mem::take(&mut self.tickets).into_iter().partition(|ticket| ticket.stage != Stage::Runs);
        self.tickets = running;
        let mut group = Group { worker: self.worker, endings: Vec::new(), batches: Vec::new() };
        for Ticket { job, claim, batch, stage } in ended {
            let left = self.left.entry(batch).or_insert(1);
            *left -= 1;
            if *left == 0 {
                self.left.remove(&batch);
                group.batches.push(batch);
            }
            let current = self.held.get(&job) == Some(&claim);
            if current {
                self.held.remove(&job);
            }
            if current || rules == Rules::GroupWithoutStrike {
                group.endings.push((job, claim, stage == Stage::Completed));
            }
        }
        self.writing = Some(group);
    }
}

impl Crew {
    fn first(&self) -> State {
        State {
            jobs: vec![Row::Available; self.jobs],
            workers: BTreeMap::from([(1, 0), (2, 0)]),
            claims: BTreeMap::new(),
            next_claim: 1,
            next_worker: 3,
            processes: std::array::from_fn(|at| Process::new(at as u8 + 1)),
            underway: BTreeSet::new(),
            faults_left: self.faults,
            trespass: false,
            refused: false,
        }
    }

    /// Everything that may happen next.
    fn steps(&self, state: &State) -> Vec<Step> {
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
            let runs = |ticket: &&Ticket| ticket.stage == Stage::Runs;
            steps.extend(subject.tickets.iter().filter(runs).map(|ticket| Step::HandlerEnds(*ticket)));
            if subject.writing.is_none() && subject.tickets.iter().any(|ticket| ticket.stage != Stage::Runs) {
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
    fn next(&self, before: &State, step: Step) -> Option<State> {
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
            Step::RestClaims => {
                let worker = state.processes[REST].worker;
                let answer = Some(state.claim(worker, batch));
                state.processes[REST].take_in(&Claiming { worker, batch, answer }, self.rules);
            }
            Step::RestEnds(ticket, stage) => {
                state.processes[REST].ends(ticket, stage);
                state.processes[REST].gather(self.rules);
                let group = state.processes[REST].writing.take()?;
                state.finish(&group, self.rules);
            }
            Step::Arrive(statement) => {
                state.underway.remove(&statement);
                match &statement {
                    Statement::Claim { worker, batch } => drop(state.claim(*worker, *batch)),
                    Statement::Finish(group) => state.finish(group, self.rules),
                    Statement::Rescue { worker } => state.strike_out(*worker),
                }
            }
            Step::Tick => state.tick(),
        }
        self.is_bounded(&state).then_some(state)
    }

    fn is_bounded(&self, state: &State) -> bool {
        state.next_claim <= self.claims + 1 && state.next_worker <= WORKERS_MAX + 1
    }

    /// The promise that a state breaks.
    fn broken(state: &State) -> Option<&'static str> {
        let mut jobs = 0..state.jobs.len();
        if state.trespass {
            return Some(OWN);
        }
        if jobs.clone().any(|job| state.executions(job) > 1) {
            return Some(ONCE);
        }
        (!jobs.all(|job| state.is_answered_for(job))).then_some(FOUND)
    }

    /// Looks at every state, the nearest first, until a promise is broken; answers with the way there.
    fn search(&self) -> Result<Seen, (&'static str, Vec<Step>)> {
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
struct Seen {
    states: usize,
    every_job_ended: bool,
    late_ending_refused: bool,
    late_claim_blocked: bool,
    entered_again: bool,
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

const OWN: &str = "an ending is written only under the claim it ran under";
const ONCE: &str = "no job is executed twice at once";
const FOUND: &str = "somebody answers for every job that runs";

/// That no state breaks a promise, and that the search got everywhere.
fn holds(jobs: usize, claims: u8, faults: u8) {
    let seen = Crew { rules: Rules::Kept, jobs, claims, faults }.search();
    println!("{seen:?}");
    let seen = seen.expect("every promise is kept");
    assert!(seen.every_job_ended && seen.late_ending_refused && seen.entered_again);
    assert_eq!(seen.late_claim_blocked, faults > 0);
}

/// That breaking the rule is found out, and by which promise.
fn breaks(rules: Rules, faults: u8, promise: &str) {
    let (broken, way) = Crew { rules, jobs: 2, claims: 2, faults }.search().expect_err("a way to break it");
    for step in way {
        println!("  {step:?}");
    }
    assert_eq!(broken, promise);
}

#[test]
fn no_job_is_lost_or_run_twice_at_once_or_ended_by_one_who_lost_it() {
    holds(1, 3, 1);
}

#[test]
fn nor_is_one_of_two_jobs_of_a_batch() {
    // With a fault it holds too: 278,408 states, for which this test would take half a minute without optimization.
    holds(2, 2, 0);
}

#[test]
fn without_the_claim_in_the_finish_a_worker_ends_what_another_runs() {
    breaks(Rules::FinishById, 0, OWN);
}

#[test]
fn a_rescue_by_age_runs_a_live_job_twice() {
    breaks(Rules::RescueByAge, 0, ONCE);
}

#[test]
fn without_a_look_at_what_is_held_an_old_ending_goes_under_a_newer_claim() {
    breaks(Rules::GroupWithoutStrike, 0, OWN);
}

#[test]
fn a_claim_answered_after_the_worker_stopped_itself_must_not_begin() {
    breaks(Rules::BeginWhileSilent, 0, ONCE);
}

#[test]
fn a_lost_claim_that_is_not_settled_holds_its_jobs_for_ever() {
    breaks(Rules::ForgetNothing, 1, FOUND);
    breaks(Rules::ForgetWithoutBlock, 1, FOUND);
}
