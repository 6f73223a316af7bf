//! Deadlines: sessions, pending members, parked joins, syncs that never come.

use super::*;

#[test]
fn a_silent_member_is_removed_and_the_others_rebalance() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a", "b"]);
    fixture.pass(9_999);
    fixture.answer(heartbeat(&ids[0], 1));
    assert_eq!(fixture.state(), GroupState::Stable);
    fixture.pass(1);
    assert_eq!(fixture.state(), GroupState::PreparingRebalance);
    let token = fixture.ask(join(&ids[0], ""));
    assert_eq!(fixture.join_reply(token).members.len(), 1);
}

#[test]
fn when_all_fall_silent_the_group_is_empty_and_that_is_written() {
    let mut fixture = Fixture::new();
    fixture.stable(&["a", "b"]);
    fixture.pass(10_000);
    assert_eq!(fixture.state(), GroupState::Empty);
    let Some(OffsetsRecord::Group {
        value: Some(metadata),
        ..
    }) = fixture.log.last()
    else {
        panic!("{:?}", fixture.log)
    };
    assert_eq!((metadata.generation_id, metadata.members.len()), (2, 0));
}

#[test]
fn a_pending_member_is_forgotten_and_no_longer_waited_for() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a"]);
    fixture.member_id("never");
    let token = fixture.ask(join(&ids[0], ""));
    fixture.pass(9_999);
    assert!(fixture.is_parked(token));
    fixture.pass(1);
    assert_eq!(fixture.join_reply(token).members.len(), 1);
    let late = fixture.ask(join("client-never", ""));
    assert_eq!(fixture.join_reply(late).error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_parked_join_keeps_a_member_alive_that_was_here_before() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a", "b"]);
    let token = fixture.ask(join(&ids[0], ""));
    for _ in 0..10 {
        fixture.pass(5_000);
        fixture.answer(heartbeat(&ids[1], 1));
    }
    assert!(fixture.is_parked(token));
    let other = fixture.ask(join(&ids[1], ""));
    assert_eq!(fixture.join_reply(token).error, ErrorCode::None);
    assert_eq!(fixture.join_reply(other).error, ErrorCode::None);
    // Watched again: the next silence is noticed.
    fixture.pass(10_000);
    assert_eq!(fixture.state(), GroupState::Empty);
}

#[test]
fn a_parked_join_of_a_new_member_is_given_up_after_its_own_timeout() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a"]);
    let patient = |id: &str| {
        Request::Join(JoinRequest {
            rebalance_timeout_ms: 600_000,
            ..join_request(id, "")
        })
    };
    let newcomer = fixture.member_id("new");
    let token = fixture.ask(patient(&newcomer));
    for _ in 0..60 {
        assert!(fixture.is_parked(token));
        fixture.answer(heartbeat(&ids[0], 1));
        fixture.pass(5_000);
    }
    assert_eq!(
        fixture.join_reply(token),
        JoinReply::error("", ErrorCode::UnknownMemberId)
    );
}

#[test]
fn who_does_not_sync_in_time_is_removed() {
    let mut fixture = Fixture::new();
    let ids = [fixture.member_id("a"), fixture.member_id("b")];
    for id in &ids {
        fixture.ask(join(id, ""));
    }
    fixture.pass(6_000);
    let token = fixture.ask(sync(&ids[0], 1, &ids));
    fixture.flush();
    assert_eq!(fixture.sync_reply(token).error, ErrorCode::None);
    for _ in 0..12 {
        assert_eq!(fixture.state(), GroupState::Stable);
        // Both live, but the second never fetches its assignment.
        fixture.answer(heartbeat(&ids[0], 1));
        fixture.answer(heartbeat(&ids[1], 1));
        fixture.pass(5_000);
    }
    assert_eq!(fixture.state(), GroupState::PreparingRebalance);
    let answer = fixture.answer(heartbeat(&ids[1], 1));
    assert_eq!(answer, Reply::Heartbeat(ErrorCode::UnknownMemberId));
}

#[test]
fn when_the_leader_never_assigns_it_is_removed_and_the_others_try_again() {
    let mut fixture = Fixture::new();
    let ids = [fixture.member_id("a"), fixture.member_id("b")];
    for id in &ids {
        fixture.ask(join(id, ""));
    }
    fixture.pass(6_000);
    let follower = fixture.ask(sync(&ids[1], 1, &[]));
    for _ in 0..12 {
        assert!(fixture.is_parked(follower));
        fixture.answer(heartbeat(&ids[0], 1));
        fixture.pass(5_000);
    }
    assert_eq!(
        fixture.sync_reply(follower).error,
        ErrorCode::RebalanceInProgress
    );
    let again = fixture.ask(join(&ids[1], ""));
    assert_eq!(*fixture.join_reply(again).leader, *ids[1]);
}

#[test]
fn time_that_jumps_far_ahead_does_all_that_is_due() {
    let mut fixture = Fixture::new();
    fixture.stable(&["a", "b"]);
    fixture.member_id("pending");
    fixture.now.timer_ms += 1_000_000;
    let mut commands = Vec::new();
    fixture.groups.on_time(fixture.now, &mut commands);
    fixture.perform(commands);
    fixture.pass(0);
    assert_eq!(fixture.state(), GroupState::Empty);
}
