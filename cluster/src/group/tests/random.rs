//! Random sequences of events. After each the invariants hold and nobody is answered twice; at the end
//! nobody is left waiting, and a reload shows exactly what was shown before.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// What may happen. Numbers choose among the members that exist at that moment.
#[derive(Debug, Clone, Copy)]
enum Event {
    NewDynamic { is_old_client: bool },
    NewStatic { name: u8, protocols: u8 },
    Rejoin { member: u8, protocols: u8 },
    Sync { member: u8, is_stale: bool },
    Heartbeat { member: u8 },
    Leave { member: u8 },
    Commit { member: u8, topic: u8 },
    CommitSimple { topic: u8 },
    FetchStable,
    DeleteOffsets { topic: u8 },
    DeleteGroup,
    ForgetTopic { topic: u8 },
    Append { fails: bool },
    Pass { millis: u16 },
}

fn any_event() -> impl Strategy<Value = Event> {
    use Event::*;
    let byte = any::<u8>;
    prop_oneof![
        2 => any::<bool>().prop_map(|is_old_client| NewDynamic { is_old_client }),
        2 => (byte(), byte()).prop_map(|(name, protocols)| NewStatic { name, protocols }),
        6 => (byte(), byte()).prop_map(|(member, protocols)| Rejoin { member, protocols }),
        6 => (byte(), proptest::bool::weighted(0.1))
            .prop_map(|(member, is_stale)| Sync { member, is_stale }),
        2 => byte().prop_map(|member| Heartbeat { member }),
        1 => byte().prop_map(|member| Leave { member }),
        2 => (byte(), byte()).prop_map(|(member, topic)| Commit { member, topic }),
        1 => byte().prop_map(|topic| CommitSimple { topic }),
        1 => Just(FetchStable),
        1 => byte().prop_map(|topic| DeleteOffsets { topic }),
        1 => Just(DeleteGroup),
        1 => byte().prop_map(|topic| ForgetTopic { topic }),
        8 => proptest::bool::weighted(0.1).prop_map(|fails| Append { fails }),
        4 => (0_u16..20_000).prop_map(|millis| Pass { millis }),
    ]
}

struct Run {
    fixture: Fixture,
    /// Every id that was ever told, with its static name.
    ids: Vec<(String, Option<String>)>,
    asked: BTreeSet<Token>,
    count: u64,
}

impl Run {
    fn new() -> Self {
        let settings = GroupSettings {
            members_max: 4,
            ..GroupSettings::default()
        };
        let (ids, asked) = (Vec::new(), BTreeSet::new());
        Self {
            fixture: Fixture::with(settings),
            ids,
            asked,
            count: 0,
        }
    }

    fn ask(&mut self, request: Request) {
        let token = self.fixture.ask(request);
        self.asked.insert(token);
    }

    fn member(&self, choice: u8) -> (String, Option<String>) {
        match self.ids.len() {
            0 => ("nobody".to_owned(), None),
            // Rather the newest: most of the others are gone.
            length => self.ids[length - 1 - usize::from(choice) % length.min(6)].clone(),
        }
    }

    /// Remembers what was told, so that it can be used.
    fn collect_ids(&mut self) {
        for reply in self.fixture.replies.values() {
            let Reply::Join(reply) = reply else { continue };
            let id = reply.member_id.to_string();
            let is_good = matches!(reply.error, ErrorCode::None | ErrorCode::MemberIdRequired);
            if is_good && !self.ids.iter().any(|(known, _)| *known == id) {
                let name = id.strip_prefix("static").map(|_| id[..7].to_owned());
                self.ids.push((id, name));
            }
        }
    }

    fn generation(&self) -> i32 {
        match self.fixture.groups.describe(GROUP) {
            Some(_) => self.fixture.generation(),
            None => 0,
        }
    }

    fn happen(&mut self, event: Event) {
        self.count += 1;
        let suffix = self.count.to_string();
        match event {
            Event::NewDynamic { is_old_client } => {
                let api_version = if is_old_client { 2 } else { 9 };
                let request = JoinRequest {
                    api_version,
                    ..join_request("", &suffix)
                };
                self.ask(Request::Join(request));
            }
            Event::NewStatic { name, protocols } => {
                let request = join_static(&format!("static{}", name % 3), &suffix);
                self.ask(Request::Join(JoinRequest {
                    protocols: some(protocols),
                    ..request
                }));
            }
            Event::Rejoin { member, protocols } => {
                let (id, group_instance_id) = self.member(member);
                let protocols = some(protocols);
                let request = JoinRequest {
                    group_instance_id,
                    protocols,
                    ..join_request(&id, "")
                };
                self.ask(Request::Join(request));
            }
            Event::Sync { member, is_stale } => self.sync(member, is_stale),
            Event::Heartbeat { member } => {
                let id = self.member(member).0;
                self.ask(heartbeat(&id, self.generation()));
            }
            Event::Leave { member } => {
                let id = self.member(member).0;
                self.ask(leave(&[&id]));
            }
            Event::Append { fails } => self.end_append(fails),
            Event::Pass { millis } => self.pass(millis),
            Event::Commit { .. }
            | Event::CommitSimple { .. }
            | Event::FetchStable
            | Event::DeleteOffsets { .. }
            | Event::DeleteGroup
            | Event::ForgetTopic { .. } => self.happen_to_offsets(event),
        }
        self.collect_ids();
    }

    fn happen_to_offsets(&mut self, event: Event) {
        let offset = self.count as i64;
        match event {
            Event::Commit { member, topic } => {
                let id = self.member(member).0;
                let generation = self.generation();
                let request = commit_request(&id, generation, topic_name(topic), offset);
                self.ask(Request::CommitOffsets(request));
            }
            Event::CommitSimple { topic } => self.ask(commit_simple(topic_name(topic), offset)),
            Event::FetchStable => {
                let group_id = GROUP.to_owned();
                let request = FetchRequest {
                    group_id,
                    topics: None,
                    require_stable: true,
                };
                self.ask(Request::FetchOffsets(request));
            }
            Event::DeleteOffsets { topic } => {
                let topics = vec![(topic_name(topic).into(), vec![0])];
                let request = DeleteOffsetsRequest {
                    group_id: GROUP.to_owned(),
                    topics,
                };
                self.ask(Request::DeleteOffsets(request));
            }
            Event::DeleteGroup => self.ask(Request::DeleteGroup {
                group_id: GROUP.to_owned(),
            }),
            Event::ForgetTopic { topic } => {
                let name = topic_name(topic).into();
                let deleted = [DeletedTopic {
                    name,
                    topic_id: Uuid::ZERO,
                }];
                let mut commands = Vec::new();
                self.fixture
                    .groups
                    .forget_topics(&deleted, self.fixture.now, &mut commands);
                self.fixture.perform(commands);
            }
            _ => unreachable!("{event:?} has nothing to do with offsets"),
        }
    }

    fn sync(&mut self, member: u8, is_stale: bool) {
        let (id, group_instance_id) = self.member(member);
        let generation_id = self.generation() - i32::from(is_stale);
        let request = SyncRequest {
            group_id: GROUP.to_owned(),
            member_id: id.clone(),
            group_instance_id,
            generation_id,
            protocol_type: None,
            protocol_name: None,
            assignments: vec![(id.clone(), id.as_bytes().into())],
        };
        self.ask(Request::Sync(request));
    }

    fn end_append(&mut self, fails: bool) {
        if !self.fixture.appends.is_empty() {
            let result = if fails {
                Err(ErrorCode::RequestTimedOut)
            } else {
                Ok(())
            };
            self.fixture.end_append(result);
        }
    }

    /// Lets time pass without making anything durable.
    fn pass(&mut self, millis: u16) {
        self.fixture.now.timer_ms += i64::from(millis);
        self.fixture.now.wall_ms += i64::from(millis);
        let mut commands = Vec::new();
        self.fixture.groups.on_time(self.fixture.now, &mut commands);
        self.fixture.perform(commands);
    }
}

fn topic_name(choice: u8) -> &'static str {
    ["topic", "other", "third"][usize::from(choice) % 3]
}

/// Mostly `range`, sometimes with another before it.
fn some(choice: u8) -> Vec<MemberProtocol> {
    let (range, sticky) = (
        protocol("range", &["topic"]),
        protocol("sticky", &["topic"]),
    );
    match choice % 8 {
        0 => vec![sticky, range],
        1 => vec![sticky],
        2 => vec![range, sticky],
        3 => vec![protocol("range", &["topic", "other"])],
        _ => vec![range],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_events_keep_the_invariants(
        events in proptest::collection::vec(any_event(), 1..120),
    ) {
        let mut run = Run::new();
        for event in events {
            run.happen(event);
        }
        // Silence: everybody is answered in the end.
        run.fixture.flush();
        run.fixture.pass(1_000_000);
        for token in &run.asked {
            prop_assert!(run.fixture.replies.contains_key(token), "{token:?} waits for ever");
        }
    }

    #[test]
    fn a_reload_shows_what_was_shown(
        events in proptest::collection::vec(any_event(), 1..80),
    ) {
        let mut run = Run::new();
        for event in events {
            // A record that failed in memory and is durable nevertheless is another matter.
            let event = if matches!(event, Event::Append { .. }) { Event::Append { fails: false } } else { event };
            run.happen(event);
        }
        run.fixture.flush();
        run.fixture.pass(1_000_000);
        let shown = |fixture: &mut Fixture| {
            let offsets = ["topic", "other", "third"].map(|topic| fixture.committed(topic));
            (fixture.groups.list(&ListFilter::default()), offsets)
        };
        let before = shown(&mut run.fixture);
        let mut reloaded = run.fixture.reload(GroupSettings::default());
        prop_assert_eq!(shown(&mut reloaded), before);
    }
}
