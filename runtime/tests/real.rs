//! The real backend on this machine: sockets on loopback, files in a temporary directory, tasks,
//! timers and mailboxes across threads. Without `io_uring` each test skips, aloud.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::time::Duration;

use runtime::executor::{
    ShardError, ShardId, Topology, current_shard, hold_open_for_operations, start_shards,
};
use runtime::net::{Listener, Stream};
use runtime::task::{self, Class};
use runtime::{AppendBuf, BLOCK_BYTES, Durability, File, OpenMode, Slice};
use runtime::{dir, mailbox, oneshot_remote, sync, time};

const ANY_PORT: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// Runs one unpinned shard and returns what its future made.
fn on_shard<T, F, Fut>(make: F) -> Option<T>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    on_shards(1, move |_| make()).and_then(|mut outputs| outputs.pop())
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn on_shards<T, F, Fut>(count: usize, make: F) -> Option<Vec<T>>
where
    F: Fn(ShardId) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    match start_shards(&Topology::unpinned(count), make) {
        Ok(threads) => Some(threads.join().unwrap()),
        Err(error @ ShardError::Start { .. }) => {
            eprintln!("SKIPPED: this machine has no usable io_uring: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

async fn recv_exactly(stream: &Stream, bytes: usize) -> Vec<u8> {
    let mut buffer = AppendBuf::with_capacity(bytes);
    while buffer.remaining() > 0 {
        let (received, returned) = stream.recv(buffer).await;
        buffer = returned;
        assert!(
            received.unwrap() > 0,
            "the stream ended at {} of {bytes}",
            buffer.len()
        );
    }
    buffer.as_slice().to_vec()
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index * 31 % 251) as u8).collect()
}

/// A listener and, on another thread, a blocking client that `talk`s to it.
fn with_client<T: Send + 'static>(
    talk: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (Listener, std::thread::JoinHandle<T>) {
    let listener = Listener::bind(ANY_PORT.into()).unwrap();
    let address = listener.local_addr().unwrap();
    (
        listener,
        std::thread::spawn(move || talk(TcpStream::connect(address).unwrap())),
    )
}

#[test]
fn echo_returns_what_was_sent() {
    on_shard(|| async {
        let (listener, client) = with_client(|mut stream| {
            stream.write_all(b"twelve bytes").unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"twelve bytes");
            stream.local_addr().unwrap()
        });
        let (stream, peer) = listener.accept().await.unwrap();
        let received = recv_exactly(&stream, 12).await;
        stream.send(vec![Slice::from(received)]).await.unwrap();
        let (end, _) = stream.recv(AppendBuf::with_capacity(1)).await;
        assert_eq!(end.unwrap(), 0);
        assert_eq!(peer, client.join().unwrap());
    });
}

#[test]
fn vectored_send_delivers_all_parts_in_order_to_a_slow_reader() {
    on_shard(|| async {
        // More parts than one sendmsg takes, more bytes than the socket buffers hold.
        let expected = pattern(3000 * 4000);
        let copy = expected.clone();
        let (listener, client) = with_client(move |mut stream| {
            std::thread::sleep(Duration::from_millis(50));
            let mut all = vec![0; copy.len()];
            stream.read_exact(&mut all).unwrap();
            assert!(all == copy);
        });
        let (stream, _) = listener.accept().await.unwrap();
        let mut parts: Vec<Slice> = expected
            .chunks(4000)
            .map(|chunk| Slice::from(chunk.to_vec()))
            .collect();
        parts.insert(7, Slice::default());
        stream.send(parts).await.unwrap();
        drop(stream);
        client.join().unwrap();
    });
}

#[test]
fn send_to_a_closed_peer_is_an_error() {
    on_shard(|| async {
        let (listener, client) = with_client(drop);
        let (stream, _) = listener.accept().await.unwrap();
        client.join().unwrap();
        stream.hung_up().await;
        let part = Slice::from(pattern(1 << 20));
        let mut result = Ok(());
        for _ in 0..100 {
            result = stream.send(vec![part.clone(), part.clone()]).await;
            if result.is_err() {
                break;
            }
        }
        let kind = result.unwrap_err().kind();
        assert!(
            matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
            "{kind}"
        );
    });
}

#[test]
fn dropped_receive_releases_the_connection() {
    on_shard(|| async {
        let (listener, client) = with_client(|mut stream| {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap(); // ends only when the shard closes
        });
        let (stream, _) = listener.accept().await.unwrap();
        let receiving = stream.recv(AppendBuf::with_capacity(64));
        assert!(
            time::timeout(Duration::from_millis(5), receiving)
                .await
                .is_err()
        );
        assert!(
            time::timeout(Duration::from_millis(5), stream.hung_up())
                .await
                .is_err()
        );
        drop(stream);
        while !client.is_finished() {
            time::sleep(Duration::from_millis(1)).await;
        }
        client.join().unwrap();
    });
}

#[test]
fn descriptor_leaves_only_when_nothing_is_in_flight() {
    on_shard(|| async {
        let (listener, client) = with_client(|mut stream| {
            let mut byte = [0; 1];
            stream.read_exact(&mut byte).unwrap();
        });
        let (stream, _) = listener.accept().await.unwrap();
        let other = stream.clone();
        assert!(other.into_fd().is_none());
        let moved = Stream::from_fd(stream.into_fd().unwrap());
        moved.send(vec![Slice::from(vec![1])]).await.unwrap();
        client.join().unwrap();
    });
}

#[test]
fn shutdown_read_ends_a_receive_and_is_no_hang_up() {
    on_shard(|| async {
        let (listener, client) = with_client(|mut stream| {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all
        });
        let (stream, _) = listener.accept().await.unwrap();
        let receiver = stream.clone();
        let receiving = task::spawn(Class::Network, async move {
            receiver.recv(AppendBuf::with_capacity(8)).await.0.unwrap()
        });
        let watcher = stream.clone();
        let watching = task::spawn(Class::Network, async move { watcher.hung_up().await });
        task::yield_now().await;
        stream.shutdown_read();
        assert_eq!(receiving.await.unwrap(), 0);
        stream
            .send(vec![Slice::from(b"still".to_vec())])
            .await
            .unwrap();
        time::sleep(Duration::from_millis(5)).await;
        assert!(!watching.is_finished());
        watching.abort();
        stream.shutdown();
        assert_eq!(client.join().unwrap(), b"still");
    });
}

/// More operations than the submission queue holds, started within one poll, and more completions
/// than the completion queue holds, all at once.
#[test]
fn queues_of_the_ring_overflow_without_loss() {
    on_shard(|| async {
        const WATCHERS: usize = 10_000;
        let (hold, released) = std::sync::mpsc::channel::<()>();
        let (listener, client) = with_client(move |stream| {
            let _ = released.recv();
            drop(stream);
        });
        let (stream, _) = listener.accept().await.unwrap();
        let mut watchers: Vec<_> = (0..WATCHERS).map(|_| Box::pin(stream.hung_up())).collect();
        for watcher in &mut watchers {
            assert!(futures_lite::future::poll_once(watcher).await.is_none());
        }
        // Every other one is cancelled, which makes two completions each.
        let mut keep = false;
        watchers.retain(|_| {
            keep = !keep;
            keep
        });
        time::sleep(Duration::from_millis(1)).await;
        drop(hold);
        client.join().unwrap();
        for watcher in watchers {
            let ended = time::timeout(Duration::from_secs(10), watcher).await;
            ended.expect("a completion was lost");
        }
    });
}

#[test]
fn connect_reaches_a_listener_of_another_shard() {
    let (sender, receiver) = std::sync::mpsc::channel::<SocketAddr>();
    let receiver = std::sync::Mutex::new(receiver);
    on_shards(2, move |shard| {
        let address = (shard == ShardId(1)).then(|| receiver.lock().unwrap().recv().unwrap());
        let sender = sender.clone();
        async move {
            assert_eq!(current_shard(), Some(shard));
            if let Some(address) = address {
                let stream = Stream::connect(address).await.unwrap();
                stream
                    .send(vec![Slice::from(b"hello".to_vec())])
                    .await
                    .unwrap();
                assert_eq!(recv_exactly(&stream, 5).await, b"HELLO");
            } else {
                let listener = Listener::bind(ANY_PORT.into()).unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                let (stream, _) = listener.accept().await.unwrap();
                let upper = recv_exactly(&stream, 5).await.to_ascii_uppercase();
                stream.send(vec![Slice::from(upper)]).await.unwrap();
            }
        }
    });
}

fn blocks(count: usize, seed: u8) -> Slice {
    let mut buffer = AppendBuf::with_capacity(count * BLOCK_BYTES);
    let bytes: Vec<u8> = pattern(count * BLOCK_BYTES)
        .iter()
        .map(|byte| byte ^ seed)
        .collect();
    buffer.append(&bytes);
    buffer.freeze()
}

#[test]
fn file_reads_back_what_was_written() {
    on_shard(|| async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert_eq!(
            File::open(&path, OpenMode::Read).await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
        let file = File::open(&path, OpenMode::CreateNew).await.unwrap();
        let (first, second) = (blocks(3, 1), blocks(1, 2));
        file.allocate(0, 16 * BLOCK_BYTES as u64).await.unwrap();
        assert_eq!(file.size().await.unwrap(), 16 * BLOCK_BYTES as u64);
        file.write_at(0, first.clone(), Durability::Buffered)
            .await
            .unwrap();
        file.write_at(BLOCK_BYTES as u64, second.clone(), Durability::DataSync)
            .await
            .unwrap();
        file.sync_data().await.unwrap();
        file.truncate(3 * BLOCK_BYTES as u64).await.unwrap();
        assert_eq!(
            File::open(&path, OpenMode::CreateNew)
                .await
                .unwrap_err()
                .kind(),
            ErrorKind::AlreadyExists
        );
        let file = File::open(&path, OpenMode::ReadWrite).await.unwrap();
        let whole = file.read_at(0, 8 * BLOCK_BYTES).await.unwrap();
        assert_eq!(whole.len(), 3 * BLOCK_BYTES);
        assert!(whole[..BLOCK_BYTES] == first[..BLOCK_BYTES]);
        assert!(whole[BLOCK_BYTES..2 * BLOCK_BYTES] == second[..]);
        assert!(whole[2 * BLOCK_BYTES..] == first[2 * BLOCK_BYTES..]);
        assert_eq!(
            file.read_at(3 * BLOCK_BYTES as u64, BLOCK_BYTES)
                .await
                .unwrap()
                .len(),
            0
        );
    });
}

#[test]
fn unaligned_operations_are_refused() {
    on_shard(|| async {
        let directory = tempfile::tempdir().unwrap();
        let file = File::open(&directory.path().join("file"), OpenMode::CreateNew)
            .await
            .unwrap();
        assert!(file.read_at(1, BLOCK_BYTES).await.is_err());
        assert!(file.read_at(0, 100).await.is_err());
        assert!(
            file.write_at(0, blocks(1, 0).sub(0..10), Durability::Buffered)
                .await
                .is_err()
        );
    });
}

#[test]
fn dropped_write_runs_to_its_end() {
    on_shard(|| async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = File::open(&path, OpenMode::CreateNew).await.unwrap();
        let data = blocks(64, 9);
        {
            let write = file.write_at(0, data.clone(), Durability::DataSync);
            futures_lite::pin!(write);
            assert!(futures_lite::future::poll_once(&mut write).await.is_none());
        }
        drop(file);
        let file = File::open(&path, OpenMode::Read).await.unwrap();
        for _ in 0..1000 {
            if file.read_at(0, data.len()).await.unwrap()[..] == data[..] {
                return;
            }
            time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the write never arrived");
    });
}

#[test]
fn operations_in_flight_finish_before_the_shard_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let shard_path = path.clone();
    let ran = on_shard(move || {
        let path = shard_path.clone();
        async move {
            let file = File::open(&path, OpenMode::CreateNew).await.unwrap();
            let write = file.write_at(0, blocks(64, 9), Durability::DataSync);
            futures_lite::pin!(write);
            assert!(futures_lite::future::poll_once(&mut write).await.is_none());
        }
    });
    if ran.is_some() {
        assert!(std::fs::read(path).unwrap() == blocks(64, 9)[..]);
    }
}

#[test]
fn directories_and_small_files() {
    on_shard(|| async {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        dir::create_dir_all(&deep).await.unwrap();
        dir::write_file_atomic(&deep.join("x"), b"one")
            .await
            .unwrap();
        dir::write_file_atomic(&deep.join("x"), b"two")
            .await
            .unwrap();
        assert_eq!(dir::read_file(&deep.join("x")).await.unwrap(), b"two");
        dir::rename(&deep.join("x"), &deep.join("y")).await.unwrap();
        dir::create_dir_all(&deep.join("z")).await.unwrap();
        dir::sync_dir(&deep).await.unwrap();
        let entries = dir::read_dir(&deep).await.unwrap();
        let seen: Vec<_> = entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.is_dir, entry.bytes))
            .collect();
        assert_eq!(seen, [("y", false, 3), ("z", true, 0)]);
        dir::remove_file(&deep.join("y")).await.unwrap();
        assert!(!dir::exists(&deep.join("y")).await.unwrap());
        dir::remove_dir_all(&root.path().join("a")).await.unwrap();
        assert!(!dir::exists(&deep).await.unwrap());
        assert!(dir::free_bytes(root.path()).await.unwrap() > 0);
    });
}

/// How many of the pages that `bytes` bytes at `start` lie on are present (proc(5), `/proc/pid/pagemap`).
fn present_pages(start: usize, bytes: usize) -> usize {
    let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
    let mut entries = vec![0; bytes / BLOCK_BYTES * 8];
    pagemap
        .read_exact_at(&mut entries, (start / BLOCK_BYTES * 8) as u64)
        .unwrap();
    let is_present = |entry: &&[u8]| entry[7] & 0x80 != 0;
    entries.chunks_exact(8).filter(is_present).count()
}

#[test]
fn memory_is_made_ready_before_it_is_touched() {
    // More than an allocator keeps: it comes fresh from the kernel.
    const BYTES: usize = 40 << 20;
    on_shard(|| async {
        let buffer = AppendBuf::with_capacity(BYTES);
        let start = buffer.as_slice().as_ptr() as usize;
        let pages = BYTES / BLOCK_BYTES;
        assert!(present_pages(start, BYTES) < pages / 2);
        buffer.make_ready();
        let patience = time::now() + Duration::from_mins(1);
        while present_pages(start, BYTES) < pages {
            assert!(time::now() < patience, "the pages do not come");
            // Nothing tells that they have come.
            time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn sleeps_end_in_order_and_not_early() {
    on_shard(|| async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let start = time::now();
        let sleepers: Vec<_> = [3_u64, 1, 2]
            .map(|tens| {
                let order = Rc::clone(&order);
                task::spawn(Class::Background, async move {
                    let duration = Duration::from_millis(10 * tens);
                    time::sleep(duration).await;
                    assert!(time::now() - start >= duration);
                    order.borrow_mut().push(tens);
                })
            })
            .into();
        for sleeper in sleepers {
            sleeper.await.unwrap();
        }
        assert_eq!(*order.borrow(), [1, 2, 3]);
        assert!(time::now() - start < Duration::from_secs(5));
    });
}

#[test]
fn panic_ends_its_task_only() {
    on_shard(|| async {
        let failed = task::spawn(Class::Network, async { panic!("on purpose") }).await;
        assert!(failed.unwrap_err().to_string().contains("on purpose"));
        assert_eq!(task::spawn(Class::Storage, async { 7 }).await.unwrap(), 7);
    });
}

#[test]
fn panic_of_the_main_future_is_reported() {
    let started = start_shards(&Topology::unpinned(1), |_| async { panic!("on purpose") });
    if let Ok(threads) = started {
        assert!(matches!(
            threads.join(),
            Err(ShardError::Panicked { shard: ShardId(0) })
        ));
    }
}

/// Sets its flag when it is dropped.
struct Flag(Rc<Cell<bool>>, Option<oneshot_remote::Sender<bool>>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.set(true);
        if let Some(sender) = self.1.take() {
            let _ = sender.send(true);
        }
    }
}

#[test]
fn tasks_that_outlive_the_main_future_are_dropped() {
    let (sender, receiver) = oneshot_remote::channel();
    let sender = std::sync::Mutex::new(Some(sender));
    let ran = on_shard(move || {
        let flag = Flag(Rc::default(), sender.lock().unwrap().take());
        async move {
            task::spawn(Class::Background, async move {
                let _flag = flag;
                std::future::pending::<()>().await;
            })
            .detach();
            // One that was never polled, one that sleeps, one in a receive.
            task::spawn(Class::Background, time::sleep(Duration::from_hours(1))).detach();
            task::yield_now().await;
            task::spawn(Class::Network, std::future::pending::<()>()).detach();
        }
    });
    if ran.is_some() {
        assert_eq!(futures_lite::future::block_on(receiver), Ok(true));
    }
}

#[test]
fn sleeping_shard_is_woken_by_a_foreign_thread_every_time() {
    on_shard(|| async {
        const ROUNDS: u32 = 2000;
        let (to_thread, from_shard) = std::sync::mpsc::channel::<oneshot_remote::Sender<u32>>();
        let echo = std::thread::spawn(move || {
            for (number, sender) in from_shard.iter().enumerate() {
                if number % 7 == 0 {
                    std::thread::sleep(Duration::from_micros(50)); // the shard blocks meanwhile
                }
                sender.send(number as u32).unwrap();
            }
        });
        for round in 0..ROUNDS {
            let (sender, receiver) = oneshot_remote::channel();
            to_thread.send(sender).unwrap();
            let answer = time::timeout(Duration::from_secs(10), receiver).await;
            assert_eq!(answer.expect("the wake-up was lost"), Ok(round));
        }
        drop(to_thread);
        echo.join().unwrap();
    });
}

#[test]
fn mailbox_carries_everything_between_two_shards_in_order() {
    const COUNT: u64 = 50_000;
    let (sender, receiver) = mailbox::channel::<u64>(64);
    let ends = std::sync::Mutex::new((Some(sender), Some(receiver)));
    on_shards(2, move |shard| {
        let mut ends = ends.lock().unwrap();
        let sender = (shard.index() == 0).then(|| ends.0.take().unwrap());
        let receiver = (shard.index() == 1).then(|| ends.1.take().unwrap());
        async move {
            if let Some(sender) = sender {
                for number in 0..COUNT {
                    sender.send(number).await.unwrap();
                }
            }
            if let Some(mut receiver) = receiver {
                let mut batch = Vec::new();
                let mut next = 0;
                while receiver.recv_batch(&mut batch).await {
                    for number in batch.drain(..) {
                        assert_eq!(number, next);
                        next += 1;
                    }
                }
                assert_eq!(next, COUNT);
            }
        }
    });
}

#[test]
fn background_work_does_not_stop_network_tasks() {
    on_shard(|| async {
        let stop = Rc::new(Cell::new(false));
        let seen = Rc::clone(&stop);
        let grinding = task::spawn(Class::Background, async move {
            while !seen.get() {
                std::hint::black_box(pattern(1000));
                task::yield_now().await;
            }
        });
        let (listener, client) = with_client(|mut stream| {
            for _ in 0..100 {
                stream.write_all(b"x").unwrap();
                stream.read_exact(&mut [0; 1]).unwrap();
            }
        });
        let start = time::now();
        let (stream, _) = listener.accept().await.unwrap();
        for _ in 0..100 {
            let byte = recv_exactly(&stream, 1).await;
            stream.send(vec![Slice::from(byte)]).await.unwrap();
        }
        assert!(time::now() - start < Duration::from_secs(2));
        stop.set(true);
        grinding.await.unwrap();
        client.join().unwrap();
    });
}

#[test]
fn lull_ends_when_nothing_runs_and_beside_a_task_that_always_does() {
    on_shard(|| async {
        let polls = Rc::new(Cell::new(0));
        let counted = polls.clone();
        let finite = task::spawn(Class::Network, async move {
            while counted.get() < 1000 {
                counted.set(counted.get() + 1);
                task::yield_now().await;
            }
        });
        task::lull(u32::MAX).await;
        assert_eq!(polls.get(), 1000, "everything else ran first");
        finite.await.unwrap();
        let endless = task::spawn(Class::Network, async {
            loop {
                task::yield_now().await;
            }
        });
        task::lull(2).await;
        endless.abort();
    });
}

#[test]
fn idle_shards_use_no_cpu() {
    // Other tests of this process run meanwhile; so look at the threads of this test only.
    let cpu = on_shards(2, |_| async {
        let _notify = sync::Notify::new();
        let before = thread_cpu();
        time::sleep(Duration::from_millis(500)).await;
        thread_cpu().saturating_sub(before)
    });
    for used in cpu.into_iter().flatten() {
        assert!(
            used < Duration::from_millis(2),
            "an idle shard used {used:?} in 500 ms"
        );
    }
}

/// CPU time of this thread, from the scheduler's own count.
fn thread_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_file_is_made_with_its_directories_where_it_is_not_there() {
    on_shard(|| async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        let (file, is_made) = File::open_or_create(&path).await.unwrap();
        assert!(is_made);
        let written = file.write_at(0, blocks(1, 7), Durability::Buffered);
        written.await.unwrap();
        let (again, is_made) = File::open_or_create(&path).await.unwrap();
        assert!(!is_made);
        assert_eq!(again.size().await.unwrap(), BLOCK_BYTES as u64);
        let refused = File::open_or_create(&path.join("below")).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotADirectory);
    });
}

#[test]
fn parts_are_written_one_behind_the_other() {
    on_shard(|| async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = File::open(&path, OpenMode::CreateNew).await.unwrap();
        let zeros = Slice::from(vec![0; BLOCK_BYTES]);
        let parts = vec![blocks(1, 1), blocks(0, 2), blocks(2, 3)];
        let at = BLOCK_BYTES as u64;
        let written = file.write_parts_at(at, parts.clone(), Durability::DataSync);
        written.await.unwrap();
        let expected = Slice::joined([vec![zeros], parts].concat());
        assert!(std::fs::read(&path).unwrap()[..] == expected[..]);
        // More than the kernel takes at once, which is where it ends the first operation.
        let parts: Vec<Slice> = (0..1500)
            .map(|part| blocks(1, (part % 251) as u8))
            .collect();
        let written = file.write_parts_at(0, parts.clone(), Durability::Buffered);
        written.await.unwrap();
        let expected = Slice::joined(parts);
        assert!(std::fs::read(&path).unwrap()[..] == expected[..]);
        let odd = vec![blocks(1, 1), blocks(1, 1).sub(0..100)];
        let refused = file.write_parts_at(0, odd, Durability::Buffered).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

/// File systems with blocks smaller than ours end a write inside one of ours when they are full. Here a
/// limit on the size of files, which only another process can be given, makes one end after 6 KiB.
#[test]
fn a_write_that_ends_early_says_why() {
    const FILE: &str = "STREAMBUS_TEST_SHORT_WRITE";
    let Some(path) = std::env::var_os(FILE) else {
        let dir = tempfile::tempdir().unwrap();
        let test = std::env::current_exe().unwrap();
        let limited = std::process::Command::new("bash")
            .args(["-c", "trap '' XFSZ; ulimit -f 6; exec \"$@\"", "bash"])
            .arg(test)
            .args(["--exact", "a_write_that_ends_early_says_why", "--nocapture"])
            .env(FILE, dir.path().join("file"))
            // The limit is that of all files, and what is printed may go to one.
            .output();
        let output = limited.unwrap();
        assert!(output.status.success(), "{output:?}");
        return;
    };
    on_shard(move || {
        let path = std::path::PathBuf::from(&path);
        async move {
            let file = File::open(&path, OpenMode::CreateNew).await.unwrap();
            let blocks = runtime::AlignedBuf::zeroed(2 * BLOCK_BYTES).freeze();
            let written = file.write_at(0, blocks, Durability::Buffered).await;
            let error = written.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge, "{error}");
        }
    });
}

/// glommio's preempt timer must not be used: on a contended core it made a shard sleep for ever.
#[test]
fn shard_on_a_contended_core_goes_on() {
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let busy: Vec<_> = (0..2 * std::thread::available_parallelism().unwrap().get())
        .map(|_| {
            let stop = std::sync::Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::black_box(pattern(1000));
                }
            })
        })
        .collect();
    on_shard(move || async {
        let end = time::now() + Duration::from_millis(1500);
        while time::now() < end {
            let tasks: Vec<_> = [Class::Network, Class::Storage, Class::Background]
                .map(|class| task::spawn(class, time::sleep(Duration::from_micros(100))))
                .into();
            for task in tasks {
                task.await.unwrap();
            }
        }
    });
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for thread in busy {
        thread.join().unwrap();
    }
}

/// A task that takes long gives way to what has arrived, not to itself and others for many polls more: that held up
/// everything on the shard for 32 ms.
#[test]
fn a_long_task_gives_way_to_what_has_arrived() {
    const POLLS: usize = 200;
    let answered = on_shard(|| async {
        let is_over = Rc::new(Cell::new(false));
        let until = Rc::clone(&is_over);
        let timers = task::spawn(Class::Network, async move {
            let mut fired = 0;
            while !until.get() {
                time::sleep(Duration::from_micros(1)).await;
                fired += 1;
            }
            fired
        });
        let long = task::spawn(Class::Background, async {
            let mut working = std::pin::pin!(async {
                loop {
                    std::hint::black_box(pattern(1000));
                    task::yield_if_needed().await;
                }
            });
            for _ in 0..POLLS {
                let one_poll = |context: &mut std::task::Context<'_>| {
                    let _: std::task::Poll<()> = working.as_mut().poll(context);
                    std::task::Poll::Ready(())
                };
                std::future::poll_fn(one_poll).await;
                task::yield_now().await;
            }
        });
        long.await.unwrap();
        is_over.set(true);
        timers.await.unwrap()
    });
    assert!(
        answered.is_none_or(|fired| fired > POLLS / 4),
        "{answered:?} timers in {POLLS} polls"
    );
}

/// The lock of a data directory: the descriptor is closed with the process, the ring's operations may go on.
#[test]
fn a_lock_that_a_ring_holds_is_free_when_the_ring_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("LOCK");
    let inside = path.clone();
    let ran = on_shard(move || {
        let path = inside.clone();
        async move {
            let lock = std::fs::File::create(&path).unwrap();
            lock.try_lock().unwrap();
            hold_open_for_operations(&[lock]).unwrap();
            let other = std::fs::File::open(&path).unwrap();
            let held = other.try_lock();
            assert!(matches!(held, Err(std::fs::TryLockError::WouldBlock)));
        }
    });
    if ran.is_some() {
        std::fs::File::open(&path).unwrap().lock().unwrap();
    }
}
