//! What catch-up readers read from disk, kept for a while: large aligned windows of segment files,
//! each read once for all readers that want it at the same time.
//!
//! *Place*: catch-up reads look here first; newest batches are in the logs' tail chunks instead.
//! *Invariants*: **I1** a window holds only blocks that were complete in the file when it was read.
//! **I2** windows read before a truncation are never found after it: its count is in the key.
//! *Limits*: `read_cache_bytes_max`; each window is charged to the shard's budget; the least
//! recently used one goes first. What finds no memory is read and not kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use runtime::sync::Notify;
use runtime::{Charge, MemoryBudget, Slice};

use crate::segment::SegmentName;

/// Which window: log incarnation, its truncations, segment, number of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WindowKey {
    pub(crate) incarnation: u64,
    pub(crate) truncations: u64,
    pub(crate) segment: SegmentName,
    pub(crate) number: u64,
}

/// Windows in memory and on their way.
pub(crate) struct ReadCache {
    state: RefCell<CacheState>,
    bytes_max: u64,
    window_bytes: u64,
    budget: MemoryBudget,
}

#[derive(Default)]
struct CacheState {
    ready: HashMap<WindowKey, Ready>,
    loading: HashMap<WindowKey, Rc<Load>>,
    bytes: u64,
    uses: u64,
    hits: u64,
    misses: u64,
}

struct Ready {
    slice: Slice,
    used: u64,
    _charge: Charge,
}

/// A read that is on its way, for whoever wants its result.
#[derive(Default)]
pub(crate) struct Load {
    done: Notify,
    result: RefCell<Option<Result<Slice, Rc<io::Error>>>>,
}

impl Load {
    /// Waits for the bytes.
    pub(crate) async fn wait(&self) -> io::Result<Slice> {
        loop {
            if let Some(result) = &*self.result.borrow() {
                return result.clone().map_err(|error| same_error(&error));
            }
            self.done.notified().await;
        }
    }
}

/// For one more reader.
fn same_error(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.kind().into(),
    }
}

/// What the cache knows of a window.
pub(crate) enum Found {
    Ready(Slice),
    Loading(Rc<Load>),
    /// Nobody reads it yet: the caller does, and hands the result to [`ReadCache::finish`].
    Absent(Rc<Load>),
}

/// Counts for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCacheCounts {
    /// Windows found in memory or on their way.
    pub hits: u64,
    /// Windows read from disk.
    pub misses: u64,
    /// Bytes kept.
    pub bytes: u64,
}

impl ReadCache {
    pub(crate) fn new(bytes_max: u64, window_bytes: u64, budget: MemoryBudget) -> Self {
        ReadCache {
            state: RefCell::default(),
            bytes_max,
            window_bytes,
            budget,
        }
    }

    pub(crate) fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    pub(crate) fn counts(&self) -> ReadCacheCounts {
        let state = self.state.borrow();
        ReadCacheCounts {
            hits: state.hits,
            misses: state.misses,
            bytes: state.bytes,
        }
    }

    /// Looks for a window with more than `bytes_min` bytes. A window that was read when the file
    /// was shorter does not count.
    pub(crate) fn find(&self, key: WindowKey, bytes_min: usize) -> Found {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.uses += 1;
        if let Some(ready) = state.ready.get_mut(&key)
            && ready.slice.len() > bytes_min
        {
            ready.used = state.uses;
            state.hits += 1;
            return Found::Ready(ready.slice.clone());
        }
        if let Some(load) = state.loading.get(&key) {
            state.hits += 1;
            return Found::Loading(Rc::clone(load));
        }
        state.misses += 1;
        let load = Rc::new(Load::default());
        state.loading.insert(key, Rc::clone(&load));
        Found::Absent(load)
    }

    /// Whether a window is here or on its way (for reading ahead).
    pub(crate) fn has(&self, key: WindowKey) -> bool {
        let state = self.state.borrow();
        state.ready.contains_key(&key) || state.loading.contains_key(&key)
    }

    /// The read of an absent window has ended.
    pub(crate) fn finish(&self, key: WindowKey, load: &Load, result: io::Result<Slice>) {
        self.state.borrow_mut().loading.remove(&key);
        if let Ok(slice) = &result {
            self.keep(key, slice.clone());
        }
        *load.result.borrow_mut() = Some(result.map_err(Rc::new));
        load.done.notify_waiters();
    }

    fn keep(&self, key: WindowKey, slice: Slice) {
        let bytes = slice.backing_bytes() as u64;
        let mut state = self.state.borrow_mut();
        if let Some(old) = state.ready.remove(&key) {
            state.bytes -= old.slice.backing_bytes() as u64;
        }
        while state.bytes + bytes > self.bytes_max {
            if !state.evict_oldest() {
                return;
            }
        }
        let Some(charge) = self.budget.try_charge(bytes as usize) else {
            return;
        };
        let used = state.uses;
        state.bytes += bytes;
        state.ready.insert(
            key,
            Ready {
                slice,
                used,
                _charge: charge,
            },
        );
        assert!(
            state.bytes <= self.bytes_max,
            "the read cache outgrew its bound"
        );
    }

    /// Gives back the memory of the least recently used window; `false` when there is none.
    pub(crate) fn evict_one(&self) -> bool {
        self.state.borrow_mut().evict_oldest()
    }

    /// Forgets the windows of a log.
    pub(crate) fn forget_log(&self, incarnation: u64) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let bytes = &mut state.bytes;
        state.ready.retain(|key, ready| {
            let is_kept = key.incarnation != incarnation;
            if !is_kept {
                *bytes -= ready.slice.backing_bytes() as u64;
            }
            is_kept
        });
    }
}

impl CacheState {
    fn evict_oldest(&mut self) -> bool {
        let oldest = self
            .ready
            .iter()
            .min_by_key(|(_, ready)| ready.used)
            .map(|(key, _)| *key);
        match oldest.and_then(|key| self.ready.remove(&key)) {
            Some(ready) => {
                self.bytes -= ready.slice.backing_bytes() as u64;
                true
            }
            None => false,
        }
    }
}
