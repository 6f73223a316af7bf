//! `OffsetFetch`.

use super::*;

fn fetch(topics: Option<Vec<FetchTopic>>, require_stable: bool) -> Request {
    Request::FetchOffsets(FetchRequest {
        group_id: GROUP.to_owned(),
        topics,
        require_stable,
    })
}

fn topic(name: &str, topic_id: Uuid, partitions: &[i32]) -> FetchTopic {
    FetchTopic {
        name: name.into(),
        topic_id,
        partitions: partitions.to_vec(),
    }
}

fn fetched(fixture: &mut Fixture, token: Token) -> Vec<(String, Vec<(i32, i64)>)> {
    let Reply::FetchOffsets(reply) = fixture.reply(token) else {
        panic!("not a fetch")
    };
    assert_eq!(reply.error, ErrorCode::None);
    let topics = reply.topics.into_iter().map(|topic| {
        let offsets = topic
            .partitions
            .iter()
            .map(|p| (p.partition, p.offset))
            .collect();
        (topic.name.to_string(), offsets)
    });
    topics.collect()
}

#[test]
fn what_was_never_committed_is_minus_one() {
    let mut fixture = Fixture::new();
    let asked = || fetch(Some(vec![topic("a", Uuid::ZERO, &[1, 0])]), false);
    let token = fixture.ask(asked());
    assert_eq!(
        fetched(&mut fixture, token),
        [("a".to_owned(), vec![(1, -1), (0, -1)])]
    );
    assert_eq!(fixture.groups.group_count(), 0);
    fixture.answer(commit_simple("a", 7));
    let token = fixture.ask(asked());
    assert_eq!(
        fetched(&mut fixture, token),
        [("a".to_owned(), vec![(1, -1), (0, 7)])]
    );
}

#[test]
fn all_offsets_are_shown_when_none_is_named() {
    let mut fixture = Fixture::new();
    let token = fixture.ask(fetch(None, false));
    assert_eq!(fetched(&mut fixture, token), []);
    fixture.answer(commit_simple("b", 2));
    fixture.answer(commit_simple("a", 1));
    let token = fixture.ask(fetch(None, false));
    let expected = [
        ("a".to_owned(), vec![(0, 1)]),
        ("b".to_owned(), vec![(0, 2)]),
    ];
    assert_eq!(fetched(&mut fixture, token), expected);
}

#[test]
fn a_fetch_of_stable_offsets_waits_for_the_commits_before_it() {
    let mut fixture = Fixture::new();
    fixture.answer(commit_simple("a", 1));
    let at_once = fixture.ask(fetch(None, true));
    assert_eq!(fetched(&mut fixture, at_once)[0].1, [(0, 1)]);
    fixture.ask(commit_simple("a", 2));
    fixture.ask(commit_simple("a", 3));
    let waits = fixture.ask(fetch(None, true));
    let later = fixture.ask(commit_simple("a", 4));
    fixture.end_append(Ok(()));
    assert!(fixture.is_parked(waits));
    fixture.end_append(Ok(()));
    assert_eq!(fetched(&mut fixture, waits)[0].1, [(0, 3)]);
    assert!(fixture.is_parked(later));
}

#[test]
fn an_offset_of_a_topic_that_was_made_again_is_not_shown() {
    let mut fixture = Fixture::new();
    let (old, new) = (Uuid([1; 16]), Uuid([2; 16]));
    let mut request = commit_request("", -1, "a", 7);
    request.topics[0].topic_id = old;
    fixture.answer(Request::CommitOffsets(request));
    for (topic_id, offset) in [(old, 7), (Uuid::ZERO, 7), (new, -1)] {
        let token = fixture.ask(fetch(Some(vec![topic("a", topic_id, &[0])]), false));
        assert_eq!(fetched(&mut fixture, token)[0].1, [(0, offset)]);
    }
}

#[test]
fn what_is_kept_with_an_offset_comes_back() {
    let mut fixture = Fixture::new();
    fixture.answer(commit_simple("a", 7));
    let token = fixture.ask(fetch(None, false));
    let Reply::FetchOffsets(reply) = fixture.reply(token) else {
        panic!("not a fetch")
    };
    let expected = FetchedOffset {
        partition: 0,
        offset: 7,
        leader_epoch: 3,
        metadata: "kept".into(),
    };
    assert_eq!(reply.topics[0].partitions, [expected]);
}
