//! Which topics a consumer subscribes to: the first part of its subscription, common to all versions.
//!
//! *Source*: `ConsumerProtocolSubscription` of Apache Kafka. A version, then the topics; whatever follows
//! depends on the version and is not read here.

/// The topics, or nothing if the bytes are not a subscription.
pub(super) fn topics(metadata: &[u8]) -> Option<Vec<String>> {
    let (version, rest) = metadata.split_first_chunk()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let (count, mut rest) = rest.split_first_chunk()?;
    let count = usize::try_from(i32::from_be_bytes(*count)).ok()?;
    // Each topic takes two bytes at least, so that a lying count does not reserve memory.
    let mut topics = Vec::with_capacity(count.min(rest.len() / 2));
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let (topic, after) = after.split_at_checked(length)?;
        topics.push(std::str::from_utf8(topic).ok()?.to_owned());
        rest = after;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_topics_of_any_version() {
        let metadata = [
            0, 3, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c', 0xff, 0xff, 0xff, 0xff,
        ];
        assert_eq!(
            topics(&metadata),
            Some(vec!["a".to_owned(), "bc".to_owned()])
        );
        assert_eq!(topics(&[0, 0, 0, 0, 0, 0]), Some(vec![]));
    }

    #[test]
    fn refuses_what_is_no_subscription() {
        assert_eq!(topics(b""), None);
        assert_eq!(topics(b"range"), None);
        assert_eq!(topics(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1, b'a']), None);
        assert_eq!(topics(&[0, 0, 0, 0, 0, 1, 0, 1, 0xff]), None);
    }
}
