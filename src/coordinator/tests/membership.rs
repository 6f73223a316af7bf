//! Time passes: the initial rebalance delay, sessions, rebalances.

use super::*;

#[test]
fn the_first_join_is_answered_after_the_initial_delay() {
    run(|| async {
        let coordinator = lead(&MemoryLog::new()).await;
        let id = member_id(&coordinator).await;
        let begun = time::now();
        let reply = join_reply(coordinator.ask(PARTITION, join(&id)).await);
        assert_eq!((reply.error, reply.generation_id), (ErrorCode::None, 1));
        let waited = begun.elapsed();
        assert!((2_999..3_010).contains(&waited.as_millis()), "{waited:?}");
    });
}

#[test]
fn a_silent_member_is_removed_when_its_session_ends() {
    run(|| async {
        let coordinator = lead(&MemoryLog::new()).await;
        let ids = [member_id(&coordinator).await, member_id(&coordinator).await];
        let joins = ids.clone().map(|id| spawn_ask(&coordinator, join(&id)));
        for join in joins {
            assert_eq!(join_reply(join.await.unwrap()).error, ErrorCode::None);
        }
        let syncs = ids.clone().map(|id| spawn_ask(&coordinator, sync(&id, 1)));
        for sync in syncs {
            assert!(matches!(sync.await.unwrap(), Reply::Sync(_)));
        }
        let mut survivor_is_told_after = Duration::ZERO;
        let begun = time::now();
        while heartbeat(&coordinator, &ids[0], 1).await == ErrorCode::None {
            time::sleep(Duration::from_millis(500)).await;
            survivor_is_told_after = begun.elapsed();
        }
        let seconds = survivor_is_told_after.as_secs_f64();
        assert!((9.5..11.0).contains(&seconds), "{seconds}");
        assert_eq!(
            heartbeat(&coordinator, &ids[1], 1).await,
            ErrorCode::UnknownMemberId
        );
        let reply = join_reply(coordinator.ask(PARTITION, join(&ids[0])).await);
        assert_eq!((reply.generation_id, reply.members.len()), (2, 1));
    });
}

#[test]
fn a_client_that_went_away_does_not_stop_the_others() {
    run(|| async {
        let coordinator = lead(&MemoryLog::new()).await;
        let ids = [member_id(&coordinator).await, member_id(&coordinator).await];
        let gone = spawn_ask(&coordinator, join(&ids[0]));
        let stays = spawn_ask(&coordinator, join(&ids[1]));
        time::sleep(Duration::from_secs(1)).await;
        gone.abort();
        let reply = join_reply(stays.await.unwrap());
        assert_eq!(reply.error, ErrorCode::None);
    });
}

#[test]
fn all_groups_of_a_shard_share_one_clock() {
    run(|| async {
        let coordinator = lead(&MemoryLog::new()).await;
        let mut waiting = Vec::new();
        for group in 0..50 {
            let Request::Join(request) = join("") else {
                unreachable!()
            };
            let group_id = format!("group-{group}");
            // An old version joins at once.
            let request = JoinRequest {
                group_id,
                api_version: 1,
                ..request
            };
            waiting.push((time::now(), spawn_ask(&coordinator, Request::Join(request))));
            time::sleep(Duration::from_millis(7)).await;
        }
        for (begun, join) in waiting {
            assert_eq!(join_reply(join.await.unwrap()).error, ErrorCode::None);
            assert!(begun.elapsed() >= Duration::from_millis(2_999));
        }
        assert_eq!(coordinator.group_count(), 50);
        // Nobody syncs, nobody heartbeats: all sessions end.
        time::sleep(Duration::from_secs(11)).await;
        let empty = cluster::group::ListFilter {
            states: vec!["Empty".to_owned()],
            ..Default::default()
        };
        assert_eq!(coordinator.list(&empty).unwrap().len(), 50);
    });
}

#[test]
fn old_offsets_expire() {
    run(|| async {
        let log = MemoryLog::new();
        let coordinator = lead(&log).await;
        coordinator.ask(PARTITION, commit("grp", 3, 5)).await;
        time::sleep(Duration::from_hours(7 * 24 - 1)).await;
        assert_eq!(committed(&coordinator, "grp").await, [5, 5, 5]);
        time::sleep(Duration::from_hours(2)).await;
        assert_eq!(coordinator.group_count(), 0);
        let coordinator = lead(&log).await;
        assert_eq!(committed(&coordinator, "grp").await, [0; 0]);
    });
}
