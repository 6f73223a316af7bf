//! What became of the transactions of a log, read from its control batches.
//!
//! *Place*: a cleaning round asks when it meets transactional data, whose markers may lie beyond what it
//! cleans, up to the log's end.

use std::rc::Rc;

use protocol::record_batch::BatchView;

use super::Log;
use super::walk::{Walk, WalkEnd, WalkFrom};
use crate::compaction::{Outcomes, marker_of};
use crate::error::StorageError;
use crate::segment::files::FileKind;
use crate::segment::{Segment, SegmentName};

impl Log {
    /// The outcomes of transactions with data in the segment at `from` or later. `None`: the log
    /// changed meanwhile.
    ///
    /// # Errors
    /// As reading.
    pub(crate) async fn transaction_outcomes(
        self: &Rc<Self>,
        from: i64,
    ) -> Result<Option<Outcomes>, StorageError> {
        let (names, truncations): (Vec<SegmentName>, u64) = {
            let state = self.state.borrow();
            let names = state.segments.iter().map(Segment::name);
            let names = names.filter(|name| name.base_offset >= from).collect();
            (names, state.truncations)
        };
        let mut outcomes = Outcomes::default();
        for segment in names {
            let place = WalkFrom {
                segment,
                position: 0,
                truncations,
            };
            let mut walk = Walk::new(self, place);
            loop {
                match self.note_outcome(&mut walk, &mut outcomes).await? {
                    Ok(()) => {}
                    Err(WalkEnd::EndOfSegment) => break,
                    Err(WalkEnd::Changed) => return Ok(None),
                }
                runtime::task::yield_if_needed().await;
            }
        }
        Ok(Some(outcomes))
    }

    async fn note_outcome(
        self: &Rc<Self>,
        walk: &mut Walk<'_>,
        outcomes: &mut Outcomes,
    ) -> Result<Result<(), WalkEnd>, StorageError> {
        let batch = match walk.peek().await? {
            Ok(batch) => batch,
            Err(end) => return Ok(Err(end)),
        };
        let end = walk.position() + batch.bytes;
        let mut marker = None;
        if batch.is_control() {
            if let Err(end) = walk.hold(&batch, true).await? {
                return Ok(Err(end));
            }
            let bytes = walk.run().copy(walk.position(), end);
            let read = BatchView::parse(&bytes).and_then(|view| marker_of(&view));
            marker = read.map_err(|error| {
                let path = self.path_of(walk.segment(), FileKind::Segment);
                StorageError::corruption(&path, walk.position(), "a control batch", error)
            })?;
        }
        outcomes.note(&batch, marker);
        walk.advance(&batch, end);
        Ok(Ok(()))
    }
}
