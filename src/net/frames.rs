//! Cuts the bytes of one connection into request frames, without copying whole frames.
//!
//! Place: owned by `connection`, which receives into [`Frames::buffer_for_receive`]'s buffer.
//! Limits: a buffer grows with what the peer really sends: a claimed length alone allocates at most
//! [`CLAIM_BYTES_MAX`], so that many peers that claim 100 MiB and send nothing cost little
//! (`net.request_bytes_max` bounds the claim itself).

use runtime::buffer::{AppendBuf, Slice};

/// First buffer of a connection, in bytes: what an idle connection costs.
pub(super) const BUFFER_BYTES_MIN: usize = 4 << 10;
/// Largest buffer that is kept for receiving many frames at once.
const BUFFER_BYTES_MAX: usize = 256 << 10;
/// What is allocated for a frame of which nothing but the length has come, to a peer that has not sent
/// much before.
const CLAIM_BYTES_MAX: usize = 64 << 10;

/// Why the bytes are no Kafka requests.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum FrameError {
    /// The length field is negative or smaller than a request header.
    #[error("frame length {0} is smaller than a request header")]
    TooSmall(i32),
    /// The length field is larger than allowed.
    #[error("frame of {bytes} bytes is larger than net.request_bytes_max = {limit}")]
    TooLarge {
        /// Claimed length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// The receive buffer of one connection and the position up to which it is cut.
pub(super) struct Frames {
    buffer: AppendBuf,
    /// Bytes of `buffer` that belong to frames already taken.
    cut: usize,
    /// Capacity of the next buffer; grows when the socket fills the whole of one.
    target_bytes: usize,
    limit_bytes: usize,
}

impl Frames {
    /// `limit_bytes` is `net.request_bytes_max`.
    pub(super) fn new(limit_bytes: usize) -> Self {
        let buffer = AppendBuf::with_capacity(BUFFER_BYTES_MIN);
        Self {
            buffer,
            cut: 0,
            target_bytes: BUFFER_BYTES_MIN,
            limit_bytes,
        }
    }

    /// The next whole frame, without its length field, or `None` if more bytes are needed.
    pub(super) fn next(&mut self) -> Result<Option<Slice>, FrameError> {
        let Some(frame_bytes) = self.claimed_bytes()? else {
            return Ok(None);
        };
        let (start, end) = (self.cut + 4, self.cut + 4 + frame_bytes);
        if end > self.buffer.len() {
            return Ok(None);
        }
        self.cut = end;
        Ok(Some(self.buffer.slice(start..end)))
    }

    /// Takes the buffer for one receive, with room for at least a part of what is missing.
    ///
    /// Give it back with [`Frames::received`].
    pub(super) fn buffer_for_receive(&mut self) -> Result<AppendBuf, FrameError> {
        let wanted = 4 + self.claimed_bytes()?.unwrap_or(0);
        let left = self.buffer.len() - self.cut;
        if left == 0 && self.buffer.try_clear() {
            self.cut = 0;
        }
        let room = self.buffer.capacity() - self.cut;
        if self.buffer.remaining() == 0 || room < wanted.min(self.trusted_bytes(left)) {
            self.replace_buffer(wanted);
        }
        Ok(std::mem::replace(
            &mut self.buffer,
            AppendBuf::with_capacity(0),
        ))
    }

    /// Gives the buffer back after a receive of `received` bytes.
    pub(super) fn received(&mut self, buffer: AppendBuf, received: usize) {
        if buffer.remaining() == 0 && received > 0 {
            self.target_bytes = (self.target_bytes * 4).min(BUFFER_BYTES_MAX);
        }
        self.buffer = buffer;
    }

    fn replace_buffer(&mut self, wanted: usize) {
        let left = self.buffer.len() - self.cut;
        // Doubling what has really come bounds the copies to twice the frame.
        let for_frame = wanted.min(self.trusted_bytes(left));
        let mut next = AppendBuf::with_capacity(for_frame.max(self.target_bytes));
        next.append(&self.buffer.as_slice()[self.cut..]);
        self.buffer = next;
        self.cut = 0;
    }

    /// Most that is allocated for a frame of which `left` bytes are here. A peer whose requests have
    /// filled buffers before is believed more.
    fn trusted_bytes(&self, left: usize) -> usize {
        CLAIM_BYTES_MAX.max(4 * self.target_bytes).max(2 * left)
    }

    /// Length of the frame that begins at the cut, once its four bytes are here.
    fn claimed_bytes(&self) -> Result<Option<usize>, FrameError> {
        let rest = &self.buffer.as_slice()[self.cut..];
        let Some(field) = rest.first_chunk::<4>() else {
            return Ok(None);
        };
        let claimed = i32::from_be_bytes(*field);
        // A request header has at least key, version and correlation id.
        let bytes = usize::try_from(claimed).map_err(|_| FrameError::TooSmall(claimed))?;
        if bytes < 8 {
            return Err(FrameError::TooSmall(claimed));
        }
        if bytes > self.limit_bytes {
            return Err(FrameError::TooLarge {
                bytes,
                limit: self.limit_bytes,
            });
        }
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` in pieces of `step` and returns the frames, or the error.
    fn check(bytes: &[u8], step: usize, limit: usize) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut frames = Frames::new(limit);
        let mut found = Vec::new();
        let mut rest = bytes;
        loop {
            while let Some(frame) = frames.next()? {
                found.push(frame.to_vec());
            }
            if rest.is_empty() {
                return Ok(found);
            }
            let mut buffer = frames.buffer_for_receive()?;
            let count = step.min(rest.len()).min(buffer.remaining());
            assert!(count > 0, "a receive always has room");
            buffer.append(&rest[..count]);
            rest = &rest[count..];
            frames.received(buffer, count);
        }
    }

    fn framed(bodies: &[Vec<u8>]) -> Vec<u8> {
        bodies
            .iter()
            .flat_map(|body| [&(body.len() as i32).to_be_bytes()[..], body].concat())
            .collect()
    }

    #[test]
    fn frames_come_out_whole_however_they_are_cut() {
        let bodies: Vec<Vec<u8>> = [8, 9, 5_000, 70_000, 8, 3_000_000]
            .iter()
            .map(|n| vec![*n as u8; *n])
            .collect();
        for step in [1_usize, 3, 4_096, 100_000, 10_000_000] {
            if step < 100 && bodies.len() > 3 {
                assert_eq!(
                    check(&framed(&bodies[..3]), step, 1 << 24).unwrap(),
                    bodies[..3]
                );
            } else {
                assert_eq!(check(&framed(&bodies), step, 1 << 24).unwrap(), bodies);
            }
        }
    }

    #[test]
    fn lengths_that_lie_are_refused_before_allocation() {
        assert_eq!(
            check(&(-1_i32).to_be_bytes(), 4, 100),
            Err(FrameError::TooSmall(-1))
        );
        assert_eq!(
            check(&7_i32.to_be_bytes(), 4, 100),
            Err(FrameError::TooSmall(7))
        );
        let too_large = Err(FrameError::TooLarge {
            bytes: 101,
            limit: 100,
        });
        assert_eq!(check(&101_i32.to_be_bytes(), 4, 100), too_large);
    }

    #[test]
    fn a_claim_alone_costs_little() {
        let mut frames = Frames::new(1 << 30);
        let mut buffer = frames.buffer_for_receive().unwrap();
        buffer.append(&(1_i32 << 29).to_be_bytes());
        frames.received(buffer, 4);
        assert_eq!(frames.next(), Ok(None));
        let buffer = frames.buffer_for_receive().unwrap();
        assert!(
            buffer.capacity() <= CLAIM_BYTES_MAX,
            "{}",
            buffer.capacity()
        );
    }
}
