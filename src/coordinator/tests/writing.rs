//! Durability and order of what is written.

use super::*;

#[test]
fn a_commit_is_answered_and_shown_when_it_is_durable() {
    run(|| async {
        let log = MemoryLog::new();
        let coordinator = lead(&log).await;
        log.append_takes.set(Duration::from_millis(50));
        let begun = time::now();
        let commits = spawn_ask(&coordinator, commit("grp", 2, 5));
        time::sleep(Duration::from_millis(49)).await;
        assert_eq!(committed(&coordinator, "grp").await, [0; 0]);
        assert_eq!(commit_error(&commits.await.unwrap()), ErrorCode::None);
        assert!(begun.elapsed() >= Duration::from_millis(50));
        assert_eq!(committed(&coordinator, "grp").await, [5, 5]);
    });
}

#[test]
fn commits_that_come_while_a_batch_is_written_share_the_next() {
    run(|| async {
        let log = MemoryLog::new();
        let coordinator = lead(&log).await;
        log.append_takes.set(Duration::from_millis(50));
        let first = spawn_ask(&coordinator, commit("grp", 1, 0));
        time::sleep(Duration::from_millis(10)).await;
        let mut commits = Vec::new();
        for offset in 1..=100 {
            commits.push(spawn_ask(&coordinator, commit("grp", 1, offset)));
            // In order, whatever the order of the tasks.
            time::sleep(Duration::from_micros(10)).await;
        }
        assert_eq!(commit_error(&first.await.unwrap()), ErrorCode::None);
        for commit in commits {
            assert_eq!(commit_error(&commit.await.unwrap()), ErrorCode::None);
        }
        assert_eq!((log.batches.borrow().len(), log.record_count()), (2, 101));
        assert_eq!(committed(&coordinator, "grp").await, [100]);
    });
}

#[test]
fn what_is_larger_than_a_batch_goes_into_several() {
    run(|| async {
        let log = MemoryLog::new();
        let coordinator = lead_with(
            &log,
            CoordinatorOptions {
                batch_bytes_max: 2_000,
                ..options()
            },
        );
        loaded(&coordinator).await;
        let reply = coordinator.ask(PARTITION, commit("grp", 500, 5)).await;
        assert_eq!(commit_error(&reply), ErrorCode::None);
        let batches = log.batches.borrow().clone();
        assert!(batches.len() > 10 && batches.iter().all(|batch| batch.len() <= 2_000));
        let coordinator = lead(&log).await;
        assert_eq!(committed(&coordinator, "grp").await, [5; 500]);
    });
}

#[test]
fn a_commit_that_cannot_be_written_is_refused_and_the_next_may_succeed() {
    run(|| async {
        let log = MemoryLog::new();
        let coordinator = lead(&log).await;
        coordinator.ask(PARTITION, commit("grp", 1, 5)).await;
        log.append_fails.set(Some(ErrorCode::NotEnoughReplicas));
        let refused = coordinator.ask(PARTITION, commit("grp", 1, 6)).await;
        assert_eq!(commit_error(&refused), ErrorCode::CoordinatorNotAvailable);
        assert_eq!(committed(&coordinator, "grp").await, [5]);
        log.append_fails.set(None);
        let reply = coordinator.ask(PARTITION, commit("grp", 1, 7)).await;
        assert_eq!(commit_error(&reply), ErrorCode::None);
        assert_eq!(committed(&coordinator, "grp").await, [7]);
    });
}

#[test]
fn resigning_answers_what_waits_for_the_log_and_for_members() {
    run(|| async {
        let log = MemoryLog::new();
        let coordinator = lead(&log).await;
        let id = stable(&coordinator).await;
        member_id(&coordinator).await;
        log.append_takes.set(Duration::from_secs(5));
        let commits = spawn_ask(&coordinator, commit("other", 1, 5));
        // Waits for the pending member.
        let joins = spawn_ask(&coordinator, join(&id));
        time::sleep(Duration::from_millis(10)).await;
        coordinator.resign(PARTITION);
        assert_eq!(
            commit_error(&commits.await.unwrap()),
            ErrorCode::NotCoordinator
        );
        assert_eq!(
            join_reply(joins.await.unwrap()).error,
            ErrorCode::NotCoordinator
        );
        assert_eq!(
            heartbeat(&coordinator, &id, 1).await,
            ErrorCode::NotCoordinator
        );
        // The append ends; nobody minds.
        time::sleep(Duration::from_secs(6)).await;
        coordinator.stop();
        assert!(coordinator.partitions().is_empty());
        coordinator.lead(PARTITION);
        assert!(
            coordinator.partitions().is_empty(),
            "nothing begins after the stop"
        );
    });
}

#[test]
fn a_partition_that_is_resigned_while_it_writes_writes_no_more() {
    run(|| async {
        let log = MemoryLog::new();
        let options = CoordinatorOptions {
            batch_bytes_max: 2_000,
            ..options()
        };
        let coordinator = lead_with(&log, options);
        loaded(&coordinator).await;
        log.append_takes.set(Duration::from_secs(1));
        // Many batches, and two appends that wait behind them.
        let large = spawn_ask(&coordinator, commit("grp", 500, 5));
        time::sleep(Duration::from_millis(100)).await;
        let waiting = [1, 2].map(|offset| spawn_ask(&coordinator, commit("other", 1, offset)));
        time::sleep(Duration::from_millis(2_500)).await;
        let written = log.batches.borrow().len();
        assert_eq!(written, 2, "in the middle");
        coordinator.resign_all();
        assert!(coordinator.partitions().is_empty());
        for ask in [large].into_iter().chain(waiting) {
            assert_eq!(commit_error(&ask.await.unwrap()), ErrorCode::NotCoordinator);
        }
        // The batch that was on its way ends; none follows.
        time::sleep(Duration::from_mins(1)).await;
        assert_eq!(log.batches.borrow().len(), written + 1);
    });
}

#[test]
fn a_writer_that_fails_does_not_leave_requests_waiting() {
    for seed in 0..8 {
        let test = async {
            let log = MemoryLog::new();
            let coordinator = lead(&log).await;
            log.append_panics.set(true);
            let refused = coordinator.ask(PARTITION, commit("grp", 1, 6)).await;
            assert_eq!(commit_error(&refused), ErrorCode::NotCoordinator);
            let later = coordinator.ask(PARTITION, commit("grp", 1, 6)).await;
            assert_eq!(commit_error(&later), ErrorCode::CoordinatorNotAvailable);
        };
        let outcome = Simulation::new(seed).allow_panics().run(test);
        assert_eq!(outcome.panics.len(), 1);
        outcome.value();
    }
}
