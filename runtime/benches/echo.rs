//! What the runtime costs a request: an echo server over the face, over a raw ring, over glommio.
//!
//! Each server runs on one pinned thread, the same raw-ring client on another; loopback. Reported:
//! requests per second, CPU time of the server's thread per request (µs), and the ratio to the raw
//! ring. `cargo bench -p streambus-runtime --bench echo [-- seconds-per-run]`.
#![allow(
    unsafe_code,
    reason = "the raw rings that the runtime is compared with"
)]
#![expect(clippy::print_stdout, reason = "the report")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails has no report")]

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use io_uring::{IoUring, opcode, squeue, types};
use runtime::AppendBuf;
use runtime::executor::{Topology, start_shards};
use runtime::net::Stream;
use runtime::task::{self, Class};

const BUFFER_BYTES: usize = 64 * 1024;
const ROUNDS: usize = 3;

/// One shape of load: `connections` each keep `depth` requests of `bytes` in flight.
struct Case {
    name: &'static str,
    connections: usize,
    bytes: usize,
    depth: usize,
}

const CASES: [Case; 4] = [
    Case {
        name: "64 x 100 B",
        connections: 64,
        bytes: 100,
        depth: 1,
    },
    Case {
        name: "16 x 1 KiB x 5",
        connections: 16,
        bytes: 1024,
        depth: 5,
    },
    Case {
        name: "64 x 16 KiB",
        connections: 64,
        bytes: 16 * 1024,
        depth: 1,
    },
    Case {
        name: "1 x 100 B",
        connections: 1,
        bytes: 100,
        depth: 1,
    },
];

/// A server takes connected sockets, tells its thread's number, and echoes until all are closed.
type Serve = fn(Vec<OwnedFd>, mpsc::Sender<i32>);

const SERVERS: [(&str, Serve); 3] = [
    ("raw ring", serve_raw as Serve),
    ("runtime", serve_face as Serve),
    ("glommio", serve_glommio as Serve),
];

fn main() {
    let seconds = std::env::args()
        .find_map(|word| word.parse().ok())
        .unwrap_or(1.0);
    let limit = Duration::from_secs_f64(seconds);
    println!(
        "{:<16} {:<10} {:>11} {:>8} {:>7}",
        "case", "server", "requests/s", "CPU µs", "ratio"
    );
    for case in &CASES {
        // Alternating rounds, so that a slow moment of the machine does not hit one server only.
        let mut runs = vec![Vec::new(); SERVERS.len()];
        for _ in 0..ROUNDS {
            for (index, (_, serve)) in SERVERS.iter().enumerate() {
                runs[index].push(measure(case, *serve, limit / ROUNDS as u32));
            }
        }
        let medians: Vec<Outcome> = runs.into_iter().map(median).collect();
        for ((name, _), outcome) in SERVERS.iter().zip(&medians) {
            let ratio = outcome.cpu_micros / medians[0].cpu_micros;
            let Outcome { rate, cpu_micros } = outcome;
            println!(
                "{:<16} {name:<10} {rate:>11.0} {cpu_micros:>8.2} {ratio:>7.2}",
                case.name
            );
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Outcome {
    rate: f64,
    cpu_micros: f64,
}

fn median(mut runs: Vec<Outcome>) -> Outcome {
    runs.sort_by(|a, b| a.cpu_micros.total_cmp(&b.cpu_micros));
    runs[runs.len() / 2]
}

/// Connected pairs of sockets over loopback: the client's ends and the server's.
fn connect(count: usize) -> (Vec<TcpStream>, Vec<OwnedFd>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let pair = |_| {
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        (client, OwnedFd::from(server))
    };
    (0..count).map(pair).unzip()
}

fn measure(case: &Case, serve: Serve, limit: Duration) -> Outcome {
    let (clients, servers) = connect(case.connections);
    let (thread_id, receiver) = mpsc::channel();
    let server = std::thread::spawn(move || serve(servers, thread_id));
    let server_thread = receiver.recv().unwrap();
    pin(1);
    let mut client = Client::new(case, &clients);
    client.run(limit / 5);
    let (cpu, start) = (cpu_nanos(server_thread), Instant::now());
    let requests = client.run(limit);
    let cpu = cpu_nanos(server_thread) - cpu;
    let rate = requests as f64 / start.elapsed().as_secs_f64();
    for client in &clients {
        client.shutdown(std::net::Shutdown::Both).unwrap();
    }
    drop(client);
    server.join().unwrap();
    Outcome {
        rate,
        cpu_micros: cpu as f64 / 1e3 / requests as f64,
    }
}

/// CPU time of a thread of this process, from the scheduler's count.
fn cpu_nanos(thread: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Pins this thread to the n-th CPU it may use, or to the last.
fn pin(index: usize) {
    static ALLOWED: std::sync::OnceLock<Vec<usize>> = std::sync::OnceLock::new();
    // SAFETY: `cpu_set_t` is plain bits and lives through the calls; indices are below its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let allowed = ALLOWED.get_or_init(|| {
            libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set);
            (0..libc::CPU_SETSIZE as usize)
                .filter(|&cpu| libc::CPU_ISSET(cpu, &set))
                .collect()
        });
        libc::CPU_ZERO(&mut set);
        libc::CPU_SET(allowed[index.min(allowed.len() - 1)], &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

fn start_server(thread_id: &mpsc::Sender<i32>) {
    pin(0);
    // SAFETY: takes and touches nothing.
    thread_id.send(unsafe { libc::gettid() }).unwrap();
}

// --- the raw ring ---

fn raw_ring() -> IoUring {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(4096);
    builder.build(512).unwrap()
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) {
    // SAFETY: the buffers of the benchmarks outlive their rings.
    while unsafe { ring.submission().push(entry) }.is_err() {
        ring.submit().unwrap();
    }
}

const SEND: u64 = 1 << 32;
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

fn recv_entry(socket: RawFd, buffer: &mut [u8], key: usize, poll_first: bool) -> squeue::Entry {
    opcode::Recv::new(types::Fd(socket), buffer.as_mut_ptr(), buffer.len() as u32)
        .ioprio(u16::from(poll_first))
        .build()
        .user_data(key as u64)
}

fn send_entry(socket: RawFd, buffer: &[u8], key: usize) -> squeue::Entry {
    opcode::Send::new(types::Fd(socket), buffer.as_ptr(), buffer.len() as u32)
        .flags(SEND_FLAGS)
        .build()
        .user_data(key as u64 | SEND)
}

#[expect(clippy::needless_pass_by_value, reason = "the servers share one type")]
fn serve_raw(sockets: Vec<OwnedFd>, thread_id: mpsc::Sender<i32>) {
    start_server(&thread_id);
    let mut ring = raw_ring();
    let mut buffers: Vec<_> = sockets.iter().map(|_| vec![0_u8; BUFFER_BYTES]).collect();
    for (key, socket) in sockets.iter().enumerate() {
        push(
            &mut ring,
            &recv_entry(socket.as_raw_fd(), &mut buffers[key], key, true),
        );
    }
    let mut open = sockets.len();
    let mut completions = Vec::new();
    while open > 0 {
        ring.submit_and_wait(1).unwrap();
        completions.extend(
            ring.completion()
                .map(|entry| (entry.user_data(), entry.result())),
        );
        for (data, result) in completions.drain(..) {
            let key = (data & !SEND) as usize;
            let socket = sockets[key].as_raw_fd();
            if result <= 0 {
                open -= 1;
            } else if data & SEND == 0 {
                push(
                    &mut ring,
                    &send_entry(socket, &buffers[key][..result as usize], key),
                );
            } else {
                push(&mut ring, &recv_entry(socket, &mut buffers[key], key, true));
            }
        }
    }
}

// --- the face ---

fn serve_face(sockets: Vec<OwnedFd>, thread_id: mpsc::Sender<i32>) {
    let sockets = std::sync::Mutex::new(Some(sockets));
    let threads = start_shards(&Topology::unpinned(1), move |_| {
        start_server(&thread_id);
        let sockets = sockets.lock().unwrap().take().unwrap();
        async move {
            let connections: Vec<_> = sockets
                .into_iter()
                .map(|socket| task::spawn(Class::Network, echo(Stream::from_fd(socket))))
                .collect();
            for connection in connections {
                connection.await.unwrap();
            }
        }
    });
    threads.unwrap().join().unwrap();
}

async fn echo(stream: Stream) {
    let mut buffer = AppendBuf::with_capacity(BUFFER_BYTES);
    loop {
        let (received, mut filled) = stream.recv(buffer).await;
        if received.is_err() || filled.is_empty() {
            return;
        }
        if stream
            .send(vec![filled.slice(0..filled.len())])
            .await
            .is_err()
        {
            return;
        }
        assert!(filled.try_clear());
        buffer = filled;
    }
}

// --- glommio's own sockets ---

#[expect(clippy::needless_pass_by_value, reason = "the servers share one type")]
fn serve_glommio(sockets: Vec<OwnedFd>, thread_id: mpsc::Sender<i32>) {
    use std::os::fd::{FromRawFd, IntoRawFd};
    start_server(&thread_id);
    // Its default preempt timer of 100 ms: with a short one it parks, on a contended core, with
    // tasks still runnable, and never wakes.
    let builder = glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound);
    builder.make().unwrap().run(async move {
        let shares = glommio::Shares::Static(1000);
        let latency = glommio::Latency::NotImportant;
        let queue = glommio::executor().create_task_queue(shares, latency, "network");
        let open = Rc::new(Cell::new(sockets.len()));
        let tasks: Vec<_> = sockets
            .into_iter()
            .map(|socket| {
                let open = Rc::clone(&open);
                let connection = async move {
                    // SAFETY: the descriptor is given away by its only owner.
                    let stream =
                        unsafe { glommio::net::TcpStream::from_raw_fd(socket.into_raw_fd()) };
                    echo_glommio(stream).await;
                    open.set(open.get() - 1);
                };
                glommio::spawn_local_into(connection, queue).unwrap()
            })
            .collect();
        for task in tasks {
            task.await;
        }
    });
}

async fn echo_glommio(mut stream: glommio::net::TcpStream) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(received @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..received]).await.is_err() {
            return;
        }
    }
}

// --- the client ---

/// Keeps requests in flight on every connection from one raw ring.
struct Client<'a> {
    case: &'a Case,
    sockets: Vec<RawFd>,
    ring: IoUring,
    request: Vec<u8>,
    buffers: Vec<Vec<u8>>,
    received: Vec<usize>,
    in_flight: usize,
}

impl<'a> Client<'a> {
    fn new(case: &'a Case, streams: &[TcpStream]) -> Self {
        let buffers = streams.iter().map(|_| vec![0; BUFFER_BYTES]).collect();
        Self {
            case,
            sockets: streams.iter().map(AsRawFd::as_raw_fd).collect(),
            ring: raw_ring(),
            request: vec![7; case.bytes * case.depth],
            buffers,
            received: vec![0; streams.len()],
            in_flight: 0,
        }
    }

    fn send(&mut self, key: usize, requests: usize) {
        let bytes = &self.request[..requests * self.case.bytes];
        push(&mut self.ring, &send_entry(self.sockets[key], bytes, key));
        let receive = recv_entry(self.sockets[key], &mut self.buffers[key], key, true);
        push(&mut self.ring, &receive);
        self.in_flight += 2;
    }

    /// Runs for `limit`, then until every answer is there. Returns the number of requests.
    fn run(&mut self, limit: Duration) -> u64 {
        let deadline = Instant::now() + limit;
        let mut requests = 0;
        for key in 0..self.sockets.len() {
            self.send(key, self.case.depth);
        }
        let mut completions = Vec::new();
        while self.in_flight > 0 {
            self.ring.submit_and_wait(1).unwrap();
            let entries = self.ring.completion();
            completions.extend(entries.map(|entry| (entry.user_data(), entry.result())));
            let over = Instant::now() >= deadline;
            for (data, result) in completions.drain(..) {
                assert!(result > 0, "the server closed a connection: {result}");
                self.in_flight -= 1;
                if data & SEND == 0 {
                    requests += self.receive(data as usize, result as usize, over);
                }
            }
        }
        requests
    }

    /// Counts whole answers, asks again as often, and goes on receiving.
    fn receive(&mut self, key: usize, bytes: usize, over: bool) -> u64 {
        self.received[key] += bytes;
        let wanted = self.case.bytes * self.case.depth;
        if self.received[key] < wanted {
            let receive = recv_entry(self.sockets[key], &mut self.buffers[key], key, true);
            push(&mut self.ring, &receive);
            self.in_flight += 1;
            return 0;
        }
        self.received[key] = 0;
        if !over {
            self.send(key, self.case.depth);
        }
        self.case.depth as u64
    }
}
