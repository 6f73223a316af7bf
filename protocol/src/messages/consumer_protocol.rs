//! What consumers tell each other through the group coordinator: subscriptions and assignments.
//!
//! Place: the bytes in [`JoinGroupRequestProtocol`](super::join_group::JoinGroupRequestProtocol) and
//! in [`SyncGroupResponse`](super::sync_group::SyncGroupResponse) of groups of type `consumer`. The
//! broker passes them on, and looks inside only to see which topics a group consumes.
//! Invariants: I1 a version is in front of the bytes. I2 newer versions only append fields, so what
//! is newer than ours is read as our newest, and the rest is left.
//! Source: Kafka protocol guide, "Consumer Protocol"; KIP-429 (owned partitions), KIP-792
//! (generation), KIP-881 (racks).

use std::borrow::Cow;

use super::declare::message;
use crate::primitives::{DecodeError, Decoder, Encoder};

message! {
    ConsumerProtocolSubscription<'a>, versions 0..=3;

    /// What a member wants to consume.
    pub struct ConsumerProtocolSubscription<'a> {
        /// Names of the topics.
        pub topics: Vec<Cow<'a, str>> => (0..),
        /// Bytes for the assignor.
        pub user_data: Option<Cow<'a, [u8]>> => (0.., nullable 0..),
        /// Partitions that the member consumes now.
        pub owned_partitions: Vec<TopicPartitions<'a>> => (1..; ignorable),
        /// Generation in which it got them, or −1.
        pub generation_id: i32 => (2.., default -1; ignorable),
        /// Rack of the member.
        pub rack_id: Option<Cow<'a, str>> => (3.., nullable 3..; ignorable),
    }

    /// Partitions of one topic.
    pub struct TopicPartitions<'a> {
        /// Name of the topic.
        pub topic: Cow<'a, str> => (0..),
        /// Indexes of the partitions.
        pub partitions: Vec<i32> => (0..),
    }
}

message! {
    ConsumerProtocolAssignment<'a>, versions 0..=3;

    /// What a member shall consume.
    pub struct ConsumerProtocolAssignment<'a> {
        /// The partitions.
        pub assigned_partitions: Vec<TopicPartitions<'a>> => (0..),
        /// Bytes from the assignor.
        pub user_data: Option<Cow<'a, [u8]>> => (0.., nullable 0..),
    }
}

/// The version in front of the bytes, no higher than the newest that is known.
fn decode_version(decoder: &mut Decoder<'_>, newest: i16) -> Result<i16, DecodeError> {
    Ok(decoder.get_i16()?.min(newest))
}

impl<'a> ConsumerProtocolSubscription<'a> {
    /// Reads a version and what follows it.
    pub fn decode_with_version(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let decoder = &mut Decoder::new(bytes);
        let version = decode_version(decoder, *Self::VERSIONS.end())?;
        Self::decode(decoder, version)
    }

    /// The bytes, with the version in front.
    pub fn encode_with_version(&self, version: i16) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.put_i16(version);
        self.encode(&mut encoder, version);
        encoder.into_parts().0
    }
}

impl<'a> ConsumerProtocolAssignment<'a> {
    /// Reads a version and what follows it.
    pub fn decode_with_version(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let decoder = &mut Decoder::new(bytes);
        let version = decode_version(decoder, *Self::VERSIONS.end())?;
        Self::decode(decoder, version)
    }

    /// The bytes, with the version in front.
    pub fn encode_with_version(&self, version: i16) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.put_i16(version);
        self.encode(&mut encoder, version);
        encoder.into_parts().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned() -> Vec<TopicPartitions<'static>> {
        vec![TopicPartitions {
            topic: "t".into(),
            partitions: vec![7],
        }]
    }

    #[test]
    fn a_subscription_grows_with_its_version() {
        let subscription = ConsumerProtocolSubscription {
            topics: vec!["t".into()],
            owned_partitions: owned(),
            generation_id: 5,
            rack_id: Some("r".into()),
            ..Default::default()
        };
        let v0 = b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff";
        assert_eq!(subscription.encode_with_version(0), v0);
        let v3 = b"\0\x03\0\0\0\x01\0\x01t\xff\xff\xff\xff\
            \0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x07\0\0\0\x05\0\x01r";
        assert_eq!(subscription.encode_with_version(3), v3);
        assert_eq!(
            ConsumerProtocolSubscription::decode_with_version(v3),
            Ok(subscription)
        );
        let old = ConsumerProtocolSubscription::decode_with_version(v0).unwrap();
        assert_eq!((old.generation_id, old.rack_id), (-1, None));
    }

    #[test]
    fn an_assignment_of_a_newer_version_is_read_as_ours() {
        let newer = b"\0\x09\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x07\0\0\0\x01xmore";
        let assignment = ConsumerProtocolAssignment::decode_with_version(newer).unwrap();
        assert_eq!(assignment.assigned_partitions, owned());
        assert_eq!(assignment.user_data.as_deref(), Some(&b"x"[..]));
        assert!(ConsumerProtocolAssignment::decode_with_version(b"\xff\xff").is_err());
        assert!(ConsumerProtocolAssignment::decode_with_version(b"").is_err());
    }
}
