//! Sends without a copy in the kernel: when they are worth it, and what became of them.
//!
//! *Place*: `real::net` asks its [`Link`] before a send; the slot of the operation keeps a [`Held`] until
//! the kernel has let go of the memory. *Core*: a [`ZeroCopy`] per shard, a [`Link`] per connection.
//! *Invariants*: **I1** what the kernel may still read after such a send is charged to the shard's budget;
//! when there is no room, the send is an ordinary one. **I2** a refusal or, in `auto`, a report that the
//! kernel copied after all turns them off for that connection, and costs nothing else.
//! *Limits*: [`SEND_BYTES_MIN`], [`PART_BYTES_MIN`]; a [`BUDGET_SHARE`]th of the budget: the kernel holds
//! memory until the peer has acknowledged it, and slow peers must not take what producers need.
//! *Source*: `io_uring_enter(2)` on `IORING_OP_SEND_ZC`; `msg_zerocopy.rst` in the kernel's networking pages.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use io_uring::cqueue;

use crate::budget::{Charge, MemoryBudget};
use crate::buffer::Slice;
use crate::probe;

/// Least bytes of one send. Pinning pages, a second completion and smaller segments cost as much as copying
/// some 10 KB (`msg_zerocopy.rst`); what is twice as large wins little, and most answers are smaller still.
const SEND_BYTES_MIN: usize = 64 << 10;
/// Least bytes of a part, on average: each takes a reference to a page, however little of it is sent.
const PART_BYTES_MIN: usize = 4 << 10;
/// All sends of a shard together hold at most this part of its budget.
const BUDGET_SHARE: usize = 8;
/// `IORING_SEND_ZC_REPORT_USAGE` (Linux 6.2): the notification says whether the kernel copied.
pub(crate) const REPORT_USAGE: u16 = 1 << 3;
/// `IORING_NOTIF_USAGE_ZC_COPIED`, in the result of a notification.
const COPIED: u32 = 1 << 31;

/// Which sends are zero-copy ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZeroCopyMode {
    /// Large ones to other machines, as long as the kernel does not report that it copies.
    #[default]
    Auto,
    /// Large ones, whatever it gives: to measure and to test.
    On,
    /// None.
    Off,
}

/// What became of zero-copy sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZeroCopyCounts {
    /// Sends that the kernel has finished.
    pub sends: u64,
    /// Of them those that it copied after all.
    pub copied_sends: u64,
    /// Bytes of the others.
    pub bytes: u64,
    /// Memory that the kernel may still read, with all of each buffer that a part lies in.
    pub held_bytes: u64,
}

/// Zero-copy sends of a shard.
#[derive(Debug)]
pub struct ZeroCopy {
    mode: ZeroCopyMode,
    budget: MemoryBudget,
    /// What the sends may hold of the budget.
    share: MemoryBudget,
    counts: Cell<ZeroCopyCounts>,
}

impl ZeroCopy {
    /// What they hold is charged to `budget`.
    pub fn new(mode: ZeroCopyMode, budget: MemoryBudget) -> Rc<Self> {
        Rc::new(Self {
            mode,
            share: MemoryBudget::new(budget.limit() / BUDGET_SHARE),
            budget,
            counts: Cell::default(),
        })
    }

    /// What became of the sends.
    pub fn counts(&self) -> ZeroCopyCounts {
        ZeroCopyCounts {
            held_bytes: self.share.used() as u64,
            ..self.counts.get()
        }
    }

    fn is_for(&self, peer: SocketAddr) -> bool {
        match self.mode {
            ZeroCopyMode::Auto => !peer.ip().to_canonical().is_loopback(),
            ZeroCopyMode::On => true,
            ZeroCopyMode::Off => false,
        }
    }
}

/// Zero-copy sends of one connection.
#[derive(Debug)]
pub(crate) struct Link {
    zero_copy: Rc<ZeroCopy>,
    is_off: Cell<bool>,
}

impl Link {
    /// `None` where they are not wanted, or the kernel has none.
    pub(crate) fn new(zero_copy: &Rc<ZeroCopy>, peer: SocketAddr) -> Option<Rc<Self>> {
        (zero_copy.is_for(peer) && probe::has_zero_copy_send()).then(|| {
            Rc::new(Self {
                zero_copy: Rc::clone(zero_copy),
                is_off: Cell::new(false),
            })
        })
    }

    /// Charges what a zero-copy send of `parts` holds; `None`: it is to be an ordinary one.
    pub(crate) fn hold(self: &Rc<Self>, parts: &[Slice]) -> Option<Held> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let is_large = bytes >= SEND_BYTES_MIN && bytes / parts.len() >= PART_BYTES_MIN;
        if self.is_off.get() || !is_large {
            return None;
        }
        let held_bytes = held_bytes(parts);
        Some(Held {
            _share: self.zero_copy.share.try_charge(held_bytes)?,
            _charge: self.zero_copy.budget.try_charge(held_bytes)?,
            sent: Cell::new(0),
            link: Rc::clone(self),
        })
    }

    /// Whether a zero-copy send failed only because it was one; then there is no other on this connection.
    pub(crate) fn refused(&self, error: &io::Error) -> bool {
        // No such operation or flag, not on this socket; too little memory that may be locked.
        const REFUSALS: [i32; 4] = [libc::EINVAL, libc::EOPNOTSUPP, libc::ENOMEM, libc::ENOBUFS];
        let is_refusal = error.raw_os_error().is_some_and(|c| REFUSALS.contains(&c));
        if is_refusal {
            tracing::debug!(%error, "zero-copy send refused; this connection goes on without");
            self.is_off.set(true);
        }
        is_refusal
    }
}

/// Bytes of the buffers that `parts` keep alive. Neighbours mostly lie in one buffer, and so do the pieces
/// of the encoded answer around a run of records; what is counted twice nevertheless errs on the safe side.
fn held_bytes(parts: &[Slice]) -> usize {
    let is_counted = |at: usize| {
        let before = &parts[at.saturating_sub(2)..at];
        before.iter().any(|part| part.shares_memory(&parts[at]))
    };
    let first_of_each = (0..parts.len()).filter(|at| !is_counted(*at));
    first_of_each.map(|at| parts[at].backing_bytes()).sum()
}

/// What a zero-copy send holds until the kernel has let go of its memory.
#[derive(Debug)]
pub(crate) struct Held {
    link: Rc<Link>,
    sent: Cell<u64>,
    _share: Charge,
    _charge: Charge,
}

impl Held {
    /// Takes what the kernel says: first how much it sent, later, with the memory, whether it copied.
    pub(crate) fn note(&self, result: i32, flags: u32) {
        if cqueue::notif(flags) {
            self.note_release(result.cast_unsigned() & COPIED != 0);
        } else if let Ok(sent) = u64::try_from(result) {
            self.sent.set(sent);
        }
    }

    fn note_release(&self, was_copied: bool) {
        if self.sent.get() == 0 {
            return; // It failed; the kernel then calls copied what was never read.
        }
        let zero_copy = &self.link.zero_copy;
        let mut counts = zero_copy.counts.get();
        counts.sends += 1;
        if was_copied {
            counts.copied_sends += 1;
            let is_auto = zero_copy.mode == ZeroCopyMode::Auto;
            self.link.is_off.set(self.link.is_off.get() || is_auto);
        } else {
            counts.bytes += self.sent.get();
        }
        zero_copy.counts.set(counts);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// `IORING_CQE_F_MORE` and `IORING_CQE_F_NOTIF`.
    pub(crate) const MORE: u32 = 1 << 1;
    pub(crate) const NOTIFICATION: u32 = 1 << 3;
    const NOT_COPIED: i32 = 0;
    const WAS_COPIED: i32 = i32::MIN;

    /// A connection's, whatever the kernel has.
    pub(crate) fn link(mode: ZeroCopyMode, budget: &MemoryBudget) -> Rc<Link> {
        Rc::new(Link {
            zero_copy: ZeroCopy::new(mode, budget.clone()),
            is_off: Cell::new(false),
        })
    }

    fn part(bytes: usize) -> Slice {
        Slice::from(vec![7; bytes])
    }

    #[test]
    fn auto_is_for_other_machines() {
        let check = |mode, peer: &str, expected| {
            let zero_copy = ZeroCopy::new(mode, MemoryBudget::new(1 << 20));
            let peer = format!("{peer}:9").parse().unwrap();
            assert_eq!(zero_copy.is_for(peer), expected, "{mode:?} {peer}");
        };
        for near in ["127.0.0.1", "127.8.9.10", "[::1]", "[::ffff:127.0.0.1]"] {
            check(ZeroCopyMode::Auto, near, false);
            check(ZeroCopyMode::On, near, true);
        }
        for far in ["192.0.2.7", "[2001:db8::7]", "[::ffff:192.0.2.7]"] {
            check(ZeroCopyMode::Auto, far, true);
            check(ZeroCopyMode::Off, far, false);
        }
    }

    #[test]
    fn only_large_sends_of_large_parts_are_held() {
        let link = link(ZeroCopyMode::Auto, &MemoryBudget::new(64 << 20));
        let check = |parts: &[Slice], expected| {
            assert_eq!(link.hold(parts).is_some(), expected, "{parts:?}");
        };
        check(&[part(SEND_BYTES_MIN)], true);
        check(&[part(SEND_BYTES_MIN - 1)], false);
        check(&[part(40), part(SEND_BYTES_MIN), part(3)], true);
        check(&vec![part(PART_BYTES_MIN); 16], true);
        check(&vec![part(PART_BYTES_MIN - 1); 1000], false);
    }

    #[test]
    fn whole_buffers_are_charged_once_for_neighbours_and_until_the_end() {
        let budget = MemoryBudget::new(64 << 20);
        let link = link(ZeroCopyMode::Auto, &budget);
        let (head, records) = (part(1 << 10), part(1 << 20));
        let parts = [
            head.sub(0..10),
            records.sub(0..50_000),
            head.sub(10..20),
            records.sub(60_000..110_000),
        ];
        let held = link.hold(&parts).unwrap();
        let expected = (1 << 10) + (1 << 20);
        assert_eq!(budget.used(), expected);
        assert_eq!(link.zero_copy.counts().held_bytes, expected as u64);
        held.note(100_020, MORE);
        assert_eq!(budget.used(), expected, "the kernel has not let go");
        drop(held);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn without_room_a_send_is_an_ordinary_one() {
        let budget = MemoryBudget::new(64 << 20);
        let link = link(ZeroCopyMode::On, &budget);
        let large = [part(8 << 20)];
        let first = link.hold(&large);
        assert!(first.is_some());
        assert!(link.hold(&large).is_none(), "beyond the share");
        drop(first);
        let _others = budget.try_charge(60 << 20).unwrap();
        assert!(link.hold(&large).is_none(), "beyond the budget");
        assert_eq!(link.zero_copy.counts().held_bytes, 0);
    }

    #[test]
    fn a_report_of_a_copy_turns_auto_off_and_leaves_on_alone() {
        let check = |mode, notice, goes_on, expected: (u64, u64, u64)| {
            let link = link(mode, &MemoryBudget::new(64 << 20));
            let parts = [part(SEND_BYTES_MIN)];
            let held = link.hold(&parts).unwrap();
            held.note(50_000, MORE);
            held.note(notice, NOTIFICATION);
            assert_eq!(link.hold(&parts).is_some(), goes_on, "{mode:?}");
            let counts = link.zero_copy.counts();
            assert_eq!((counts.sends, counts.copied_sends, counts.bytes), expected);
        };
        check(ZeroCopyMode::Auto, NOT_COPIED, true, (1, 0, 50_000));
        check(ZeroCopyMode::Auto, WAS_COPIED, false, (1, 1, 0));
        check(ZeroCopyMode::On, WAS_COPIED, true, (1, 1, 0));
    }

    #[test]
    fn a_failed_send_says_nothing_of_copies() {
        let link = link(ZeroCopyMode::Auto, &MemoryBudget::new(64 << 20));
        let parts = [part(SEND_BYTES_MIN)];
        let held = link.hold(&parts).unwrap();
        held.note(-libc::ECONNRESET, MORE);
        held.note(WAS_COPIED, NOTIFICATION);
        assert_eq!(link.zero_copy.counts().sends, 0);
        assert!(link.hold(&parts).is_some());
        assert!(!link.refused(&io::Error::from_raw_os_error(libc::ECONNRESET)));
        assert!(link.refused(&io::Error::from_raw_os_error(libc::ENOMEM)));
        assert!(link.hold(&parts).is_none());
    }
}
