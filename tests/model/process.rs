//! What a process does by itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::state::{Claiming, Group, Life, Process, Rules, Stage, Ticket, Worker};

impl Ticket {
    /// Its process has nothing to do with it any more but to write how it ended.
    pub(crate) fn has_ended(&self) -> bool {
        !matches!(self.stage, Stage::Runs | Stage::Handed)
    }
}

impl Process {
    pub(crate) fn new(worker: Worker) -> Self {
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

    pub(crate) fn stop(&mut self, which: impl Fn(&Ticket) -> bool) {
        let stop = |mut ticket: Ticket| {
            if ticket.stage == Stage::Runs && which(&ticket) {
                ticket.stage = Stage::Released;
            }
            ticket
        };
        self.tickets = std::mem::take(&mut self.tickets).into_iter().map(stop).collect();
    }

    pub(crate) fn take_in(&mut self, claiming: &Claiming, rules: Rules) {
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

    pub(crate) fn ends(&mut self, mut ticket: Ticket, stage: Stage) {
        self.tickets.remove(&ticket);
        ticket.stage = stage;
        self.tickets.insert(ticket);
    }

    /// The finisher's group: all that has ended, less what is held under a newer claim by now.
    pub(crate) fn gather(&mut self, rules: Rules) {
        let (ended, running): (BTreeSet<_>, BTreeSet<_>) =
            std::mem::take(&mut self.tickets).into_iter().partition(Ticket::has_ended);
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
            if stage != Stage::Gone && (current || rules == Rules::GroupWithoutStrike) {
                group.endings.push((job, claim, stage == Stage::Completed));
            }
        }
        self.writing = Some(group);
    }
}
