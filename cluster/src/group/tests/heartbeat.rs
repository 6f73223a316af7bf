//! Heartbeat.

use super::*;

fn beat(fixture: &mut Fixture, member_id: &str, generation_id: i32) -> ErrorCode {
    match fixture.answer(heartbeat(member_id, generation_id)) {
        Reply::Heartbeat(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_member_of_a_stable_group_stays_by_heartbeats() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a"]);
    for _ in 0..10 {
        fixture.pass(9_000);
        assert_eq!(beat(&mut fixture, &ids[0], 1), ErrorCode::None);
    }
    assert_eq!(fixture.state(), GroupState::Stable);
}

#[test]
fn members_may_heartbeat_between_join_and_sync() {
    let mut fixture = Fixture::new();
    let id = fixture.member_id("a");
    fixture.ask(join(&id, ""));
    fixture.pass(3_000);
    assert_eq!(fixture.state(), GroupState::CompletingRebalance);
    assert_eq!(beat(&mut fixture, &id, 1), ErrorCode::None);
}

#[test]
fn strangers_and_old_generations_are_told() {
    let mut fixture = Fixture::new();
    assert_eq!(beat(&mut fixture, "nobody", 1), ErrorCode::UnknownMemberId);
    let ids = fixture.stable(&["a"]);
    assert_eq!(beat(&mut fixture, "nobody", 1), ErrorCode::UnknownMemberId);
    assert_eq!(beat(&mut fixture, &ids[0], 0), ErrorCode::IllegalGeneration);
    assert_eq!(beat(&mut fixture, &ids[0], 2), ErrorCode::IllegalGeneration);
    let nameless = HeartbeatRequest::default();
    let answer = fixture.answer(Request::Heartbeat(nameless));
    assert_eq!(answer, Reply::Heartbeat(ErrorCode::InvalidGroupId));
    fixture.answer(leave(&[&ids[0]]));
    assert_eq!(beat(&mut fixture, &ids[0], 1), ErrorCode::UnknownMemberId);
}

#[test]
fn a_pending_member_has_nothing_to_heartbeat_for() {
    let mut fixture = Fixture::new();
    let id = fixture.member_id("a");
    assert_eq!(beat(&mut fixture, &id, 0), ErrorCode::UnknownMemberId);
}
