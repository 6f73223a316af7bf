//! Index files: what they should hold, and writing them anew.
//!
//! *Durability*: an index is derived; a crash amid its writing leaves blocks that are not taken.

use std::path::Path;

use runtime::{AlignedBuf, BLOCK_BYTES, Durability, File, OpenMode, dir};

use super::log::{each_log, walk_segment};
use super::segment::{Source, Walked};
use super::{Item, LogInfo, Sink, open_to_read, report};
use crate::directory::sync_dir;
use crate::error::StorageError;
use crate::segment::index_file::{BLOCK_ENTRIES, BlockOwner, decode_block, encode_block};
use crate::segment::offset_index::IndexEntry;

/// Compares every index file in `dir` with its segment; writes those anew that are wrong if `is_writing`.
/// Nobody else may use the directory then.
///
/// # Errors
/// As [`super::inspect`].
pub async fn repair_index(
    dir: &Path,
    is_writing: bool,
    sink: &mut Sink<'_>,
) -> Result<(), StorageError> {
    each_log(dir, sink, async |found, sink| {
        sink(Item::Log(&found.info));
        let mut next_offset = 0;
        for segment in &found.segments {
            // Batches are not what was asked for.
            let mut quiet = |item: Item<'_>| {
                if !matches!(item, Item::Batch(_)) {
                    sink(item);
                }
            };
            let walked = walk_segment(segment, next_offset, &mut quiet).await;
            next_offset = walked.next_offset;
            check_index(&found.info, segment, &walked, is_writing, sink).await;
        }
    })
    .await
}

/// Compares the index file of a segment with what the walk over it found.
pub(super) async fn check_index(
    log: &LogInfo,
    segment: &Source,
    walked: &Walked,
    is_writing: bool,
    sink: &mut Sink<'_>,
) {
    if !walked.is_whole {
        return;
    }
    let path = segment.path.with_extension("index");
    let owner = BlockOwner {
        incarnation: log.incarnation,
        segment_base: segment.base_offset,
    };
    // Blocks are written after what they point to.
    let file_end = segment.file_end(u64::MAX);
    let in_file = |entry: &&IndexEntry| u64::from(entry.position) < file_end;
    let entries: Vec<_> = walked.index.iter().take_while(in_file).copied().collect();
    let blocks: Vec<_> = entries.chunks_exact(BLOCK_ENTRIES).collect();
    let file = match read_index(&path).await {
        Ok(file) => file,
        Err(error) => return report(&error, sink),
    };
    let wrong = count_wrong(&path, owner, &blocks, file.as_deref(), is_writing, sink);
    let mut is_repaired = false;
    if wrong > 0 && is_writing {
        match write_index(&path, owner, &blocks).await {
            Ok(()) => is_repaired = true,
            Err(error) => report(&error, sink),
        }
    }
    if file.is_some() || !blocks.is_empty() {
        sink(Item::Index {
            path: &path,
            blocks: blocks.len() as u64,
            wrong,
            is_repaired,
        });
    }
}

async fn read_index(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    match open_to_read(path).await {
        Ok(_) => {}
        Err(StorageError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    }
    let file = dir::read_file(path).await;
    file.map(Some)
        .map_err(|e| StorageError::io("read", path, e))
}

/// Counts blocks that are missing or wrong. Those that are there and wrong are damage, unless they are about
/// to be written anew.
fn count_wrong(
    path: &Path,
    owner: BlockOwner,
    blocks: &[&[IndexEntry]],
    file: Option<&[u8]>,
    is_writing: bool,
    sink: &mut Sink<'_>,
) -> u64 {
    let mut wrong = 0;
    let found: Vec<_> = file.unwrap_or_default().chunks(BLOCK_BYTES).collect();
    for at in 0..blocks.len().max(found.len()) {
        let mut entries = Vec::new();
        let is_valid = found
            .get(at)
            .is_some_and(|block| decode_block(owner, at as u32, block, &mut entries));
        if is_valid && blocks.get(at) == Some(&entries.as_slice()) {
            continue;
        }
        wrong += 1;
        if at < found.len() && !is_writing {
            let error = StorageError::corruption(
                path,
                (at * BLOCK_BYTES) as u64,
                format!("index block {at} of the segment (`repair-index --write` makes it anew)"),
                if is_valid {
                    "other entries"
                } else {
                    "no valid block"
                },
            );
            report(&error, sink);
        }
    }
    wrong
}

async fn write_index(
    path: &Path,
    owner: BlockOwner,
    blocks: &[&[IndexEntry]],
) -> Result<(), StorageError> {
    let io = |operation| move |error| StorageError::io(operation, path, error);
    let file = match File::open(path, OpenMode::ReadWrite).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            File::open(path, OpenMode::CreateNew).await
        }
        opened => opened,
    };
    let file = file.map_err(io("open"))?;
    for (at, entries) in blocks.iter().enumerate() {
        let mut block = AlignedBuf::zeroed(BLOCK_BYTES);
        block.copy_from_slice(&encode_block(owner, at as u32, entries));
        let position = (at * BLOCK_BYTES) as u64;
        let written = file
            .write_at(position, block.freeze(), Durability::Buffered)
            .await;
        written.map_err(io("write"))?;
    }
    let bytes = (blocks.len() * BLOCK_BYTES) as u64;
    file.truncate(bytes).await.map_err(io("truncate"))?;
    file.sync_data().await.map_err(io("fdatasync"))?;
    match path.parent() {
        Some(parent) => sync_dir(parent).await,
        None => Ok(()),
    }
}
