//! What catch-up readers read from disk, kept for a while: large aligned windows of segment files,
//! each read once for all readers that want it at the same time.
//!
//! *Place*: catch-up reads look here first; newest batches are in the logs' tail chunks instead.
//! *Invariants*: **I1** a window holds only blocks that were complete in the file when it was read.
//! **I2** windows read before a truncation are never found after it: its count is in the key. **I3** who
//! reads a log from end to end once does not push out what others read again and again: a window is on
//! probation, first in, first out, until a second reader comes for it, while it is here or soon after; then it
//! is among the proven, of which the least recently used one goes.
//! *Limits*: `read_cache_bytes_max`; while there are proven windows, those on probation have about a quarter
//! of it; each window is charged to the shard's budget. What finds no memory is read and not kept.
//! *Source*: 2Q (Johnson and Shasha, 1994), with the second reader told from the first by where they read.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
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

/// Windows that those on probation may take at least, if it is not more than half: a reader has the one that
/// it reads and the one that is read ahead.
const PROBATION_WINDOWS_MIN: u64 = 8;

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
    /// Of them on probation.
    probation_bytes: u64,
    /// Windows that went while they were on probation, oldest first.
    departed: VecDeque<WindowKey>,
    uses: u64,
    hits: u64,
    misses: u64,
}

struct Ready {
    slice: Slice,
    /// When a proven one was used last; when one on probation came.
    used: u64,
    /// The farthest place that was asked for: who asks for one before it is another reader.
    read_to: usize,
    is_proven: bool,
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
            if !ready.is_proven && bytes_min < ready.read_to {
                ready.is_proven = true;
                state.probation_bytes -= ready.slice.backing_bytes() as u64;
            }
            if ready.is_proven {
                ready.used = state.uses;
            }
            ready.read_to = ready.read_to.max(bytes_min);
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
        let mut is_proven = state.remove_departed(key);
        if let Some(old) = state.remove(key) {
            is_proven |= old.is_proven;
        }
        let probation_comes = if is_proven { 0 } else { bytes };
        let probation_max = self.probation_bytes_max().saturating_sub(probation_comes);
        while state.bytes + bytes > self.bytes_max {
            if !state.evict(probation_max) {
                return;
            }
        }
        state.forget_departed(self.bytes_max / self.window_bytes);
        let Some(charge) = self.budget.try_charge(bytes as usize) else {
            return;
        };
        let used = state.uses;
        state.bytes += bytes;
        if !is_proven {
            state.probation_bytes += bytes;
        }
        state.ready.insert(
            key,
            Ready {
                slice,
                used,
                read_to: 0,
                is_proven,
                _charge: charge,
            },
        );
        assert!(
            state.bytes <= self.bytes_max,
            "the read cache outgrew its bound"
        );
        assert!(
            state.probation_bytes <= state.bytes,
            "more windows on probation than there are"
        );
    }

    fn probation_bytes_max(&self) -> u64 {
        let least = PROBATION_WINDOWS_MIN * self.window_bytes;
        (self.bytes_max / 4).max(least).min(self.bytes_max / 2)
    }

    /// Gives back the memory of a window, one on probation if there is one; `false` when there is none.
    pub(crate) fn evict_one(&self) -> bool {
        self.state.borrow_mut().evict(0)
    }

    /// Forgets the windows of a log.
    pub(crate) fn forget_log(&self, incarnation: u64) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let (bytes, probation_bytes) = (&mut state.bytes, &mut state.probation_bytes);
        state.ready.retain(|key, ready| {
            let is_kept = key.incarnation != incarnation;
            if !is_kept {
                let gone = ready.slice.backing_bytes() as u64;
                *bytes -= gone;
                *probation_bytes -= if ready.is_proven { 0 } else { gone };
            }
            is_kept
        });
    }
}

impl CacheState {
    /// Lets a window go: the oldest on probation, if these have more than `probation_max` bytes or there
    /// are no others, else the proven one that was not used for longest. `false` when there is none.
    fn evict(&mut self, probation_max: u64) -> bool {
        let has_proven = self.bytes > self.probation_bytes;
        let has_probation = self.probation_bytes > 0;
        let takes_proven = has_proven && (!has_probation || self.probation_bytes <= probation_max);
        let candidates = self.ready.iter();
        let oldest = candidates
            .filter(|(_, ready)| ready.is_proven == takes_proven)
            .min_by_key(|(_, ready)| ready.used)
            .map(|(key, _)| *key);
        let Some(key) = oldest else { return false };
        let gone = self.remove(key);
        if gone.is_some_and(|gone| !gone.is_proven) {
            self.departed.push_back(key);
        }
        true
    }

    fn remove(&mut self, key: WindowKey) -> Option<Ready> {
        let gone = self.ready.remove(&key)?;
        let bytes = gone.slice.backing_bytes() as u64;
        self.bytes -= bytes;
        self.probation_bytes -= if gone.is_proven { 0 } else { bytes };
        Some(gone)
    }

    /// Whether a window went on probation not long ago; from now on that is not known any more.
    fn remove_departed(&mut self, key: WindowKey) -> bool {
        let at = self.departed.iter().position(|departed| *departed == key);
        at.is_some_and(|at| self.departed.remove(at).is_some())
    }

    fn forget_departed(&mut self, windows_max: u64) {
        while self.departed.len() as u64 > windows_max {
            self.departed.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = 4096;

    fn cache(windows: u64) -> ReadCache {
        ReadCache::new(windows * WINDOW, WINDOW, MemoryBudget::new(1 << 30))
    }

    fn key(number: u64) -> WindowKey {
        WindowKey {
            incarnation: 1,
            truncations: 0,
            segment: SegmentName {
                base_offset: 0,
                version: 0,
            },
            number,
        }
    }

    fn window() -> Slice {
        runtime::AlignedBuf::zeroed(WINDOW as usize).freeze()
    }

    /// One reader goes through a window from its beginning to its end; answers whether it was here.
    fn read(cache: &ReadCache, number: u64) -> bool {
        let mut is_here = true;
        for at in [0, 1000, 2000, 3000] {
            match cache.find(key(number), at) {
                Found::Ready(_) => {}
                Found::Absent(load) => {
                    is_here = false;
                    cache.finish(key(number), &load, Ok(window()));
                }
                Found::Loading(_) => panic!("nothing is on its way"),
            }
        }
        is_here
    }

    #[test]
    fn a_scan_of_ten_times_the_cache_leaves_what_is_read_again() {
        let cache = cache(64);
        for _ in 0..2 {
            for hot in 0..32 {
                read(&cache, hot);
            }
        }
        for cold in 1000..1640 {
            assert!(!read(&cache, cold));
            assert!(cache.counts().bytes <= 64 * WINDOW);
        }
        let kept = (0..32).filter(|hot| read(&cache, *hot)).count();
        assert_eq!(kept, 32, "no hot window had to be read again");
    }

    #[test]
    fn a_hot_set_comes_to_be_known_amid_a_scan() {
        let cache = cache(64);
        let mut cold = 1000..;
        let mut misses = 0;
        for _ in 0..10 {
            for hot in 0..16 {
                misses += u32::from(!read(&cache, hot));
                for cold in cold.by_ref().take(5) {
                    read(&cache, cold);
                }
            }
        }
        assert!(misses <= 2 * 16, "{misses} of 160 reads");
    }

    #[test]
    fn a_new_hot_set_takes_the_place_of_the_old_one() {
        let cache = cache(64);
        for set in 0..5 {
            for _ in 0..4 {
                for hot in 0..40 {
                    read(&cache, set * 100 + hot);
                }
            }
            let kept = (0..40).filter(|hot| read(&cache, set * 100 + *hot)).count();
            assert_eq!(kept, 40, "of set {set}");
        }
    }

    #[test]
    fn without_anything_hot_the_newest_windows_have_all_the_room() {
        let cache = cache(64);
        for number in 0..100 {
            read(&cache, number);
        }
        let kept = (36..100).filter(|number| cache.has(key(*number))).count();
        assert_eq!(kept, 64);
    }

    #[test]
    fn one_disk_read_serves_all_who_want_it_at_once() {
        let cache = cache(8);
        let Found::Absent(load) = cache.find(key(1), 0) else {
            panic!("nothing is here")
        };
        for at in [0, 100, 3000] {
            assert!(matches!(cache.find(key(1), at), Found::Loading(_)));
        }
        cache.finish(key(1), &load, Ok(window()));
        assert!(matches!(cache.find(key(1), 0), Found::Ready(_)));
        let counts = cache.counts();
        assert_eq!((counts.misses, counts.hits), (1, 4));
    }
}
