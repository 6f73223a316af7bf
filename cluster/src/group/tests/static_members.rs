//! Static members (KIP-345, KIP-814).

use super::*;

/// A stable group of two static members, `one` leading.
fn stable(fixture: &mut Fixture) -> [String; 2] {
    let tokens = ["one", "two"].map(|name| fixture.ask(Request::Join(join_static(name, "first"))));
    fixture.settle();
    let ids = tokens.map(|token| fixture.join_reply(token).member_id.to_string());
    assert_eq!(ids, ["one-first", "two-first"]);
    fixture.sync_all(&ids);
    ids
}

fn returns(fixture: &mut Fixture, instance: &str, api_version: i16) -> Token {
    let request = JoinRequest {
        api_version,
        ..join_static(instance, "second")
    };
    fixture.ask(Request::Join(request))
}

#[test]
fn a_static_member_joins_without_knowing_its_id() {
    let mut fixture = Fixture::new();
    stable(&mut fixture);
    let description = fixture.groups.describe(GROUP).unwrap();
    let names = description
        .members
        .iter()
        .map(|member| member.group_instance_id.as_deref());
    assert_eq!(names.collect::<Vec<_>>(), [Some("one"), Some("two")]);
}

#[test]
fn a_returning_follower_keeps_its_assignment_and_moves_nobody() {
    let mut fixture = Fixture::new();
    let ids = stable(&mut fixture);
    let token = returns(&mut fixture, "two", 9);
    // The new id is told when it is durable.
    assert!(fixture.is_parked(token));
    fixture.end_append(Ok(()));
    let reply = fixture.join_reply(token);
    assert_eq!((reply.error, reply.generation_id), (ErrorCode::None, 1));
    assert_eq!(
        (&*reply.member_id, &*reply.leader),
        ("two-second", &*ids[0])
    );
    assert!(!reply.skip_assignment && reply.members.is_empty());
    assert_eq!(fixture.state(), GroupState::Stable);
    let synced = fixture.ask(sync("two-second", 1, &[]));
    assert_eq!(*fixture.sync_reply(synced).assignment, *ids[1].as_bytes());
}

#[test]
fn a_returning_leader_is_told_to_skip_the_assignment() {
    let mut fixture = Fixture::new();
    stable(&mut fixture);
    let token = returns(&mut fixture, "one", 9);
    fixture.end_append(Ok(()));
    let reply = fixture.join_reply(token);
    assert!(reply.skip_assignment);
    assert_eq!((&*reply.leader, reply.members.len()), ("one-second", 2));
    assert_eq!(fixture.state(), GroupState::Stable);
}

#[test]
fn a_returning_leader_that_cannot_skip_the_assignment_does_not_learn_that_it_leads() {
    let mut fixture = Fixture::new();
    let ids = stable(&mut fixture);
    let token = returns(&mut fixture, "one", 8);
    fixture.end_append(Ok(()));
    let reply = fixture.join_reply(token);
    assert!(!reply.skip_assignment && reply.members.is_empty());
    assert_eq!(
        (&*reply.leader, &*reply.member_id),
        (&*ids[0], "one-second")
    );
}

#[test]
fn the_old_self_is_fenced() {
    let mut fixture = Fixture::new();
    let ids = stable(&mut fixture);
    returns(&mut fixture, "two", 9);
    fixture.flush();
    let named = |member_id: &str| {
        Request::Heartbeat(HeartbeatRequest {
            group_id: GROUP.to_owned(),
            member_id: member_id.to_owned(),
            group_instance_id: Some("two".to_owned()),
            generation_id: 1,
        })
    };
    let fenced = fixture.answer(named(&ids[1]));
    assert_eq!(fenced, Reply::Heartbeat(ErrorCode::FencedInstanceId));
    let good = fixture.answer(named("two-second"));
    assert_eq!(good, Reply::Heartbeat(ErrorCode::None));
    let mut commit = commit_request(&ids[1], 1, "topic", 5);
    commit.group_instance_id = Some("two".to_owned());
    let refused = fixture.answer(Request::CommitOffsets(commit));
    assert_eq!(commit_error(refused), ErrorCode::FencedInstanceId);
    let rejoin = JoinRequest {
        member_id: ids[1].clone(),
        ..join_static("two", "x")
    };
    let token = fixture.ask(Request::Join(rejoin));
    assert_eq!(fixture.join_reply(token).error, ErrorCode::FencedInstanceId);
    let unknown = HeartbeatRequest {
        group_id: GROUP.to_owned(),
        member_id: "two-second".to_owned(),
        group_instance_id: Some("three".to_owned()),
        generation_id: 1,
    };
    let answer = fixture.answer(Request::Heartbeat(unknown));
    assert_eq!(answer, Reply::Heartbeat(ErrorCode::UnknownMemberId));
}

#[test]
fn requests_that_the_old_self_has_parked_are_fenced() {
    let mut fixture = Fixture::new();
    let old = fixture.ask(Request::Join(join_static("one", "first")));
    let new = returns(&mut fixture, "one", 9);
    let expected = JoinReply::error("one-first", ErrorCode::FencedInstanceId);
    assert_eq!(fixture.join_reply(old), expected);
    fixture.pass(3_000);
    assert_eq!(&*fixture.join_reply(new).member_id, "one-second");
    let old = fixture.ask(Request::Join(join_static("two", "first")));
    fixture.ask(Request::Join(JoinRequest {
        member_id: "one-second".to_owned(),
        ..join_static("one", "")
    }));
    assert_eq!(fixture.join_reply(old).generation_id, 2);
    let parked = fixture.ask(sync("two-first", 2, &[]));
    assert!(fixture.is_parked(parked));
    returns(&mut fixture, "two", 9);
    assert_eq!(
        fixture.sync_reply(parked).error,
        ErrorCode::FencedInstanceId
    );
    // The leader may have assigned to the old id: it must do so again.
    assert_eq!(fixture.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_change_of_protocol_moves_the_group() {
    let mut fixture = Fixture::new();
    let both = || {
        vec![
            protocol("range", &["topic"]),
            protocol("sticky", &["topic"]),
        ]
    };
    let tokens = ["one", "two"].map(|name| {
        let request = JoinRequest {
            protocols: both(),
            ..join_static(name, "first")
        };
        fixture.ask(Request::Join(request))
    });
    fixture.settle();
    let ids = tokens.map(|token| fixture.join_reply(token).member_id.to_string());
    fixture.sync_all(&ids);
    let request = JoinRequest {
        protocols: vec![protocol("sticky", &["topic"])],
        ..join_static("two", "second")
    };
    let token = fixture.ask(Request::Join(request));
    assert!(fixture.is_parked(token));
    assert_eq!(fixture.state(), GroupState::PreparingRebalance);
}

#[test]
fn if_the_new_id_cannot_be_written_the_old_one_stays() {
    let mut fixture = Fixture::new();
    let ids = stable(&mut fixture);
    let token = returns(&mut fixture, "two", 9);
    fixture.end_append(Err(ErrorCode::NotEnoughReplicas));
    assert_eq!(
        fixture.join_reply(token).error,
        ErrorCode::CoordinatorNotAvailable
    );
    let answer = fixture.answer(heartbeat(&ids[1], 1));
    assert_eq!(answer, Reply::Heartbeat(ErrorCode::None));
    let gone = fixture.answer(heartbeat("two-second", 1));
    assert_eq!(gone, Reply::Heartbeat(ErrorCode::UnknownMemberId));
}

#[test]
fn a_session_that_ends_while_the_new_id_is_written_begins_again() {
    let mut fixture = Fixture::new();
    let ids = stable(&mut fixture);
    let token = returns(&mut fixture, "two", 9);
    let slow_disk = fixture.appends.pop_front().unwrap();
    fixture.pass(9_000);
    fixture.answer(heartbeat(&ids[0], 1));
    fixture.pass(9_000);
    fixture.answer(heartbeat(&ids[0], 1));
    fixture.appends.push_front(slow_disk);
    fixture.flush();
    assert_eq!(fixture.join_reply(token).error, ErrorCode::None);
    fixture.pass(9_000);
    fixture.answer(heartbeat(&ids[0], 1));
    assert_eq!(fixture.state(), GroupState::Stable);
    fixture.pass(1_000);
    assert_eq!(fixture.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_rebalance_that_begins_before_the_new_id_is_durable_answers_the_join() {
    let mut fixture = Fixture::new();
    let ids = stable(&mut fixture);
    let token = returns(&mut fixture, "two", 9);
    let leader = fixture.ask(Request::Join(JoinRequest {
        member_id: ids[0].clone(),
        ..join_static("one", "")
    }));
    for token in [token, leader] {
        assert_eq!(fixture.join_reply(token).generation_id, 2);
    }
    fixture.end_append(Err(ErrorCode::KafkaStorageError));
    assert_eq!(fixture.state(), GroupState::CompletingRebalance);
}

#[test]
fn a_static_member_may_be_away_during_a_rebalance_for_its_session() {
    let mut fixture = Fixture::new();
    let ids = stable(&mut fixture);
    let leader = fixture.ask(Request::Join(JoinRequest {
        member_id: ids[0].clone(),
        rebalance_timeout_ms: 7_000,
        ..join_static("one", "")
    }));
    fixture.pass(9_000);
    assert!(fixture.is_parked(leader));
    fixture.pass(1_000);
    // Its session ended; until then it was waited for.
    assert_eq!(fixture.join_reply(leader).members.len(), 1);
}

#[test]
fn an_administrator_removes_a_static_member_by_its_name() {
    let mut fixture = Fixture::new();
    stable(&mut fixture);
    let named = |name: &str, member_id: &str| LeavingMember {
        member_id: member_id.to_owned(),
        group_instance_id: Some(name.to_owned()),
    };
    let members = vec![named("two", ""), named("three", ""), named("one", "other")];
    let request = LeaveRequest {
        group_id: GROUP.to_owned(),
        members,
    };
    let Reply::Leave(reply) = fixture.answer(Request::Leave(request)) else {
        panic!("no leave")
    };
    let errors: Vec<_> = reply.members.iter().map(|left| left.error).collect();
    let expected = [
        ErrorCode::None,
        ErrorCode::UnknownMemberId,
        ErrorCode::FencedInstanceId,
    ];
    assert_eq!(errors, expected);
    assert_eq!(fixture.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_name_does_not_belong_to_a_pending_member() {
    let mut fixture = Fixture::new();
    let pending = fixture.member_id("a");
    let request = JoinRequest {
        member_id: pending,
        ..join_static("one", "")
    };
    let token = fixture.ask(Request::Join(request));
    assert_eq!(fixture.join_reply(token).error, ErrorCode::UnknownMemberId);
}
