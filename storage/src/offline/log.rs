//! Which logs a directory holds, and a walk over each.

use std::path::{Path, PathBuf};

use runtime::dir;

use super::segment::{Source, Walked, segment_of};
use super::{Item, LogInfo, Sink, recover_shard, report, shards_of};
use crate::error::StorageError;
use crate::log_id::{LogId, log_dir};
use crate::partition_log::state::LogState;
use crate::recovery::RecoveredLog;
use crate::segment::files::{FileKind, file_path};

/// A log that was found.
pub(super) struct FoundLog {
    pub(super) info: LogInfo,
    pub(super) segments: Vec<Source>,
}

/// Gives each log of a data directory, or the one whose directory `dir` is, to `visit`.
pub(super) async fn each_log(
    dir: &Path,
    sink: &mut Sink<'_>,
    mut visit: impl AsyncFnMut(&FoundLog, &mut Sink<'_>),
) -> Result<(), StorageError> {
    if let Some(shards) = shards_of(dir).await {
        for shard in shards {
            for recovered in recover_shard(dir, shard, sink).await {
                visit(&found_log(dir, &recovered), sink).await;
            }
        }
        return Ok(());
    }
    let Some((id, incarnation)) = parse_log_dir(dir) else {
        let source = std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "neither a data directory (with `shards`) nor a log's (TOPIC-PARTITION-INCARNATION)",
        );
        return Err(StorageError::io("look into", dir, source));
    };
    if let Some(data_dir) = dir.parent().and_then(Path::parent)
        && let Some(shards) = shards_of(data_dir).await
    {
        // Only this log is asked for, whatever else is wrong with the others.
        for shard in shards {
            let logs = recover_shard(data_dir, shard, sink).await;
            let this = logs.iter().find(|log| log.incarnation == incarnation);
            if let Some(recovered) = this {
                visit(&found_log(data_dir, recovered), sink).await;
                return Ok(());
            }
        }
    }
    let alone = log_alone(dir, id, incarnation).await?;
    visit(&alone, sink).await;
    Ok(())
}

/// A log as recovery knows it.
fn found_log(data_dir: &Path, recovered: &RecoveredLog) -> FoundLog {
    let (state, dir) = (
        &recovered.state,
        log_dir(data_dir, recovered.id, recovered.incarnation),
    );
    let info = LogInfo {
        id: recovered.id,
        incarnation: recovered.incarnation,
        dir: dir.clone(),
        offsets: Some((state.log_start, state.log_end)),
        epochs: state.epochs.entries(),
        producers: state.producers.summaries(),
        segments: state.segments.len(),
    };
    let segments = state.segments.iter();
    let segments = segments.map(|segment| Source {
        path: file_path(&dir, segment.name(), FileKind::Segment),
        base_offset: segment.base_offset(),
        bytes: Some(segment.bytes()),
        memory: memory_of(state, segment.base_offset()),
        background: None,
    });
    FoundLog {
        segments: segments.collect(),
        info,
    }
}

fn memory_of(state: &LogState, segment_base: i64) -> Vec<(u64, Vec<u8>)> {
    let chunks = state.chunks.of_segment(segment_base);
    let bytes = chunks.map(|(chunk, _)| {
        let held = chunk.as_bytes();
        let len = ((chunk.end - chunk.start) as usize).min(held.len());
        (chunk.start, held[..len].to_vec())
    });
    bytes.filter(|(_, bytes)| !bytes.is_empty()).collect()
}

/// A log of which only the files are known: a copy, or one that no table names.
async fn log_alone(dir: &Path, id: LogId, incarnation: u64) -> Result<FoundLog, StorageError> {
    let entries = dir::read_dir(dir).await;
    let entries = entries.map_err(|e| StorageError::io("read directory", dir, e))?;
    let mut segments = Vec::new();
    for entry in entries {
        let path = dir.join(&entry.name);
        if let Some(name) = segment_of(&path) {
            let source = Source {
                path,
                base_offset: name.base_offset,
                bytes: Some(entry.bytes),
                memory: Vec::new(),
                background: None,
            };
            segments.push((name, source));
        }
    }
    // Of a segment that compaction has rewritten, the newest version: which one counts is not known here.
    segments.sort_by_key(|(name, _)| (name.base_offset, std::cmp::Reverse(name.version)));
    segments.dedup_by_key(|(name, _)| name.base_offset);
    let mut segments: Vec<Source> = segments.into_iter().map(|(_, source)| source).collect();
    if let Some(newest) = segments.last_mut() {
        newest.bytes = None;
    }
    let info = LogInfo {
        id,
        incarnation,
        dir: dir.to_path_buf(),
        offsets: None,
        epochs: Vec::new(),
        producers: Vec::new(),
        segments: segments.len(),
    };
    Ok(FoundLog { info, segments })
}

/// Topic, partition and incarnation from the name of a log's directory.
fn parse_log_dir(dir: &Path) -> Option<(LogId, u64)> {
    let dir: PathBuf = dir.components().collect();
    let mut parts = dir.file_name()?.to_str()?.split('-');
    let (topic, partition, incarnation) = (parts.next()?, parts.next()?, parts.next()?);
    if topic.len() != 32 || incarnation.len() != 16 || parts.next().is_some() {
        return None;
    }
    let topic = u128::from_str_radix(topic, 16).ok()?.to_be_bytes();
    let partition = partition.parse().ok()?;
    let incarnation = u64::from_str_radix(incarnation, 16).ok()?;
    Some((LogId { topic, partition }, incarnation))
}

/// Walks over all of a log and checks its indexes.
pub(super) async fn walk_log(found: &FoundLog, sink: &mut Sink<'_>) {
    sink(Item::Log(&found.info));
    let mut next_offset = 0;
    for segment in &found.segments {
        let walked = walk_segment(segment, next_offset, sink).await;
        next_offset = walked.next_offset;
        super::repair::check_index(&found.info, segment, &walked, false, sink).await;
    }
    if let Some((_, log_end)) = found.info.offsets
        && next_offset > log_end
    {
        let error = StorageError::corruption(
            &found.info.dir,
            0,
            format!("batches below the log end {log_end}"),
            next_offset,
        );
        report(&error, sink);
    }
}

pub(super) async fn walk_segment(
    segment: &Source,
    next_offset: i64,
    sink: &mut Sink<'_>,
) -> Walked {
    segment
        .walk(next_offset.max(segment.base_offset), sink)
        .await
}
