//! A response ready for the socket: encoded bytes with record slices in between, never copied.

use runtime::buffer::Slice;

/// One response frame in the order in which its bytes leave.
#[derive(Debug, Default)]
pub struct Response {
    parts: Vec<Slice>,
    bytes: usize,
}

impl Response {
    /// Builds a frame from encoded bytes and what belongs between them.
    ///
    /// `head` starts with four bytes that are replaced by the frame's length; `splices[i]` is the
    /// position in `head` at which `records[i]` goes (ascending).
    pub fn new(mut head: Vec<u8>, splices: &[usize], records: Vec<Vec<Slice>>) -> Self {
        assert_eq!(
            splices.len(),
            records.len(),
            "one run of slices for each splice"
        );
        let spliced: usize = records.iter().flatten().map(|slice| slice.len()).sum();
        let bytes = head.len() + spliced;
        let frame_bytes =
            i32::try_from(bytes - 4).expect("responses are bounded by fetch.bytes_max");
        head[..4].copy_from_slice(&frame_bytes.to_be_bytes());
        let head = Slice::from(head);
        if splices.is_empty() {
            return Self {
                parts: vec![head],
                bytes,
            };
        }
        let slices: usize = records.iter().map(Vec::len).sum();
        let mut parts = Vec::with_capacity(splices.len() + 1 + slices);
        let mut from = 0;
        for (position, run) in splices.iter().zip(records) {
            if *position > from {
                parts.push(head.sub(from..*position));
            }
            from = *position;
            parts.extend(run.into_iter().filter(|slice| !slice.is_empty()));
        }
        if from < head.len() {
            parts.push(head.sub(from..head.len()));
        }
        Self { parts, bytes }
    }

    /// Bytes on the wire, with the length field.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The bytes in order.
    pub fn into_parts(self) -> Vec<Slice> {
        self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &[u8], splices: &[usize], records: &[&[u8]], expected: &[u8]) {
        let runs = records
            .iter()
            .map(|run| vec![Slice::from(run.to_vec())])
            .collect();
        let response = Response::new(head.to_vec(), splices, runs);
        let bytes = response.bytes();
        let joined: Vec<u8> = response
            .into_parts()
            .iter()
            .flat_map(|part| part.to_vec())
            .collect();
        assert_eq!(joined, expected);
        assert_eq!(joined.len(), bytes);
    }

    #[test]
    fn the_length_counts_spliced_records() {
        check(b"....ab", &[], &[], b"\0\0\0\x02ab");
        check(b"....ab", &[5], &[b"REC"], b"\0\0\0\x05aRECb");
        check(b"....ab", &[5, 6], &[b"X", b""], b"\0\0\0\x03aXb");
        check(b"....ab", &[4, 4], &[b"X", b"Y"], b"\0\0\0\x04XYab");
    }
}
