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
//! of it, and so have those that were read ahead and nobody has asked for: where many logs are read in turn, they
//! would be gone before their readers come again. Each window is charged to the shard's budget. What finds no memory
//! is read and not kept.
//! *Source*: 2Q (Johnson and Shasha, 1994), with the second reader told from the first by where they read.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
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
    /// Those on probation and the proven ones, by [`Ready::used`]: the first of each goes first.
    probation: BTreeMap<u64, WindowKey>,
    proven: BTreeMap<u64, WindowKey>,
    departed: Departed,
    /// Windows read ahead, or on their way, that nobody has asked for yet.
    unasked: u64,
    uses: u64,
    hits: u64,
    misses: u64,
}

struct Ready {
    slice: Slice,
    /// The number of the use when a proven one was used last, or one on probation came.
    used: u64,
    asked: Asked,
    _charge: Charge,
}

/// What is known of those who asked for a window. One reader asks for a place once and goes forward: who
/// asks at or before what was asked for is another.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    /// The farthest place; none was asked for yet of a window that was read ahead.
    read_to: Option<usize>,
    is_proven: bool,
}

impl Asked {
    fn is_by_nobody(self) -> bool {
        self.read_to.is_none()
    }

    /// `at` is asked for of the window; what went before it departed counts when it is asked for first.
    fn note(&mut self, at: usize, key: WindowKey, departed: &mut Departed) {
        if self.read_to.is_none() {
            self.read_to = departed.take(key);
        }
        self.is_proven |= self.read_to.is_some_and(|read_to| at <= read_to);
        self.read_to = self.read_to.max(Some(at));
    }
}

/// Windows that went while they were on probation, with how far they were asked for.
#[derive(Default)]
struct Departed {
    /// Each with the number of its departure.
    windows: HashMap<WindowKey, (u64, Option<usize>)>,
    /// Oldest first.
    order: BTreeMap<u64, WindowKey>,
    departures: u64,
}

impl Departed {
    fn note(&mut self, key: WindowKey, read_to: Option<usize>) {
        let read_to = read_to.max(self.take(key));
        self.departures += 1;
        self.order.insert(self.departures, key);
        self.windows.insert(key, (self.departures, read_to));
    }

    /// How far a window was asked for; from now on that is not known any more.
    fn take(&mut self, key: WindowKey) -> Option<usize> {
        let (number, read_to) = self.windows.remove(&key)?;
        self.order.remove(&number);
        read_to
    }

    fn forget_beyond(&mut self, windows_max: u64) {
        while self.order.len() as u64 > windows_max
            && let Some((_, key)) = self.order.pop_first()
        {
            self.windows.remove(&key);
        }
    }
}

/// A read that is on its way, for whoever wants its result.
#[derive(Default)]
pub(crate) struct Load {
    done: Notify,
    result: RefCell<Option<Result<Slice, Rc<io::Error>>>>,
    asked: Cell<Asked>,
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
            let was_proven = ready.asked.is_proven;
            state.unasked -= u64::from(ready.asked.is_by_nobody());
            ready.asked.note(bytes_min, key, &mut state.departed);
            if ready.asked.is_proven {
                let before = std::mem::replace(&mut ready.used, state.uses);
                if was_proven {
                    state.proven.remove(&before);
                } else {
                    state.probation.remove(&before);
                    state.probation_bytes -= ready.slice.backing_bytes() as u64;
                }
                state.proven.insert(ready.used, key);
            }
            state.hits += 1;
            return Found::Ready(ready.slice.clone());
        }
        let on_its_way = state.loading.get(&key).cloned();
        let is_on_its_way = on_its_way.is_some();
        let load = on_its_way.unwrap_or_else(|| state.begin_load(key));
        let mut asked = load.asked.get();
        state.unasked -= u64::from(is_on_its_way && asked.is_by_nobody());
        asked.note(bytes_min, key, &mut state.departed);
        load.asked.set(asked);
        if is_on_its_way {
            state.hits += 1;
            Found::Loading(load)
        } else {
            Found::Absent(load)
        }
    }

    /// Begins to read a window ahead, unless it is here or on its way, or too many that were read ahead have not
    /// been asked for. That is no ask: whether the window is read again is told when a reader comes for it.
    pub(crate) fn begin_ahead(&self, key: WindowKey) -> Option<Rc<Load>> {
        let mut state = self.state.borrow_mut();
        let is_known = state.ready.contains_key(&key) || state.loading.contains_key(&key);
        if is_known || state.unasked * self.window_bytes >= self.probation_bytes_max() {
            return None;
        }
        state.uses += 1;
        state.unasked += 1;
        Some(state.begin_load(key))
    }

    /// The read of an absent window has ended.
    pub(crate) fn finish(&self, key: WindowKey, load: &Load, result: io::Result<Slice>) {
        self.state.borrow_mut().loading.remove(&key);
        let asked = load.asked.get();
        let is_kept = match &result {
            Ok(slice) => self.keep(key, slice.clone(), asked),
            Err(_) => false,
        };
        if !is_kept {
            self.state.borrow_mut().unasked -= u64::from(asked.is_by_nobody());
        }
        *load.result.borrow_mut() = Some(result.map_err(Rc::new));
        load.done.notify_waiters();
    }

    /// Whether there is memory for it.
    fn keep(&self, key: WindowKey, slice: Slice, mut asked: Asked) -> bool {
        let bytes = slice.backing_bytes() as u64;
        let mut state = self.state.borrow_mut();
        if let Some(old) = state.remove(key) {
            asked.is_proven |= old.asked.is_proven;
            asked.read_to = asked.read_to.max(old.asked.read_to);
        }
        let probation_comes = if asked.is_proven { 0 } else { bytes };
        let probation_max = self.probation_bytes_max().saturating_sub(probation_comes);
        while state.bytes + bytes > self.bytes_max {
            if !state.evict(probation_max) {
                return false;
            }
        }
        let departed_max = self.bytes_max / self.window_bytes;
        state.departed.forget_beyond(departed_max);
        let Some(charge) = self.budget.try_charge(bytes as usize) else {
            return false;
        };
        state.uses += 1;
        let used = state.uses;
        state.order(asked.is_proven).insert(used, key);
        state.bytes += bytes;
        state.probation_bytes += probation_comes;
        state.ready.insert(
            key,
            Ready {
                slice,
                used,
                asked,
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
        assert_eq!(
            state.ready.len(),
            state.probation.len() + state.proven.len(),
            "windows without an order"
        );
        true
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
        let of_log = state
            .ready
            .keys()
            .filter(|key| key.incarnation == incarnation);
        for key in of_log.copied().collect::<Vec<_>>() {
            state.remove(key);
        }
    }
}

impl CacheState {
    /// Lets a window go: the oldest on probation, if these have more than `probation_max` bytes or there
    /// are no others, else the proven one that was not used for longest. `false` when there is none.
    fn evict(&mut self, probation_max: u64) -> bool {
        let has_proven = self.bytes > self.probation_bytes;
        let has_probation = self.probation_bytes > 0;
        let takes_proven = has_proven && (!has_probation || self.probation_bytes <= probation_max);
        let Some(key) = self.order(takes_proven).values().next().copied() else {
            return false;
        };
        if let Some(gone) = self.remove(key)
            && !gone.asked.is_proven
        {
            self.departed.note(key, gone.asked.read_to);
        }
        true
    }

    fn remove(&mut self, key: WindowKey) -> Option<Ready> {
        let gone = self.ready.remove(&key)?;
        let bytes = gone.slice.backing_bytes() as u64;
        self.bytes -= bytes;
        self.order(gone.asked.is_proven).remove(&gone.used);
        self.probation_bytes -= if gone.asked.is_proven { 0 } else { bytes };
        self.unasked -= u64::from(gone.asked.is_by_nobody());
        Some(gone)
    }

    /// The order in which windows go, the proven ones or those on probation.
    fn order(&mut self, is_proven: bool) -> &mut BTreeMap<u64, WindowKey> {
        if is_proven {
            &mut self.proven
        } else {
            &mut self.probation
        }
    }

    fn begin_load(&mut self, key: WindowKey) -> Rc<Load> {
        self.misses += 1;
        let load = Rc::new(Load::default());
        self.loading.insert(key, Rc::clone(&load));
        load
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

    /// A reader asks for a place in a window; answers whether it was here.
    fn ask(cache: &ReadCache, key: WindowKey, at: usize) -> bool {
        match cache.find(key, at) {
            Found::Ready(_) => true,
            Found::Absent(load) => {
                cache.finish(key, &load, Ok(window()));
                false
            }
            Found::Loading(_) => panic!("nothing is on its way"),
        }
    }

    /// One reader goes through a window from its beginning to its end; answers whether it was here.
    fn read(cache: &ReadCache, number: u64) -> bool {
        let was_here = [0, 1000, 2000, 3000].map(|at| ask(cache, key(number), at));
        was_here[0]
    }

    /// A fetch that is larger than windows asks for each of them once.
    fn read_at_once(cache: &ReadCache, number: u64) -> bool {
        ask(cache, key(number), 0)
    }

    fn is_here(cache: &ReadCache, number: u64) -> bool {
        cache.state.borrow().ready.contains_key(&key(number))
    }

    #[test]
    fn what_large_fetches_read_again_stays_amid_a_scan() {
        let cache = cache(64);
        for _ in 0..2 {
            for hot in 0..32 {
                read_at_once(&cache, hot);
            }
        }
        for cold in 1000..1640 {
            assert!(!read_at_once(&cache, cold));
        }
        let kept = (0..32).filter(|hot| is_here(&cache, *hot)).count();
        assert_eq!(kept, 32, "of the hot windows");
    }

    #[test]
    fn scans_of_many_logs_at_once_leave_what_is_read_again() {
        let cache = cache(120);
        for _ in 0..2 {
            for hot in 0..60 {
                read_at_once(&cache, hot);
            }
        }
        let mut lost_before_its_ask = 0;
        for number in 0..40 {
            for log in 2..66 {
                let of_log = |number| WindowKey {
                    incarnation: log,
                    ..key(number)
                };
                let was_here = ask(&cache, of_log(number), 0);
                lost_before_its_ask += u32::from(number > 0 && !was_here);
                if let Some(load) = cache.begin_ahead(of_log(number + 1)) {
                    cache.finish(of_log(number + 1), &load, Ok(window()));
                }
            }
        }
        assert!(lost_before_its_ask > 1000, "{lost_before_its_ask} windows");
        let kept = (0..60).filter(|hot| is_here(&cache, *hot)).count();
        assert_eq!(kept, 60, "of the hot windows");
    }

    #[test]
    fn what_is_read_ahead_and_not_asked_for_is_bounded() {
        let cache = cache(64);
        let mut numbers = 0..;
        let mut ahead = || {
            let of_log = key(numbers.next().expect("endless"));
            Some((of_log, cache.begin_ahead(of_log)?))
        };
        let mut begun: Vec<_> = std::iter::from_fn(&mut ahead).collect();
        assert_eq!(begun.len(), 16, "a quarter of the cache");
        // One is asked for on its way, one fails, one is asked for when it is here, one departs.
        let (asked, load) = begun.pop().expect("16");
        assert!(matches!(cache.find(asked, 0), Found::Loading(_)));
        cache.finish(asked, &load, Ok(window()));
        assert!(ahead().is_some() && ahead().is_none());
        let (failed, load) = begun.pop().expect("15");
        cache.finish(failed, &load, Err(io::ErrorKind::Other.into()));
        assert!(ahead().is_some() && ahead().is_none());
        let (asked, load) = begun.pop().expect("14");
        cache.finish(asked, &load, Ok(window()));
        assert!(ask(&cache, asked, 0) && ask(&cache, asked, 1));
        assert!(ahead().is_some() && ahead().is_none());
        let (departs, load) = begun.pop().expect("13");
        cache.finish(departs, &load, Ok(window()));
        cache.forget_log(departs.incarnation);
        assert!(ahead().is_some() && ahead().is_none());
    }

    #[test]
    fn a_window_read_ahead_is_proven_by_its_second_reader() {
        let cache = cache(64);
        for reader in 0..2 {
            if let Some(load) = cache.begin_ahead(key(1)) {
                cache.finish(key(1), &load, Ok(window()));
            }
            assert!(ask(&cache, key(1), 0));
            let is_proven = cache.state.borrow().ready[&key(1)].asked.is_proven;
            assert_eq!(is_proven, reader == 1);
        }
        // Also when it went between the two.
        let load = cache.begin_ahead(key(2)).expect("it is not here");
        cache.finish(key(2), &load, Ok(window()));
        ask(&cache, key(2), 0);
        assert!(cache.evict_one());
        let load = cache.begin_ahead(key(2)).expect("it went");
        cache.finish(key(2), &load, Ok(window()));
        ask(&cache, key(2), 0);
        assert!(cache.state.borrow().ready[&key(2)].asked.is_proven);
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
        let kept = (36..100).filter(|number| is_here(&cache, *number)).count();
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
