//! The simulated executor: order, time, endings.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::file::{Durability, File, OpenMode};
use crate::sim::{End, Simulation};
use crate::sync::Notify;
use crate::task::{self, Class, TaskFailed, spawn};
use crate::time::{self, Elapsed};
use crate::{AlignedBuf, BLOCK_BYTES};

/// The order in which ten tasks get on, with delays and disk operations in between.
async fn race() -> Vec<usize> {
    let order = Rc::new(RefCell::new(Vec::new()));
    let tasks: Vec<_> = (0..10)
        .map(|n: usize| {
            let order = order.clone();
            spawn(Class::Background, async move {
                let path = std::path::PathBuf::from(format!("/{n}"));
                order.borrow_mut().push(n);
                let file = File::open(&path, OpenMode::CreateNew).await.unwrap();
                order.borrow_mut().push(n);
                let block = AlignedBuf::zeroed(BLOCK_BYTES).freeze();
                file.write_at(0, block, Durability::DataSync).await.unwrap();
                task::yield_if_needed().await;
                order.borrow_mut().push(n);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    order.take()
}

#[test]
fn same_seed_gives_the_same_run() {
    for seed in 0..20 {
        let first = Simulation::new(seed).run(race());
        let second = Simulation::new(seed).run(race());
        assert_eq!((first.trace, first.steps), (second.trace, second.steps));
        assert_eq!(first.elapsed, second.elapsed);
        assert_eq!(first.value(), second.value());
    }
}

#[test]
fn other_seeds_give_other_orders() {
    let orders = (0..20).map(|seed| Simulation::new(seed).run(race()).value());
    assert!(orders.collect::<std::collections::BTreeSet<_>>().len() > 10);
}

#[test]
fn without_shuffling_the_first_ready_task_runs_first() {
    let order = Simulation::new(3).shuffle_tasks(false).run(race()).value();
    assert_eq!(order[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn nothing_to_run_is_a_deadlock() {
    let outcome = Simulation::new(1).run(async {
        let never = Notify::new();
        spawn(Class::Network, std::future::pending::<()>()).detach();
        spawn(Class::Network, async {}).detach();
        never.notified().await;
    });
    assert!(
        matches!(outcome.end, End::Deadlock { tasks: 2 }),
        "{outcome:?}"
    );
    let here = |task: &String| task.contains("sim/tests.rs");
    assert!(outcome.unfinished.len() == 2 && outcome.unfinished.iter().all(here));
}

#[test]
fn running_in_circles_is_noticed() {
    let outcome = Simulation::new(1).steps_max(1000).run(async {
        loop {
            task::yield_now().await;
        }
    });
    let end: End<()> = outcome.end;
    assert!(matches!(end, End::TooManySteps), "{end:?}");
}

#[test]
fn panic_in_a_task_is_reported_to_who_joins_it() {
    let outcome = Simulation::new(1).allow_panics().run(async {
        let failing = spawn(Class::Network, async { panic!("number {}", 7) });
        let other = spawn(Class::Network, async { 5 });
        (failing.await, other.await)
    });
    assert_eq!(outcome.panics, ["number 7"]);
    let (failed, other): (Result<(), _>, _) = outcome.value();
    assert_eq!(
        failed,
        Err(TaskFailed::Panicked {
            message: "number 7".to_owned()
        })
    );
    assert_eq!(other, Ok(5));
}

#[test]
#[should_panic(expected = "nobody looked")]
fn panic_that_is_not_expected_fails_the_run() {
    Simulation::new(1).run(async {
        spawn(Class::Network, async { panic!("nobody looked") }).detach();
        time::sleep(Duration::from_secs(1)).await;
    });
}

#[test]
fn a_run_that_panicked_leaves_the_thread_usable() {
    let failed = std::panic::catch_unwind(|| {
        Simulation::new(1).run(async { panic!("the program itself") });
    });
    assert!(failed.is_err());
    assert_eq!(Simulation::new(1).run(async { 4 }).value(), 4);
}

#[test]
fn aborted_task_drops_what_it_holds() {
    Simulation::new(1).run(async {
        let held = Rc::new(());
        let inside = held.clone();
        let task = spawn(Class::Background, async move {
            std::future::pending::<()>().await;
            drop(inside);
        });
        task::yield_now().await;
        task.abort();
        assert_eq!(task.await, Err(TaskFailed::Aborted));
        assert_eq!(Rc::strong_count(&held), 1);
    });
}

#[test]
fn panic_while_an_aborted_task_is_dropped_is_caught() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let outcome = Simulation::new(1).allow_panics().run(async {
        let bomb = Bomb;
        let task = spawn(Class::Background, async move {
            std::future::pending::<()>().await;
            drop(bomb);
        });
        task::yield_now().await;
        task.abort();
        task.await
    });
    assert_eq!(
        outcome.value(),
        Err(TaskFailed::Panicked {
            message: "dropped".to_owned()
        })
    );
}

#[test]
fn detached_tasks_go_on_and_end_with_the_program() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = seen.clone();
    Simulation::new(1)
        .run(async move {
            spawn(Class::Background, async move {
                for n in 0.. {
                    log.borrow_mut().push(n);
                    time::sleep(Duration::from_secs(10)).await;
                }
            })
            .detach();
            time::sleep(Duration::from_secs(25)).await;
        })
        .value();
    assert_eq!(Rc::try_unwrap(seen).unwrap().into_inner(), [0, 1, 2]);
}

#[test]
fn timers_fire_in_order_and_time_jumps_to_them() {
    let outcome = Simulation::new(1).run(async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let start = time::now();
        let tasks: Vec<_> = [30, 10, 20, 10]
            .into_iter()
            .map(|seconds| {
                let order = order.clone();
                spawn(Class::Network, async move {
                    time::sleep(Duration::from_secs(seconds)).await;
                    order.borrow_mut().push((seconds, time::now() - start));
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        order.take()
    });
    assert_eq!(outcome.elapsed, Duration::from_secs(30));
    let expected = [10, 10, 20, 30].map(|seconds| (seconds, Duration::from_secs(seconds)));
    assert_eq!(outcome.value(), expected);
}

#[test]
fn dropped_timers_do_not_hold_up_the_end_of_time() {
    let outcome = Simulation::new(1).run(async {
        let timer = time::sleep(Duration::from_hours(1));
        let short = time::timeout(Duration::from_secs(1), timer).await;
        assert_eq!(short, Err(Elapsed));
        std::future::pending::<()>().await;
    });
    assert_eq!(outcome.elapsed, Duration::from_secs(1));
    assert!(matches!(outcome.end, End::Deadlock { tasks: 1 }));
}

#[test]
fn timeout_gives_the_result_that_comes_in_time() {
    Simulation::new(1).run(async {
        let second = Duration::from_secs(1);
        assert_eq!(time::timeout(Duration::ZERO, async { 3 }).await, Ok(3));
        assert_eq!(time::timeout(2 * second, time::sleep(second)).await, Ok(()));
        assert_eq!(
            time::timeout(second, time::sleep(2 * second)).await,
            Err(Elapsed)
        );
    });
}

#[test]
fn wall_clock_follows_virtual_time() {
    Simulation::new(1).wall_clock_ms(5_000).run(async {
        assert_eq!(time::wall_clock_ms(), 5_000);
        time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(time::wall_clock_ms(), 6_500);
    });
}

#[test]
fn instants_saturate() {
    use time::Instant;
    let (early, late) = (Instant::from_nanos(5), Instant::from_nanos(9));
    assert_eq!(late - early, Duration::from_nanos(4));
    assert_eq!(early - late, Duration::ZERO);
    assert_eq!(late + Duration::MAX, Instant::from_nanos(u64::MAX));
}

#[test]
fn a_foreign_thread_can_wake_a_task() {
    let (sender, receiver) = crate::oneshot_remote::channel();
    let thread = std::thread::spawn(move || sender.send(3).unwrap());
    thread.join().unwrap();
    assert_eq!(Simulation::new(1).run(receiver).value().ok(), Some(3));
}
