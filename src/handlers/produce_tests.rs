//! Produce on a shard whose neighbour does nothing until it is told to.

use std::cell::RefCell;
use std::ops::Range;

use cluster::group::GroupSettings;
use cluster::metadata::{Command, Configs, Image};
use futures_lite::future::{BoxedLocal, poll_once};
use protocol::header::RequestHeader;
use protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use protocol::primitives::{Encoder, Uuid};
use runtime::budget::MemoryBudget;
use runtime::mailbox::{self, Receiver};
use runtime::net::{ZeroCopy, ZeroCopyMode};
use runtime::sim::Simulation;

use super::super::context::Handlers;
use super::*;
use crate::config;
use crate::control::ControlHandle;
use crate::coordinator::{Coordinator, CoordinatorOptions, OffsetsLog};
use crate::metrics::ShardMetrics;
use crate::net::connection::{Limits, Peer};
use crate::net::server::{Connections, Load};
use crate::partition::log_dirs::{LogDir, LogDirs};
use crate::partition::shard::{Parts, ShardTask};

const TOPIC: Uuid = Uuid([1; 16]);
const PARTITIONS: i32 = 8;

/// No group is asked for.
struct NoGroups;

impl OffsetsLog for NoGroups {
    fn append(&self, _: i32, _: Vec<u8>) -> BoxedLocal<Result<(), ErrorCode>> {
        Box::pin(async { Err(ErrorCode::CoordinatorNotAvailable) })
    }

    fn bounds(&self, _: i32) -> Result<Range<i64>, ErrorCode> {
        Err(ErrorCode::CoordinatorNotAvailable)
    }

    fn read(&self, _: i32, _: i64) -> BoxedLocal<Result<Slice, ErrorCode>> {
        Box::pin(async { Err(ErrorCode::CoordinatorNotAvailable) })
    }
}

fn image() -> Image {
    let mut image = Image::default();
    let register = Command::RegisterBroker {
        id: 1,
        host: "h".to_owned(),
        port: 1,
        rack: None,
    };
    let create = Command::CreateTopic {
        id: TOPIC,
        name: "t".to_owned(),
        assignments: vec![vec![1]; PARTITIONS as usize],
        configs: Configs::new(),
    };
    for command in [register, create] {
        image.apply(&command).expect("apply");
    }
    image
}

/// Shard 0 of two, without a directory, and what it sends to shard 1.
fn make() -> (Handlers, Receiver<ShardTask>) {
    let (own, _) = mailbox::channel(8);
    let (other, neighbour) = mailbox::channel(8);
    let budget = MemoryBudget::new(1 << 20);
    let limits = Limits {
        request_bytes_max: 1 << 20,
        requests_in_flight_max: 8,
    };
    let zero_copy = ZeroCopy::new(ZeroCopyMode::Off, budget.clone());
    let shard = Shard::new(Parts {
        id: 0,
        config: Arc::new(config::load(None, std::iter::empty(), &[]).expect("defaults")),
        log_dirs: LogDirs::new(0, vec![LogDir::new("/a".into(), Err("none".to_owned()))]),
        budget,
        connections: Connections::new(0, Load::new(2), limits, Duration::MAX, zero_copy),
        metrics: Rc::new(ShardMetrics::default()),
        mailboxes: [own, other].into(),
    });
    shard.set_image(Arc::new(image()));
    let options = CoordinatorOptions {
        settings: GroupSettings::default(),
        batch_bytes_max: 1 << 20,
        seed: 1,
    };
    let control = ControlHandle::new(mailbox::channel(1).0);
    let coordinator = Coordinator::new(Rc::new(NoGroups), options);
    (Handlers::new(shard, control, coordinator), neighbour)
}

/// A request that appends something to `partition`.
fn frame(partition: i32, acks: i16) -> Slice {
    let request = ProduceRequest {
        acks,
        topic_data: vec![TopicProduceData {
            topic_id: TOPIC,
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: (&[7; 100][..]).into(),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut encoder = Encoder::with_capacity(256);
    request.encode(&mut encoder, BY_ID);
    Slice::from(encoder.into_parts().0)
}

/// Starts the request in `frame`, which came from a client.
async fn begin(handlers: &Handlers, frame: &Slice) -> impl Future<Output = Answer> + use<> {
    let context = Context {
        handlers,
        peer: &Peer {
            address: ([127, 0, 0, 1], 1).into(),
            software: RefCell::default(),
        },
        header: RequestHeader {
            api_key: 0,
            api_version: BY_ID,
            correlation_id: 1,
            client_id: None,
        },
        frame,
    };
    let started = start(&context, &mut Decoder::new(frame)).await;
    started.expect("decoded")
}

/// Was: a connection could have any number of appends with acks=0 wait for room on another shard.
#[test]
fn a_request_without_acks_counts_until_its_appends_are_made() {
    let program = async {
        let (handlers, mut neighbour) = make();
        let key = |partition| PartitionKey {
            topic: TOPIC,
            partition,
        };
        let of_neighbour = (0..PARTITIONS).find(|one| handlers.shard.owner(key(*one)) == 1);
        let frame = frame(of_neighbour.expect("one of them"), 0);
        let mut answer = Box::pin(begin(&handlers, &frame).await);
        assert!(
            poll_once(&mut answer).await.is_none(),
            "nothing is appended"
        );
        // The neighbour has no such partition: the producer is to ask for the metadata again.
        let work = neighbour.recv().await.expect("the append");
        work(handlers.shard.clone()).await;
        let reason = answer.await.expect_err("refused");
        assert!(reason.contains("acks=0"), "{reason}");
    };
    Simulation::new(1).run(program).value();
}
