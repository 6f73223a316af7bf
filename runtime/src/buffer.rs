//! Memory for direct I/O: aligned buffers, a buffer that one writer appends to while others read
//! its beginning, and cheap views of both.
//!
//! *Place*: files and sockets take and give [`Slice`]s; the partition log builds its tail, and a
//! connection gathers what it received, in an [`AppendBuf`]. *Core*: slices may go to any thread.
//! *Invariants*:
//! - **I1** the bytes `[0, len)` of a backing that an [`AppendBuf`] has handed out are initialised
//!   and never written again while a [`Slice`] of it lives;
//! - **I2** an [`AppendBuf`] is the only writer of its backing, and writes at or above `len` only;
//! - **I3** a [`Slice`] lies inside the initialised prefix of the backing that it keeps alive.
//!
//! *Limits*: a buffer never grows; whoever makes one charges its capacity to a memory budget.
//!
//! The tests of this file pass under Miri:
//! `MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test -p streambus-runtime --lib buffer`.

#![allow(unsafe_code, reason = "raw memory: see the invariants")]

mod recycled;

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::{real, sim};
use recycled::Recycled;

/// Alignment and granularity of direct I/O: offsets, lengths and memory addresses.
pub const BLOCK_BYTES: usize = 4096;

const _: () = assert!(BLOCK_BYTES.is_power_of_two());

thread_local! {
    static RECYCLED: RefCell<Recycled<Block>> = const { RefCell::new(Recycled::new()) };
}

/// Aligned memory of which nobody has a view.
struct Block {
    start: NonNull<u8>,
    capacity: usize,
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `Backing::allocate` with the same layout; nobody views it any more.
        unsafe { dealloc(self.start.as_ptr(), Backing::layout(self.capacity)) };
    }
}

/// An allocation, freed with the last view of it.
#[derive(Debug)]
struct Backing {
    start: NonNull<u8>,
    capacity: usize,
    /// Taken over from a `Vec<u8>`, whose alignment is one; otherwise aligned to a block.
    from_vec: bool,
}

// SAFETY: a backing is plain memory; who may touch which bytes of it is ruled by I1 and I2.
unsafe impl Send for Backing {}
// SAFETY: as above; a shared reference to a backing alone gives no access to its bytes.
unsafe impl Sync for Backing {}

impl Backing {
    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, BLOCK_BYTES).expect("buffers are far smaller than isize")
    }

    /// `capacity` bytes of which none is initialised, unless `zeroed`.
    fn allocate(capacity: usize, zeroed: bool) -> Self {
        assert!(capacity > 0, "an empty buffer has no backing");
        let layout = Self::layout(capacity);
        let start = if zeroed {
            // SAFETY: the layout's size is not zero, asserted above.
            unsafe { alloc_zeroed(layout) }
        } else {
            let used_before = RECYCLED.try_with(|kept| kept.borrow_mut().take(capacity));
            match used_before {
                Ok(Some(block)) => ManuallyDrop::new(block).start.as_ptr(),
                // SAFETY: the layout's size is not zero, asserted above.
                _ => unsafe { alloc(layout) },
            }
        };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        Backing {
            start,
            capacity,
            from_vec: false,
        }
    }

    fn from_vec(bytes: Vec<u8>) -> Self {
        let mut bytes = ManuallyDrop::new(bytes);
        let capacity = bytes.capacity();
        let start = NonNull::new(bytes.as_mut_ptr()).expect("a vector's pointer is never null");
        Backing {
            start,
            capacity,
            from_vec: true,
        }
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        if self.from_vec {
            // SAFETY: pointer and capacity came from a vector of bytes that was forgotten.
            drop(unsafe { Vec::from_raw_parts(self.start.as_ptr(), 0, self.capacity) });
        } else {
            let (start, capacity) = (self.start, self.capacity);
            let block = Block { start, capacity };
            // Fails only while the thread ends; then the block is freed here.
            let _ = RECYCLED.try_with(|kept| kept.borrow_mut().put(block, capacity));
        }
    }
}

/// A zeroed, block-aligned buffer with one owner.
pub struct AlignedBuf {
    backing: Option<Backing>,
}

impl AlignedBuf {
    /// A buffer of `len` zero bytes.
    ///
    /// # Panics
    /// If `len` is not a multiple of [`BLOCK_BYTES`].
    pub fn zeroed(len: usize) -> Self {
        assert!(
            len.is_multiple_of(BLOCK_BYTES),
            "{len} bytes are not whole blocks"
        );
        AlignedBuf {
            backing: (len > 0).then(|| Backing::allocate(len, true)),
        }
    }

    /// Gives up writing, so that the bytes can be shared.
    pub fn freeze(self) -> Slice {
        match self.backing {
            None => Slice::default(),
            Some(backing) => {
                let (start, len) = (backing.start, backing.capacity);
                // I3: all of it was initialised when it was made.
                Slice {
                    start,
                    len,
                    backing: Some(Arc::new(backing)),
                }
            }
        }
    }

    fn parts(&self) -> (NonNull<u8>, usize) {
        self.backing
            .as_ref()
            .map_or((NonNull::dangling(), 0), |b| (b.start, b.capacity))
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let (start, len) = self.parts();
        // SAFETY: `len` bytes from `start` were zeroed when made, and `self` is borrowed.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        let (start, len) = self.parts();
        // SAFETY: as in `deref`, and `self`, the only owner of the bytes, is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len())
    }
}

/// A block-aligned buffer of fixed capacity that is filled from the front. What has been appended
/// never changes and can be shared as [`Slice`]s while more is appended behind it.
#[derive(Default)]
pub struct AppendBuf {
    backing: Option<Arc<Backing>>,
    len: usize,
}

impl AppendBuf {
    /// An empty buffer with room for `bytes`; allocates nothing when that is zero.
    pub fn with_capacity(bytes: usize) -> Self {
        let backing = (bytes > 0).then(|| Arc::new(Backing::allocate(bytes, false)));
        AppendBuf { backing, len: 0 }
    }

    /// Has the kernel make the memory ready on a thread of its own, if this thread is a shard: a page that is touched
    /// first stops who touches it, for a microsecond or more. Does nothing where the kernel cannot.
    pub fn make_ready(&self) {
        if let Some(backing) = &self.backing
            && sim::current().is_none()
        {
            real::memory::make_ready(Unwritten(Arc::clone(backing)));
        }
    }

    /// Bytes that fit in all.
    pub fn capacity(&self) -> usize {
        self.backing.as_ref().map_or(0, |backing| backing.capacity)
    }

    /// Bytes appended so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been appended.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit.
    pub fn remaining(&self) -> usize {
        self.capacity() - self.len
    }

    /// Appends `bytes`.
    ///
    /// # Panics
    /// If they do not fit: callers look at [`Self::remaining`] first.
    pub fn append(&mut self, bytes: &[u8]) {
        assert!(
            bytes.len() <= self.remaining(),
            "{} > {}",
            bytes.len(),
            self.remaining()
        );
        // SAFETY: the target has that much room and, by I2, overlaps nothing that can be read.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.spare_ptr(), bytes.len()) };
        // SAFETY: these bytes were just written.
        unsafe { self.commit(bytes.len()) };
    }

    /// Appends `count` zero bytes.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn append_zeros(&mut self, count: usize) {
        assert!(count <= self.remaining(), "{count} > {}", self.remaining());
        // SAFETY: the target has that much room and, by I2, overlaps nothing that can be read.
        unsafe { self.spare_ptr().write_bytes(0, count) };
        // SAFETY: these bytes were just written.
        unsafe { self.commit(count) };
    }

    /// What has been appended.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the first `len` bytes are initialised and not written again (I1).
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), self.len) }
    }

    /// A shared view of a part of what has been appended.
    ///
    /// # Panics
    /// If `range` reaches behind [`Self::len`] or is backwards.
    pub fn slice(&self, range: Range<usize>) -> Slice {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} of {}",
            self.len
        );
        if range.is_empty() {
            return Slice::default();
        }
        // SAFETY: the offset lies inside the allocation, asserted above.
        let start = unsafe { self.start().add(range.start) };
        // I3: below `len`, hence initialised and immutable.
        Slice {
            start,
            len: range.len(),
            backing: self.backing.clone(),
        }
    }

    /// Gives up writing; everything appended as one view.
    pub fn freeze(self) -> Slice {
        self.slice(0..self.len)
    }

    /// The appended bytes for changing, while no [`Slice`] of them lives: a header whose fields are
    /// known last.
    pub fn as_unique_mut(&mut self) -> Option<&mut [u8]> {
        let len = self.len;
        let backing = Arc::get_mut(self.backing.as_mut()?)?;
        // SAFETY: the first `len` bytes are initialised, and nothing else refers to the backing.
        Some(unsafe { std::slice::from_raw_parts_mut(backing.start.as_ptr(), len) })
    }

    /// Forgets the content, so that the memory can be used again. Does nothing and answers `false`
    /// while a [`Slice`] of it lives.
    pub fn try_clear(&mut self) -> bool {
        // `get_mut` succeeds only without other references, and orders their last reads before us.
        let alone = self
            .backing
            .as_mut()
            .is_none_or(|backing| Arc::get_mut(backing).is_some());
        if alone {
            self.len = 0;
        }
        alone
    }

    fn start(&self) -> NonNull<u8> {
        self.backing
            .as_ref()
            .map_or(NonNull::dangling(), |backing| backing.start)
    }

    /// Where the next byte goes; [`Self::remaining`] bytes from here belong to this writer alone.
    ///
    /// The pointer stays valid while this buffer lives, also when it is moved: a receive in flight
    /// may write through it, as long as the buffer is neither appended to nor dropped meanwhile.
    pub(crate) fn spare_ptr(&mut self) -> *mut u8 {
        // SAFETY: `len` never exceeds the capacity, so this is at most one past the end.
        unsafe { self.start().as_ptr().add(self.len) }
    }

    /// Takes `count` bytes that were written at [`Self::spare_ptr`] as appended.
    ///
    /// # Safety
    /// The `count` bytes from `spare_ptr()` must be initialised and nobody may write them any more.
    ///
    /// # Panics
    /// If `count` exceeds [`Self::remaining`].
    pub(crate) unsafe fn commit(&mut self, count: usize) {
        assert!(count <= self.remaining(), "{count} > {}", self.remaining());
        self.len += count;
    }
}

impl fmt::Debug for AppendBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppendBuf({} of {} bytes)", self.len, self.capacity())
    }
}

/// Memory that is kept alive without a view of its bytes.
#[derive(Debug)]
pub(crate) struct Unwritten(Arc<Backing>);

impl Unwritten {
    /// Where it lies. Whoever reads or writes there breaks I2.
    pub(crate) fn span(&self) -> (NonNull<u8>, usize) {
        (self.0.start, self.0.capacity)
    }
}

/// A shared, immutable view of bytes; cheap to clone and to cut, and may go to any thread.
#[derive(Clone)]
pub struct Slice {
    start: NonNull<u8>,
    len: usize,
    /// `None` only for the empty slice.
    backing: Option<Arc<Backing>>,
}

// SAFETY: the bytes are immutable while the slice lives (I1, I3) and the backing is `Send + Sync`.
unsafe impl Send for Slice {}
// SAFETY: as above.
unsafe impl Sync for Slice {}

impl Slice {
    /// The bytes of `parts`, one behind the other: in memory of their own, block-aligned, if there are several.
    pub fn joined(mut parts: Vec<Slice>) -> Slice {
        if parts.len() == 1 {
            return parts.remove(0);
        }
        let bytes = parts.iter().map(|part| part.len()).sum();
        let mut whole = AppendBuf::with_capacity(bytes);
        for part in &parts {
            whole.append(part);
        }
        whole.freeze()
    }

    /// A part of this view.
    ///
    /// # Panics
    /// If `range` reaches behind the end or is backwards.
    #[must_use]
    pub fn sub(&self, range: Range<usize>) -> Slice {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} of {}",
            self.len
        );
        if range.is_empty() {
            return Slice::default();
        }
        // SAFETY: the offset lies inside the view, asserted above.
        let start = unsafe { self.start.add(range.start) };
        Slice {
            start,
            len: range.len(),
            backing: self.backing.clone(),
        }
    }

    /// The view of `inner`, which was borrowed from this slice.
    ///
    /// # Panics
    /// If `inner` does not lie inside this slice.
    #[must_use]
    pub fn sub_of(&self, inner: &[u8]) -> Slice {
        if inner.is_empty() {
            return Slice::default();
        }
        let offset = inner.as_ptr().addr().checked_sub(self.start.addr().get());
        let offset = offset.expect("the inner bytes begin before the slice");
        self.sub(offset..offset + inner.len())
    }

    /// Size of the allocation that this view keeps alive; at least its length.
    pub fn backing_bytes(&self) -> usize {
        self.backing.as_ref().map_or(0, |backing| backing.capacity)
    }

    /// Whether both views lie in one allocation.
    pub fn shares_memory(&self, other: &Slice) -> bool {
        let (Some(mine), Some(others)) = (&self.backing, &other.backing) else {
            return false;
        };
        Arc::ptr_eq(mine, others)
    }

    /// Whether the first byte is aligned for direct I/O.
    pub fn is_block_aligned(&self) -> bool {
        self.start.addr().get().is_multiple_of(BLOCK_BYTES)
    }
}

impl Default for Slice {
    fn default() -> Self {
        Slice {
            start: NonNull::dangling(),
            len: 0,
            backing: None,
        }
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: I3 and I1: initialised, immutable, kept alive by `backing`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for Slice {
    fn from(bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        if len == 0 {
            return Slice::default();
        }
        let backing = Backing::from_vec(bytes);
        // I3: a vector's first `len` bytes are initialised, and nobody else has it any more.
        Slice {
            start: backing.start,
            len,
            backing: Some(Arc::new(backing)),
        }
    }
}

impl PartialEq for Slice {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Slice {}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({} bytes)", self.len)
    }
}

/// Where `bytes` end in `parts`: so many are whole before that, and so many bytes of the next one.
fn place_in(parts: &[Slice], bytes: usize) -> (usize, usize) {
    let mut left = bytes;
    let is_whole = |part: &&Slice| {
        let fits = part.len() <= left;
        left -= if fits { part.len() } else { 0 };
        fits
    };
    let whole = parts.iter().take_while(is_whole).count();
    (whole, left)
}

/// What is left of `parts` after their first `done` bytes.
pub(crate) fn rest_of(parts: &[Slice], done: usize) -> Vec<Slice> {
    let (whole, inside) = place_in(parts, done);
    let mut rest = parts[whole..].to_vec();
    if let Some(first) = rest.first_mut().filter(|_| inside > 0) {
        *first = first.sub(inside..first.len());
    }
    rest
}

/// Cuts `parts` after their first `bytes`, and answers what was behind.
pub(crate) fn split_off(parts: &mut Vec<Slice>, bytes: usize) -> Vec<Slice> {
    let (whole, inside) = place_in(parts, bytes);
    let mut behind = parts.split_off(whole);
    if let Some(first) = behind.first_mut().filter(|_| inside > 0) {
        parts.push(first.sub(0..inside));
        *first = first.sub(inside..first.len());
    }
    behind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_buf_is_zeroed_aligned_and_writable() {
        let mut buffer = AlignedBuf::zeroed(2 * BLOCK_BYTES);
        assert!(buffer.iter().all(|byte| *byte == 0));
        buffer[BLOCK_BYTES] = 7;
        let slice = buffer.freeze();
        assert!(slice.is_block_aligned());
        assert_eq!((slice.len(), slice[BLOCK_BYTES]), (2 * BLOCK_BYTES, 7));
        assert_eq!(AlignedBuf::zeroed(0).freeze().len(), 0);
    }

    #[test]
    fn what_was_appended_stays_while_more_is_appended() {
        let mut buffer = AppendBuf::with_capacity(BLOCK_BYTES);
        buffer.append(b"hello");
        let hello = buffer.slice(0..5);
        let whole = buffer.as_slice().to_vec();
        buffer.append_zeros(3);
        buffer.append(b"world");
        let tail = buffer.slice(8..13);
        assert_eq!(
            (&*hello, &*tail, &*whole),
            (&b"hello"[..], &b"world"[..], &b"hello"[..])
        );
        assert_eq!((buffer.len(), buffer.remaining()), (13, BLOCK_BYTES - 13));
        drop(buffer);
        assert_eq!(&*hello.sub(1..3), b"el");
    }

    #[test]
    fn slices_are_read_on_other_threads_while_the_writer_appends() {
        let mut buffer = AppendBuf::with_capacity(BLOCK_BYTES);
        let readers: Vec<_> = (0..8u8)
            .map(|n| {
                let from = buffer.len();
                buffer.append(&[n; 16]);
                let slice = buffer.slice(from..from + 16);
                std::thread::spawn(move || assert_eq!(&*slice, &[n; 16]))
            })
            .collect();
        for reader in readers {
            reader.join().unwrap();
        }
    }

    #[test]
    fn sub_of_finds_the_borrowed_part() {
        let slice = Slice::from(b"0123456789".to_vec());
        let part = slice.sub_of(&slice[3..6]);
        assert_eq!(&*part, b"345");
        assert_eq!(part.backing_bytes(), slice.backing_bytes());
        assert!(part.shares_memory(&slice));
        assert!(!part.shares_memory(&Slice::from(part.to_vec())));
        assert!(slice.sub_of(&[]).is_empty());
    }

    #[test]
    #[should_panic(expected = "of 3")]
    fn sub_of_foreign_bytes_is_refused() {
        let buffer = Slice::from(vec![0; 64]);
        let view = buffer.sub(0..3);
        let _foreign = view.sub_of(&buffer[2..5]);
    }

    #[test]
    #[should_panic(expected = "5 > 4")]
    fn append_without_room_is_refused() {
        let mut buffer = AppendBuf::with_capacity(4);
        buffer.append(b"12345");
    }

    #[test]
    fn try_clear_waits_for_the_last_slice() {
        let mut buffer = AppendBuf::with_capacity(64);
        buffer.append(b"abc");
        let slice = buffer.slice(0..3);
        assert!(!buffer.try_clear());
        assert_eq!(buffer.len(), 3);
        drop(slice);
        assert!(buffer.try_clear());
        assert_eq!((buffer.len(), buffer.remaining()), (0, 64));
        buffer.append(b"xyz");
        assert_eq!(buffer.as_slice(), b"xyz");
    }

    #[test]
    fn spare_bytes_become_readable_with_commit() {
        let mut buffer = AppendBuf::with_capacity(64);
        buffer.append(b"ab");
        let spare = buffer.spare_ptr();
        // SAFETY: 62 bytes remain at `spare`.
        unsafe { spare.write(b'c') };
        // SAFETY: the byte was just written.
        unsafe { buffer.commit(1) };
        assert_eq!(buffer.as_slice(), b"abc");
    }

    #[test]
    fn empty_buffers_have_no_backing() {
        let mut empty = AppendBuf::with_capacity(0);
        assert_eq!((empty.capacity(), empty.as_slice().len()), (0, 0));
        assert!(empty.try_clear());
        empty.append(b"");
        assert_eq!(empty.slice(0..0).backing_bytes(), 0);
        assert_eq!(Slice::from(Vec::new()), Slice::default());
    }

    #[test]
    fn a_vector_keeps_its_capacity_as_backing() {
        let mut bytes = Vec::with_capacity(100);
        bytes.extend_from_slice(b"abc");
        let slice = Slice::from(bytes);
        assert_eq!((&*slice, slice.backing_bytes()), (&b"abc"[..], 100));
    }

    #[test]
    fn what_is_not_done_is_left() {
        let parts: Vec<Slice> = [&b"abc"[..], b"de", b"fghi"]
            .map(|part| Slice::from(part.to_vec()))
            .into();
        let check = |done, expected: &[&[u8]]| {
            let rest = rest_of(&parts, done);
            let rest: Vec<&[u8]> = rest.iter().map(|part| &**part).collect();
            assert_eq!(rest, expected, "after {done}");
        };
        check(0, &[b"abc", b"de", b"fghi"]);
        check(1, &[b"bc", b"de", b"fghi"]);
        check(3, &[b"de", b"fghi"]);
        check(6, &[b"ghi"]);
        check(9, &[]);
    }

    #[test]
    fn parts_are_cut_where_they_are_told_to() {
        let whole: Vec<Slice> = [&b"abc"[..], b"de", b"fghi"]
            .map(|part| Slice::from(part.to_vec()))
            .into();
        let check = |bytes, expected: [&[&[u8]]; 2]| {
            let mut parts = whole.clone();
            let behind = split_off(&mut parts, bytes);
            let found = [parts, behind]
                .map(|parts| -> Vec<Vec<u8>> { parts.iter().map(|part| part.to_vec()).collect() });
            assert_eq!(found[0], expected[0], "the first {bytes}");
            assert_eq!(found[1], expected[1], "behind {bytes}");
        };
        check(0, [&[], &[b"abc", b"de", b"fghi"]]);
        check(2, [&[b"ab"], &[b"c", b"de", b"fghi"]]);
        check(5, [&[b"abc", b"de"], &[b"fghi"]]);
        check(7, [&[b"abc", b"de", b"fg"], &[b"hi"]]);
        check(100, [&[b"abc", b"de", b"fghi"], &[]]);
    }
}
