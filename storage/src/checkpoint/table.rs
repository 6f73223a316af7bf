//! The checkpoint file: a header block written last, and the entries of all logs.
//!
//! *Place*: written by [`super::write`], read at start. *Invariants*: **I1** a copy counts only when
//! the CRCs of header and body are right; **I2** the header is written when the body is durable;
//! **I3** the copy with the greater generation counts, the other one is the next to be
//! overwritten. *Source*: `docs/storage-format.md`, "Checkpoint table".

use std::io;
use std::path::{Path, PathBuf};

use protocol::crc32c;
use runtime::{AlignedBuf, AppendBuf, BLOCK_BYTES, Durability, File, OpenMode, Slice, dir};

use super::entry::{self, LogEntry};
use crate::codec::{FieldReader, PutField, TooShort};
use crate::directory::sync_dir;
use crate::error::{StorageError, WRITE_DURABLY};
use crate::segment::block_ceil;

const MAGIC: [u8; 8] = *b"SBTABLE1";
/// The format version that this build writes and reads.
pub(crate) const VERSION: u32 = 1;
/// Position of the header's CRC, and of what follows it.
const CRC_AT: usize = 12;
const AFTER_CRC: usize = 16;
/// The body is written in pieces of this size.
const PIECE_BYTES: usize = 256 * 1024;
/// What a copy has more space for than a quarter of the last table.
const SPARE_BYTES: u64 = 64 << 10;
/// Bodies beyond this are refused before memory is allocated for them.
const BODY_BYTES_MAX: u64 = 16 << 30;

/// What a table's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableHeader {
    pub(crate) generation: u64,
    pub(crate) shard: u32,
    pub(crate) log_count: u32,
    pub(crate) body_bytes: u64,
    pub(crate) body_crc: u32,
    /// Records with a smaller sequence are in every entry.
    pub(crate) replay_from: u64,
    pub(crate) next_incarnation_counter: u64,
    pub(crate) written_ms: i64,
}

/// A table read from disk.
pub(crate) struct Table {
    pub(crate) header: TableHeader,
    pub(crate) entries: Vec<LogEntry>,
}

/// The two copies of a shard's table.
pub(crate) fn copy_path(shard_dir: &Path, generation: u64) -> PathBuf {
    shard_dir.join(if generation % 2 == 1 {
        "checkpoint.a"
    } else {
        "checkpoint.b"
    })
}

fn encode_header(header: &TableHeader) -> AlignedBuf {
    let mut fields = Vec::with_capacity(128);
    fields.extend_from_slice(&MAGIC);
    fields.put_u32(VERSION);
    fields.put_u32(0);
    fields.put_u64(header.generation);
    fields.put_u32(header.shard);
    fields.put_u32(header.log_count);
    fields.put_u64(header.body_bytes);
    fields.put_u32(header.body_crc);
    fields.put_u32(0);
    fields.put_u64(header.replay_from);
    fields.put_u64(header.next_incarnation_counter);
    fields.put_i64(header.written_ms);
    let mut block = AlignedBuf::zeroed(BLOCK_BYTES);
    block[..fields.len()].copy_from_slice(&fields);
    let crc = crc32c::crc32c(&block);
    block[CRC_AT..AFTER_CRC].copy_from_slice(&crc.to_le_bytes());
    block
}

/// What was found where a copy's header should be.
#[derive(Debug, PartialEq, Eq)]
enum HeaderFound {
    Valid(TableHeader),
    Version(u32),
    Invalid,
}

fn decode_header(block: &[u8]) -> HeaderFound {
    match try_decode_header(block) {
        Ok(found) => found,
        Err(TooShort) => HeaderFound::Invalid,
    }
}

fn try_decode_header(block: &[u8]) -> Result<HeaderFound, TooShort> {
    let mut fields = FieldReader::new(block.get(..BLOCK_BYTES).ok_or(TooShort)?);
    let magic: [u8; 8] = fields.array()?;
    let version = fields.u32()?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&block[..CRC_AT]), &[0; 4]);
    let crc = crc32c::crc32c_append(crc, &block[AFTER_CRC..BLOCK_BYTES]);
    if magic != MAGIC || fields.u32()? != crc {
        return Ok(HeaderFound::Invalid);
    }
    if version != VERSION {
        return Ok(HeaderFound::Version(version));
    }
    let generation = fields.u64()?;
    let (shard, log_count) = (fields.u32()?, fields.u32()?);
    let (body_bytes, body_crc) = (fields.u64()?, fields.u32()?);
    fields.u32()?;
    Ok(HeaderFound::Valid(TableHeader {
        generation,
        shard,
        log_count,
        body_bytes,
        body_crc,
        replay_from: fields.u64()?,
        next_incarnation_counter: fields.u64()?,
        written_ms: fields.i64()?,
    }))
}

/// What a shard directory holds of tables.
pub(crate) enum TablesFound {
    /// Neither copy exists.
    None,
    /// The newest valid table; `other_is_invalid`: the other copy exists and is not valid, which is
    /// normal after a crash while it was written.
    Newest {
        table: Table,
        other_is_invalid: bool,
    },
}

/// Whether all there is of tables is a first one that was never finished: it has no entries, and
/// the journal is made after it.
pub(crate) async fn is_unfinished_first(shard_dir: &Path) -> io::Result<bool> {
    if dir::exists(&shard_dir.join("journal")).await?
        || dir::exists(&copy_path(shard_dir, 2)).await?
    {
        return Ok(false);
    }
    match File::open(&copy_path(shard_dir, 1), OpenMode::Read).await {
        Ok(file) => {
            let is_empty = file.size().await? <= BLOCK_BYTES as u64;
            // A valid one without entries is a whole table: its counters count.
            let header = decode_header(&file.read_at(0, BLOCK_BYTES).await?);
            Ok(is_empty && header == HeaderFound::Invalid)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(e),
    }
}

/// Reads both copies and answers the newest valid one, which is durable from now on.
///
/// # Errors
/// As [`find_newest`].
pub(crate) async fn read_newest(shard_dir: &Path, shard: u32) -> Result<TablesFound, StorageError> {
    let found = find_newest(shard_dir, shard).await?;
    if let TablesFound::Newest { table, .. } = &found {
        sync_copy(&copy_path(shard_dir, table.header.generation)).await?;
    }
    Ok(found)
}

/// Reads both copies and answers the newest valid one, changing nothing.
///
/// # Errors
/// [`StorageError::FormatVersion`]; [`StorageError::Corruption`] when copies exist and none is
/// valid, or when a valid one has entries that cannot be; [`StorageError::Io`].
pub(crate) async fn find_newest(shard_dir: &Path, shard: u32) -> Result<TablesFound, StorageError> {
    let mut newest: Option<(TableHeader, Vec<u8>, PathBuf)> = None;
    let mut invalid = None;
    for generation in [1, 2] {
        let path = copy_path(shard_dir, generation);
        match read_copy(&path).await? {
            CopyFound::Absent => {}
            CopyFound::Invalid => invalid = Some(path),
            CopyFound::Valid(header, body) => {
                if newest
                    .as_ref()
                    .is_none_or(|(best, _, _)| best.generation < header.generation)
                {
                    newest = Some((header, body, path));
                }
            }
        }
    }
    let Some((header, body, path)) = newest else {
        return match invalid {
            None => Ok(TablesFound::None),
            Some(path) => Err(StorageError::corruption(
                &path,
                0,
                "a valid checkpoint table in checkpoint.a or checkpoint.b (restore this shard's directory from a backup, or the partition's replicas elsewhere)",
                "none",
            )),
        };
    };
    if header.shard != shard {
        return Err(StorageError::corruption(
            &path,
            24,
            format!("shard {shard}"),
            header.shard,
        ));
    }
    let entries = decode_entries(&path, &header, &body)?;
    Ok(TablesFound::Newest {
        table: Table { header, entries },
        other_is_invalid: invalid.is_some(),
    })
}

/// Makes a valid copy durable: if the last process was killed while it wrote the header, it is valid
/// now and may not be after a power loss, when the journal has gone on from it.
async fn sync_copy(path: &Path) -> Result<(), StorageError> {
    let file = File::open(path, OpenMode::ReadWrite).await;
    let file = file.map_err(|e| StorageError::io("open", path, e))?;
    file.sync_data()
        .await
        .map_err(|e| StorageError::io("fdatasync", path, e))
}

fn decode_entries(
    path: &Path,
    header: &TableHeader,
    body: &[u8],
) -> Result<Vec<LogEntry>, StorageError> {
    let mut fields = FieldReader::new(body);
    let mut entries = Vec::new();
    for _ in 0..header.log_count {
        let at = BLOCK_BYTES + body.len() - fields.remaining();
        match entry::decode(&mut fields) {
            Ok(entry) => entries.push(entry),
            Err(field) => {
                return Err(StorageError::corruption(
                    path,
                    at as u64,
                    format!("a valid {field}"),
                    "another value",
                ));
            }
        }
    }
    Ok(entries)
}

enum CopyFound {
    Absent,
    Invalid,
    Valid(TableHeader, Vec<u8>),
}

async fn read_copy(path: &Path) -> Result<CopyFound, StorageError> {
    let failed = |e| StorageError::io("read", path, e);
    let file = match File::open(path, OpenMode::Read).await {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(CopyFound::Absent),
        Err(e) => return Err(StorageError::io("open", path, e)),
    };
    let file_bytes = file.size().await.map_err(failed)?;
    let header = match decode_header(&file.read_at(0, BLOCK_BYTES).await.map_err(failed)?) {
        HeaderFound::Valid(header) => header,
        HeaderFound::Invalid => return Ok(CopyFound::Invalid),
        HeaderFound::Version(found) => {
            return Err(StorageError::FormatVersion {
                file: path.to_path_buf(),
                found,
                supported: VERSION,
            });
        }
    };
    if header.body_bytes > file_bytes.min(BODY_BYTES_MAX) {
        return Ok(CopyFound::Invalid);
    }
    let mut body = Vec::with_capacity(header.body_bytes as usize);
    let mut at = BLOCK_BYTES as u64;
    while (body.len() as u64) < header.body_bytes {
        let piece = file.read_at(at, PIECE_BYTES).await.map_err(failed)?;
        if piece.is_empty() {
            return Ok(CopyFound::Invalid);
        }
        let wanted = (header.body_bytes - body.len() as u64).min(piece.len() as u64) as usize;
        body.extend_from_slice(&piece[..wanted]);
        at += PIECE_BYTES as u64;
    }
    if crc32c::crc32c(&body) != header.body_crc {
        return Ok(CopyFound::Invalid);
    }
    Ok(CopyFound::Valid(header, body))
}

/// Writes one copy: entries as they come, then the header.
pub(crate) struct TableWriter {
    path: PathBuf,
    file: File,
    generation: u64,
    piece: AppendBuf,
    written: u64,
    log_count: u32,
    body_bytes: u64,
    body_crc: u32,
}

impl TableWriter {
    /// Opens the copy of `generation`, or makes it.
    ///
    /// # Errors
    /// [`StorageError::Io`], [`StorageError::DiskFull`].
    pub(crate) async fn open(shard_dir: &Path, generation: u64) -> Result<Self, StorageError> {
        let path = copy_path(shard_dir, generation);
        let file = match File::open(&path, OpenMode::ReadWrite).await {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let created = File::open(&path, OpenMode::CreateNew).await;
                created.map_err(|e| StorageError::io("create", &path, e))?
            }
            Err(e) => return Err(StorageError::io("open", &path, e)),
        };
        let piece = AppendBuf::with_capacity(PIECE_BYTES);
        Ok(TableWriter {
            path,
            file,
            generation,
            piece,
            written: 0,
            log_count: 0,
            body_bytes: 0,
            body_crc: 0,
        })
    }

    /// Adds the bytes of `log_count` entries.
    ///
    /// # Errors
    /// [`StorageError::Io`], [`StorageError::DiskFull`].
    pub(crate) async fn put(&mut self, entries: &[u8], log_count: u32) -> Result<(), StorageError> {
        self.log_count += log_count;
        self.body_bytes += entries.len() as u64;
        self.body_crc = crc32c::crc32c_append(self.body_crc, entries);
        let mut rest = entries;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(self.piece.remaining()));
            self.piece.append(now);
            rest = later;
            if self.piece.remaining() == 0 {
                self.write_piece().await?;
            }
        }
        Ok(())
    }

    async fn write_piece(&mut self) -> Result<(), StorageError> {
        let full = std::mem::replace(&mut self.piece, AppendBuf::with_capacity(PIECE_BYTES));
        let bytes: Slice = full.freeze();
        let at = BLOCK_BYTES as u64 + self.written;
        self.written += bytes.len() as u64;
        let written = self.file.write_at(at, bytes, Durability::Buffered).await;
        written.map_err(|e| StorageError::io("write", &self.path, e))
    }

    /// Makes the body durable. After this, and after whatever the entries rely on,
    /// [`Self::publish`] makes it count.
    ///
    /// # Errors
    /// [`StorageError::Io`], [`StorageError::DiskFull`].
    pub(crate) async fn finish_body(&mut self) -> Result<(), StorageError> {
        let padding = self.piece.len().next_multiple_of(BLOCK_BYTES) - self.piece.len();
        self.piece.append_zeros(padding);
        self.write_piece().await?;
        let synced = self.file.sync_data().await;
        synced.map_err(|e| StorageError::io("fdatasync", &self.path, e))?;
        // Each copy is made by one of the first two generations, perhaps in an earlier process that
        // ended before it came to this.
        if self.generation <= 2
            && let Some(dir) = self.path.parent()
        {
            sync_dir(dir).await?;
        }
        Ok(())
    }

    /// Writes the header, durably: from now on this table counts.
    ///
    /// # Errors
    /// [`StorageError::Io`], [`StorageError::DiskFull`].
    pub(crate) async fn publish(self, header: TableHeader) -> Result<TableHeader, StorageError> {
        assert_eq!(
            header.generation, self.generation,
            "a table goes to its generation's copy"
        );
        let header = TableHeader {
            log_count: self.log_count,
            body_bytes: self.body_bytes,
            body_crc: self.body_crc,
            ..header
        };
        assert!(
            self.written >= self.body_bytes,
            "a header is written after its body"
        );
        let block = encode_header(&header).freeze();
        let written = self.file.write_at(0, block, Durability::DataSync).await;
        written.map_err(|e| StorageError::io(WRITE_DURABLY, &self.path, e))?;
        Ok(header)
    }
}

/// Gives the copy after the one that was `published` space for a table a quarter larger, so that a
/// checkpoint can be made when the disk is full: without one the journal would fill up, and with it
/// deletions would end. Only a help: where it fails the copy stays as it is.
pub(crate) async fn allocate_next(shard_dir: &Path, published: &TableHeader) {
    let wanted = published.body_bytes + published.body_bytes / 4 + SPARE_BYTES;
    let bytes = BLOCK_BYTES as u64 + block_ceil(wanted);
    let allocate = async {
        let next = TableWriter::open(shard_dir, published.generation + 1).await?;
        let size = next.file.size().await;
        let size = size.map_err(|e| StorageError::io("look into", &next.path, e))?;
        if size >= bytes {
            return Ok(());
        }
        let allocated = next.file.allocate(size, bytes - size).await;
        allocated.map_err(|e| StorageError::io("allocate", &next.path, e))
    };
    if let Err(error) = allocate.await {
        tracing::debug!(%error, "no space ahead for the next checkpoint");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: TableHeader = TableHeader {
        generation: 7,
        shard: 2,
        log_count: 3,
        body_bytes: 1000,
        body_crc: 0xdead_beef,
        replay_from: 99,
        next_incarnation_counter: 12,
        written_ms: 1_700_000_000_000,
    };

    #[test]
    fn header_round_trip() {
        assert_eq!(
            decode_header(&encode_header(&HEADER)),
            HeaderFound::Valid(HEADER)
        );
    }

    #[test]
    fn a_flipped_bit_or_an_unknown_version_is_told_apart() {
        let block = encode_header(&HEADER);
        for at in [0, 13, 16, 60, BLOCK_BYTES - 1] {
            let mut flipped = block.to_vec();
            flipped[at] ^= 4;
            assert_eq!(decode_header(&flipped), HeaderFound::Invalid);
        }
        let mut newer = block.to_vec();
        newer[8] = 9;
        newer[CRC_AT..AFTER_CRC].fill(0);
        let crc = crc32c::crc32c(&newer);
        newer[CRC_AT..AFTER_CRC].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode_header(&newer), HeaderFound::Version(9));
    }

    #[test]
    fn generations_alternate_between_the_copies() {
        let dir = Path::new("/s");
        assert_ne!(copy_path(dir, 1), copy_path(dir, 2));
        assert_eq!(copy_path(dir, 1), copy_path(dir, 3));
    }
}
