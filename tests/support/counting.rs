//! An allocator that counts what the broker allocates, for a broker that runs in this process.
//!
//! The counts are of all threads but those that called [`do_not_count`]: the client's. With
//! [`note_sites`] the call sites are kept too, at a high price a call.
#![allow(unsafe_code, reason = "an allocator is unsafe by its trait")]
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "test support: the test and the bench use their own parts"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mimalloc::MiMalloc;

/// The broker's allocator, counted.
pub(crate) struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static NOTES_SITES: AtomicBool = AtomicBool::new(false);
static SITES: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

thread_local! {
    /// Set for the client's threads, and while a call site is noted.
    static IS_UNCOUNTED: Cell<bool> = const { Cell::new(false) };
}

/// Allocations so far and the bytes that they asked for; a reallocation counts as one, with what it adds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub allocations: u64,
    pub bytes: u64,
}

/// Counts of the process so far.
pub(crate) fn counts() -> Counts {
    Counts {
        allocations: ALLOCATIONS.load(Ordering::Relaxed),
        bytes: BYTES.load(Ordering::Relaxed),
    }
}

/// Leaves this thread out from now on.
pub(crate) fn do_not_count() {
    IS_UNCOUNTED.set(true);
}

/// Begins or ends the noting of call sites; returns those noted so far, most frequent first.
pub(crate) fn note_sites(notes: bool) -> Vec<(String, u64)> {
    NOTES_SITES.store(notes, Ordering::Relaxed);
    let noted = SITES.lock().unwrap().replace(HashMap::new());
    let mut sites: Vec<_> = noted.unwrap_or_default().into_iter().collect();
    sites.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    sites
}

fn count(bytes: usize) {
    // An error: the thread is ending.
    if IS_UNCOUNTED.try_with(Cell::get).unwrap_or(true) {
        return;
    }
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    if NOTES_SITES.load(Ordering::Relaxed) {
        IS_UNCOUNTED.set(true);
        let site = site(&Backtrace::force_capture().to_string());
        if let Some(sites) = SITES.lock().unwrap().as_mut() {
            *sites.entry(site).or_default() += 1;
        }
        IS_UNCOUNTED.set(false);
    }
}

/// The innermost frames of the broker's own source files.
fn site(backtrace: &str) -> String {
    let places = backtrace.lines().filter_map(|line| {
        let place = line.trim().strip_prefix("at ")?;
        let is_broker = place.starts_with("./") && !place.contains("/support/");
        let is_broker = is_broker && !place.starts_with("./benches/");
        is_broker.then(|| place.rsplit_once(':').map_or(place, |(place, _)| place))
    });
    places.take(4).collect::<Vec<_>>().join(" < ")
}

// SAFETY: every call is passed on to the allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is MiMalloc's.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is MiMalloc's.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is MiMalloc's.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(bytes.saturating_sub(layout.size()));
        // SAFETY: the caller's promise is MiMalloc's.
        unsafe { MiMalloc.realloc(pointer, layout, bytes) }
    }
}
