//! `OffsetDelete`, `DeleteGroups` and deleted topics.

use super::*;

fn delete_offsets(topics: &[&str]) -> Request {
    let topics = topics
        .iter()
        .map(|topic| ((*topic).into(), vec![0]))
        .collect();
    Request::DeleteOffsets(DeleteOffsetsRequest {
        group_id: GROUP.to_owned(),
        topics,
    })
}

fn delete_group() -> Request {
    Request::DeleteGroup {
        group_id: GROUP.to_owned(),
    }
}

fn results(reply: Reply) -> (ErrorCode, Vec<ErrorCode>) {
    let Reply::DeleteOffsets(reply) = reply else {
        panic!("{reply:?}")
    };
    (
        reply.error,
        reply
            .topics
            .iter()
            .flat_map(|t| &t.partitions)
            .map(|p| p.1)
            .collect(),
    )
}

#[test]
fn an_offset_goes_when_its_tombstone_is_durable() {
    let mut fixture = Fixture::new();
    fixture.answer(commit_simple("a", 1));
    fixture.answer(commit_simple("b", 2));
    let token = fixture.ask(delete_offsets(&["a", "never"]));
    assert_eq!(fixture.committed("a"), 1);
    let records = fixture.end_append(Ok(()));
    assert_eq!(
        results(fixture.reply(token)),
        (ErrorCode::None, vec![ErrorCode::None; 2])
    );
    assert_eq!((fixture.committed("a"), fixture.committed("b")), (-1, 2));
    let tombstone = OffsetsRecord::Offset {
        group_id: GROUP.into(),
        topic: "a".into(),
        partition: 0,
        value: None,
    };
    assert_eq!(records, [tombstone]);
}

#[test]
fn a_commit_on_its_way_is_deleted_too() {
    let mut fixture = Fixture::new();
    fixture.ask(commit_simple("a", 1));
    fixture.ask(delete_offsets(&["a"]));
    fixture.flush();
    assert_eq!(fixture.committed("a"), -1);
    assert_eq!(fixture.log.len(), 2);
}

#[test]
fn offsets_of_subscribed_topics_stay() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a"]);
    for topic in ["topic", "other"] {
        let request = commit_request(&ids[0], 1, topic, 5);
        fixture.answer(Request::CommitOffsets(request));
    }
    let answer = fixture.answer(delete_offsets(&["topic", "other"]));
    let expected = vec![ErrorCode::GroupSubscribedToTopic, ErrorCode::None];
    assert_eq!(results(answer), (ErrorCode::None, expected));
    assert_eq!(
        (fixture.committed("topic"), fixture.committed("other")),
        (5, -1)
    );
    fixture.answer(leave(&[&ids[0]]));
    let answer = fixture.answer(delete_offsets(&["topic"]));
    assert_eq!(results(answer), (ErrorCode::None, vec![ErrorCode::None]));
}

#[test]
fn of_other_protocols_offsets_go_only_while_nobody_is_there() {
    let mut fixture = Fixture::new();
    let id = fixture.member_id("a");
    let request = JoinRequest {
        protocol_type: "connect".to_owned(),
        ..join_request(&id, "")
    };
    fixture.ask(Request::Join(request));
    let answer = fixture.answer(delete_offsets(&["topic"]));
    assert_eq!(results(answer), (ErrorCode::NonEmptyGroup, vec![]));
}

#[test]
fn a_subscription_that_cannot_be_read_protects_everything() {
    let mut fixture = Fixture::new();
    let id = fixture.member_id("a");
    let garbled = MemberProtocol {
        name: "range".into(),
        metadata: Bytes::from([9]),
    };
    let request = JoinRequest {
        protocols: vec![garbled],
        ..join_request(&id, "")
    };
    fixture.ask(Request::Join(request));
    fixture.pass(3_000);
    let answer = fixture.answer(delete_offsets(&["any"]));
    assert_eq!(
        results(answer),
        (ErrorCode::None, vec![ErrorCode::GroupSubscribedToTopic])
    );
}

#[test]
fn what_does_not_exist_cannot_be_deleted() {
    let mut fixture = Fixture::new();
    let answer = fixture.answer(delete_offsets(&["a"]));
    assert_eq!(results(answer), (ErrorCode::GroupIdNotFound, vec![]));
    let answer = fixture.answer(delete_group());
    assert_eq!(answer, Reply::DeleteGroup(ErrorCode::GroupIdNotFound));
}

#[test]
fn a_group_with_members_is_not_deleted() {
    let mut fixture = Fixture::new();
    fixture.stable(&["a"]);
    let answer = fixture.answer(delete_group());
    assert_eq!(answer, Reply::DeleteGroup(ErrorCode::NonEmptyGroup));
}

#[test]
fn a_group_is_there_until_its_tombstone_is_durable() {
    let mut fixture = Fixture::new();
    fixture.answer(commit_simple("a", 1));
    fixture.ask(commit_simple("b", 2));
    let token = fixture.ask(delete_group());
    assert!(fixture.is_parked(token));
    assert_eq!(
        (fixture.state(), fixture.committed("a")),
        (GroupState::Empty, 1)
    );
    // Nothing may be added to it any more.
    let late = fixture.ask(commit_simple("a", 9));
    assert_eq!(
        commit_error(fixture.reply(late)),
        ErrorCode::CoordinatorNotAvailable
    );
    let joins = fixture.ask(join("", "x"));
    assert_eq!(
        fixture.join_reply(joins).error,
        ErrorCode::CoordinatorNotAvailable
    );
    let again = fixture.answer_now(delete_group());
    assert_eq!(again, Reply::DeleteGroup(ErrorCode::GroupIdNotFound));
    fixture.end_append(Ok(()));
    let records = fixture.end_append(Ok(()));
    assert_eq!(fixture.reply(token), Reply::DeleteGroup(ErrorCode::None));
    assert_eq!(fixture.groups.group_count(), 0);
    let topics: Vec<_> = records
        .iter()
        .map(|record| match record {
            OffsetsRecord::Offset {
                topic, value: None, ..
            } => &**topic,
            OffsetsRecord::Group { value: None, .. } => "the group",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(topics, ["a", "b", "the group"]);
    // A new group of the same name begins from nothing.
    assert_eq!(fixture.committed("a"), -1);
    fixture.stable(&["a"]);
}

#[test]
fn a_group_whose_tombstone_fails_lives_on() {
    let mut fixture = Fixture::new();
    fixture.answer(commit_simple("a", 1));
    let token = fixture.ask(delete_group());
    fixture.end_append(Err(ErrorCode::NotEnoughReplicas));
    let expected = Reply::DeleteGroup(ErrorCode::CoordinatorNotAvailable);
    assert_eq!(fixture.reply(token), expected);
    assert_eq!(fixture.committed("a"), 1);
    assert_eq!(
        commit_error(fixture.answer(commit_simple("a", 2))),
        ErrorCode::None
    );
}

#[test]
fn deleted_topics_take_their_offsets_with_them() {
    let mut fixture = Fixture::new();
    let (old, new) = (Uuid([1; 16]), Uuid([2; 16]));
    for (topic, topic_id) in [("a", old), ("b", Uuid::ZERO), ("c", new)] {
        let mut request = commit_request("", -1, topic, 7);
        request.topics[0].topic_id = topic_id;
        fixture.ask(Request::CommitOffsets(request));
    }
    let gone = |name: &str, topic_id| DeletedTopic {
        name: name.into(),
        topic_id,
    };
    let deleted = [gone("a", old), gone("b", old), gone("c", old)];
    let mut commands = Vec::new();
    fixture
        .groups
        .forget_topics(&deleted, fixture.now, &mut commands);
    fixture.perform(commands);
    fixture.flush();
    let offsets = ["a", "b", "c"].map(|topic| fixture.committed(topic));
    assert_eq!(offsets, [-1, -1, 7]);
}

impl Fixture {
    /// Asks and expects the reply at once.
    fn answer_now(&mut self, request: Request) -> Reply {
        let token = self.ask(request);
        self.reply(token)
    }
}
