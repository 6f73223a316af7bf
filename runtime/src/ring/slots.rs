//! ⚠ Slots of the operations in flight: what the kernel reads and writes, and who waits for it.
//!
//! *Place*: owned by [`Ring`](super::Ring).
//! *Invariants*: I1 and I2 of the ring. A slot has two sides: the future, which waits for an answer,
//!
//! ```text
//!            answer               fetched, or future dropped
//!  Waiting ──────────► Finished ─────────────────────────────► Gone
//!     │ future dropped                                           ▲
//!     └──────────────────────────────────────────────────────────┘
//! ```
//!
//! and the kernel, which holds the memory until the last completion (`is_held`). That is the answer, but for
//! zero-copy sends, of which a notification says later that the kernel has let go. A slot is free when its
//! future is gone and the kernel holds nothing.

#![allow(unsafe_code, reason = "memory that the kernel has written")]

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Waker;

use io_uring::cqueue;
use slab::Slab;

use crate::buffer::{AppendBuf, Slice, Unwritten};
use crate::zero_copy::Held;

/// Parts of one vectored send or write (the kernel's own limit is 1,024).
const PARTS_MAX: usize = 1024;

/// What the kernel reads from or writes to while an operation runs.
///
/// Everything the kernel is given an address of lies on the heap behind one of these, so that a
/// slot may move in memory while the operation runs.
#[derive(Debug, Default)]
pub(crate) enum Memory {
    /// Nothing: poll, fsync, fallocate.
    #[default]
    None,
    /// Target of a receive or read; the kernel writes behind the appended prefix.
    Append(AppendBuf),
    /// Source of a file write, or of a send of one part.
    Slice(Slice),
    /// Source of a vectored send or write; shared with its future while the kernel still reads it.
    Message(Rc<Message>),
    /// Only kept alive, for advice about it.
    Unwritten(#[expect(dead_code, reason = "held, not read")] Unwritten),
    /// Address of an accepted peer.
    Address(Box<PeerAddress>),
}

impl Memory {
    /// Where a receive or read writes to, and how much fits.
    pub(crate) fn target(&mut self) -> (*mut u8, u32) {
        let Memory::Append(buffer) = self else {
            panic!("not a target: {self:?}")
        };
        (
            buffer.spare_ptr(),
            u32::try_from(buffer.remaining()).unwrap_or(u32::MAX),
        )
    }

    /// Where a write or a send of one part reads from, and how much.
    pub(crate) fn source(&self) -> (*const u8, u32) {
        let Memory::Slice(slice) = self else {
            panic!("not a source: {self:?}")
        };
        (
            slice.as_ptr(),
            u32::try_from(slice.len()).unwrap_or(u32::MAX),
        )
    }

    /// The parts of a vectored send or write.
    pub(crate) fn message(&self) -> &Message {
        let Memory::Message(message) = self else {
            panic!("not several parts: {self:?}")
        };
        message
    }

    /// The memory of an operation that has answered and that the kernel holds still.
    fn share(&self) -> Memory {
        let Memory::Message(message) = self else {
            unreachable!("only a send answers before its last completion: {self:?}")
        };
        Memory::Message(Rc::clone(message))
    }

    /// Tells a zero-copy send what the kernel says.
    fn note(&self, result: i32, flags: u32) {
        if let Memory::Message(message) = self
            && let Some(held) = &message.held
        {
            held.note(result, flags);
        }
    }
}

/// The parts of a vectored send or write with the header that points to them.
pub(crate) struct Message {
    pub(crate) parts: Vec<Slice>,
    /// What the header points to.
    vectors: Vec<libc::iovec>,
    pub(crate) header: libc::msghdr,
    /// Of a zero-copy send.
    held: Option<Held>,
}

impl Message {
    /// The header points to the vectors' memory, the vectors to the parts' memory; both lie on the
    /// heap and stay there when the message itself moves.
    pub(crate) fn new(parts: Vec<Slice>, held: Option<Held>) -> Self {
        let mut vectors: Vec<libc::iovec> = parts
            .iter()
            .take(PARTS_MAX)
            .map(|part| libc::iovec {
                iov_base: part.as_ptr().cast_mut().cast(),
                iov_len: part.len(),
            })
            .collect();
        // SAFETY: `msghdr` is integers and pointers; all zeros is an empty message.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = vectors.as_mut_ptr();
        header.msg_iovlen = vectors.len();
        Self {
            parts,
            vectors,
            header,
            held,
        }
    }

    /// Where a vectored write reads the addresses of its parts, and how many they are.
    pub(crate) fn vectors(&self) -> (*const libc::iovec, u32) {
        (self.vectors.as_ptr(), self.vectors.len() as u32)
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("parts", &self.parts.len())
            .finish_non_exhaustive()
    }
}

/// Where `accept` writes the peer's address.
#[derive(Debug)]
pub(crate) struct PeerAddress {
    pub(crate) storage: libc::sockaddr_storage,
    pub(crate) bytes: libc::socklen_t,
}

/// What happens to an operation in the kernel when its future is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDrop {
    /// It is cancelled: it waits for a peer and may otherwise never end.
    Cancel,
    /// It runs to its end: its effect may already be on its way to the device.
    Finish,
}

/// What is left to do after a future was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abandoned {
    /// Nothing; the slot goes with the completion, or is gone.
    Nothing,
    /// The operation must be cancelled.
    MustCancel,
}

#[derive(Debug)]
enum State {
    Waiting(Option<Waker>),
    Finished {
        result: i32,
        flags: u32,
    },
    /// The future is gone, with its answer or before it.
    Gone,
}

#[derive(Debug)]
struct Slot {
    state: State,
    /// The last completion is not there yet.
    is_held: bool,
    memory: Memory,
    on_drop: OnDrop,
    /// Keeps the descriptor open until the answer: a number that is closed and reused while an operation
    /// runs would make the operation touch somebody else's file. Not longer: what the kernel still reads of
    /// an answered send belongs to the socket, and closing that is what bounds how long.
    descriptor: Option<Rc<OwnedFd>>,
}

/// What an operation leaves behind: the kernel's answer, and the memory it used.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) result: i32,
    pub(crate) flags: u32,
    pub(crate) memory: Memory,
}

impl Finished {
    /// The kernel's answer: a count (or a descriptor), or an error.
    pub(crate) fn count(&self) -> io::Result<usize> {
        usize::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }

    /// For a receive or read: how much came, and the buffer with it appended.
    pub(crate) fn into_appended(self) -> (io::Result<usize>, AppendBuf) {
        let received = self.count();
        let Memory::Append(mut buffer) = self.memory else {
            panic!("not a target's answer")
        };
        if let Ok(bytes) = received {
            // SAFETY: the kernel has written this many bytes from `spare_ptr()` on, and is done.
            unsafe { buffer.commit(bytes) };
        }
        (received, buffer)
    }
}

/// The slots of one ring.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: Slab<Slot>,
}

impl Slots {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The operations that wait for a peer and would not end by themselves.
    pub(crate) fn cancellable(&self) -> Vec<usize> {
        let slots = self.slots.iter();
        slots
            .filter(|(_, slot)| slot.on_drop == OnDrop::Cancel)
            .map(|(key, _)| key)
            .collect()
    }

    /// A new slot; returns its key and the memory at the place where it stays.
    pub(crate) fn insert(
        &mut self,
        descriptor: Rc<OwnedFd>,
        memory: Memory,
        on_drop: OnDrop,
    ) -> (usize, &mut Memory) {
        let state = State::Waiting(None);
        let key = self.slots.insert(Slot {
            state,
            is_held: true,
            memory,
            on_drop,
            descriptor: Some(descriptor),
        });
        (key, &mut self.slots[key].memory)
    }

    /// A completion of a slot's operation: returns the waiting task's waker if it is the answer.
    ///
    /// # Panics
    /// If the slot is not in flight: the kernel answered twice, or I1 is broken.
    pub(crate) fn complete(&mut self, key: usize, result: i32, flags: u32) -> Option<Waker> {
        let slot = self
            .slots
            .get_mut(key)
            .expect("a completion names a live slot");
        assert!(slot.is_held, "operation {key} completed twice");
        slot.is_held = cqueue::more(flags);
        slot.memory.note(result, flags);
        let woken = if cqueue::notif(flags) {
            None
        } else {
            slot.answer(result, flags)
        };
        if !slot.is_held && matches!(slot.state, State::Gone) {
            self.slots.remove(key);
        }
        woken
    }

    /// The result, if it is there (the future is then gone); else remembers whom to wake.
    pub(crate) fn poll(&mut self, key: usize, waker: &Waker) -> Option<Finished> {
        let slot = &mut self.slots[key];
        match &mut slot.state {
            State::Finished { result, flags } => {
                let (result, flags) = (*result, *flags);
                let memory = if slot.is_held {
                    slot.state = State::Gone;
                    slot.memory.share()
                } else {
                    self.slots.remove(key).memory
                };
                Some(Finished {
                    result,
                    flags,
                    memory,
                })
            }
            State::Waiting(Some(known)) if known.will_wake(waker) => None,
            State::Waiting(known) => {
                *known = Some(waker.clone());
                None
            }
            State::Gone => panic!("operation {key} polled after its future was gone"),
        }
    }

    /// The future of an operation was dropped.
    pub(crate) fn abandon(&mut self, key: usize) -> Abandoned {
        let slot = &mut self.slots[key];
        let before = std::mem::replace(&mut slot.state, State::Gone);
        if !slot.is_held {
            self.slots.remove(key);
            return Abandoned::Nothing;
        }
        match (before, slot.on_drop) {
            (State::Waiting(_), OnDrop::Cancel) => Abandoned::MustCancel,
            _ => Abandoned::Nothing,
        }
    }

    /// Abandons everything: what the kernel does not hold goes at once, the rest with its last completion.
    pub(crate) fn abandon_all(&mut self) {
        self.slots.retain(|_, slot| {
            slot.state = State::Gone;
            slot.is_held
        });
    }
}

impl Slot {
    /// The kernel has answered and does not touch the descriptor any more.
    fn answer(&mut self, result: i32, flags: u32) -> Option<Waker> {
        self.descriptor = None;
        let answered = State::Finished { result, flags };
        match std::mem::replace(&mut self.state, answered) {
            State::Waiting(waker) => waker,
            State::Gone => {
                self.state = State::Gone;
                None
            }
            State::Finished { .. } => panic!("an operation answered twice"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::MemoryBudget;
    use crate::net::ZeroCopyMode;
    use crate::zero_copy::tests::{MORE, NOTIFICATION, link};

    const BYTES: usize = 1 << 20;

    /// One zero-copy send in flight, and the budget that is charged for it.
    struct Send {
        slots: Slots,
        key: usize,
        budget: MemoryBudget,
    }

    fn zero_copy_send() -> Send {
        let budget = MemoryBudget::new(64 << 20);
        let link = link(ZeroCopyMode::On, &budget);
        let parts = vec![Slice::from(vec![7; BYTES])];
        let held = link.hold(&parts);
        assert!(held.is_some());
        let memory = Memory::Message(Rc::new(Message::new(parts, held)));
        let descriptor = Rc::new(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        let mut slots = Slots::default();
        let (key, _) = slots.insert(descriptor, memory, OnDrop::Finish);
        Send { slots, key, budget }
    }

    impl Send {
        fn complete(&mut self, result: i32, flags: u32) {
            let woken = self.slots.complete(self.key, result, flags);
            assert!(woken.is_none());
        }

        fn check(&self, slots: usize, is_held: bool) {
            assert_eq!(self.slots.len(), slots);
            assert_eq!(self.budget.used(), if is_held { BYTES } else { 0 });
        }
    }

    #[test]
    fn a_send_answers_first_and_is_held_until_its_notification() {
        let mut send = zero_copy_send();
        assert!(send.slots.poll(send.key, Waker::noop()).is_none());
        assert!(send.slots.complete(send.key, BYTES as i32, MORE).is_some());
        let finished = send.slots.poll(send.key, Waker::noop()).unwrap();
        assert_eq!(finished.count().unwrap(), BYTES);
        drop(finished);
        send.check(1, true);
        send.complete(0, NOTIFICATION);
        send.check(0, false);
    }

    #[test]
    fn a_notification_may_come_before_the_answer_is_fetched() {
        let mut send = zero_copy_send();
        send.complete(BYTES as i32, MORE);
        send.complete(0, NOTIFICATION);
        send.check(1, true);
        let finished = send.slots.poll(send.key, Waker::noop()).unwrap();
        assert_eq!(finished.count().unwrap(), BYTES);
        drop(finished);
        send.check(0, false);
    }

    #[test]
    fn a_dropped_send_is_held_until_its_notification() {
        for is_answered in [false, true] {
            let mut send = zero_copy_send();
            if is_answered {
                send.complete(BYTES as i32, MORE);
            }
            assert_eq!(send.slots.abandon(send.key), Abandoned::Nothing);
            if !is_answered {
                send.complete(BYTES as i32, MORE);
            }
            send.check(1, true);
            send.complete(0, NOTIFICATION);
            send.check(0, false);
        }
    }

    #[test]
    fn a_closing_ring_waits_for_notifications() {
        let mut send = zero_copy_send();
        send.complete(BYTES as i32, MORE);
        send.slots.abandon_all();
        send.check(1, true);
        send.complete(0, NOTIFICATION);
        send.check(0, false);
    }

    #[test]
    fn a_refused_send_has_one_completion() {
        let mut send = zero_copy_send();
        send.complete(-libc::EINVAL, 0);
        drop(send.slots.poll(send.key, Waker::noop()));
        send.check(0, false);
    }

    #[test]
    #[should_panic(expected = "completed twice")]
    fn a_second_answer_is_a_bug() {
        let descriptor = Rc::new(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        let mut slots = Slots::default();
        let (key, _) = slots.insert(descriptor, Memory::None, OnDrop::Finish);
        slots.complete(key, 0, 0);
        slots.complete(key, 0, 0);
    }
}
