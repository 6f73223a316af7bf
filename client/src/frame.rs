//! The receiving buffer of a connection: bytes in, whole frames out.
//!
//! Invariants: `taken ≤ filled ≤ bytes.len()`; a frame is handed out once, in place.
//! Limits: the buffer grows to the largest frame seen, at most `frame_bytes_max`, and never because
//! of a length prefix beyond that.

use crate::error::ClientError;

const PREFIX_BYTES: usize = 4;
/// Room that is offered to the socket at least.
const READ_BYTES_MIN: usize = 64 * 1024;

/// Bytes received and not yet handed out.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    bytes: Vec<u8>,
    taken: usize,
    filled: usize,
    frame_bytes_max: usize,
}

impl FrameBuffer {
    pub(crate) fn new(frame_bytes_max: usize) -> FrameBuffer {
        FrameBuffer {
            bytes: vec![0; READ_BYTES_MIN],
            taken: 0,
            filled: 0,
            frame_bytes_max,
        }
    }

    /// Length of the next frame, if its prefix is there.
    fn next_length(&self) -> Result<Option<usize>, ClientError> {
        let waiting = &self.bytes[self.taken..self.filled];
        let Some(prefix) = waiting.first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let bytes = i32::from_be_bytes(*prefix);
        let limit = self.frame_bytes_max;
        match usize::try_from(bytes)
            .ok()
            .filter(|length| *length <= limit)
        {
            Some(length) => Ok(Some(length)),
            None => Err(ClientError::FrameInvalid { bytes, limit }),
        }
    }

    /// Whether the next frame is there to its end.
    pub(crate) fn has_frame(&self) -> Result<bool, ClientError> {
        let waiting = self.filled - self.taken;
        Ok(self
            .next_length()?
            .is_some_and(|length| waiting >= length + PREFIX_BYTES))
    }

    /// Takes the next whole frame, without its length prefix.
    pub(crate) fn take_frame(&mut self) -> Result<Option<std::ops::Range<usize>>, ClientError> {
        let Some(length) = self.next_length()? else {
            return Ok(None);
        };
        if !self.has_frame()? {
            return Ok(None);
        }
        let start = self.taken + PREFIX_BYTES;
        self.taken = start + length;
        Ok(Some(start..start + length))
    }

    pub(crate) fn slice(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Room for the socket to fill: enough for the rest of the frame that is arriving. Frames
    /// handed out before are overwritten.
    pub(crate) fn room(&mut self) -> Result<&mut [u8], ClientError> {
        if self.taken == self.filled {
            self.taken = 0;
            self.filled = 0;
        }
        let frame = self
            .next_length()?
            .map_or(0, |length| length + PREFIX_BYTES);
        let needed = frame.max(self.filled - self.taken + READ_BYTES_MIN / 4);
        if self.taken + needed > self.bytes.len() {
            self.bytes.copy_within(self.taken..self.filled, 0);
            self.filled -= self.taken;
            self.taken = 0;
            if needed > self.bytes.len() {
                // A whole read beyond the frame, so that frames of like size do not move bytes.
                self.bytes.resize(needed + READ_BYTES_MIN, 0);
            }
        }
        Ok(&mut self.bytes[self.filled..])
    }

    /// Counts bytes that the socket wrote into [`Self::room`].
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.filled += bytes;
        assert!(
            self.filled <= self.bytes.len(),
            "more was read than there was room for"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(buffer: &mut FrameBuffer, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = buffer.room().unwrap();
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            buffer.advance(count);
            bytes = &bytes[count..];
        }
    }

    fn frame(fill: u8, length: usize) -> Vec<u8> {
        let mut bytes = (length as i32).to_be_bytes().to_vec();
        bytes.resize(length + 4, fill);
        bytes
    }

    fn take(buffer: &mut FrameBuffer) -> Option<Vec<u8>> {
        let range = buffer.take_frame().unwrap()?;
        Some(buffer.slice(range).to_vec())
    }

    #[test]
    fn frames_come_out_whole_whatever_the_cuts() {
        let lengths = [0, 1, 100, 70_000, 3, 200_000, 65_536, 5];
        let stream: Vec<u8> = lengths
            .iter()
            .enumerate()
            .flat_map(|(n, length)| frame(n as u8, *length))
            .collect();
        for cut in [1_000, 4_099, 1 << 20] {
            let mut buffer = FrameBuffer::new(1 << 20);
            let mut seen = Vec::new();
            for part in stream.chunks(cut) {
                feed(&mut buffer, part);
                while let Some(bytes) = take(&mut buffer) {
                    seen.push(bytes);
                }
            }
            let expected: Vec<_> = lengths
                .iter()
                .enumerate()
                .map(|(n, length)| vec![n as u8; *length])
                .collect();
            assert!(seen == expected, "cut {cut}");
        }
    }

    #[test]
    fn lying_lengths_are_refused() {
        for length in [-1, i32::MIN, 1025, i32::MAX] {
            let mut buffer = FrameBuffer::new(1024);
            feed(&mut buffer, &length.to_be_bytes());
            assert!(matches!(
                buffer.take_frame(),
                Err(ClientError::FrameInvalid { .. })
            ));
        }
    }
}
