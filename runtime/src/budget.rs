//! How much memory a shard may use, and who waits when it is used up.
//!
//! *Place*: connections charge what they read, partition logs what they keep. *Core*: one per shard.
//! *Invariants*: **I1** what is charged and not yet dropped is what `used` says. **I2** a charge that
//! waits is served before every later one. *Limits*: `limit`, exceeded only by [`Charge::resize`] and
//! by one charge that alone is larger than it.

use crate::sync::{Permit, Semaphore};

/// The memory budget of a shard; clones share it.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    bytes: Semaphore,
}

impl MemoryBudget {
    /// A budget of `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        MemoryBudget {
            bytes: Semaphore::new(limit_bytes),
        }
    }

    /// Bytes charged now.
    pub fn used(&self) -> usize {
        self.bytes.used()
    }

    /// Bytes that may be charged in all.
    pub fn limit(&self) -> usize {
        self.bytes.limit()
    }

    /// Charges how many tasks wait for.
    pub fn waiting(&self) -> usize {
        self.bytes.waiting()
    }

    /// Charges `bytes` if there is room and nobody waits.
    pub fn try_charge(&self, bytes: usize) -> Option<Charge> {
        self.bytes
            .try_acquire(bytes)
            .map(|permit| Charge { permit })
    }

    /// Charges `bytes`, waiting behind those who came before. More than the limit is charged when
    /// nothing else is.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in the queue.
    pub async fn charge(&self, bytes: usize) -> Charge {
        Charge {
            permit: self.bytes.acquire(bytes).await,
        }
    }
}

/// Memory charged to a [`MemoryBudget`]; released on drop.
#[derive(Debug)]
pub struct Charge {
    permit: Permit,
}

impl Charge {
    /// Bytes charged.
    pub fn bytes(&self) -> usize {
        self.permit.count()
    }

    /// Changes the charge at once; growth does not wait and may exceed the limit.
    pub fn resize(&mut self, bytes: usize) {
        self.permit.resize(bytes);
    }

    /// Splits `bytes` off into their own charge.
    ///
    /// # Panics
    /// If fewer are charged.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Charge {
        Charge {
            permit: self.permit.split(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Simulation;
    use crate::task::{Class, spawn, yield_now};

    #[test]
    fn charges_count_until_dropped() {
        let budget = MemoryBudget::new(100);
        let first = budget.try_charge(60).unwrap();
        assert!(budget.try_charge(50).is_none());
        let second = budget.clone().try_charge(40).unwrap();
        assert_eq!((budget.used(), budget.limit()), (100, 100));
        drop(first);
        assert_eq!(budget.used(), second.bytes());
    }

    #[test]
    fn a_charge_is_resized_and_split() {
        let budget = MemoryBudget::new(100);
        let mut charge = budget.try_charge(50).unwrap();
        charge.resize(120);
        assert_eq!(budget.used(), 120);
        let part = charge.split(100);
        drop(charge);
        assert_eq!(budget.used(), 100);
        assert!(budget.try_charge(1).is_none());
        drop(part);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn waiting_charges_are_served_in_order_as_memory_comes_back() {
        let program = async {
            let budget = MemoryBudget::new(100);
            let mut held = budget.charge(100).await;
            let waiting = [70, 20].map(|bytes| {
                let budget = budget.clone();
                spawn(Class::Network, async move { budget.charge(bytes).await })
            });
            yield_now().await;
            held.resize(40);
            yield_now().await;
            assert_eq!((budget.used(), budget.waiting()), (40, 2));
            held.resize(30);
            let [large, small] = waiting;
            let large = large.await.unwrap();
            assert_eq!((budget.used(), budget.waiting()), (100, 1));
            drop(large);
            assert_eq!(small.await.unwrap().bytes(), 20);
        };
        Simulation::new(1).shuffle_tasks(false).run(program).value();
    }

    #[test]
    fn more_than_the_limit_is_charged_alone() {
        let program = async {
            let budget = MemoryBudget::new(100);
            let held = budget.charge(1).await;
            let whole = budget.clone();
            let huge = spawn(Class::Network, async move { whole.charge(500).await });
            yield_now().await;
            assert!(!huge.is_finished());
            drop(held);
            assert_eq!(huge.await.unwrap().bytes(), 500);
            assert_eq!(budget.used(), 0);
        };
        Simulation::new(1).run(program).value();
    }
}
