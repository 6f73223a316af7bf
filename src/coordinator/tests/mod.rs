//! The coordinator on virtual time, over a log in memory that outlives it.

mod crash;
mod loading;
mod membership;
mod writing;

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use cluster::group::{
    CommitPartition, CommitRequest, CommitTopic, FetchRequest, GroupSettings, HeartbeatRequest,
    JoinReply, JoinRequest, MemberProtocol, Reply, Request, SyncRequest,
};
use futures_lite::future::BoxedLocal;
use protocol::record_batch::{BatchView, set_base_offset};
use protocol::{ErrorCode, Uuid};
use runtime::Slice;
use runtime::sim::Simulation;
use runtime::task::{self, Class, JoinHandle};
use runtime::time;

use super::{Coordinator, CoordinatorOptions, NotServed, OffsetsLog};

/// The partition that all tests are about.
const PARTITION: i32 = 7;

/// One partition in memory: what is in it is durable.
struct MemoryLog {
    batches: RefCell<Vec<Vec<u8>>>,
    end_offset: Cell<i64>,
    start_offset: Cell<i64>,
    append_takes: Cell<Duration>,
    read_takes: Cell<Duration>,
    append_fails: Cell<Option<ErrorCode>>,
    append_panics: Cell<bool>,
}

impl MemoryLog {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            batches: RefCell::default(),
            end_offset: Cell::new(0),
            start_offset: Cell::new(0),
            append_takes: Cell::new(Duration::from_millis(2)),
            read_takes: Cell::new(Duration::from_micros(100)),
            append_fails: Cell::new(None),
            append_panics: Cell::new(false),
        })
    }

    fn record_count(&self) -> i64 {
        self.end_offset.get() - self.start_offset.get()
    }

    fn push(&self, mut batch: Vec<u8>) {
        set_base_offset(&mut batch, self.end_offset.get());
        let next_offset = BatchView::parse(&batch).unwrap().next_offset();
        self.end_offset.set(next_offset);
        self.batches.borrow_mut().push(batch);
    }
}

/// The face of [`MemoryLog`] to the coordinator.
struct LogOf(Rc<MemoryLog>);

impl OffsetsLog for LogOf {
    fn append(&self, partition: i32, batch: Vec<u8>) -> BoxedLocal<Result<(), ErrorCode>> {
        assert_eq!(partition, PARTITION);
        let log = self.0.clone();
        Box::pin(async move {
            time::sleep(log.append_takes.get()).await;
            assert!(!log.append_panics.get(), "told to");
            if let Some(error) = log.append_fails.get() {
                return Err(error);
            }
            log.push(batch);
            Ok(())
        })
    }

    fn bounds(&self, partition: i32) -> Result<Range<i64>, ErrorCode> {
        assert_eq!(partition, PARTITION);
        Ok(self.0.start_offset.get()..self.0.end_offset.get())
    }

    fn read(&self, partition: i32, offset: i64) -> BoxedLocal<Result<Slice, ErrorCode>> {
        assert_eq!(partition, PARTITION);
        let log = self.0.clone();
        Box::pin(async move {
            time::sleep(log.read_takes.get()).await;
            let batches = log.batches.borrow();
            let first = batches
                .iter()
                .position(|batch| BatchView::parse(batch).unwrap().last_offset() >= offset);
            let wanted = first.map_or(&[][..], |first| &batches[first..]);
            // Two at a time, so that a load takes several reads.
            let read: Vec<u8> = wanted.iter().take(2).flatten().copied().collect();
            Ok(Slice::from(read))
        })
    }
}

/// A coordinator that leads the partition; loading, perhaps.
fn lead_with(log: &Rc<MemoryLog>, options: CoordinatorOptions) -> Rc<Coordinator> {
    let coordinator = Coordinator::new(Rc::new(LogOf(log.clone())), options);
    task::spawn(Class::Network, coordinator.clone().keep_time()).detach();
    coordinator.lead(PARTITION);
    coordinator
}

fn options() -> CoordinatorOptions {
    CoordinatorOptions {
        settings: GroupSettings::default(),
        batch_bytes_max: 1 << 20,
        seed: 1,
    }
}

/// A coordinator that has loaded the partition.
async fn lead(log: &Rc<MemoryLog>) -> Rc<Coordinator> {
    let coordinator = lead_with(log, options());
    loaded(&coordinator).await;
    coordinator
}

async fn loaded(coordinator: &Coordinator) {
    while !coordinator.is_loaded() {
        time::sleep(Duration::from_millis(1)).await;
    }
}

/// Runs a test with several orders of its tasks.
fn run<F: Future<Output = ()> + 'static>(test: impl Fn() -> F) {
    for seed in 0..8 {
        Simulation::new(seed).run(test()).value();
    }
}

fn spawn_ask(coordinator: &Rc<Coordinator>, request: Request) -> JoinHandle<Reply> {
    let coordinator = coordinator.clone();
    task::spawn(Class::Network, async move {
        coordinator.ask(PARTITION, request).await
    })
}

fn join(member_id: &str) -> Request {
    let protocol = MemberProtocol {
        name: "range".into(),
        metadata: [0; 6].into(),
    };
    Request::Join(JoinRequest {
        group_id: "grp".to_owned(),
        member_id: member_id.to_owned(),
        group_instance_id: None,
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        member_id_suffix: String::new(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol],
        api_version: 9,
    })
}

fn join_reply(reply: Reply) -> JoinReply {
    match reply {
        Reply::Join(reply) => reply,
        other => panic!("{other:?}"),
    }
}

/// Gets an id as KIP-394 wants it.
async fn member_id(coordinator: &Rc<Coordinator>) -> String {
    let reply = join_reply(coordinator.ask(PARTITION, join("")).await);
    assert_eq!(reply.error, ErrorCode::MemberIdRequired);
    reply.member_id.to_string()
}

fn sync(member_id: &str, generation_id: i32) -> Request {
    Request::Sync(SyncRequest {
        group_id: "grp".to_owned(),
        member_id: member_id.to_owned(),
        generation_id,
        assignments: vec![(member_id.to_owned(), member_id.as_bytes().into())],
        ..SyncRequest::default()
    })
}

async fn heartbeat(coordinator: &Rc<Coordinator>, member_id: &str, generation: i32) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: "grp".to_owned(),
        member_id: member_id.to_owned(),
        group_instance_id: None,
        generation_id: generation,
    };
    match coordinator
        .ask(PARTITION, Request::Heartbeat(request))
        .await
    {
        Reply::Heartbeat(error) => error,
        other => panic!("{other:?}"),
    }
}

/// A stable group of one.
async fn stable(coordinator: &Rc<Coordinator>) -> String {
    let id = member_id(coordinator).await;
    let reply = join_reply(coordinator.ask(PARTITION, join(&id)).await);
    assert_eq!((reply.error, reply.generation_id), (ErrorCode::None, 1));
    let Reply::Sync(reply) = coordinator.ask(PARTITION, sync(&id, 1)).await else {
        panic!("not a sync")
    };
    assert_eq!(
        (reply.error, &*reply.assignment),
        (ErrorCode::None, id.as_bytes())
    );
    id
}

/// A commit without membership, for partitions 0 to `partitions` of `topic`.
fn commit(group_id: &str, partitions: i32, offset: i64) -> Request {
    let partitions = (0..partitions).map(|partition| CommitPartition {
        partition,
        offset,
        leader_epoch: -1,
        metadata: None,
    });
    let topic = CommitTopic {
        name: "topic".into(),
        topic_id: Uuid::ZERO,
        partitions: partitions.collect(),
    };
    Request::CommitOffsets(CommitRequest {
        group_id: group_id.to_owned(),
        member_id: String::new(),
        group_instance_id: None,
        generation_id: -1,
        retention_time_ms: -1,
        topics: vec![topic],
        api_version: 9,
    })
}

/// The error of all partitions of a commit.
fn commit_error(reply: &Reply) -> ErrorCode {
    let Reply::CommitOffsets(reply) = reply else {
        panic!("{reply:?}")
    };
    let mut errors = reply
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|p| p.1);
    let first = errors.next().unwrap();
    assert!(errors.all(|error| error == first));
    first
}

/// All committed offsets of a group.
async fn committed(coordinator: &Rc<Coordinator>, group_id: &str) -> Vec<i64> {
    let request = FetchRequest {
        group_id: group_id.to_owned(),
        topics: None,
        require_stable: false,
    };
    match coordinator
        .ask(PARTITION, Request::FetchOffsets(request))
        .await
    {
        Reply::FetchOffsets(reply) => {
            assert_eq!(reply.error, ErrorCode::None);
            reply
                .topics
                .iter()
                .flat_map(|t| &t.partitions)
                .map(|p| p.offset)
                .collect()
        }
        other => panic!("{other:?}"),
    }
}
