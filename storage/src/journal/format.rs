//! Bytes of journal files: the file header and the group header. `docs/storage-format.md` has the tables.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use protocol::crc32c;

use crate::codec::FieldReader;

/// Version of the format of files and groups.
pub(super) const FORMAT_VERSION: u32 = 1;
const FILE_MAGIC: u32 = 0x4a42_5346;
const GROUP_MAGIC: u32 = 0x4a42_5347;
pub(super) const FILE_HEADER_BYTES: usize = 32;
/// Where a file's CRC stands; it covers what is before it.
const FILE_CRC_AT: usize = 24;
pub(super) const GROUP_HEADER_BYTES: usize = 64;
/// Where a group's CRC stands; it covers the header with zeros there, and the records.
const CRC_AT: usize = 52;
/// What files are filled with before they are used: not zero, since hypervisors unmap zeros.
pub(super) const FILLER: u8 = 0xa5;

/// Drawn when a journal is made, and stated by every file and group of it.
///
/// Clients choose the bytes of records; since they cannot know this number, nothing that they send can
/// look like a group, wherever it comes to stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct JournalId(u64);

impl JournalId {
    /// A number that nobody can guess: the standard library seeds its hashers with system entropy.
    pub(super) fn draw() -> Self {
        JournalId(RandomState::new().build_hasher().finish())
    }
}

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The first bytes of a file.
pub(super) fn encode_file_header(bytes: u64, journal: JournalId) -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    header[..4].copy_from_slice(&FILE_MAGIC.to_le_bytes());
    header[4..8].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[8..16].copy_from_slice(&bytes.to_le_bytes());
    header[16..24].copy_from_slice(&journal.0.to_le_bytes());
    let crc = crc32c::crc32c(&header[..FILE_CRC_AT]);
    header[FILE_CRC_AT..FILE_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    header
}

/// What a file's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileHeader {
    /// A file of this version and size.
    Valid { bytes: u64, journal: JournalId },
    /// A file of another version, whose header may look different from there on.
    Version(u32),
    /// Not the header of a journal file: its making was interrupted, or it is damaged.
    Invalid,
}

pub(super) fn decode_file_header(block: &[u8]) -> FileHeader {
    let read = || {
        let mut fields = FieldReader::new(block);
        if fields.u32().ok()? != FILE_MAGIC {
            return None;
        }
        let version = fields.u32().ok()?;
        // Filler in it: the header was torn while the file was made.
        if version.to_le_bytes().contains(&FILLER) {
            return None;
        }
        if version != FORMAT_VERSION {
            return Some(FileHeader::Version(version));
        }
        let (bytes, journal) = (fields.u64().ok()?, JournalId(fields.u64().ok()?));
        let is_valid = crc32c::crc32c(block.get(..FILE_CRC_AT)?) == fields.u32().ok()?;
        is_valid.then_some(FileHeader::Valid { bytes, journal })
    };
    read().unwrap_or(FileHeader::Invalid)
}

/// The header of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GroupHeader {
    /// The journal it belongs to.
    pub(super) journal: JournalId,
    /// The use of the file that the group belongs to; grows by one with each file that is begun.
    pub(super) lap: u64,
    /// The start of the broker that wrote it.
    pub(super) generation: u64,
    /// Sequence of its first record, or of the next one if it has none.
    pub(super) first: u64,
    /// Number of its records.
    pub(super) records: u32,
    /// Bytes of its records.
    pub(super) payload_bytes: u32,
    /// Newest sequence that was durable when it was written.
    pub(super) durable: u64,
    /// CRC of the group before it.
    pub(super) previous_crc: u32,
    /// Its own CRC.
    pub(super) crc: u32,
    /// The journal was closed after it.
    pub(super) is_end: bool,
}

impl GroupHeader {
    /// Sequence of the group's last record, or of the one before it if it has none.
    pub(super) fn last(&self) -> u64 {
        self.first + u64::from(self.records) - 1
    }

    /// Bytes of the group in its file.
    pub(super) fn padded_bytes(&self) -> u64 {
        padded(self.payload_bytes as usize) as u64
    }

    /// Writes the header over the first bytes of `group` (header room, records), CRC included, and
    /// returns the CRC.
    pub(super) fn seal(&self, group: &mut [u8]) -> u32 {
        let mut h = [0; GROUP_HEADER_BYTES];
        h[..4].copy_from_slice(&GROUP_MAGIC.to_le_bytes());
        h[4..6].copy_from_slice(&(FORMAT_VERSION as u16).to_le_bytes());
        h[6] = u8::from(self.is_end);
        h[8..16].copy_from_slice(&self.lap.to_le_bytes());
        h[16..24].copy_from_slice(&self.generation.to_le_bytes());
        h[24..32].copy_from_slice(&self.first.to_le_bytes());
        h[32..36].copy_from_slice(&self.records.to_le_bytes());
        h[36..40].copy_from_slice(&self.payload_bytes.to_le_bytes());
        h[40..48].copy_from_slice(&self.durable.to_le_bytes());
        h[48..52].copy_from_slice(&self.previous_crc.to_le_bytes());
        h[56..64].copy_from_slice(&self.journal.0.to_le_bytes());
        group[..GROUP_HEADER_BYTES].copy_from_slice(&h);
        let crc = crc32c::crc32c(&group[..GROUP_HEADER_BYTES + self.payload_bytes as usize]);
        group[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// Reads a header; `None` if this is none. Whether its group is whole is [`Self::is_whole`].
    pub(super) fn decode(block: &[u8]) -> Option<GroupHeader> {
        let mut fields = FieldReader::new(block);
        let (magic, version) = (fields.u32().ok()?, fields.u16().ok()?);
        if magic != GROUP_MAGIC || u32::from(version) != FORMAT_VERSION {
            return None;
        }
        let [end, _] = fields.array::<2>().ok()?;
        Some(GroupHeader {
            is_end: end == 1,
            lap: fields.u64().ok()?,
            generation: fields.u64().ok()?,
            first: fields.u64().ok()?,
            records: fields.u32().ok()?,
            payload_bytes: fields.u32().ok()?,
            durable: fields.u64().ok()?,
            previous_crc: fields.u32().ok()?,
            crc: fields.u32().ok()?,
            journal: JournalId(fields.u64().ok()?),
        })
    }

    /// Whether `group` (header, records and whatever follows) is what was written.
    pub(super) fn is_whole(&self, group: &[u8]) -> bool {
        let end = GROUP_HEADER_BYTES + self.payload_bytes as usize;
        let (Some(before), Some(after)) = (group.get(..CRC_AT), group.get(CRC_AT + 4..end)) else {
            return false;
        };
        let crc = crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]);
        self.first > 0 && crc32c::crc32c_append(crc, after) == self.crc
    }
}

/// Bytes in the file of a group with so many bytes of records.
pub(super) fn padded(payload_bytes: usize) -> usize {
    (GROUP_HEADER_BYTES + payload_bytes).next_multiple_of(runtime::buffer::BLOCK_BYTES)
}
