//! `JoinGroup` of dynamic members.

use super::*;

fn refusal(fixture: &mut Fixture, request: JoinRequest) -> ErrorCode {
    let token = fixture.ask(Request::Join(request));
    fixture.join_reply(token).error
}

#[test]
fn a_dynamic_member_must_know_its_id_first() {
    let mut fixture = Fixture::new();
    let token = fixture.ask(join("", "uuid"));
    let expected = JoinReply::error("client-uuid", ErrorCode::MemberIdRequired);
    assert_eq!(fixture.join_reply(token), expected);
    assert_eq!(fixture.state(), GroupState::Empty);
    // The name of the group is written down at once.
    let (_, records) = &fixture.appends[0];
    let [
        OffsetsRecord::Group {
            value: Some(metadata),
            ..
        },
    ] = &records[..]
    else {
        panic!("{records:?}")
    };
    assert_eq!((metadata.generation_id, &*metadata.protocol_type), (0, ""));
    let parked = fixture.ask(join("client-uuid", ""));
    assert!(fixture.is_parked(parked));
    assert_eq!(fixture.state(), GroupState::PreparingRebalance);
}

#[test]
fn an_old_client_joins_without_an_id() {
    let mut fixture = Fixture::new();
    let parked = fixture.ask(Request::Join(JoinRequest {
        api_version: 3,
        ..join_request("", "uuid")
    }));
    fixture.pass(3_000);
    let reply = fixture.join_reply(parked);
    assert_eq!(
        (reply.error, &*reply.member_id),
        (ErrorCode::None, "client-uuid")
    );
}

#[test]
fn the_first_generation_begins_after_the_initial_delay() {
    let mut fixture = Fixture::new();
    let id = fixture.member_id("a");
    let parked = fixture.ask(join(&id, ""));
    fixture.pass(2_999);
    assert!(fixture.is_parked(parked));
    fixture.pass(1);
    let member_id = MemberId::from(&*id);
    let members = vec![JoinedMember {
        member_id: member_id.clone(),
        group_instance_id: None,
        metadata: protocol("range", &["topic"]).metadata,
    }];
    let expected = JoinReply {
        error: ErrorCode::None,
        generation_id: 1,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        leader: member_id.clone(),
        skip_assignment: false,
        member_id,
        members,
    };
    assert_eq!(fixture.join_reply(parked), expected);
    assert_eq!(fixture.state(), GroupState::CompletingRebalance);
}

#[test]
fn the_initial_delay_grows_while_members_keep_coming_up_to_the_rebalance_timeout() {
    let mut fixture = Fixture::new();
    let short = |id: &str| {
        Request::Join(JoinRequest {
            rebalance_timeout_ms: 7_000,
            ..join_request(id, "")
        })
    };
    let ids: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|s| fixture.member_id(s))
        .collect();
    let first = fixture.ask(short(&ids[0]));
    fixture.pass(2_000);
    fixture.ask(short(&ids[1]));
    fixture.pass(2_000); // 3 s are over, and a second delay of 3 s runs.
    fixture.ask(short(&ids[2]));
    fixture.pass(2_000); // 6 s are over, and the last second runs.
    fixture.ask(short(&ids[3]));
    fixture.pass(999);
    assert!(fixture.is_parked(first));
    fixture.pass(1);
    let reply = fixture.join_reply(first);
    assert_eq!((reply.generation_id, reply.members.len()), (1, 4));
}

#[test]
fn without_an_initial_delay_the_first_member_is_answered_at_the_next_moment() {
    let settings = GroupSettings {
        initial_rebalance_delay_ms: 0,
        ..GroupSettings::default()
    };
    let mut fixture = Fixture::with(settings);
    let id = fixture.member_id("a");
    let token = fixture.ask(join(&id, ""));
    assert_eq!(fixture.groups.next_deadline_ms(), fixture.now.timer_ms);
    fixture.pass(0);
    assert_eq!(fixture.join_reply(token).generation_id, 1);
}

#[test]
fn only_the_leader_is_told_the_members() {
    let mut fixture = Fixture::new();
    let ids = [fixture.member_id("a"), fixture.member_id("b")];
    let tokens = ids.clone().map(|id| fixture.ask(join(&id, "")));
    fixture.pass(6_000);
    let [leader, follower] = tokens.map(|token| fixture.join_reply(token));
    assert_eq!(*leader.leader, *ids[0]);
    assert_eq!(*follower.leader, *ids[0]);
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
}

#[test]
fn bad_requests_are_refused() {
    let mut fixture = Fixture::new();
    let good = || join_request("", "x");
    let check = |fixture: &mut Fixture, request: JoinRequest, error: ErrorCode| {
        assert_eq!(refusal(fixture, request), error);
    };
    let nameless = JoinRequest {
        group_id: String::new(),
        ..good()
    };
    check(&mut fixture, nameless, ErrorCode::InvalidGroupId);
    for session_timeout_ms in [5_999, 1_800_001, -1] {
        let request = JoinRequest {
            session_timeout_ms,
            ..good()
        };
        check(&mut fixture, request, ErrorCode::InvalidSessionTimeout);
    }
    let endless = JoinRequest {
        client_id: "x".repeat(32_001),
        ..good()
    };
    check(&mut fixture, endless, ErrorCode::InvalidRequest);
    check(
        &mut fixture,
        join_request("stranger", ""),
        ErrorCode::UnknownMemberId,
    );
    let none = JoinRequest {
        protocols: vec![],
        ..good()
    };
    check(&mut fixture, none, ErrorCode::InconsistentGroupProtocol);
    let untyped = JoinRequest {
        protocol_type: String::new(),
        ..good()
    };
    check(&mut fixture, untyped, ErrorCode::InconsistentGroupProtocol);
    check(
        &mut fixture,
        join_request("stranger", ""),
        ErrorCode::UnknownMemberId,
    );
}

#[test]
fn members_must_share_a_protocol_and_its_type() {
    let mut fixture = Fixture::new();
    fixture.stable(&["a"]);
    let other = JoinRequest {
        protocols: vec![protocol("sticky", &[])],
        ..join_request("", "b")
    };
    assert_eq!(
        refusal(&mut fixture, other),
        ErrorCode::InconsistentGroupProtocol
    );
    let connect = JoinRequest {
        protocol_type: "connect".to_owned(),
        ..join_request("", "b")
    };
    assert_eq!(
        refusal(&mut fixture, connect),
        ErrorCode::InconsistentGroupProtocol
    );
    assert_eq!(fixture.state(), GroupState::Stable);
}

#[test]
fn the_protocol_with_the_most_votes_is_selected() {
    let mut fixture = Fixture::new();
    let (sticky, range) = (
        protocol("sticky", &["topic"]),
        protocol("range", &["topic"]),
    );
    let alone = protocol("alone", &["topic"]);
    let preferences = [
        vec![alone, sticky.clone(), range.clone()],
        vec![range.clone(), sticky.clone()],
        vec![range, sticky],
    ];
    let mut tokens = Vec::new();
    for (suffix, protocols) in ["a", "b", "c"].into_iter().zip(preferences) {
        let id = fixture.member_id(suffix);
        let request = JoinRequest {
            protocols,
            ..join_request(&id, "")
        };
        tokens.push(fixture.ask(Request::Join(request)));
    }
    fixture.settle();
    for token in tokens {
        assert_eq!(
            fixture.join_reply(token).protocol_name.as_deref(),
            Some("range")
        );
    }
}

#[test]
fn a_new_member_moves_a_stable_group() {
    let mut fixture = Fixture::new();
    let mut ids = fixture.stable(&["a", "b"]);
    ids.push(fixture.member_id("c"));
    let third = fixture.ask(join(&ids[2], ""));
    assert_eq!(fixture.state(), GroupState::PreparingRebalance);
    let generation = fixture.generation();
    let answer = fixture.answer(heartbeat(&ids[0], generation));
    assert_eq!(answer, Reply::Heartbeat(ErrorCode::RebalanceInProgress));
    let first = fixture.ask(join(&ids[0], ""));
    assert!(fixture.is_parked(first));
    // The last to join ends the rebalance at once.
    let second = fixture.ask(join(&ids[1], ""));
    for token in [first, second, third] {
        assert_eq!(fixture.join_reply(token).generation_id, generation + 1);
    }
    fixture.sync_all(&ids);
}

#[test]
fn who_does_not_rejoin_in_time_is_removed() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a", "b"]);
    let leader = fixture.ask(join(&ids[0], ""));
    let generation = fixture.generation();
    for _ in 0..11 {
        // It lives, but it does not join.
        let answer = fixture.answer(heartbeat(&ids[1], generation));
        assert_eq!(answer, Reply::Heartbeat(ErrorCode::RebalanceInProgress));
        fixture.pass(5_000);
    }
    assert!(fixture.is_parked(leader));
    fixture.pass(5_000);
    let reply = fixture.join_reply(leader);
    assert_eq!(
        (reply.generation_id, reply.members.len()),
        (generation + 1, 1)
    );
    let answer = fixture.answer(heartbeat(&ids[1], generation));
    assert_eq!(answer, Reply::Heartbeat(ErrorCode::UnknownMemberId));
}

#[test]
fn the_leadership_goes_to_a_member_that_joined() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a", "b"]);
    let mut changed = join_request(&ids[1], "");
    changed.protocols = vec![protocol("range", &["other"])];
    let follower = fixture.ask(Request::Join(changed));
    let generation = fixture.generation();
    for _ in 0..12 {
        fixture.answer(heartbeat(&ids[0], generation));
        fixture.pass(5_000);
    }
    let reply = fixture.join_reply(follower);
    assert_eq!((&*reply.leader, reply.members.len()), (&*ids[1], 1));
}

#[test]
fn a_follower_that_joins_again_unchanged_is_told_the_current_generation() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a", "b"]);
    let token = fixture.ask(join(&ids[1], ""));
    let reply = fixture.join_reply(token);
    assert_eq!(
        (reply.error, reply.generation_id),
        (ErrorCode::None, fixture.generation())
    );
    assert_eq!(fixture.state(), GroupState::Stable);
}

#[test]
fn the_leader_forces_a_rebalance_by_joining_again() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a", "b"]);
    let token = fixture.ask(join(&ids[0], ""));
    assert!(fixture.is_parked(token));
    assert_eq!(fixture.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_join_that_is_repeated_takes_the_place_of_the_parked_one() {
    let mut fixture = Fixture::new();
    let id = fixture.member_id("a");
    let lost = fixture.ask(join(&id, ""));
    let token = fixture.ask(join(&id, ""));
    assert_eq!(
        fixture.join_reply(lost).error,
        ErrorCode::RebalanceInProgress
    );
    fixture.pass(6_000);
    assert_eq!(fixture.join_reply(token).error, ErrorCode::None);
    // After the answer was lost, the same is told again.
    let again = fixture.ask(join(&id, ""));
    let reply = fixture.join_reply(again);
    assert_eq!((reply.generation_id, reply.members.len()), (1, 1));
    assert_eq!(fixture.state(), GroupState::CompletingRebalance);
}

#[test]
fn new_metadata_while_the_rebalance_completes_begins_another() {
    let mut fixture = Fixture::new();
    let ids = [fixture.member_id("a"), fixture.member_id("b")];
    let tokens = ids.clone().map(|id| fixture.ask(join(&id, "")));
    fixture.pass(6_000);
    for token in tokens {
        assert_eq!(fixture.join_reply(token).error, ErrorCode::None);
    }
    let waiting = fixture.ask(sync(&ids[1], 1, &[]));
    assert!(fixture.is_parked(waiting));
    let mut changed = join_request(&ids[0], "");
    changed.protocols = vec![protocol("range", &["topic", "more"])];
    let token = fixture.ask(Request::Join(changed));
    assert!(fixture.is_parked(token));
    assert_eq!(
        fixture.sync_reply(waiting).error,
        ErrorCode::RebalanceInProgress
    );
    assert_eq!(fixture.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_full_group_turns_new_members_away() {
    let settings = GroupSettings {
        members_max: 2,
        ..GroupSettings::default()
    };
    let mut fixture = Fixture::with(settings);
    let ids = fixture.stable(&["a", "b"]);
    let token = fixture.ask(join("", "c"));
    let expected = JoinReply::error("", ErrorCode::GroupMaxSizeReached);
    assert_eq!(fixture.join_reply(token), expected);
    let again = fixture.ask(join(&ids[1], ""));
    assert_eq!(fixture.join_reply(again).error, ErrorCode::None);
}

#[test]
fn while_a_full_group_prepares_the_last_to_come_are_turned_away() {
    let settings = GroupSettings {
        members_max: 2,
        ..GroupSettings::default()
    };
    let mut fixture = Fixture::with(settings);
    let ids = ["a", "b", "c"].map(|suffix| fixture.member_id(suffix));
    let parked = [
        fixture.ask(join(&ids[0], "")),
        fixture.ask(join(&ids[1], "")),
    ];
    let token = fixture.ask(join(&ids[2], ""));
    assert_eq!(
        fixture.join_reply(token).error,
        ErrorCode::GroupMaxSizeReached
    );
    fixture.settle();
    for token in parked {
        assert_eq!(fixture.join_reply(token).error, ErrorCode::None);
    }
}

#[test]
fn ids_that_nobody_uses_are_bounded() {
    let settings = GroupSettings {
        pending_members_max: 2,
        ..GroupSettings::default()
    };
    let mut fixture = Fixture::with(settings);
    fixture.member_id("a");
    fixture.member_id("b");
    assert_eq!(
        refusal(&mut fixture, join_request("", "c")),
        ErrorCode::GroupMaxSizeReached
    );
    fixture.pass(10_000);
    fixture.member_id("c");
}

#[test]
fn a_rebalance_waits_for_members_that_were_given_an_id() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a"]);
    let late = fixture.member_id("late");
    let parked = fixture.ask(join(&ids[0], ""));
    assert!(fixture.is_parked(parked));
    let other = fixture.ask(join(&late, ""));
    assert_eq!(fixture.join_reply(parked).members.len(), 2);
    assert_eq!(fixture.join_reply(other).error, ErrorCode::None);
}

#[test]
fn a_protocol_named_twice_counts_once() {
    let mut fixture = Fixture::new();
    let id = fixture.member_id("a");
    let twice = vec![protocol("range", &["topic"]), protocol("range", &["other"])];
    let first = JoinRequest {
        protocols: twice,
        ..join_request(&id, "")
    };
    let token = fixture.ask(Request::Join(first));
    let second = fixture.member_id("b");
    fixture.ask(join(&second, ""));
    fixture.settle();
    let reply = fixture.join_reply(token);
    assert_eq!(
        reply.members[0].metadata,
        protocol("range", &["topic"]).metadata
    );
}
