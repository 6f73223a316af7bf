//! Notifications, one-shot channels and semaphores on the simulated executor.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use super::oneshot::{Canceled, oneshot};
use super::{Notify, Semaphore};
use crate::sim::Simulation;
use crate::task::{Class, spawn, yield_now};
use crate::time::{sleep, timeout};

fn run<F: Future + 'static>(program: F) -> F::Output {
    Simulation::new(1).shuffle_tasks(false).run(program).value()
}

const SHORT: Duration = Duration::from_millis(1);

#[test]
fn notification_sticks_until_someone_waits() {
    run(async {
        let notify = Notify::new();
        notify.notify_one();
        notify.notify_one();
        notify.notified().await;
        assert!(timeout(SHORT, notify.notified()).await.is_err());
    });
}

/// Starts tasks that wait and write down their number when woken.
async fn waiters(notify: &Rc<Notify>, count: usize) -> Rc<RefCell<Vec<usize>>> {
    let woken = Rc::new(RefCell::new(Vec::new()));
    for n in 0..count {
        let (notify, woken) = (notify.clone(), woken.clone());
        let wait = async move {
            notify.notified().await;
            woken.borrow_mut().push(n);
        };
        spawn(Class::Network, wait).detach();
    }
    yield_now().await;
    woken
}

#[test]
fn notify_one_wakes_in_the_order_of_waiting() {
    run(async {
        let notify = Rc::new(Notify::new());
        let woken = waiters(&notify, 3).await;
        notify.notify_one();
        notify.notify_one();
        yield_now().await;
        assert_eq!(*woken.borrow(), [0, 1]);
    });
}

#[test]
fn notify_waiters_wakes_those_who_wait_and_leaves_nothing() {
    run(async {
        let notify = Rc::new(Notify::new());
        let woken = waiters(&notify, 3).await;
        let created_before = notify.notified();
        notify.notify_waiters();
        yield_now().await;
        assert_eq!(*woken.borrow(), [0, 1, 2]);
        created_before.await;
        assert!(timeout(SHORT, notify.notified()).await.is_err());
    });
}

#[test]
fn notification_of_a_dropped_waiter_goes_on_to_the_next() {
    run(async {
        let notify = Rc::new(Notify::new());
        let mut first = Box::pin(notify.notified());
        assert!(futures_lite::future::poll_once(&mut first).await.is_none());
        let woken = waiters(&notify, 1).await;
        notify.notify_one();
        drop(first);
        sleep(SHORT).await;
        assert_eq!(*woken.borrow(), [0]);
        // A waiter that left before is not in the way.
        assert!(timeout(SHORT, notify.notified()).await.is_err());
        notify.notify_one();
        notify.notified().await;
    });
}

#[test]
fn oneshot_delivers_before_and_after_the_wait() {
    run(async {
        let (sender, receiver) = oneshot();
        sender.send(1).unwrap();
        assert_eq!(receiver.await, Ok(1));
        let (sender, receiver) = oneshot();
        let waiting = spawn(Class::Network, receiver);
        yield_now().await;
        sender.send(2).unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(2));
    });
}

#[test]
fn oneshot_tells_when_the_other_side_has_gone() {
    run(async {
        let (sender, receiver) = oneshot::<u8>();
        let waiting = spawn(Class::Network, receiver);
        yield_now().await;
        drop(sender);
        assert_eq!(waiting.await.unwrap(), Err(Canceled));
        let (sender, receiver) = oneshot();
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.send(3), Err(3));
    });
}

#[test]
fn permits_are_granted_first_come_first_served() {
    run(async {
        let semaphore = Semaphore::new(3);
        let held = semaphore.acquire(2).await;
        let order = Rc::new(RefCell::new(Vec::new()));
        for count in [2, 1] {
            let (semaphore, order) = (semaphore.clone(), order.clone());
            let take = async move {
                let permit = semaphore.acquire(count).await;
                order.borrow_mut().push(permit.count());
            };
            spawn(Class::Network, take).detach();
        }
        yield_now().await;
        // One is free, but who asks for one stands behind who asks for two.
        assert!(order.borrow().is_empty() && semaphore.try_acquire(1).is_none());
        drop(held);
        yield_now().await;
        assert_eq!(*order.borrow(), [2, 1]);
        assert_eq!((semaphore.used(), semaphore.waiting()), (0, 0));
    });
}

#[test]
fn dropped_wait_gives_up_its_place_and_its_permits() {
    run(async {
        let semaphore = Semaphore::new(2);
        let held = semaphore.acquire(1).await;
        let mut large = Box::pin(semaphore.acquire(2));
        let mut small = Box::pin(semaphore.acquire(1));
        assert!(futures_lite::future::poll_once(&mut large).await.is_none());
        assert!(futures_lite::future::poll_once(&mut small).await.is_none());
        drop(large);
        assert!(futures_lite::future::poll_once(&mut small).await.is_some());
        drop(held);
        let held = semaphore.acquire(2).await;
        let mut granted = Box::pin(semaphore.acquire(2));
        assert!(
            futures_lite::future::poll_once(&mut granted)
                .await
                .is_none()
        );
        drop(held);
        assert_eq!(semaphore.used(), 2);
        drop(granted);
        assert_eq!(semaphore.used(), 0);
    });
}
