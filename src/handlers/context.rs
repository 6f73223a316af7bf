//! What every handler is given: the shard, the control thread, the request's header.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use cluster::metadata::{Image, Topic};
use protocol::header::{RequestHeader, encode_response_header};
use protocol::primitives::{Encoder, Uuid};
use runtime::buffer::Slice;

use super::fetch_session::Sessions;
use super::producer_ids::ProducerIds;
use crate::control::ControlHandle;
use crate::coordinator::Coordinator;
use crate::net::connection::Peer;
use crate::net::response::Response;
use crate::partition::shard::Shard;
use crate::partition::table::PartitionKey;

/// Room that the encoding of an answer begins with: most answers, records apart, are smaller.
const ANSWER_BYTES: usize = 256;

/// Serves requests on one shard. Cheap to clone: one for every connection.
#[derive(Clone)]
pub struct Handlers {
    /// What this shard owns.
    pub shard: Rc<Shard>,
    /// The way to the control thread.
    pub control: ControlHandle,
    /// Group coordinators of this shard.
    pub coordinator: Rc<Coordinator>,
    /// Incremental fetch sessions of this shard.
    pub(super) sessions: Rc<Sessions>,
    pub(super) next_watch: Rc<Cell<u64>>,
    pub(super) producer_ids: ProducerIds,
}

impl Handlers {
    /// Handlers of one shard.
    pub fn new(shard: Rc<Shard>, control: ControlHandle, coordinator: Rc<Coordinator>) -> Self {
        let sessions = Rc::new(Sessions::new(shard.id, shard.config.fetch.sessions_max));
        Self {
            shard,
            control,
            coordinator,
            sessions,
            next_watch: Rc::default(),
            producer_ids: ProducerIds::default(),
        }
    }
}

/// One request that is being served.
pub(super) struct Context<'a> {
    /// The shard's handlers.
    pub handlers: &'a Handlers,
    /// The connection.
    pub peer: &'a Peer,
    /// Header of the request.
    pub header: RequestHeader<'a>,
    /// The whole frame; record bytes are slices of it.
    pub frame: &'a Slice,
}

/// The parts of a request header that an answer needs, without its borrow of the frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply {
    api_key: i16,
    /// Version of the request and of its answer.
    pub version: i16,
    correlation_id: i32,
}

impl Reply {
    /// The same answer in another version.
    pub(super) fn with_version(self, version: i16) -> Self {
        Self { version, ..self }
    }

    /// Encodes the answer with `encode`; `records` are spliced in where it left room for them.
    pub(super) fn encode(
        self,
        records: Vec<Vec<Slice>>,
        encode: impl FnOnce(&mut Encoder, i16),
    ) -> Response {
        let mut encoder = Encoder::with_capacity(ANSWER_BYTES);
        encoder.put_i32(0); // Replaced by the frame's length.
        encode_response_header(
            &mut encoder,
            self.api_key,
            self.version,
            self.correlation_id,
        );
        encode(&mut encoder, self.version);
        let (head, splices) = encoder.into_parts();
        Response::new(head, &splices, records)
    }
}

impl Context<'_> {
    /// The part of the header that survives the frame.
    pub(super) fn reply(&self) -> Reply {
        Reply {
            api_key: self.header.api_key,
            version: self.header.api_version,
            correlation_id: self.header.correlation_id,
        }
    }

    /// Version of the request.
    pub(super) fn version(&self) -> i16 {
        self.header.api_version
    }

    /// The committed metadata.
    pub(super) fn image(&self) -> Arc<Image> {
        self.handlers.shard.image()
    }
}

/// A topic as a request named it: by name (older versions) or by id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum TopicRef {
    /// By name.
    Name(Arc<str>),
    /// By id.
    Id(Uuid),
}

impl TopicRef {
    /// The topic, if it exists.
    pub(super) fn resolve<'i>(&self, image: &'i Image) -> Option<&'i Arc<Topic>> {
        match self {
            Self::Name(name) => image.topic(name),
            Self::Id(id) => image.topic_by_id(*id),
        }
    }
}

/// The partition's key, if the topic has it.
pub(super) fn partition_key(topic: &Topic, partition: i32) -> Option<PartitionKey> {
    let exists = (0..topic.partitions.len() as i32).contains(&partition);
    exists.then_some(PartitionKey {
        topic: topic.id,
        partition,
    })
}
