//! The process ends without notice, and another loads what was durable.

use cluster::group::GroupState;

use super::*;

/// What the first process acknowledged: by group, the offset.
type Acknowledged = Rc<RefCell<Vec<(String, i64)>>>;

/// Commits to several groups at once until the power fails.
async fn commit_until_crash(log: Rc<MemoryLog>, acknowledged: Acknowledged) {
    let coordinator = lead(&log).await;
    for group in 0..5 {
        let (coordinator, acknowledged) = (coordinator.clone(), acknowledged.clone());
        let committer = async move {
            let group_id = format!("group-{group}");
            for offset in 1.. {
                let reply = coordinator
                    .ask(PARTITION, commit(&group_id, 1, offset))
                    .await;
                assert_eq!(commit_error(&reply), ErrorCode::None);
                acknowledged.borrow_mut().push((group_id.clone(), offset));
                time::sleep(Duration::from_micros(group * 331)).await;
            }
        };
        task::spawn(Class::Network, committer).detach();
    }
    // The simulation ends with this, and with it everything that was not durable.
    time::sleep(Duration::from_millis(97)).await;
}

#[test]
fn no_acknowledged_commit_is_lost() {
    for seed in 0..20 {
        let log = MemoryLog::new();
        let acknowledged = Acknowledged::default();
        let first = commit_until_crash(log.clone(), acknowledged.clone());
        Simulation::new(seed).run(first).value();
        assert!(
            acknowledged.borrow().len() > 50,
            "{}",
            acknowledged.borrow().len()
        );
        let second = async move {
            let coordinator = lead(&log).await;
            for group in 0..5 {
                let group_id = format!("group-{group}");
                let newest = {
                    let acknowledged = acknowledged.borrow();
                    let of_group = acknowledged.iter().filter(|(group, _)| *group == group_id);
                    of_group.map(|(_, offset)| *offset).max().unwrap()
                };
                let found = committed(&coordinator, &group_id).await;
                // The one after it may have been durable without being acknowledged.
                assert!(
                    found == [newest] || found == [newest + 1],
                    "{found:?} after {newest}"
                );
            }
        };
        Simulation::new(seed + 1_000).run(second).value();
    }
}

#[test]
fn a_stable_group_goes_on_after_a_restart() {
    for seed in 0..8 {
        let log = MemoryLog::new();
        let member = Rc::new(RefCell::new(String::new()));
        let (first_log, first_member) = (log.clone(), member.clone());
        let first = async move {
            let coordinator = lead(&first_log).await;
            *first_member.borrow_mut() = stable(&coordinator).await;
        };
        Simulation::new(seed).run(first).value();
        let id = member.borrow().clone();
        let second = async move {
            let coordinator = lead(&log).await;
            // The clock of this process began anew; sessions did too.
            for _ in 0..5 {
                time::sleep(Duration::from_secs(8)).await;
                assert_eq!(heartbeat(&coordinator, &id, 1).await, ErrorCode::None);
            }
            let Reply::Sync(reply) = coordinator.ask(PARTITION, sync(&id, 1)).await else {
                panic!("not a sync")
            };
            assert_eq!(&*reply.assignment, id.as_bytes());
            time::sleep(Duration::from_millis(10_010)).await;
            assert_eq!(
                heartbeat(&coordinator, &id, 1).await,
                ErrorCode::UnknownMemberId
            );
        };
        Simulation::new(seed + 1_000).run(second).value();
    }
}

#[test]
fn a_member_whose_generation_was_not_durable_joins_again() {
    for seed in 0..8 {
        let log = MemoryLog::new();
        let member = Rc::new(RefCell::new(String::new()));
        let (first_log, first_member) = (log.clone(), member.clone());
        let first = async move {
            let coordinator = lead(&first_log).await;
            let id = member_id(&coordinator).await;
            coordinator.ask(PARTITION, join(&id)).await;
            first_log.append_takes.set(Duration::from_secs(1));
            let _lost = spawn_ask(&coordinator, sync(&id, 1));
            time::sleep(Duration::from_millis(500)).await;
            *first_member.borrow_mut() = id;
        };
        Simulation::new(seed).run(first).value();
        let id = member.borrow().clone();
        log.append_takes.set(Duration::from_millis(1));
        let second = async move {
            let coordinator = lead(&log).await;
            assert_eq!(
                heartbeat(&coordinator, &id, 1).await,
                ErrorCode::UnknownMemberId
            );
            let reply = join_reply(coordinator.ask(PARTITION, join(&id)).await);
            assert_eq!(reply.error, ErrorCode::UnknownMemberId);
            stable(&coordinator).await;
        };
        Simulation::new(seed + 1_000).run(second).value();
    }
}

#[test]
fn members_that_never_come_back_lose_their_sessions_after_a_restart() {
    run(|| async {
        let log = MemoryLog::new();
        stable(&lead(&log).await).await;
        let coordinator = lead(&log).await;
        let state = || {
            coordinator
                .describe(PARTITION, "grp")
                .unwrap()
                .unwrap()
                .state
        };
        assert_eq!(state(), GroupState::Stable);
        time::sleep(Duration::from_millis(10_010)).await;
        assert_eq!(state(), GroupState::Empty);
    });
}
