//! `DescribeGroups`, `ListGroups`, and giving up the partition.

use super::*;

#[test]
fn a_stable_group_shows_its_members_with_their_metadata() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a"]);
    let member = MemberDescription {
        member_id: (*ids[0]).into(),
        group_instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        metadata: protocol("range", &["topic"]).metadata,
        assignment: ids[0].as_bytes().into(),
    };
    let expected = GroupDescription {
        state: GroupState::Stable,
        protocol_type: "consumer".into(),
        protocol_data: "range".into(),
        members: vec![member.clone()],
    };
    assert_eq!(fixture.groups.describe(GROUP), Some(expected.clone()));
    fixture.member_id("b");
    fixture.ask(join(&ids[0], ""));
    let moving = GroupDescription {
        state: GroupState::PreparingRebalance,
        protocol_data: "".into(),
        members: vec![MemberDescription {
            metadata: Bytes::default(),
            ..member
        }],
        ..expected
    };
    assert_eq!(fixture.groups.describe(GROUP), Some(moving));
    assert_eq!(fixture.groups.describe("nobody"), None);
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut fixture = Fixture::new();
    fixture.stable(&["a"]);
    let simple = CommitRequest {
        group_id: "simple".to_owned(),
        ..commit_request("", -1, "topic", 1)
    };
    fixture.answer(Request::CommitOffsets(simple));
    let listed = |states: &[&str], types: &[&str]| -> Vec<String> {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        let filter = ListFilter {
            states: names(states),
            types: names(types),
        };
        let listings = fixture.groups.list(&filter);
        listings
            .iter()
            .map(|listing| listing.group_id.to_string())
            .collect()
    };
    assert_eq!(listed(&[], &[]), [GROUP, "simple"]);
    assert_eq!(listed(&["stable"], &[]), [GROUP]);
    assert_eq!(listed(&["Empty ", "Dead"], &["classic"]), ["simple"]);
    assert_eq!(listed(&[], &["Consumer"]), [""; 0]);
    assert_eq!(listed(&["PreparingRebalance"], &["Classic"]), [""; 0]);
}

#[test]
fn giving_up_the_partition_answers_everything_that_waits() {
    let mut fixture = Fixture::new();
    let ids = fixture.stable(&["a", "b", "c"]);
    let mut request = commit_request(&ids[0], 1, "topic", 1);
    let commits = fixture.ask(Request::CommitOffsets(request.clone()));
    request.group_id = "simple".to_owned();
    request.generation_id = -1;
    fixture.ask(Request::CommitOffsets(request));
    let deletes = fixture.ask(Request::DeleteGroup {
        group_id: "simple".to_owned(),
    });
    let joins = fixture.ask(join(&ids[0], ""));
    let stable = Request::FetchOffsets(FetchRequest {
        group_id: GROUP.to_owned(),
        topics: None,
        require_stable: true,
    });
    let fetches = fixture.ask(stable);
    let mut commands = Vec::new();
    let groups = std::mem::replace(
        &mut fixture.groups,
        Groups::new(GroupSettings::default(), fixture.now),
    );
    groups.unload(&mut commands);
    fixture.perform(commands);
    let error = ErrorCode::NotCoordinator;
    assert_eq!(commit_error(fixture.reply(commits)), error);
    assert_eq!(fixture.reply(deletes), Reply::DeleteGroup(error));
    assert_eq!(fixture.join_reply(joins), JoinReply::error(&ids[0], error));
    let Reply::FetchOffsets(reply) = fixture.reply(fetches) else {
        panic!("not a fetch")
    };
    assert_eq!(reply.error, error);
}
