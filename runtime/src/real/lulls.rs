//! Who waits for a moment in which the shard has nothing else to do.
//!
//! *Place*: below the face `task`; ended by the driver of the shard. *Core*: one per shard.
//! *Limits*: a wait ends after as many turns of the driver as it asked for, idle or not.

use std::cell::RefCell;
use std::task::Waker;

#[derive(Default)]
pub(super) struct Lulls {
    /// Who waits, and for how many turns yet.
    waiting: RefCell<Vec<(Waker, u32)>>,
}

impl Lulls {
    pub(super) fn add(&self, waker: Waker, turns: u32) {
        self.waiting.borrow_mut().push((waker, turns));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// After a turn of the driver: takes into `woken` everybody if nothing `is_runnable`, else those
    /// who have waited for long enough.
    pub(super) fn end_turn(&self, is_runnable: bool, woken: &mut Vec<Waker>) {
        let over = |(_, turns): &mut (Waker, u32)| {
            *turns = turns.saturating_sub(1);
            !is_runnable || *turns == 0
        };
        let mut waiting = self.waiting.borrow_mut();
        woken.extend(waiting.extract_if(.., over).map(|(waker, _)| waker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_the_first_idle_turn_or_its_last_one() {
        let lulls = Lulls::default();
        let mut woken = Vec::new();
        lulls.add(Waker::noop().clone(), 2);
        lulls.add(Waker::noop().clone(), 3);
        lulls.end_turn(true, &mut woken);
        assert_eq!(woken.len(), 0);
        lulls.end_turn(true, &mut woken);
        assert_eq!(woken.len(), 1, "its two turns are over");
        lulls.end_turn(false, &mut woken);
        assert_eq!(woken.len(), 2, "nothing is runnable");
        assert!(lulls.is_empty());
    }
}
