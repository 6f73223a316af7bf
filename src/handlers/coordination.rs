//! How handlers reach the coordinator of a group: the shard that leads its partition.

use std::rc::Rc;

use cluster::group::{Reply, Request, partition_for};
use cluster::metadata::CONSUMER_OFFSETS;
use protocol::ErrorCode;

use super::context::Handlers;
use crate::coordinator;
use crate::partition::shard::Shard;
use crate::partition::table::PartitionKey;

/// The partition of a group and the shard that leads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Partition of `__consumer_offsets`.
    pub partition: i32,
    /// Owner of the partition.
    pub shard: usize,
}

impl Handlers {
    /// Where a group is coordinated.
    ///
    /// # Errors
    /// There is no offsets topic yet: the client asks for its coordinator first.
    pub(super) fn place_of_group(&self, group_id: &str) -> Result<Place, ErrorCode> {
        let image = self.shard.image();
        let topic = image
            .topic(CONSUMER_OFFSETS)
            .ok_or(ErrorCode::NotCoordinator)?;
        let partition = partition_for(group_id, topic.partitions.len() as i32);
        let shard = self.shard.owner(PartitionKey {
            topic: topic.id,
            partition,
        });
        Ok(Place { partition, shard })
    }

    /// Asks a group's coordinator and waits for its reply.
    pub(super) async fn ask_group(&self, request: Request) -> Reply {
        let place = match self.place_of_group(request.group_id()) {
            Ok(place) => place,
            Err(code) => return request.error_reply(code),
        };
        if place.shard == self.shard.id {
            return self.coordinator.ask(place.partition, request).await;
        }
        let if_stopping = request.error_reply(ErrorCode::CoordinatorNotAvailable);
        let work = move |_: Rc<Shard>| async move {
            coordinator::current().ask(place.partition, request).await
        };
        self.shard
            .call(place.shard, work)
            .await
            .unwrap_or(if_stopping)
    }
}

/// A reply of another kind than the request: a bug of the coordinator.
pub(super) fn wrong_reply(reply: &Reply) -> ! {
    unreachable!("the coordinator answered a request with {reply:?}")
}
