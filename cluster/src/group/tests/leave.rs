//! `LeaveGroup`.

use super::*;

fn errors(reply: Reply) -> Vec<ErrorCode> {
    let Reply::Leave(reply) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(reply.error, ErrorCode::None);
    reply.members.into_iter().map(|left| left.error).collect()
}

#[test]
fn the_others_rebalance_when_a_member_leaves() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a", "b"]);
    let token = fixture.ask(leave(&[&ids[0]]));
    // Nothing is written, so nothing is awaited.
    assert_eq!(errors(fixture.reply(token)), [ErrorCode::None]);
    assert_eq!(fixture.state(), GroupState::PreparingRebalance);
    let rest = fixture.ask(join(&ids[1], ""));
    assert_eq!(fixture.join_reply(rest).members.len(), 1);
}

#[test]
fn the_last_to_leave_waits_until_the_empty_group_is_durable() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a"]);
    let token = fixture.ask(leave(&[&ids[0]]));
    assert!(fixture.is_parked(token));
    assert_eq!(fixture.state(), GroupState::Empty);
    let records = fixture.end_append(Ok(()));
    assert_eq!(errors(fixture.reply(token)), [ErrorCode::None]);
    let [
        OffsetsRecord::Group {
            value: Some(metadata),
            ..
        },
    ] = &records[..]
    else {
        panic!("{records:?}")
    };
    assert_eq!((metadata.generation_id, metadata.members.len()), (2, 0));
    assert_eq!(
        (&*metadata.protocol_type, &metadata.protocol_name),
        ("consumer", &None)
    );
}

#[test]
fn several_leave_at_once_and_each_has_its_result() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a", "b", "c"]);
    let pending = fixture.member_id("pending");
    let reply = fixture.answer(leave(&[&ids[0], "nobody", &pending, &ids[1], ""]));
    let unknown = ErrorCode::UnknownMemberId;
    let expected = [
        ErrorCode::None,
        unknown,
        ErrorCode::None,
        ErrorCode::None,
        unknown,
    ];
    assert_eq!(errors(reply), expected);
    let rest = fixture.ask(join(&ids[2], ""));
    assert_eq!(fixture.join_reply(rest).members.len(), 1);
}

#[test]
fn when_a_member_leaves_that_all_waited_for_the_rebalance_goes_on() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a", "b"]);
    let leader = fixture.ask(join(&ids[0], ""));
    assert!(fixture.is_parked(leader));
    fixture.answer(leave(&[&ids[1]]));
    assert_eq!(fixture.join_reply(leader).members.len(), 1);
}

#[test]
fn a_member_that_leaves_with_requests_parked_is_told_that_it_is_unknown() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a", "b", "c"]);
    let joins = fixture.ask(join(&ids[0], ""));
    fixture.answer(leave(&[&ids[0]]));
    assert_eq!(
        fixture.join_reply(joins),
        JoinReply::error("", ErrorCode::UnknownMemberId)
    );
    for id in &ids[1..] {
        fixture.ask(join(id, ""));
    }
    let syncs = fixture.ask(sync(&ids[2], 2, &[]));
    assert!(fixture.is_parked(syncs));
    fixture.answer(leave(&[&ids[2]]));
    assert_eq!(fixture.sync_reply(syncs).error, ErrorCode::UnknownMemberId);
}

#[test]
fn from_a_group_that_does_not_exist_nobody_can_leave() {
    let mut fixture = Fixture::new();
    let reply = fixture.answer(leave(&["a", "b"]));
    assert_eq!(errors(reply), [ErrorCode::UnknownMemberId; 2]);
}

#[test]
fn if_the_empty_group_cannot_be_written_the_last_to_leave_is_told() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a"]);
    let token = fixture.ask(leave(&[&ids[0]]));
    fixture.end_append(Err(ErrorCode::NotEnoughReplicas));
    let Reply::Leave(reply) = fixture.reply(token) else {
        panic!("not a leave")
    };
    assert_eq!(reply.error, ErrorCode::CoordinatorNotAvailable);
}
