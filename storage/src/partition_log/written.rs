//! What a log had in its files before their whole file system was synced.
//!
//! *Place*: a checkpoint takes it before that sync, and enters it as synced afterwards. *Invariants*:
//! **I1** nothing that was written after it was taken is entered: the sync may not have covered it.

use std::rc::Rc;

use super::Log;
use crate::segment::SegmentName;

/// Written bytes of a log that no sync has covered yet.
pub(crate) struct Written {
    log: Rc<Log>,
    truncations: u64,
    /// Each with the bytes in its file.
    segments: Vec<(SegmentName, u64)>,
}

impl Log {
    /// What is written and not synced; `None` when there is nothing.
    pub(crate) fn written_unsynced(self: &Rc<Self>) -> Option<Written> {
        let state = self.state.borrow();
        let unsynced = state.segments.iter().filter(|s| s.is_unsynced());
        let segments: Vec<_> = unsynced.map(|s| (s.name(), s.written)).collect();
        (!segments.is_empty()).then(|| Written {
            log: Rc::clone(self),
            truncations: state.truncations,
            segments,
        })
    }
}

impl Written {
    /// The file system was synced after this was taken.
    pub(crate) fn note_synced(self) {
        let mut state = self.log.state.borrow_mut();
        // A truncation since then synced the log itself, and what was written before says nothing
        // about what stands there now.
        if state.truncations != self.truncations {
            return;
        }
        for (name, written) in self.segments {
            // Gone by now, or replaced by one that was synced before.
            let Some(at) = state.segment_named(name) else {
                continue;
            };
            let segment = &mut state.segments[at];
            segment.synced = segment.synced.max(written);
            segment.is_linked = true;
            segment.check_invariants();
        }
    }
}
