//! ⚠ Slots of the operations in flight: what the kernel reads and writes, and who waits for it.
//!
//! *Place*: owned by [`Ring`](super::Ring).
//! *Invariants*: I1 and I2 of the ring. A slot's life:
//!
//! ```text
//!            completion            fetched by the future
//!  Waiting ─────────────► Finished ─────────────────────► (free)
//!     │ future dropped        │ future dropped
//!     ▼        completion     ▼
//!  Abandoned ─────────────► (free)
//! ```

#![allow(unsafe_code, reason = "memory that the kernel has written")]

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Waker;

use slab::Slab;

use crate::buffer::{AppendBuf, Slice};

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
    /// Source of a vectored send.
    Message(Box<Message>),
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
}

/// The parts of a vectored send with the header that points to them.
pub(crate) struct Message {
    pub(crate) parts: Vec<Slice>,
    /// What the header points to.
    #[expect(dead_code, reason = "read by the kernel only")]
    pub(crate) vectors: Vec<libc::iovec>,
    pub(crate) header: libc::msghdr,
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
    Finished { result: i32, flags: u32 },
    Abandoned,
}

#[derive(Debug)]
struct Slot {
    state: State,
    memory: Memory,
    on_drop: OnDrop,
    /// Keeps the descriptor open: a number that is closed and reused while an operation runs would
    /// make the operation touch somebody else's file.
    #[expect(dead_code, reason = "held, not used")]
    descriptor: Rc<OwnedFd>,
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
            memory,
            on_drop,
            descriptor,
        });
        (key, &mut self.slots[key].memory)
    }

    /// The completion of a slot's operation: returns the waiting task's waker.
    ///
    /// # Panics
    /// If the slot is not in flight: the kernel answered twice, or I1 is broken.
    pub(crate) fn complete(&mut self, key: usize, result: i32, flags: u32) -> Option<Waker> {
        let slot = self
            .slots
            .get_mut(key)
            .expect("a completion names a live slot");
        match std::mem::replace(&mut slot.state, State::Finished { result, flags }) {
            State::Waiting(waker) => waker,
            State::Abandoned => {
                self.slots.remove(key);
                None
            }
            State::Finished { .. } => panic!("operation {key} completed twice"),
        }
    }

    /// The result, if it is there (the slot is then free); else remembers whom to wake.
    pub(crate) fn poll(&mut self, key: usize, waker: &Waker) -> Option<Finished> {
        let slot = &mut self.slots[key];
        match &mut slot.state {
            State::Finished { result, flags } => {
                let (result, flags) = (*result, *flags);
                let slot = self.slots.remove(key);
                Some(Finished {
                    result,
                    flags,
                    memory: slot.memory,
                })
            }
            State::Waiting(Some(known)) if known.will_wake(waker) => None,
            State::Waiting(known) => {
                *known = Some(waker.clone());
                None
            }
            State::Abandoned => panic!("operation {key} polled after its future was dropped"),
        }
    }

    /// The future of an operation was dropped.
    pub(crate) fn abandon(&mut self, key: usize) -> Abandoned {
        let slot = &mut self.slots[key];
        if matches!(slot.state, State::Finished { .. }) {
            self.slots.remove(key);
            return Abandoned::Nothing;
        }
        slot.state = State::Abandoned;
        match slot.on_drop {
            OnDrop::Cancel => Abandoned::MustCancel,
            OnDrop::Finish => Abandoned::Nothing,
        }
    }

    /// Abandons everything: finished slots go at once, the others with their completion.
    pub(crate) fn abandon_all(&mut self) {
        self.slots.retain(|_, slot| {
            let running = !matches!(slot.state, State::Finished { .. });
            slot.state = State::Abandoned;
            running
        });
    }
}
