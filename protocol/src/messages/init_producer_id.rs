//! `InitProducerId`: gives a producer its id and epoch.
//!
//! Source: Kafka protocol guide, `InitProducerId`; KIP-98, KIP-360 (epoch bump), KIP-890.

use std::borrow::Cow;

use super::declare::message;

message! {
    InitProducerIdRequest<'a>, versions 0..=5, flexible 2;

    /// Request of the API that gives a producer its id and epoch.
    pub struct InitProducerIdRequest<'a> {
        /// Transactional id of the producer, if it has one.
        pub transactional_id: Option<Cow<'a, str>> => (0.., nullable 0.., default Some(Cow::Borrowed(""))),
        /// Time after which an idle transaction is aborted, in milliseconds.
        pub transaction_timeout_ms: i32 => (0..),
        /// Id that the producer has already, or −1.
        pub producer_id: i64 => (3.., default -1),
        /// Epoch that the producer has already, or −1.
        pub producer_epoch: i16 => (3.., default -1),
    }
}

message! {
    InitProducerIdResponse, versions 0..=5, flexible 2;

    /// Answer to [`InitProducerIdRequest`].
    pub struct InitProducerIdResponse {
        /// Time for which the client was held back by a quota, in milliseconds.
        pub throttle_time_ms: i32 => (0..; ignorable),
        /// What went wrong, or 0.
        pub error_code: i16 => (0..),
        /// Id of the producer.
        pub producer_id: i64 => (0.., default -1),
        /// Epoch of the producer, or −1.
        pub producer_epoch: i16 => (0..),
    }
}
