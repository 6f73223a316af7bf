//! Zero-copy sends over loopback, where the kernel copies them when they are received: until then it
//! reads the sender's memory. Without `io_uring`, or without the operation, each test skips, aloud.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::future::Future;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_lite::future::poll_once;
use runtime::executor::{ShardError, Topology, start_shards};
use runtime::net::{Listener, Stream, ZeroCopy, ZeroCopyMode};
use runtime::task::{self, Class};
use runtime::{AppendBuf, MemoryBudget, Slice, time};
use socket2::{Domain, SockRef, Socket, Type};

const BUDGET_BYTES: usize = 1 << 30;
/// A receive buffer that takes next to nothing, so that what is sent stays with the sender.
const SMALL_BUFFER_BYTES: usize = 4 << 10;
/// Fits into the send buffer that [`Peer::accept`] asks for, and not into the peer's receive buffer.
const BYTES: usize = 128 << 10;
const SEND_BUFFER_BYTES: usize = 200 << 10;

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn on_shard<T, F, Fut>(make: F) -> Option<T>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    match start_shards(&Topology::unpinned(1), move |_| make()) {
        Ok(threads) => threads.join().unwrap().pop(),
        Err(error @ ShardError::Start { .. }) => {
            eprintln!("SKIPPED: this machine has no usable io_uring: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn pattern(bytes: usize, seed: usize) -> Vec<u8> {
    (seed..seed + bytes)
        .map(|at| (at * 31 % 251) as u8)
        .collect()
}

/// Memory as the broker's batches have it: of a size that is used again as soon as it is free.
fn buffer(bytes: &[u8]) -> Slice {
    let mut buffer = AppendBuf::with_capacity(bytes.len());
    buffer.append(bytes);
    buffer.freeze()
}

/// The other end: a thread that reads to the end once it is told to begin, and answers what it read.
struct Peer {
    begin: mpsc::Sender<()>,
    reading: JoinHandle<Vec<u8>>,
}

impl Peer {
    fn connect(address: SocketAddr) -> Peer {
        let (begin, told) = mpsc::channel();
        let reading = std::thread::spawn(move || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_recv_buffer_size(SMALL_BUFFER_BYTES).unwrap();
            socket.connect(&address.into()).unwrap();
            told.recv().unwrap();
            let mut all = Vec::new();
            TcpStream::from(socket).read_to_end(&mut all).unwrap();
            all
        });
        Peer { begin, reading }
    }

    /// A connection from a new peer with zero-copy sends on.
    async fn accept(zero_copy: &Rc<ZeroCopy>) -> (Stream, Peer) {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let peer = Peer::connect(listener.local_addr().unwrap());
        let (stream, _) = listener.accept().await.unwrap();
        let socket = stream.into_fd().unwrap();
        let sized = SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER_BYTES);
        sized.unwrap();
        let stream = Stream::from_fd(socket);
        stream.use_zero_copy(zero_copy);
        (stream, peer)
    }

    fn begin(&self) {
        self.begin.send(()).unwrap();
    }

    /// What it got, while the shard goes on.
    async fn received(self) -> Vec<u8> {
        while !self.reading.is_finished() {
            time::sleep(Duration::from_millis(1)).await;
        }
        self.reading.join().unwrap()
    }
}

fn zero_copy(mode: ZeroCopyMode) -> (Rc<ZeroCopy>, MemoryBudget) {
    let budget = MemoryBudget::new(BUDGET_BYTES);
    (ZeroCopy::new(mode, budget.clone()), budget)
}

/// Whether the kernel has the operation and says what it copied (Linux 6.2).
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn is_there() -> bool {
    let (zero_copy, budget) = zero_copy(ZeroCopyMode::On);
    let (stream, peer) = Peer::accept(&zero_copy).await;
    peer.begin();
    stream.send(vec![buffer(&pattern(BYTES, 0))]).await.unwrap();
    drop(stream);
    assert!(peer.received().await == pattern(BYTES, 0));
    released(&budget).await;
    let is_there = zero_copy.counts().sends == 1;
    if !is_there {
        eprintln!("SKIPPED: this kernel has no zero-copy sends");
    }
    is_there
}

/// Waits until the kernel has let go of everything.
async fn released(budget: &MemoryBudget) {
    while budget.used() > 0 {
        time::sleep(Duration::from_millis(1)).await;
    }
}

/// Takes as much memory as was just freed, if any was, and writes over it.
fn use_memory_again() -> Vec<Slice> {
    (0..8).map(|_| buffer(&vec![0xee; BYTES])).collect()
}

#[test]
fn many_parts_arrive_in_order_through_a_small_send_buffer() {
    on_shard(|| async {
        if !is_there().await {
            return;
        }
        let (zero_copy, budget) = zero_copy(ZeroCopyMode::On);
        let (stream, peer) = Peer::accept(&zero_copy).await;
        peer.begin();
        // More parts than one send takes, and far more bytes than both socket buffers.
        let expected = pattern(3000 * 5000, 7);
        let mut parts: Vec<_> = expected.chunks(5000).map(buffer).collect();
        parts.insert(9, Slice::default());
        stream.send(parts).await.unwrap();
        drop(stream);
        assert!(peer.received().await == expected);
        released(&budget).await;
        // None at all where too little memory may be locked: then the kernel refuses, and it is copied.
        let counts = zero_copy.counts();
        assert_eq!(counts.copied_sends, counts.sends, "loopback copies");
        assert_eq!((counts.bytes, counts.held_bytes), (0, 0));
    });
}

#[test]
fn small_sends_and_large_ones_take_turns() {
    on_shard(|| async {
        let (zero_copy, budget) = zero_copy(ZeroCopyMode::On);
        let (stream, peer) = Peer::accept(&zero_copy).await;
        peer.begin();
        let mut expected = Vec::new();
        for (seed, bytes) in [10, BYTES, 60_000, 3, 2 * BYTES, 70_000]
            .into_iter()
            .enumerate()
        {
            let bytes = pattern(bytes, seed);
            stream.send(vec![buffer(&bytes)]).await.unwrap();
            expected.extend(bytes);
        }
        drop(stream);
        assert!(peer.received().await == expected);
        released(&budget).await;
    });
}

#[test]
fn memory_is_charged_and_not_used_again_before_the_kernel_has_let_go() {
    on_shard(|| async {
        if !is_there().await {
            return;
        }
        let (zero_copy, budget) = zero_copy(ZeroCopyMode::On);
        let (stream, peer) = Peer::accept(&zero_copy).await;
        // The socket takes all of it; the peer has read nothing.
        stream.send(vec![buffer(&pattern(BYTES, 3))]).await.unwrap();
        assert!(budget.used() >= BYTES, "{budget:?}");
        assert!(zero_copy.counts().held_bytes >= BYTES as u64);
        let _overwritten = use_memory_again();
        // Nor does the end of the connection change that.
        stream.shutdown();
        drop(stream);
        assert!(budget.used() >= BYTES, "{budget:?}");
        peer.begin();
        assert!(peer.received().await == pattern(BYTES, 3));
        released(&budget).await;
    });
}

#[test]
fn a_dropped_send_goes_on_with_its_memory() {
    on_shard(|| async {
        if !is_there().await {
            return;
        }
        let (zero_copy, budget) = zero_copy(ZeroCopyMode::On);
        let (stream, peer) = Peer::accept(&zero_copy).await;
        // More than the send buffer takes: no answer before the peer reads.
        let expected = pattern(8 * BYTES, 5);
        let parts: Vec<_> = expected.chunks(BYTES).map(buffer).collect();
        {
            let sending = stream.send(parts);
            futures_lite::pin!(sending);
            assert!(poll_once(&mut sending).await.is_none());
            time::sleep(Duration::from_millis(1)).await;
            assert!(poll_once(&mut sending).await.is_none());
        }
        let _overwritten = use_memory_again();
        assert!(budget.used() >= expected.len(), "{budget:?}");
        peer.begin();
        released(&budget).await;
        drop(stream);
        assert!(peer.received().await == expected);
    });
}

#[test]
fn a_closing_shard_waits_until_the_kernel_has_let_go() {
    let (sender, receiver) = mpsc::channel::<JoinHandle<Vec<u8>>>();
    let ran = on_shard(move || {
        let sender = sender.clone();
        async move {
            let (zero_copy, _) = zero_copy(ZeroCopyMode::On);
            let (stream, peer) = Peer::accept(&zero_copy).await;
            stream.send(vec![buffer(&pattern(BYTES, 8))]).await.unwrap();
            sender.send(peer.reading).unwrap();
            // The shard ends here, and has what the peer begins to read now.
            peer.begin.send(()).unwrap();
        }
    });
    if ran.is_some() {
        let reading = receiver.recv().unwrap();
        assert!(reading.join().unwrap() == pattern(BYTES, 8));
    }
}

#[test]
fn auto_does_nothing_on_loopback_and_off_nothing_at_all() {
    on_shard(|| async {
        for mode in [ZeroCopyMode::Auto, ZeroCopyMode::Off] {
            let (zero_copy, budget) = zero_copy(mode);
            let (stream, peer) = Peer::accept(&zero_copy).await;
            stream.send(vec![buffer(&pattern(BYTES, 1))]).await.unwrap();
            assert_eq!(budget.used(), 0, "{mode:?}");
            peer.begin();
            drop(stream);
            assert!(peer.received().await == pattern(BYTES, 1));
            assert_eq!(zero_copy.counts().sends, 0, "{mode:?}");
        }
    });
}

#[test]
fn sends_to_a_peer_that_resets_fail_and_give_their_memory_back() {
    on_shard(|| async {
        let (zero_copy, budget) = zero_copy(ZeroCopyMode::On);
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        stream.use_zero_copy(&zero_copy);
        let sender = stream.clone();
        let sending = task::spawn(Class::Network, async move {
            loop {
                let sent = sender.send(vec![buffer(&pattern(BYTES, 0))]).await;
                if let Err(error) = sent {
                    return error;
                }
            }
        });
        time::sleep(Duration::from_millis(1)).await;
        // With bytes unread a close is a reset.
        drop(peer);
        let _broken = sending.await.unwrap();
        released(&budget).await;
    });
}
