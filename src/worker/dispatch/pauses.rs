//! Keeps jobs of paused kinds from beginning.

use std::collections::VecDeque;
use std::mem::take;
use std::sync::Arc;

use tokio::time::Instant;

use super::super::attempt;
use super::super::held::Ticket;
use super::Dispatch;

impl Dispatch {
    /// Acts on kinds that were paused or resumed since the last look.
    pub(super) fn mind_pauses(&mut self) {
        let version = self.shared.pauses.version();
        if std::mem::replace(&mut self.pauses_seen, version) != version {
            self.give_back_paused();
            // Jobs of a kind that is resumed were passed over: they stand before the cursors.
            self.orders.iter_mut().for_each(|kinds| kinds.lanes.sweep_next());
            self.idle.found();
            self.next_look = Instant::now();
        }
    }

    /// The kinds of the next claim.
    pub(super) fn kinds_to_claim(&self) -> Vec<Arc<str>> {
        let names = &self.orders[0].names;
        names.iter().filter(|kind| !self.shared.pauses.hold(kind)).cloned().collect()
    }

    /// Gives back jobs of paused kinds that have not begun.
    pub(super) fn give_back_paused(&mut self) {
        if !self.shared.pauses.any() {
            return;
        }
        let limited = self.orders.iter_mut().filter_map(|kinds| Some(&mut kinds.limit.as_mut()?.waiting));
        for queue in limited.chain([&mut self.buffer, &mut self.suspects]) {
            let (paused, others): (VecDeque<Ticket>, _) =
                take(queue).into_iter().partition(|ticket| self.shared.pauses.hold(&ticket.job.kind));
            *queue = others;
            for ticket in paused {
                let _ = self.ended.send(attempt::given_back(&self.shared, &ticket));
            }
        }
    }
}
