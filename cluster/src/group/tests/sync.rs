//! `SyncGroup`.

use super::*;

/// A group of two that has its first generation and awaits the syncs.
fn completing(fixture: &mut Fixture) -> Vec<String> {
    let ids: Vec<_> = ["a", "b"]
        .iter()
        .map(|suffix| fixture.member_id(suffix))
        .collect();
    for id in &ids {
        fixture.ask(join(id, ""));
    }
    fixture.pass(6_000);
    assert_eq!(fixture.state(), GroupState::CompletingRebalance);
    ids
}

#[test]
fn nobody_is_told_an_assignment_that_is_not_durable() {
    let mut fixture = Fixture::new();
    let ids = completing(&mut fixture);
    let follower = fixture.ask(sync(&ids[1], 1, &[]));
    assert!(fixture.is_parked(follower) && fixture.appends.is_empty());
    let leader = fixture.ask(sync(&ids[0], 1, &ids));
    assert!(fixture.is_parked(follower) && fixture.is_parked(leader));
    assert_eq!(fixture.state(), GroupState::CompletingRebalance);
    let records = fixture.end_append(Ok(()));
    assert_eq!(fixture.state(), GroupState::Stable);
    let expected = |id: &str| SyncReply {
        error: ErrorCode::None,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignment: id.as_bytes().into(),
    };
    assert_eq!(fixture.sync_reply(leader), expected(&ids[0]));
    assert_eq!(fixture.sync_reply(follower), expected(&ids[1]));
    let [
        OffsetsRecord::Group {
            group_id,
            value: Some(metadata),
        },
    ] = &records[..]
    else {
        panic!("{records:?}")
    };
    assert_eq!((&**group_id, metadata.generation_id), (GROUP, 1));
    assert_eq!(metadata.leader.as_deref(), Some(&*ids[0]));
    assert_eq!(*metadata.members[1].assignment, *ids[1].as_bytes());
    assert_eq!(
        metadata.members[1].subscription,
        protocol("range", &["topic"]).metadata
    );
}

#[test]
fn a_late_follower_is_answered_from_the_stable_group() {
    let mut fixture = Fixture::new();
    let ids = completing(&mut fixture);
    fixture.answer(sync(&ids[0], 1, &ids));
    let token = fixture.ask(sync(&ids[1], 1, &[]));
    assert_eq!(*fixture.sync_reply(token).assignment, *ids[1].as_bytes());
}

#[test]
fn members_that_the_leader_forgot_get_an_empty_assignment() {
    let mut fixture = Fixture::new();
    let ids = completing(&mut fixture);
    fixture.answer(sync(&ids[0], 1, &ids[..1]));
    let token = fixture.ask(sync(&ids[1], 1, &[]));
    let reply = fixture.sync_reply(token);
    assert_eq!((reply.error, reply.assignment.len()), (ErrorCode::None, 0));
}

#[test]
fn an_assignment_that_cannot_be_written_begins_a_new_rebalance() {
    let mut fixture = Fixture::new();
    let ids = completing(&mut fixture);
    let tokens = [
        fixture.ask(sync(&ids[1], 1, &[])),
        fixture.ask(sync(&ids[0], 1, &ids)),
    ];
    fixture.end_append(Err(ErrorCode::KafkaStorageError));
    for token in tokens {
        assert_eq!(
            fixture.sync_reply(token),
            SyncReply::error(ErrorCode::NotCoordinator)
        );
    }
    assert_eq!(fixture.state(), GroupState::PreparingRebalance);
}

#[test]
fn an_assignment_of_a_past_generation_is_of_no_interest() {
    let mut fixture = Fixture::new();
    let ids = completing(&mut fixture);
    let stale = fixture.ask(sync(&ids[0], 1, &ids));
    let newcomer = fixture.member_id_without_flush("c");
    fixture.ask(join(&newcomer, ""));
    assert_eq!(
        fixture.sync_reply(stale).error,
        ErrorCode::RebalanceInProgress
    );
    for id in &ids {
        fixture.ask(join(id, ""));
    }
    assert_eq!(fixture.generation(), 2);
    // The append of generation 1 ends only now.
    fixture.end_append(Ok(()));
    assert_eq!(fixture.state(), GroupState::CompletingRebalance);
    let description = fixture.groups.describe(GROUP).unwrap();
    assert!(
        description
            .members
            .iter()
            .all(|member| member.assignment.is_empty())
    );
}

#[test]
fn a_sync_that_is_repeated_takes_the_place_of_the_parked_one() {
    let mut fixture = Fixture::new();
    let ids = completing(&mut fixture);
    let lost = fixture.ask(sync(&ids[1], 1, &[]));
    let token = fixture.ask(sync(&ids[1], 1, &[]));
    assert_eq!(
        fixture.sync_reply(lost).error,
        ErrorCode::RebalanceInProgress
    );
    // The leader repeats itself too; the first record to be durable counts.
    fixture.ask(sync(&ids[0], 1, &ids));
    let again = fixture.ask(sync(&ids[0], 1, &ids));
    fixture.flush();
    assert_eq!(*fixture.sync_reply(token).assignment, *ids[1].as_bytes());
    assert_eq!(*fixture.sync_reply(again).assignment, *ids[0].as_bytes());
}

#[test]
fn bad_requests_are_refused() {
    let mut fixture = Fixture::new();
    let check = |fixture: &mut Fixture, request: Request, error: ErrorCode| {
        let token = fixture.ask(request);
        assert_eq!(fixture.sync_reply(token), SyncReply::error(error));
    };
    check(
        &mut fixture,
        sync("nobody", 1, &[]),
        ErrorCode::UnknownMemberId,
    );
    let ids = completing(&mut fixture);
    check(
        &mut fixture,
        sync("nobody", 1, &[]),
        ErrorCode::UnknownMemberId,
    );
    check(
        &mut fixture,
        sync(&ids[0], 2, &[]),
        ErrorCode::IllegalGeneration,
    );
    let Request::Sync(good) = sync(&ids[0], 1, &[]) else {
        unreachable!()
    };
    let other = SyncRequest {
        protocol_name: Some("sticky".to_owned()),
        ..good.clone()
    };
    check(
        &mut fixture,
        Request::Sync(other),
        ErrorCode::InconsistentGroupProtocol,
    );
    let other = SyncRequest {
        protocol_type: Some("connect".to_owned()),
        ..good.clone()
    };
    check(
        &mut fixture,
        Request::Sync(other),
        ErrorCode::InconsistentGroupProtocol,
    );
    let nameless = SyncRequest {
        group_id: String::new(),
        ..good
    };
    check(
        &mut fixture,
        Request::Sync(nameless),
        ErrorCode::InvalidGroupId,
    );
    fixture.ask(join(&ids[0], ""));
    fixture.member_id("c");
    fixture.sync_all_then_rebalance(&ids);
    check(
        &mut fixture,
        sync(&ids[0], 1, &[]),
        ErrorCode::RebalanceInProgress,
    );
}

impl Fixture {
    fn member_id_without_flush(&mut self, suffix: &str) -> String {
        let token = self.ask(join("", suffix));
        self.join_reply(token).member_id.to_string()
    }

    /// Makes the group stable, and the leader join again.
    fn sync_all_then_rebalance(&mut self, ids: &[String]) {
        self.sync_all(ids);
        self.ask(join(&ids[0], ""));
        assert_eq!(self.state(), GroupState::PreparingRebalance);
    }
}
