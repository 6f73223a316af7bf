//! Cutting the end of a log, when a replica has to give up records that its leader does not have.
//!
//! *Place*: the replica fetcher, before it appends. *Durability*: the state after the cut goes into
//! the journal as a whole (a checkpoint entry, in the `TailBlock` record) with the `Truncate`
//! record, and both are durable before anything changes in memory or in files; appends are refused
//! meanwhile. So replay never resurrects what was cut, and never needs a block that a later append
//! has rewritten. *Source*: KIP-101; `docs/storage-format.md`, "Log operations".

use std::io::ErrorKind;
use std::rc::Rc;

use runtime::{Slice, dir};

use super::leader_epochs::LeaderEpochs;
use super::producer_snapshot;
use super::producers::Producers;
use super::state::LogState;
use super::walk::{Walk, WalkEnd, WalkFrom};
use super::write_behind::sync_logs_dir;
use super::{Condition, Log, PartitionLog};
use crate::checkpoint::entry::{self, EntryOwner, SegmentPosition};
use crate::codec::FieldReader;
use crate::error::StorageError;
use crate::journal::RecordView;
use crate::segment::batch_header::NONE;
use crate::segment::files::FileKind;
use crate::segment::{Segment, SegmentExtent, SegmentName, block_floor};

/// Where a log is to be cut.
struct Cut {
    log_end: i64,
    /// The segment that becomes the active one, as it will be.
    extent: SegmentExtent,
    /// Its incomplete last block.
    tail: Vec<u8>,
}

impl PartitionLog {
    /// Cuts the log so that it ends at `to`: records at and above are gone, and so are those of the
    /// batch that `to` lies inside of (as in Kafka). Returns when the cut is durable. Appends and
    /// other changes are refused with [`StorageError::LogBusy`] until then.
    ///
    /// # Errors
    /// [`StorageError::OffsetOutOfRange`] below the log start; reading and writing errors, after
    /// which the storage is offline if anything had been written.
    ///
    /// # Cancel safety
    /// Not cancel safe: a dropped truncation leaves the log refusing changes until the next start,
    /// which finishes or forgets it.
    pub async fn truncate(&self, to: i64) -> Result<(), StorageError> {
        let log = &self.log;
        log.check_changeable()?;
        {
            let state = log.state.borrow();
            let (log_start, log_end) = (state.log_start, state.log_end);
            if to < log_start {
                return Err(StorageError::OffsetOutOfRange {
                    offset: to,
                    log_start,
                    log_end,
                });
            }
            if to >= log_end {
                return Ok(());
            }
        }
        log.condition.set(Condition::Truncating(None));
        let result = log.truncate_to(to).await;
        if log.condition.get() != Condition::Deleted {
            log.condition.set(Condition::Open);
        }
        result
    }
}

impl Log {
    async fn truncate_to(self: &Rc<Self>, to: i64) -> Result<(), StorageError> {
        let committed = self.engine.committed(self.engine.last_sequence()).await;
        self.fail_on_error(committed)?;
        // A segment begun again after the cut may get the name of one that waits to be removed.
        self.engine.wait_for_removals().await?;
        // Everything below the log end is made durable in segments first: then the entry that goes
        // into the journal has to carry one block at most.
        let end = {
            let state = self.state.borrow();
            SegmentPosition {
                segment_base: state.active().base_offset(),
                position: block_floor(state.active().bytes()),
            }
        };
        self.sync_to(end).await?;
        let synced = sync_logs_dir(&self.engine).await;
        self.settle(synced)?;
        let cut = self.plan_cut(to).await?;
        let producers = self.producers_before(to).await?;
        let (entry, dropped) = self.encode_cut(&cut, producers);
        let result = self.perform_cut(&cut, &entry, dropped).await;
        self.fail_on_error(result)
    }

    /// Finds the batch at which the log is cut, and what will be true of its segment then.
    async fn plan_cut(self: &Rc<Self>, to: i64) -> Result<Cut, StorageError> {
        let (mut extent, truncations) = {
            let state = self.state.borrow();
            let segment = &state.segments[state.segment_for(to)];
            (segment.extent, state.truncations)
        };
        // Timestamps have to be known again from the segment's start: its whole headers are walked.
        let mut walk = Walk::new(
            self,
            WalkFrom {
                segment: extent.name(),
                position: 0,
                truncations,
            },
        );
        (
            extent.max_timestamp,
            extent.max_timestamp_batch,
            extent.first_timestamp,
        ) = (NONE, NONE, NONE);
        while let Ok(batch) = walk.peek().await? {
            if batch.last_offset() >= to {
                break;
            }
            extent.note_timestamps(&batch, walk.position() == 0);
            walk.advance(&batch, walk.position() + batch.bytes);
        }
        extent.bytes = walk.position();
        let tail = self
            .read_range(
                extent.name(),
                truncations,
                block_floor(extent.bytes),
                extent.bytes,
            )
            .await?;
        Ok(Cut {
            log_end: to,
            extent,
            tail,
        })
    }

    async fn read_range(
        self: &Rc<Self>,
        segment: SegmentName,
        truncations: u64,
        from: u64,
        to: u64,
    ) -> Result<Vec<u8>, StorageError> {
        let mut walk = Walk::new(
            self,
            WalkFrom {
                segment,
                position: from,
                truncations,
            },
        );
        match walk.read_to(to).await? {
            Ok(()) => Ok(walk.run().copy(from, to)),
            Err(WalkEnd::Changed | WalkEnd::EndOfSegment) => Err(StorageError::LogBusy),
        }
    }

    /// The producer states before `to`: from the newest usable snapshot at or below, and the
    /// batches from there on.
    async fn producers_before(self: &Rc<Self>, to: i64) -> Result<Producers, StorageError> {
        let names: Vec<SegmentName> = {
            let state = self.state.borrow();
            let below = state
                .segments
                .iter()
                .filter(|segment| segment.base_offset() <= to);
            below.map(Segment::name).collect()
        };
        let mut producers = Producers::default();
        let mut first = 0;
        for (at, name) in names.iter().enumerate().rev() {
            let Some(file) = self.read_snapshot(*name).await? else {
                continue;
            };
            if let Some(snapshot) =
                producer_snapshot::decode(self.incarnation, name.base_offset, &file)
            {
                (producers, first) = (snapshot, at);
                break;
            }
        }
        for name in &names[first..] {
            let truncations = self.state.borrow().truncations;
            let mut walk = Walk::new(
                self,
                WalkFrom {
                    segment: *name,
                    position: 0,
                    truncations,
                },
            );
            while let Ok(batch) = walk.peek().await? {
                if batch.last_offset() >= to {
                    break;
                }
                producers.note(&batch);
                walk.advance(&batch, walk.position() + batch.bytes);
            }
        }
        Ok(producers)
    }

    /// The file of a producer snapshot, if there is one that can be read. A shortage is waited out: without it,
    /// producers whose records are all gone would be forgotten.
    async fn read_snapshot(&self, segment: SegmentName) -> Result<Option<Vec<u8>>, StorageError> {
        let path = self.path_of(segment, FileKind::Producers);
        loop {
            let error = match dir::read_file(&path).await {
                Ok(file) => return Ok(Some(file)),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => StorageError::io("read", &path, error),
            };
            if !error.is_shortage() {
                tracing::warn!(%error, "producers are looked for in an older snapshot and in the log");
                return Ok(None);
            }
            self.engine.wait_out(error).await?;
        }
    }

    /// The log's checkpoint entry as it will be after the cut, and the segments that go.
    fn encode_cut(&self, cut: &Cut, producers: Producers) -> (Vec<u8>, Vec<SegmentName>) {
        let state = self.state.borrow();
        let mut after = LogState::new(0);
        (after.log_start, after.log_end) = (state.log_start, cut.log_end);
        after.durable_end = cut.log_end;
        after.producers = producers;
        after.epochs = LeaderEpochs::clone(&state.epochs);
        after.epochs.truncate_end(cut.log_end);
        after.cleaned_to = state.cleaned_to.min(cut.log_end);
        let kept = state
            .segments
            .iter()
            .filter(|segment| segment.base_offset() < cut.extent.base_offset);
        after.segments = kept
            .map(|segment| Segment::restored(segment.extent, segment.bytes()))
            .collect();
        let tail_position = block_floor(cut.extent.bytes);
        after
            .segments
            .push(Segment::restored(cut.extent, tail_position));
        let tail = Slice::from(cut.tail.clone());
        after
            .chunks
            .restore(cut.extent.base_offset, tail_position, tail, cut.log_end);
        assert!(after.check_invariants());

        let owner = EntryOwner {
            id: self.id,
            incarnation: self.incarnation,
            applied: self.engine.last_sequence().into(),
        };
        let mut entry = Vec::new();
        let to_sync = entry::encode(owner, &after, u64::MAX, &mut entry);
        assert_eq!(
            to_sync, None,
            "the entry of a truncation carries what is not in segments"
        );
        let dropped = state.segments.iter().map(Segment::name);
        (
            entry,
            dropped
                .filter(|name| name.base_offset > cut.extent.base_offset)
                .collect(),
        )
    }

    /// Journals the cut, waits until it is durable, and makes it true in memory and in files.
    async fn perform_cut(
        self: &Rc<Self>,
        cut: &Cut,
        entry: &[u8],
        dropped: Vec<SegmentName>,
    ) -> Result<(), StorageError> {
        let journal = &self.engine.journal;
        let incarnation = self.incarnation;
        let segment_base = cut.extent.base_offset;
        let position = block_floor(cut.extent.bytes);
        let first = journal.append(RecordView::TailBlock {
            incarnation,
            segment_base,
            position,
            bytes: entry,
        });
        // Until the cut is made, a checkpoint takes the log as it was before these records.
        self.condition.set(Condition::Truncating(Some(first)));
        let sequence = journal.append(RecordView::Truncate {
            incarnation,
            offset: cut.log_end,
        });
        // Not with the right to work on the files: the journal may wait for a checkpoint that does.
        self.engine.committed(sequence).await?;
        let _work = self.file_work().await;
        self.install_cut(entry);
        self.condition.set(Condition::Truncating(None));
        // Now, and not behind a queue: a segment may soon be begun again at the same offset. What is journaled
        // has to be done, so a shortage is waited out.
        while let Err(error) = self.cut_files(cut.extent.name(), position, &dropped).await {
            self.engine.wait_out(error).await?;
        }
        Ok(())
    }

    /// Replaces the state by the one that replay would make of the journaled entry.
    fn install_cut(&self, entry: &[u8]) {
        let after = entry::decode(&mut FieldReader::new(entry))
            .expect("the entry was encoded just now")
            .state;
        let mut state = self.state.borrow_mut();
        self.direct.reset();
        self.engine.remove_dirty(state.unwritten_bytes());
        self.engine.release_chunk_bytes(state.chunks.clear() as u64);
        let before = std::mem::replace(&mut *state, after);
        state.truncations = before.truncations + 1;
        state.durable_end = before.durable_end.min(state.log_end);
        state.keep_file_state(before);
        for chunk in state.chunks.iter() {
            self.engine.note_chunk(chunk.counted_bytes as u64, self);
        }
        self.engine.add_dirty(state.unwritten_bytes());
        assert!(state.check_invariants());
    }

    /// Removes the files of the `dropped` segments, and shortens those of the one that was cut, so that what
    /// was cut cannot be mistaken for data by anyone who looks at them alone. May be repeated.
    async fn cut_files(
        self: &Rc<Self>,
        segment: SegmentName,
        position: u64,
        dropped: &[SegmentName],
    ) -> Result<(), StorageError> {
        if !dropped.is_empty() {
            self.remove_segment_files(dropped).await?;
        }
        for (kind, bytes) in [(FileKind::Segment, position), (FileKind::Index, 0)] {
            let path = self.path_of(segment, kind);
            let file = match self.open_named(segment, kind).await {
                Ok(file) => file,
                Err(StorageError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            file.truncate(bytes)
                .await
                .map_err(|e| StorageError::io("truncate", &path, e))?;
            file.sync_data()
                .await
                .map_err(|e| StorageError::io("fdatasync", &path, e))?;
        }
        self.with_segment(segment.base_offset, |segment| {
            segment.allocated = position;
            // The index file is empty now; what the segment holds is walked when it is asked for.
            segment.index_blocks = None;
        });
        Ok(())
    }
}
