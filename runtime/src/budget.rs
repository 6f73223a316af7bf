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
