//! Tests of the group machine, one file per event, all through [`Fixture`].

mod commit;
mod delete;
mod describe;
mod expiry;
mod fetch;
mod heartbeat;
mod join;
mod leave;
mod load;
mod random;
mod session;
mod static_members;
mod sync;

use std::collections::{BTreeMap, VecDeque};

use protocol::ErrorCode;
use protocol::Uuid;

use super::records::OffsetsRecord;
use super::*;

/// The group that most tests are about.
pub(super) const GROUP: &str = "grp";

/// A machine with its surroundings: two clocks, the appends it commanded, the replies it gave.
pub(super) struct Fixture {
    pub(super) groups: Groups,
    pub(super) now: Now,
    next_token: u64,
    pub(super) replies: BTreeMap<Token, Reply>,
    pub(super) appends: VecDeque<(AppendId, Vec<OffsetsRecord>)>,
    /// What is durable.
    pub(super) log: Vec<OffsetsRecord>,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(GroupSettings::default())
    }

    pub(super) fn with(settings: GroupSettings) -> Self {
        let now = Now {
            timer_ms: 0,
            wall_ms: 1_700_000_000_000,
        };
        Self::of(Groups::new(settings, now), now, Vec::new())
    }

    fn of(groups: Groups, now: Now, log: Vec<OffsetsRecord>) -> Self {
        let (replies, appends) = (BTreeMap::new(), VecDeque::new());
        Self {
            groups,
            now,
            next_token: 0,
            replies,
            appends,
            log,
        }
    }

    /// Crashes, and loads what was durable.
    pub(super) fn reload(self, settings: GroupSettings) -> Self {
        let mut loader = Loader::new();
        for record in &self.log {
            let encoded = record.encode();
            loader
                .record(Some(&encoded.key), encoded.value.as_deref())
                .unwrap();
        }
        let mut groups = loader.finish(settings, self.now);
        groups.check_invariants();
        let mut commands = Vec::new();
        groups.on_time(self.now, &mut commands);
        assert_eq!(commands, vec![], "nothing is due just after a load");
        Self::of(groups, self.now, self.log)
    }

    /// Asks, and says under which token the reply will be.
    pub(super) fn ask(&mut self, request: Request) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        let mut commands = Vec::new();
        self.groups.handle(token, request, self.now, &mut commands);
        self.perform(commands);
        token
    }

    /// Asks, makes everything durable, and expects the reply.
    pub(super) fn answer(&mut self, request: Request) -> Reply {
        let token = self.ask(request);
        self.flush();
        self.reply(token)
    }

    pub(super) fn reply(&mut self, token: Token) -> Reply {
        self.replies
            .remove(&token)
            .unwrap_or_else(|| panic!("{token:?} has no reply"))
    }

    pub(super) fn is_parked(&self, token: Token) -> bool {
        !self.replies.contains_key(&token)
    }

    pub(super) fn join_reply(&mut self, token: Token) -> JoinReply {
        match self.reply(token) {
            Reply::Join(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn sync_reply(&mut self, token: Token) -> SyncReply {
        match self.reply(token) {
            Reply::Sync(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// The oldest append ends.
    pub(super) fn end_append(&mut self, result: Result<(), ErrorCode>) -> Vec<OffsetsRecord> {
        let (id, records) = self.appends.pop_front().expect("an append is under way");
        if result.is_ok() {
            self.log.extend(records.iter().cloned());
        }
        let mut commands = Vec::new();
        self.groups.appended(id, result, self.now, &mut commands);
        self.perform(commands);
        records
    }

    /// Makes everything durable that is on its way.
    pub(super) fn flush(&mut self) {
        while !self.appends.is_empty() {
            self.end_append(Ok(()));
        }
    }

    /// Lets time pass, deadline by deadline, and makes everything durable on the way.
    pub(super) fn pass(&mut self, duration_ms: i64) {
        let end_ms = self.now.timer_ms + duration_ms;
        loop {
            let next_ms = self.groups.next_deadline_ms().max(self.now.timer_ms);
            if next_ms > end_ms {
                break;
            }
            self.set_time(next_ms);
            let mut commands = Vec::new();
            self.groups.on_time(self.now, &mut commands);
            self.perform(commands);
            self.flush();
        }
        self.set_time(end_ms);
    }

    /// Lets time pass until the joins are over.
    pub(super) fn settle(&mut self) {
        while self.state() == GroupState::PreparingRebalance {
            let deadline_ms = self.groups.next_deadline_ms();
            self.pass((deadline_ms - self.now.timer_ms).max(0));
        }
    }

    fn set_time(&mut self, timer_ms: i64) {
        self.now.wall_ms += timer_ms - self.now.timer_ms;
        self.now.timer_ms = timer_ms;
    }

    pub(super) fn perform(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Reply(token, reply) => {
                    assert!(token.0 < self.next_token, "{token:?} was never asked");
                    let previous = self.replies.insert(token, reply);
                    assert_eq!(previous, None, "{token:?} is answered twice");
                }
                Command::Append { id, records } => self.appends.push_back((id, records)),
            }
        }
        self.groups.check_invariants();
    }

    pub(super) fn state(&self) -> GroupState {
        self.groups.describe(GROUP).expect("the group exists").state
    }

    /// Gets a member id as KIP-394 wants it.
    pub(super) fn member_id(&mut self, suffix: &str) -> String {
        let Reply::Join(reply) = self.answer(join("", suffix)) else {
            panic!("not a join")
        };
        assert_eq!(reply.error, ErrorCode::MemberIdRequired);
        reply.member_id.to_string()
    }

    /// A stable group of these dynamic members, the first of which leads. Their assignments are their ids.
    pub(super) fn stable(&mut self, suffixes: &[&str]) -> Vec<String> {
        let ids: Vec<_> = suffixes
            .iter()
            .map(|suffix| self.member_id(suffix))
            .collect();
        let tokens: Vec<_> = ids.iter().map(|id| self.ask(join(id, ""))).collect();
        self.settle();
        for token in tokens {
            assert_eq!(self.join_reply(token).error, ErrorCode::None);
        }
        self.sync_all(&ids);
        ids
    }

    /// Every member syncs; the leader assigns each its own id.
    pub(super) fn sync_all(&mut self, ids: &[String]) {
        let description = self.groups.describe(GROUP).unwrap();
        assert_eq!(description.state, GroupState::CompletingRebalance);
        let tokens: Vec<_> = ids
            .iter()
            .map(|id| self.ask(sync(id, self.generation(), ids)))
            .collect();
        self.flush();
        for (token, id) in tokens.into_iter().zip(ids) {
            let reply = self.sync_reply(token);
            assert_eq!(
                (reply.error, &*reply.assignment),
                (ErrorCode::None, id.as_bytes())
            );
        }
        assert_eq!(self.state(), GroupState::Stable);
    }

    /// The generation, as the machine tells it by refusing all others.
    pub(super) fn generation(&self) -> i32 {
        self.groups.generation_of(GROUP)
    }
}

impl Groups {
    fn generation_of(&self, group_id: &str) -> i32 {
        self.group(group_id).generation_id
    }
}

pub(super) fn protocol(name: &str, topics: &[&str]) -> MemberProtocol {
    let mut metadata = vec![0, 1];
    metadata.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        metadata.extend((topic.len() as i16).to_be_bytes());
        metadata.extend(topic.as_bytes());
    }
    metadata.extend([0xff; 4]);
    MemberProtocol {
        name: name.into(),
        metadata: metadata.into(),
    }
}

/// A join of a consumer, dynamic, in the newest version.
pub(super) fn join_request(member_id: &str, suffix: &str) -> JoinRequest {
    JoinRequest {
        group_id: GROUP.to_owned(),
        member_id: member_id.to_owned(),
        group_instance_id: None,
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        member_id_suffix: if suffix.is_empty() {
            "?".to_owned()
        } else {
            suffix.to_owned()
        },
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol("range", &["topic"])],
        api_version: 9,
    }
}

pub(super) fn join(member_id: &str, suffix: &str) -> Request {
    Request::Join(join_request(member_id, suffix))
}

pub(super) fn join_static(instance: &str, suffix: &str) -> JoinRequest {
    JoinRequest {
        group_instance_id: Some(instance.to_owned()),
        ..join_request("", suffix)
    }
}

/// A sync that assigns to each its own id; only the leader's counts.
pub(super) fn sync(member_id: &str, generation_id: i32, ids: &[String]) -> Request {
    Request::Sync(SyncRequest {
        group_id: GROUP.to_owned(),
        member_id: member_id.to_owned(),
        group_instance_id: None,
        generation_id,
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        assignments: ids
            .iter()
            .map(|id| (id.clone(), id.as_bytes().into()))
            .collect(),
    })
}

pub(super) fn heartbeat(member_id: &str, generation_id: i32) -> Request {
    Request::Heartbeat(HeartbeatRequest {
        group_id: GROUP.to_owned(),
        member_id: member_id.to_owned(),
        group_instance_id: None,
        generation_id,
    })
}

pub(super) fn leave(member_ids: &[&str]) -> Request {
    let members = member_ids.iter().map(|id| LeavingMember {
        member_id: (*id).to_owned(),
        group_instance_id: None,
    });
    Request::Leave(LeaveRequest {
        group_id: GROUP.to_owned(),
        members: members.collect(),
    })
}

/// A commit for partition 0 of `topic`.
pub(super) fn commit_request(
    member_id: &str,
    generation_id: i32,
    topic: &str,
    offset: i64,
) -> CommitRequest {
    CommitRequest {
        group_id: GROUP.to_owned(),
        member_id: member_id.to_owned(),
        group_instance_id: None,
        generation_id,
        retention_time_ms: -1,
        topics: vec![CommitTopic {
            name: topic.into(),
            topic_id: Uuid::ZERO,
            partitions: vec![CommitPartition {
                partition: 0,
                offset,
                leader_epoch: 3,
                metadata: Some("kept".to_owned()),
            }],
        }],
        api_version: 9,
    }
}

/// A commit of a consumer that does not use the group's membership.
pub(super) fn commit_simple(topic: &str, offset: i64) -> Request {
    Request::CommitOffsets(commit_request("", -1, topic, offset))
}

/// The only error in an answer to a commit.
pub(super) fn commit_error(reply: Reply) -> ErrorCode {
    let Reply::CommitOffsets(reply) = reply else {
        panic!("{reply:?}")
    };
    reply.topics[0].partitions[0].1
}

impl Fixture {
    /// The durable offset of partition 0 of `topic`.
    pub(super) fn committed(&mut self, topic: &str) -> i64 {
        let topics = vec![FetchTopic {
            name: topic.into(),
            topic_id: Uuid::ZERO,
            partitions: vec![0],
        }];
        let request = FetchRequest {
            group_id: GROUP.to_owned(),
            topics: Some(topics),
            require_stable: false,
        };
        let token = self.ask(Request::FetchOffsets(request));
        let Reply::FetchOffsets(reply) = self.reply(token) else {
            panic!("not a fetch")
        };
        assert_eq!(reply.error, ErrorCode::None);
        reply.topics[0].partitions[0].offset
    }
}
