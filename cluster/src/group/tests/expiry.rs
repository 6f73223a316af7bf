//! The retention of offsets (KIP-211).

use super::*;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
const CHECK_MS: i64 = 10 * 60 * 1_000;

#[test]
fn offsets_without_membership_are_kept_for_the_retention_after_the_commit() {
    let mut fixture = Fixture::new();
    fixture.answer(commit_simple("a", 1));
    fixture.pass(DAY_MS);
    fixture.answer(commit_simple("b", 2));
    fixture.pass(6 * DAY_MS - CHECK_MS);
    assert_eq!((fixture.committed("a"), fixture.committed("b")), (1, 2));
    fixture.pass(2 * CHECK_MS);
    assert_eq!((fixture.committed("a"), fixture.committed("b")), (-1, 2));
    fixture.pass(DAY_MS);
    // The last offset takes the group with it.
    assert_eq!(fixture.groups.group_count(), 0);
    let last = fixture.log.last();
    assert!(
        matches!(last, Some(OffsetsRecord::Group { value: None, .. })),
        "{last:?}"
    );
}

#[test]
fn a_group_that_had_members_keeps_its_offsets_from_when_the_last_left() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a"]);
    let request = commit_request(&ids[0], 1, "topic", 7);
    fixture.answer(Request::CommitOffsets(request));
    for _ in 0..8 * DAY_MS / 9_000 {
        fixture.answer(heartbeat(&ids[0], 1));
        fixture.pass(9_000);
    }
    assert_eq!(fixture.committed("topic"), 7);
    fixture.answer(leave(&[&ids[0]]));
    fixture.pass(7 * DAY_MS - CHECK_MS);
    assert_eq!(fixture.committed("topic"), 7);
    fixture.pass(2 * CHECK_MS);
    assert_eq!(fixture.groups.group_count(), 0);
}

#[test]
fn a_stable_group_loses_old_offsets_of_topics_it_no_longer_reads() {
    let settings = GroupSettings {
        offsets_retention_ms: 60_000,
        offsets_retention_check_interval_ms: 10_000,
        ..GroupSettings::default()
    };
    let mut fixture = Fixture::with(settings);
    let ids = fixture.stable(&["a"]);
    for topic in ["topic", "former"] {
        let request = commit_request(&ids[0], 1, topic, 7);
        fixture.answer(Request::CommitOffsets(request));
    }
    for _ in 0..10 {
        fixture.answer(heartbeat(&ids[0], 1));
        fixture.pass(9_000);
    }
    assert_eq!(
        (fixture.committed("topic"), fixture.committed("former")),
        (7, -1)
    );
}

#[test]
fn an_expiry_that_the_consumer_asked_for_counts_alone() {
    let mut fixture = Fixture::new();
    let request = CommitRequest {
        retention_time_ms: 60_000,
        api_version: 2,
        ..commit_request("", -1, "a", 7)
    };
    fixture.answer(Request::CommitOffsets(request));
    fixture.pass(50_000);
    assert_eq!(fixture.committed("a"), 7);
    fixture.pass(CHECK_MS);
    assert_eq!(fixture.committed("a"), -1);
}

#[test]
fn a_group_that_holds_nothing_goes_at_the_next_check() {
    let mut fixture = Fixture::new();
    let id = fixture.member_id("a");
    assert_eq!(fixture.groups.group_count(), 1);
    fixture.pass(CHECK_MS);
    assert_eq!(fixture.groups.group_count(), 0);
    let token = fixture.ask(join(&id, ""));
    assert_eq!(fixture.join_reply(token).error, ErrorCode::UnknownMemberId);
}

#[test]
fn tombstones_that_fail_are_tried_again() {
    let settings = GroupSettings {
        offsets_retention_ms: 1_000,
        ..GroupSettings::default()
    };
    let mut fixture = Fixture::with(settings);
    fixture.answer(commit_simple("a", 1));
    fixture.now.timer_ms += CHECK_MS;
    fixture.now.wall_ms += CHECK_MS;
    let mut commands = Vec::new();
    fixture.groups.on_time(fixture.now, &mut commands);
    fixture.perform(commands);
    fixture.end_append(Err(ErrorCode::KafkaStorageError));
    assert_eq!(fixture.committed("a"), 1);
    fixture.pass(CHECK_MS);
    assert_eq!(fixture.groups.group_count(), 0);
}
