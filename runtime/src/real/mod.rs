//! The real backend: tasks on a glommio executor, files and sockets on the shard's own ring.
//!
//! *Place*: below the faces `task`, `time`, `file`, `dir`, `net`; above `ring`. `executor` calls
//! [`run_shard`] on every shard thread.
//! *Core*: everything here belongs to the shard it was made on.

mod blocking;
pub(crate) mod dir;
pub(crate) mod file;
mod lulls;
pub(crate) mod memory;
mod naps;
pub(crate) mod net;
pub(crate) mod shard;
mod signal;
pub(crate) mod system;
pub(crate) mod task;
pub(crate) mod time;
mod timers;

use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use glommio::{Latency, LocalExecutorBuilder, Placement, PoolPlacement, Shares, TaskQueueHandle};

use crate::task::{self as face, Class, TaskFailed};
use shard::{Queues, Shard};

/// glommio's own rings carry nothing but its preempt timer and wake-ups.
const GLOMMIO_RING_DEPTH: usize = 8;
/// The least glommio takes; its buffers are not used.
const GLOMMIO_IO_MEMORY_BYTES: usize = 64 * 1024;
/// glommio's preempt timer, set so far away that it never fires.
///
/// glommio 0.9.0 parks with tasks still runnable if that timer fires between its last look at its
/// rings and the first task (`run_task_queues` answers "nothing ran"): with 1 ms, a shard on a
/// contended core slept for ever within seconds. Turns are bounded by `shard::POLLS_PER_TURN`.
const PREEMPT_TIMER: Duration = Duration::from_hours(365 * 24);

/// Makes this thread a shard and runs `main` on it. When `main` is done, the other tasks of the
/// shard are dropped, operations in flight brought to their end, and its output returned.
///
/// # Errors
/// If the ring or the executor cannot be made (`probe` says why beforehand).
pub(crate) fn run_shard<T: 'static>(
    main: impl Future<Output = T> + 'static,
) -> io::Result<Result<T, TaskFailed>> {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .ring_depth(GLOMMIO_RING_DEPTH)
        .io_memory(GLOMMIO_IO_MEMORY_BYTES)
        .preempt_timer(PREEMPT_TIMER)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
        .map_err(|error| io::Error::other(format!("glommio executor: {error}")))?;
    let output = executor.run(root(main));
    drop(executor);
    // The last reference: drops the ring, which waits for what is in flight.
    shard::set_current(None);
    output
}

/// The executor's root: makes the shard, its driver and the main task, and takes them down again.
async fn root<T: 'static>(
    main: impl Future<Output = T> + 'static,
) -> io::Result<Result<T, TaskFailed>> {
    let queue = create_queue(1000, "driver");
    let shard = Rc::new(Shard::new(queues())?);
    shard::set_current(Some(Rc::clone(&shard)));

    let ended = MainEnded(Rc::clone(&shard));
    let main = face::spawn(Class::Network, async move {
        let _ended = ended;
        main.await
    });
    let driven = Rc::clone(&shard);
    let driver = poll_fn(move |context| {
        // A panic here is a broken invariant of the runtime: no operation could finish any more.
        catch_unwind(AssertUnwindSafe(|| driven.drive(context)))
            .unwrap_or_else(|_| std::process::abort())
    });
    let driver = glommio::spawn_local_into(driver, queue)
        .map_err(|error| io::Error::other(format!("glommio task queue: {error}")))?;
    shard.main_ended().await;
    shard.stop_tasks().await;
    driver.await;
    shard.forget_driver();
    Ok(main.await)
}

/// Tells the root that the main task is over, also when it panicked.
struct MainEnded(Rc<Shard>);

impl Drop for MainEnded {
    fn drop(&mut self) {
        self.0.end_main();
    }
}

/// One glommio queue per class. Network and storage share the core evenly; background work gets a
/// tenth while the others have something to do.
fn queues() -> Queues {
    Queues {
        network: create_queue(1000, "network"),
        storage: create_queue(1000, "storage"),
        background: create_queue(100, "background"),
    }
}

fn create_queue(shares: usize, name: &str) -> TaskQueueHandle {
    // Not `Latency::Matters`: all it does is to shorten the preempt timer.
    glommio::executor().create_task_queue(Shares::Static(shares), Latency::NotImportant, name)
}
