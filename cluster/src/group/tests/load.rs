//! Loading a partition.

use super::*;

#[test]
fn a_stable_group_goes_on_where_it_was() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a", "b"]);
    let request = commit_request(&ids[0], 1, "topic", 7);
    fixture.answer(Request::CommitOffsets(request));
    let before = fixture.groups.describe(GROUP);
    let mut fixture = fixture.reload(GroupSettings::default());
    assert_eq!(fixture.groups.describe(GROUP), before);
    assert_eq!(fixture.committed("topic"), 7);
    let answer = fixture.answer(heartbeat(&ids[0], 1));
    assert_eq!(answer, Reply::Heartbeat(ErrorCode::None));
    let token = fixture.ask(sync(&ids[1], 1, &[]));
    assert_eq!(*fixture.sync_reply(token).assignment, *ids[1].as_bytes());
    // Sessions began with the load.
    fixture.pass(9_999);
    assert_eq!(fixture.state(), GroupState::Stable);
    fixture.pass(1);
    assert_eq!(fixture.state(), GroupState::Empty);
    assert_eq!(fixture.generation(), 2);
}

#[test]
fn what_was_not_durable_is_gone() {
    let mut fixture = Fixture::new();
    fixture.answer(commit_simple("a", 1));
    fixture.ask(commit_simple("a", 2));
    let mut fixture = fixture.reload(GroupSettings::default());
    assert_eq!(fixture.committed("a"), 1);
}

#[test]
fn a_generation_that_was_not_durable_is_unknown_to_the_loaded_group() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a", "b"]);
    fixture.ask(join(&ids[0], ""));
    fixture.ask(join(&ids[1], ""));
    assert_eq!(fixture.generation(), 2);
    let mut fixture = fixture.reload(GroupSettings::default());
    let answer = fixture.answer(heartbeat(&ids[0], 2));
    assert_eq!(answer, Reply::Heartbeat(ErrorCode::IllegalGeneration));
    // It joins again, and the group moves on.
    let token = fixture.ask(join(&ids[0], ""));
    fixture.ask(join(&ids[1], ""));
    assert_eq!(fixture.join_reply(token).generation_id, 2);
}

#[test]
fn deleted_offsets_and_groups_do_not_come_back() {
    let mut fixture = Fixture::new();
    fixture.answer(commit_simple("a", 1));
    fixture.answer(Request::DeleteGroup {
        group_id: GROUP.to_owned(),
    });
    let fixture = fixture.reload(GroupSettings::default());
    assert_eq!(fixture.groups.group_count(), 0);
}

#[test]
fn a_simple_group_is_known_by_its_offsets_alone() {
    let mut fixture = Fixture::new();
    fixture.answer(commit_simple("a", 1));
    let mut fixture = fixture.reload(GroupSettings::default());
    assert_eq!(fixture.state(), GroupState::Empty);
    assert_eq!(
        commit_error(fixture.answer(commit_simple("a", 2))),
        ErrorCode::None
    );
}

#[test]
fn static_members_keep_their_names() {
    let mut fixture = Fixture::new();
    let token = fixture.ask(Request::Join(join_static("one", "first")));
    fixture.pass(3_000);
    let id = fixture.join_reply(token).member_id.to_string();
    fixture.sync_all(std::slice::from_ref(&id));
    let mut fixture = fixture.reload(GroupSettings::default());
    let token = fixture.ask(Request::Join(join_static("one", "second")));
    fixture.flush();
    let reply = fixture.join_reply(token);
    assert_eq!((reply.error, reply.generation_id), (ErrorCode::None, 1));
}

#[test]
fn a_group_above_a_lowered_limit_shrinks() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a", "b"]);
    let settings = GroupSettings {
        members_max: 1,
        ..GroupSettings::default()
    };
    let mut fixture = fixture.reload(settings);
    assert_eq!(fixture.state(), GroupState::PreparingRebalance);
    let stays = fixture.ask(join(&ids[0], ""));
    let goes = fixture.ask(join(&ids[1], ""));
    assert_eq!(
        fixture.join_reply(goes).error,
        ErrorCode::GroupMaxSizeReached
    );
    assert_eq!(fixture.join_reply(stays).members.len(), 1);
}

#[test]
fn records_of_other_groups_kinds_are_counted_and_skipped() {
    let mut loader = Loader::new();
    loader
        .record(Some(&[0, 5, 0, 1, b'g']), Some(b"\0\0"))
        .unwrap();
    assert_eq!(loader.skipped_record_count(), 1);
    assert!(loader.record(Some(&[0, 1]), Some(b"")).is_err());
    let now = Now {
        timer_ms: 0,
        wall_ms: 0,
    };
    assert_eq!(
        loader.finish(GroupSettings::default(), now).group_count(),
        0
    );
}
