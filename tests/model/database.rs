//! What the statements do, as the server executes them.

use std::collections::{BTreeMap, BTreeSet};

use crate::state::{
    Batch, Claim, Claiming, Group, Job, LOST_AFTER, Life, Process, REST, Row, Rules, SELF_STOP, SUBJECT,
    Stage, State, Statement, Ticket, Worker,
};

impl State {
    pub(crate) fn give_back(&mut self, job: Job, under: Claim) {
        if matches!(self.jobs[job], Row::Running { claim, .. } if claim == under) {
            self.jobs[job] = Row::Available;
        }
    }

    /// The rest of the crew claims, and hears the answer.
    pub(crate) fn rest_claims(&mut self, batch: Batch, rules: Rules) {
        let worker = self.processes[REST].worker;
        let answer = Some(self.claim(worker, batch));
        self.processes[REST].take_in(&Claiming { worker, batch, answer }, rules);
    }

    /// A job of the rest ends, and its ending is written.
    pub(crate) fn rest_ends(&mut self, ticket: Ticket, how: Stage, rules: Rules) {
        self.processes[REST].ends(ticket, how);
        self.processes[REST].gather(rules);
        if let Some(group) = self.processes[REST].writing.take() {
            self.finish(&group, rules);
        }
    }

    /// A statement whose sender waits for it no more.
    pub(crate) fn execute(&mut self, statement: &Statement, rules: Rules) {
        match statement {
            Statement::Claim { worker, batch } => drop(self.claim(*worker, *batch)),
            Statement::Finish(group) => self.finish(group, rules),
            Statement::Rescue { worker } => self.strike_out(*worker),
            Statement::TakeOver { job, claim } => self.take_over(*job, *claim, rules),
        }
    }

    /// A process is started for a job.
    pub(crate) fn hand_over(&mut self, ticket: Ticket) {
        self.processes[SUBJECT].ends(ticket, Stage::Handed);
        self.underway.insert(Statement::TakeOver { job: ticket.job, claim: ticket.claim });
    }

    /// It has said that it has the job, or is not waited for any more.
    pub(crate) fn wait_no_more(&mut self, ticket: Ticket, then: Stage) {
        self.processes[SUBJECT].ends(ticket, then);
        self.taken.remove(&(ticket.job, ticket.claim));
    }

    /// `jobs_take_over.sql`; the process that sends it hears the answer, begins, and says so.
    fn take_over(&mut self, job: Job, under: Claim, rules: Rules) {
        let Row::Running { claim, .. } = self.jobs[job] else { return };
        if claim != under && rules != Rules::TakeOverById {
            return;
        }
        let (worker, batch, claim) = (self.processes[REST].worker, self.unused_batch(), self.next_claim);
        self.next_claim += 1;
        self.jobs[job] = Row::Running { claim, worker };
        self.claims.insert((worker, batch), (claim, vec![job]));
        let waits = |ticket: &Ticket| (ticket.job, ticket.claim, ticket.stage) == (job, under, Stage::Handed);
        if self.processes[SUBJECT].tickets.iter().any(waits) {
            self.taken.insert((job, under));
        }
        let answer = Some(vec![(job, claim)]);
        self.processes[REST].take_in(&Claiming { worker, batch, answer }, rules);
    }

    /// `job_claim.sql`; an empty answer also when the batch is recorded already, which fails.
    pub(crate) fn claim(&mut self, worker: Worker, batch: Batch) -> Vec<(Job, Claim)> {
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
    pub(crate) fn forget(&mut self, worker: Worker, batch: Batch, rules: Rules) {
        match self.claims.remove(&(worker, batch)) {
            Some((claim, jobs)) => jobs.into_iter().for_each(|job| self.give_back(job, claim)),
            None if rules == Rules::ForgetWithoutBlock => {}
            None => {
                self.claims.insert((worker, batch), (0, Vec::new()));
            }
        }
    }

    /// `job_finish.sql` and `job_requeue.sql`: the claims of a group are checked as a set.
    pub(crate) fn finish(&mut self, group: &Group, rules: Rules) {
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
    pub(crate) fn strike_out(&mut self, worker: Worker) {
        if self.workers.remove(&worker).is_some() {
            self.drop_claims(|of| of == worker);
        }
    }

    pub(crate) fn drop_claims(&mut self, of: impl Fn(Worker) -> bool) {
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
    pub(crate) fn beat(&mut self, rules: Rules) {
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
    pub(crate) fn tick(&mut self) {
        let process = &mut self.processes[SUBJECT];
        if let Some(ticks) = self.workers.get_mut(&process.worker) {
            *ticks = (*ticks + 1).min(LOST_AFTER);
        }
        process.silence = (process.silence + 1).min(SELF_STOP);
        if process.life == Life::Up && process.silence >= SELF_STOP && !process.silent {
            process.silent = true;
            process.stop(|_| true);
        }
    }

    /// The process is gone; what it has sent may still arrive.
    pub(crate) fn die(&mut self) {
        let worker = self.processes[SUBJECT].worker;
        let dead = Process { life: Life::Dead, ..Process::new(worker) };
        let gone = std::mem::replace(&mut self.processes[SUBJECT], dead);
        self.taken.clear();
        let claim = gone.claiming.filter(|claim| claim.answer.is_none());
        self.underway
            .extend(claim.map(|claim| Statement::Claim { worker: claim.worker, batch: claim.batch }));
        self.underway.extend(gone.writing.map(Statement::Finish));
    }

    /// A number that nothing speaks of. (The code takes one that never was; fewer states this way.)
    pub(crate) fn unused_batch(&self) -> Batch {
        let of_process = |process: &Process| {
            let lost = process.lost_claims.iter().map(|(_, batch)| *batch);
            let writing = process.writing.iter().flat_map(|group| group.batches.clone());
            let claiming = process.claiming.iter().map(|claiming| claiming.batch);
            lost.chain(writing).chain(claiming).chain(process.left.keys().copied()).collect::<Vec<_>>()
        };
        let underway = self.underway.iter().flat_map(|statement| match statement {
            Statement::Claim { batch, .. } => vec![*batch],
            Statement::Finish(group) => group.batches.clone(),
            Statement::Rescue { .. } | Statement::TakeOver { .. } => vec![],
        });
        let recorded = self.claims.keys().map(|(_, batch)| *batch);
        let used: BTreeSet<Batch> =
            self.processes.iter().flat_map(of_process).chain(underway).chain(recorded).collect();
        (1..=Batch::MAX).find(|batch| !used.contains(batch)).expect("a number")
    }

    pub(crate) fn is_lost(&self, worker: Worker, rules: Rules) -> bool {
        let alive = |process: &Process| process.worker == worker && process.life != Life::Dead;
        let old = self.jobs.iter().any(|row| matches!(row, Row::Running { worker: w, .. } if *w == worker));
        self.workers.get(&worker).is_some_and(|ticks| {
            // Of one that is dead the lock is gone, in two looks.
            *ticks >= LOST_AFTER || !self.processes.iter().any(alive) || (rules == Rules::RescueByAge && old)
        })
    }

    /// Whether somebody will do something about a job that runs.
    pub(crate) fn is_answered_for(&self, job: Job) -> bool {
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
    pub(crate) fn executions(&self, job: Job) -> usize {
        let counts =
            |process: &&Process| process.life == Life::Up && (process.silence < SELF_STOP || process.silent);
        let runs = |process: &Process| {
            process.tickets.iter().filter(|ticket| ticket.job == job && ticket.stage == Stage::Runs).count()
        };
        self.processes.iter().filter(counts).map(runs).sum()
    }
}
