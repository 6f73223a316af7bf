//! What is answered while a partition is loaded, and when it cannot be.

use cluster::group::ListFilter;
use protocol::record_batch::{BatchBuilder, BatchOptions};

use super::*;

#[test]
fn while_a_partition_loads_clients_are_told_to_wait() {
    run(|| async {
        let log = MemoryLog::new();
        let coordinator = lead(&log).await;
        for offset in 0..10 {
            coordinator.ask(PARTITION, commit("grp", 1, offset)).await;
        }
        log.read_takes.set(Duration::from_secs(1));
        let coordinator = lead_with(&log, options());
        let early = coordinator.ask(PARTITION, commit("grp", 1, 99)).await;
        assert_eq!(commit_error(&early), ErrorCode::CoordinatorLoadInProgress);
        let loading = Err(ErrorCode::CoordinatorLoadInProgress);
        assert_eq!(coordinator.list(&ListFilter::default()), loading);
        assert_eq!(
            coordinator.describe(PARTITION, "grp").map(|_| ()),
            loading.map(|_| ())
        );
        loaded(&coordinator).await;
        assert_eq!(committed(&coordinator, "grp").await, [9]);
        assert_eq!(coordinator.list(&ListFilter::default()).unwrap().len(), 1);
    });
}

#[test]
fn what_is_not_led_here_is_led_elsewhere() {
    run(|| async {
        let coordinator = Coordinator::new(Rc::new(LogOf(MemoryLog::new())), options());
        let reply = coordinator.ask(PARTITION, commit("grp", 1, 1)).await;
        assert_eq!(commit_error(&reply), ErrorCode::NotCoordinator);
        assert_eq!(
            coordinator.describe(3, "grp"),
            Err(ErrorCode::NotCoordinator)
        );
        assert_eq!(coordinator.list(&ListFilter::default()), Ok(vec![]));
    });
}

#[test]
fn a_partition_that_is_resigned_while_it_loads_never_serves() {
    run(|| async {
        let log = MemoryLog::new();
        let coordinator = lead(&log).await;
        coordinator.ask(PARTITION, commit("grp", 1, 1)).await;
        log.read_takes.set(Duration::from_secs(1));
        let coordinator = lead_with(&log, options());
        time::sleep(Duration::from_millis(500)).await;
        coordinator.resign(PARTITION);
        time::sleep(Duration::from_secs(5)).await;
        let reply = coordinator.ask(PARTITION, commit("grp", 1, 1)).await;
        assert_eq!(commit_error(&reply), ErrorCode::NotCoordinator);
    });
}

#[test]
fn a_damaged_record_is_not_passed_over() {
    run(|| async {
        let log = MemoryLog::new();
        let coordinator = lead(&log).await;
        coordinator.ask(PARTITION, commit("grp", 1, 1)).await;
        // A key that says "offset" and ends there.
        let mut batch = BatchBuilder::new(BatchOptions::default());
        batch.push(0, Some(&[0, 1]), Some(b"?"), &[]);
        log.push(batch.build().unwrap());
        let coordinator = lead_with(&log, options());
        loaded(&coordinator).await;
        check_failed(&coordinator).await;
    });
}

/// Nothing of the partition is served, not what was before the damage either.
async fn check_failed(coordinator: &Rc<Coordinator>) {
    let failed = NotServed {
        failed: vec![PARTITION],
        ..NotServed::default()
    };
    assert_eq!(coordinator.not_served(), failed);
    let reply = coordinator.ask(PARTITION, commit("grp", 1, 2)).await;
    assert_eq!(commit_error(&reply), ErrorCode::CoordinatorNotAvailable);
    let unavailable = ErrorCode::CoordinatorNotAvailable;
    let listed = coordinator.list(&ListFilter::default());
    assert_eq!(listed, Err(unavailable));
    assert_eq!(coordinator.describe(PARTITION, "grp"), Err(unavailable));
}

#[test]
fn a_damaged_batch_fails_the_partition() {
    run(|| async {
        let log = MemoryLog::new();
        let coordinator = lead(&log).await;
        for offset in 0..5 {
            coordinator.ask(PARTITION, commit("grp", 1, offset)).await;
        }
        let intact = log.batches.borrow().clone();
        let last = intact.len() - 1;
        let length = intact[last].len();
        // A bit of the last record's value, and one of the header's record count.
        for at in [length - 2, 60] {
            log.batches.borrow_mut()[last][at] ^= 1;
            let coordinator = lead(&log).await;
            check_failed(&coordinator).await;
            log.batches.borrow_mut()[last].clone_from(&intact[last]);
        }
        let coordinator = lead(&log).await;
        assert_eq!(coordinator.not_served(), NotServed::default());
        assert_eq!(committed(&coordinator, "grp").await, [4]);
    });
}

#[test]
fn what_is_being_loaded_is_not_served_yet() {
    run(|| async {
        let log = MemoryLog::new();
        let coordinator = lead(&log).await;
        coordinator.ask(PARTITION, commit("grp", 1, 1)).await;
        log.read_takes.set(Duration::from_secs(1));
        let coordinator = lead_with(&log, options());
        let loading = NotServed {
            loading: vec![PARTITION],
            ..NotServed::default()
        };
        assert_eq!(coordinator.not_served(), loading);
        loaded(&coordinator).await;
        assert_eq!(coordinator.not_served(), NotServed::default());
    });
}

#[test]
fn records_before_the_log_start_and_of_other_kinds_do_not_matter() {
    run(|| async {
        let log = MemoryLog::new();
        let coordinator = lead(&log).await;
        for offset in 0..10 {
            coordinator.ask(PARTITION, commit("grp", 2, offset)).await;
        }
        let mut batch = BatchBuilder::new(BatchOptions::default());
        batch.push(0, Some(&[0, 3, 1]), Some(b"of another protocol"), &[]);
        log.push(batch.build().unwrap());
        // In the middle of a batch.
        log.start_offset.set(5);
        let coordinator = lead(&log).await;
        assert_eq!(committed(&coordinator, "grp").await, [9, 9]);
    });
}

#[test]
fn a_batch_that_begins_before_the_log_start_counts_from_there() {
    run(|| async {
        let log = MemoryLog::new();
        let coordinator = lead(&log).await;
        coordinator.ask(PARTITION, commit("grp", 4, 5)).await;
        assert_eq!(log.batches.borrow().len(), 1);
        log.start_offset.set(2);
        let coordinator = lead(&log).await;
        assert_eq!(committed(&coordinator, "grp").await, [5, 5]);
    });
}
