//! A disk with a volatile cache.
//!
//! Place: `file_system` brings reads, writes and flushes; the program takes the power away.
//! Durability: D1. What was written before a flush was answered survives. D2. Of a block that was written since, a power loss
//! leaves an older version or the newest one, or (sector by sector) something of both; each block on its own, so that writes are
//! reordered, too. D3. A disk that lies keeps what was durable when it began to, and nothing else: what is left is a state
//! that a power loss at that time could have left.
//! Limits: the cache grows until it is flushed; what is below is a page cache, which flushes every few seconds.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use runtime::sim::Random;

const BLOCK: usize = 4096;
const BLOCK_BYTES: u64 = BLOCK as u64;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// Among so many writes the last one is chosen. Right after a write there is something to lose: flushes come soon.
const LAST_WRITES: u64 = 64;

type Block = Box<[u8; BLOCK]>;

/// The disk.
#[derive(Debug)]
pub(crate) struct Disk {
    /// What is durable.
    image: File,
    bytes: u64,
    /// By number: the newest content of the blocks that were written since the last flush.
    cache: BTreeMap<u64, Block>,
    lies: bool,
    /// Writes that are taken before the power goes.
    writes_left: Option<u64>,
    random: Random,
}

/// What became of the unflushed blocks in a power loss.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    kept: usize,
    torn: usize,
    lost: usize,
}

impl Display for Loss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loss { kept, torn, lost } = self;
        write!(
            formatter,
            "power lost; unflushed blocks: {kept} kept, {torn} torn, {lost} lost"
        )
    }
}

impl Disk {
    /// The disk whose durable content is the file at `image`.
    pub(crate) fn open(image: &Path, seed: u64) -> io::Result<Disk> {
        let image = OpenOptions::new().read(true).write(true).open(image)?;
        Disk::new(image, seed)
    }

    fn new(image: File, seed: u64) -> io::Result<Disk> {
        let bytes = image.metadata()?.len();
        if bytes % BLOCK_BYTES != 0 {
            return Err(io::Error::other("the image is not of whole blocks"));
        }
        Ok(Disk {
            image,
            bytes,
            cache: BTreeMap::new(),
            lies: false,
            writes_left: None,
            random: Random::new(seed),
        })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads what was written last, durable or not.
    pub(crate) fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.image.read_exact_at(buffer, at)?;
        let end = at + buffer.len() as u64;
        let numbers = at / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES);
        for (number, block) in self.cache.range(numbers) {
            let start = number * BLOCK_BYTES;
            let from = start.max(at);
            let to = (start + BLOCK_BYTES).min(end);
            let content = &block[(from - start) as usize..(to - start) as usize];
            buffer[(from - at) as usize..(to - at) as usize].copy_from_slice(content);
        }
        Ok(())
    }

    /// Takes a write into the cache.
    pub(crate) fn write(&mut self, at: u64, data: &[u8]) -> io::Result<()> {
        assert!(
            at + data.len() as u64 <= self.bytes,
            "a write behind the end, at {at}"
        );
        let (mut at, mut left) = (at, data);
        while !left.is_empty() {
            let within = (at % BLOCK_BYTES) as usize;
            let (piece, rest) = left.split_at(left.len().min(BLOCK - within));
            self.write_block(at / BLOCK_BYTES, within, piece)?;
            at += piece.len() as u64;
            left = rest;
        }
        Ok(())
    }

    fn write_block(&mut self, number: u64, within: usize, piece: &[u8]) -> io::Result<()> {
        let mut block: Block = Box::new([0; BLOCK]);
        self.read(number * BLOCK_BYTES, &mut block[..])?;
        // A disk empties its cache whenever it likes: the version that is written over may be on the medium, or not.
        if self.cache.contains_key(&number) && !self.lies && self.random.chance(1, 2) {
            self.image.write_all_at(&block[..], number * BLOCK_BYTES)?;
        }
        block[within..within + piece.len()].copy_from_slice(piece);
        self.cache.insert(number, block);
        Ok(())
    }

    /// Makes durable what was written before.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.lies {
            return Ok(());
        }
        for (number, block) in std::mem::take(&mut self.cache) {
            self.image.write_all_at(&block[..], number * BLOCK_BYTES)?;
        }
        Ok(())
    }

    /// From now on flushes are answered and not carried out.
    pub(crate) fn lie(&mut self) {
        self.lies = true;
    }

    /// One of the next writes is to be the last.
    pub(crate) fn fail_soon(&mut self) {
        self.writes_left = Some(1 + self.random.below(LAST_WRITES));
    }

    /// Whether the write that was taken now is the last.
    pub(crate) fn is_time_to_fail(&mut self) -> bool {
        if let Some(left) = &mut self.writes_left {
            *left = left.saturating_sub(1);
        }
        self.writes_left == Some(0)
    }

    /// Leaves in the image what a power loss would.
    pub(crate) fn lose_power(&mut self) -> io::Result<Loss> {
        let mut loss = Loss::default();
        // From a cache of which everything is lost to one that was written nearly whole.
        let quarters = if self.lies { 0 } else { self.random.below(5) };
        for (number, block) in std::mem::take(&mut self.cache) {
            let at = number * BLOCK_BYTES;
            if !self.random.chance(quarters, 4) {
                loss.lost += 1;
            } else if self.random.chance(1, 4) {
                self.tear(at, &block)?;
                loss.torn += 1;
            } else {
                self.image.write_all_at(&block[..], at)?;
                loss.kept += 1;
            }
        }
        Ok(loss)
    }

    /// Writes some of a block's sectors.
    fn tear(&mut self, at: u64, block: &[u8; BLOCK]) -> io::Result<()> {
        for (index, sector) in block.chunks(SECTOR).enumerate() {
            if self.random.chance(1, 2) {
                self.image
                    .write_all_at(sector, at + (index * SECTOR) as u64)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: usize = 16;

    fn disk(seed: u64) -> Disk {
        let image = tempfile::tempfile().unwrap();
        image.set_len((BLOCKS * BLOCK) as u64).unwrap();
        Disk::new(image, seed).unwrap()
    }

    fn content(disk: &Disk) -> Vec<u8> {
        let mut content = vec![0; BLOCKS * BLOCK];
        disk.read(0, &mut content).unwrap();
        content
    }

    /// The bytes, one for each sector, of a block that was filled sector by sector.
    fn sectors(disk: &Disk, block: usize) -> Vec<u8> {
        let content = content(disk);
        let sectors = content[block * BLOCK..(block + 1) * BLOCK].chunks(SECTOR);
        sectors
            .map(|sector| {
                assert!(sector.iter().all(|byte| *byte == sector[0]));
                sector[0]
            })
            .collect()
    }

    fn fill(disk: &mut Disk, block: usize, byte: u8) {
        disk.write((block * BLOCK) as u64, &[byte; BLOCK]).unwrap();
    }

    #[test]
    fn reads_see_what_was_written_whatever_its_bounds() {
        for seed in 0..20 {
            let mut disk = disk(seed);
            let mut model = vec![0; BLOCKS * BLOCK];
            let mut random = Random::new(seed);
            for step in 0..100_u8 {
                let from = random.index(model.len());
                let to = from + random.index((model.len() - from).min(3 * BLOCK));
                disk.write(from as u64, &vec![step; to - from]).unwrap();
                model[from..to].fill(step);
                if random.chance(1, 10) {
                    disk.flush().unwrap();
                }
                let from = random.index(model.len());
                let mut read = vec![0; random.index(model.len() - from)];
                disk.read(from as u64, &mut read).unwrap();
                assert_eq!(read, model[from..from + read.len()], "seed {seed}");
            }
            assert_eq!(content(&disk), model, "seed {seed}");
        }
    }

    #[test]
    fn what_was_flushed_survives() {
        for seed in 0..100 {
            let mut disk = disk(seed);
            for block in 0..BLOCKS {
                fill(&mut disk, block, 1);
            }
            disk.flush().unwrap();
            for block in BLOCKS / 2..BLOCKS {
                fill(&mut disk, block, 2);
            }
            disk.lose_power().unwrap();
            for block in 0..BLOCKS / 2 {
                assert_eq!(sectors(&disk, block), [1; 8], "seed {seed}");
            }
            for block in BLOCKS / 2..BLOCKS {
                let sectors = sectors(&disk, block);
                assert!(sectors.iter().all(|byte| (1..=2).contains(byte)));
            }
        }
    }

    #[test]
    fn unflushed_blocks_are_kept_torn_or_lost_each_on_its_own() {
        let mut sum = Loss::default();
        let mut reordered = 0;
        for seed in 0..200 {
            let mut disk = disk(seed);
            fill(&mut disk, 0, 1);
            fill(&mut disk, 1, 2);
            let loss = disk.lose_power().unwrap();
            assert_eq!(loss.kept + loss.torn + loss.lost, 2);
            let (first, second) = (sectors(&disk, 0), sectors(&disk, 1));
            reordered += usize::from(first == [0; 8] && second == [2; 8]);
            sum.kept += loss.kept;
            sum.torn += loss.torn;
            sum.lost += loss.lost;
        }
        assert!(sum.kept > 20 && sum.torn > 20 && sum.lost > 20, "{sum}");
        assert!(reordered > 5, "{reordered}");
    }

    #[test]
    fn an_unflushed_block_that_was_written_over_may_have_any_version() {
        let mut seen = [0; 4];
        for seed in 0..200 {
            let mut disk = disk(seed);
            for version in 1..4 {
                fill(&mut disk, 0, version);
            }
            disk.lose_power().unwrap();
            for byte in sectors(&disk, 0) {
                seen[usize::from(byte)] += 1;
            }
        }
        assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
    }

    #[test]
    fn one_of_the_next_writes_is_the_last() {
        for seed in 0..100 {
            let mut disk = disk(seed);
            assert!(!disk.is_time_to_fail());
            disk.fail_soon();
            assert!((0..LAST_WRITES).any(|_| disk.is_time_to_fail()));
        }
    }

    #[test]
    fn a_disk_that_lies_keeps_what_was_durable_before() {
        for seed in 0..50 {
            let mut disk = disk(seed);
            fill(&mut disk, 0, 1);
            disk.flush().unwrap();
            disk.lie();
            for version in 2..5 {
                fill(&mut disk, 0, version);
                fill(&mut disk, 1, version);
                disk.flush().unwrap();
            }
            assert_eq!(sectors(&disk, 1), [4; 8]);
            assert_eq!(disk.lose_power().unwrap().lost, 2);
            assert_eq!(sectors(&disk, 0), [1; 8], "seed {seed}");
            assert_eq!(sectors(&disk, 1), [0; 8], "seed {seed}");
        }
    }
}
