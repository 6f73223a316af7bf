//! `OffsetCommit`.

use super::*;

fn commit(fixture: &mut Fixture, member_id: &str, generation_id: i32) -> ErrorCode {
    let request = commit_request(member_id, generation_id, "topic", 7);
    commit_error(fixture.answer(Request::CommitOffsets(request)))
}

#[test]
fn an_offset_is_visible_and_answered_when_it_is_durable() {
    let mut fixture = Fixture::new();
    let token = fixture.ask(commit_simple("topic", 7));
    assert!(fixture.is_parked(token));
    assert_eq!(fixture.committed("topic"), -1);
    let records = fixture.end_append(Ok(()));
    assert_eq!(commit_error(fixture.reply(token)), ErrorCode::None);
    assert_eq!(fixture.committed("topic"), 7);
    let value = records::OffsetAndMetadata {
        offset: 7,
        leader_epoch: 3,
        metadata: "kept".into(),
        commit_timestamp_ms: fixture.now.wall_ms,
        expire_timestamp_ms: None,
        topic_id: Uuid::ZERO,
    };
    let expected = OffsetsRecord::Offset {
        group_id: GROUP.into(),
        topic: "topic".into(),
        partition: 0,
        value: Some(value),
    };
    assert_eq!(records, [expected]);
}

#[test]
fn a_commit_that_cannot_be_written_leaves_the_former_offset() {
    let mut fixture = Fixture::new();
    fixture.answer(commit_simple("topic", 7));
    let tokens = [
        fixture.ask(commit_simple("topic", 8)),
        fixture.ask(commit_simple("topic", 9)),
    ];
    fixture.end_append(Ok(()));
    fixture.end_append(Err(ErrorCode::RequestTimedOut));
    let errors = tokens.map(|token| commit_error(fixture.reply(token)));
    assert_eq!(
        errors,
        [ErrorCode::None, ErrorCode::CoordinatorNotAvailable]
    );
    assert_eq!(fixture.committed("topic"), 8);
}

#[test]
fn members_commit_in_their_generation() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a"]);
    assert_eq!(commit(&mut fixture, &ids[0], 1), ErrorCode::None);
    assert_eq!(
        commit(&mut fixture, &ids[0], 0),
        ErrorCode::IllegalGeneration
    );
    assert_eq!(
        commit(&mut fixture, &ids[0], -1),
        ErrorCode::IllegalGeneration
    );
    assert_eq!(
        commit(&mut fixture, "nobody", 1),
        ErrorCode::UnknownMemberId
    );
    // Without membership only while the group is empty.
    assert_eq!(commit(&mut fixture, "", -1), ErrorCode::UnknownMemberId);
    fixture.answer(leave(&[&ids[0]]));
    assert_eq!(commit(&mut fixture, &ids[0], 1), ErrorCode::UnknownMemberId);
    assert_eq!(commit(&mut fixture, "", -1), ErrorCode::None);
}

#[test]
fn members_may_commit_while_a_rebalance_prepares_but_not_while_it_completes() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a", "b"]);
    fixture.ask(join(&ids[0], ""));
    assert_eq!(fixture.state(), GroupState::PreparingRebalance);
    assert_eq!(commit(&mut fixture, &ids[1], 1), ErrorCode::None);
    fixture.ask(join(&ids[1], ""));
    assert_eq!(fixture.state(), GroupState::CompletingRebalance);
    assert_eq!(
        commit(&mut fixture, &ids[1], 2),
        ErrorCode::RebalanceInProgress
    );
}

#[test]
fn a_commit_keeps_the_session_alive() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a"]);
    for _ in 0..5 {
        fixture.pass(9_000);
        assert_eq!(commit(&mut fixture, &ids[0], 1), ErrorCode::None);
    }
}

#[test]
fn a_generation_of_an_unknown_group_is_refused_as_the_version_knows() {
    let mut fixture = Fixture::new();
    let old = CommitRequest {
        api_version: 8,
        ..commit_request("a", 1, "topic", 1)
    };
    let refused = fixture.answer(Request::CommitOffsets(old));
    assert_eq!(commit_error(refused), ErrorCode::IllegalGeneration);
    assert_eq!(commit(&mut fixture, "a", 1), ErrorCode::GroupIdNotFound);
    assert_eq!(fixture.groups.group_count(), 0);
}

#[test]
fn metadata_that_is_too_long_fails_its_partition_alone() {
    let mut fixture = Fixture::new();
    let mut request = commit_request("", -1, "topic", 7);
    let partition = request.topics[0].partitions[0].clone();
    // 4096 characters of three bytes each are allowed.
    let longest = CommitPartition {
        metadata: Some("€".repeat(4_096)),
        ..partition.clone()
    };
    let too_long = CommitPartition {
        partition: 1,
        metadata: Some("x".repeat(4_097)),
        ..partition
    };
    request.topics[0].partitions = vec![longest, too_long];
    let Reply::CommitOffsets(reply) = fixture.answer(Request::CommitOffsets(request)) else {
        panic!("not a commit")
    };
    let expected = [(0, ErrorCode::None), (1, ErrorCode::OffsetMetadataTooLarge)];
    assert_eq!(reply.topics[0].partitions, expected);
    assert_eq!(fixture.log.len(), 1);
}

#[test]
fn the_empty_group_id_keeps_offsets() {
    let mut fixture = Fixture::new();
    let request = CommitRequest {
        group_id: String::new(),
        ..commit_request("", -1, "topic", 7)
    };
    let answer = fixture.answer(Request::CommitOffsets(request));
    assert_eq!(commit_error(answer), ErrorCode::None);
}
