//! Stream sockets in memory: bytes arrive late and in pieces, connections break.
//!
//! *Ordering*: what one end sends arrives in order. *Limits*: a sender waits while
//! [`WINDOW_BYTES`] of what it sent have not been received.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::random::Random;
use super::world::{World, current};
use crate::buffer::{AppendBuf, Slice};
use crate::sync::Notify;
use crate::time::Instant;

/// Bytes in transit or not received yet, per direction.
const WINDOW_BYTES: usize = 256 * 1024;
/// Longest way of a piece of data.
const DELAY_MAX: Duration = Duration::from_micros(300);
const FIRST_EPHEMERAL_PORT: u16 = 49_152;

/// The network of a world.
pub(crate) struct Network {
    random: RefCell<Random>,
    listeners: RefCell<BTreeMap<SocketAddr, Rc<ListenerState>>>,
    next_port: Cell<u16>,
    ends: RefCell<Vec<Weak<StreamEnd>>>,
}

impl Network {
    pub(super) fn new(random: Random) -> Self {
        Network {
            random: RefCell::new(random),
            listeners: RefCell::default(),
            next_port: Cell::new(FIRST_EPHEMERAL_PORT),
            ends: RefCell::default(),
        }
    }

    fn fresh_port(&self) -> u16 {
        let port = self.next_port.get();
        self.next_port
            .set(port.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT));
        port
    }

    fn delay(&self) -> Duration {
        let nanos = self.random.borrow_mut().below(DELAY_MAX.as_nanos() as u64);
        Duration::from_nanos(nanos)
    }

    /// Breaks every connection that has `address` at one end.
    fn reset(&self, address: SocketAddr) {
        let mut ends = self.ends.borrow_mut();
        ends.retain(|end| end.strong_count() > 0);
        let touched = ends.iter().filter_map(Weak::upgrade);
        let touched: Vec<_> = touched
            .filter(|end| end.local == address || end.peer == address)
            .collect();
        drop(ends);
        for end in touched {
            end.incoming.reset();
            end.outgoing.reset();
        }
    }

    pub(super) fn clear(&self) {
        self.listeners.take();
        self.ends.take();
    }
}

/// Breaks every connection of this simulation that has `address` at one end, as a failing switch
/// does: both ends see `ConnectionReset`, and what was under way is lost.
///
/// # Panics
/// Outside of a simulation.
pub fn reset_connections(address: SocketAddr) {
    current()
        .expect("inside a simulation")
        .network()
        .reset(address);
}

struct ListenerState {
    address: SocketAddr,
    queue: RefCell<VecDeque<SimStream>>,
    arrived: Notify,
}

/// Twin of a listening socket.
pub(crate) struct SimListener {
    state: Rc<ListenerState>,
    world: Weak<World>,
}

impl SimListener {
    pub(crate) fn bind(world: &Rc<World>, mut address: SocketAddr) -> io::Result<Self> {
        if address.port() == 0 {
            address.set_port(world.network().fresh_port());
        }
        let mut listeners = world.network().listeners.borrow_mut();
        if listeners.contains_key(&address) {
            return Err(ErrorKind::AddrInUse.into());
        }
        let (queue, arrived) = (RefCell::default(), Notify::new());
        let state = Rc::new(ListenerState {
            address,
            queue,
            arrived,
        });
        listeners.insert(address, state.clone());
        Ok(SimListener {
            state,
            world: Rc::downgrade(world),
        })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.state.address
    }

    pub(crate) async fn accept(&self) -> SimStream {
        loop {
            let next = self.state.queue.borrow_mut().pop_front();
            if let Some(stream) = next {
                return stream;
            }
            self.state.arrived.notified().await;
        }
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        if let Some(world) = self.world.upgrade() {
            let removed = world
                .network()
                .listeners
                .borrow_mut()
                .remove(&self.state.address);
            drop(removed);
        }
    }
}

impl std::fmt::Debug for SimListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimListener({})", self.state.address)
    }
}

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    arrived: RefCell<VecDeque<Slice>>,
    /// In transit or arrived.
    outstanding: Cell<usize>,
    last_arrival: Cell<Instant>,
    /// The writer has closed, and all that it sent has arrived.
    ended: Cell<bool>,
    writer_closed: Cell<bool>,
    reader_closed: Cell<bool>,
    broken: Cell<bool>,
    changed: Notify,
}

impl Pipe {
    fn reset(&self) {
        self.broken.set(true);
        self.arrived.take();
        self.changed.notify_waiters();
    }

    fn close_reader(&self) {
        self.reader_closed.set(true);
        self.arrived.take();
        self.changed.notify_waiters();
    }

    /// Ends the stream behind what is in transit.
    fn close_writer(self: &Rc<Self>) {
        if self.writer_closed.replace(true) {
            return;
        }
        let pipe = self.clone();
        self.later(move || {
            pipe.ended.set(true);
            pipe.changed.notify_waiters();
        });
        self.changed.notify_waiters();
    }

    /// Does `action` after a delay, but behind all that was sent before.
    fn later(&self, action: impl FnOnce() + 'static) {
        let Some(world) = current() else { return };
        let arrival = (world.now() + world.network().delay()).max(self.last_arrival.get());
        self.last_arrival.set(arrival);
        world.after(arrival - world.now(), action);
    }

    fn write_error(&self) -> Option<io::Error> {
        if self.broken.get() {
            return Some(ErrorKind::ConnectionReset.into());
        }
        let closed = self.writer_closed.get() || self.reader_closed.get();
        closed.then(|| ErrorKind::BrokenPipe.into())
    }

    fn deliver(self: &Rc<Self>, part: Slice) {
        self.outstanding.set(self.outstanding.get() + part.len());
        let pipe = self.clone();
        self.later(move || {
            if !pipe.broken.get() && !pipe.reader_closed.get() {
                pipe.arrived.borrow_mut().push_back(part);
            }
            pipe.changed.notify_waiters();
        });
    }

    /// Appends some of what has arrived; `None` when there is nothing to say yet.
    fn read(&self, buf: &mut AppendBuf, random: &mut Random) -> Option<io::Result<usize>> {
        if self.broken.get() {
            return Some(Err(ErrorKind::ConnectionReset.into()));
        }
        if self.reader_closed.get() {
            return Some(Ok(0));
        }
        let mut arrived = self.arrived.borrow_mut();
        let Some(first) = arrived.pop_front() else {
            return self.ended.get().then_some(Ok(0));
        };
        let mut count = first.len().min(buf.remaining());
        if random.chance(1, 4) {
            count = 1 + random.index(count);
        }
        buf.append(&first[..count]);
        if count < first.len() {
            arrived.push_front(first.sub(count..first.len()));
        }
        drop(arrived);
        self.outstanding.set(self.outstanding.get() - count);
        self.changed.notify_waiters();
        Some(Ok(count))
    }
}

struct StreamEnd {
    local: SocketAddr,
    peer: SocketAddr,
    incoming: Rc<Pipe>,
    outgoing: Rc<Pipe>,
}

impl Drop for StreamEnd {
    fn drop(&mut self) {
        self.incoming.close_reader();
        self.outgoing.close_writer();
    }
}

/// Twin of a connected socket.
#[derive(Clone)]
pub(crate) struct SimStream {
    end: Rc<StreamEnd>,
}

impl SimStream {
    pub(crate) async fn connect(world: &Rc<World>, address: SocketAddr) -> io::Result<Self> {
        let delay = world.network().delay();
        crate::time::sleep(delay).await;
        let listener = world.network().listeners.borrow().get(&address).cloned();
        let Some(listener) = listener else {
            return Err(ErrorKind::ConnectionRefused.into());
        };
        let local = SocketAddr::new(address.ip(), world.network().fresh_port());
        let (there, back) = (Rc::new(Pipe::default()), Rc::new(Pipe::default()));
        let accepted = StreamEnd {
            local: address,
            peer: local,
            incoming: there.clone(),
            outgoing: back.clone(),
        };
        let connected = StreamEnd {
            local,
            peer: address,
            incoming: back,
            outgoing: there,
        };
        let (accepted, connected) = (Rc::new(accepted), Rc::new(connected));
        let ends = [Rc::downgrade(&accepted), Rc::downgrade(&connected)];
        world.network().ends.borrow_mut().extend(ends);
        listener
            .queue
            .borrow_mut()
            .push_back(SimStream { end: accepted });
        listener.arrived.notify_one();
        Ok(SimStream { end: connected })
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        self.end.peer
    }

    pub(crate) async fn recv(&self, mut buf: AppendBuf) -> (io::Result<usize>, AppendBuf) {
        let world = current().expect("a simulated socket is used inside its simulation");
        loop {
            let changed = self.end.incoming.changed.notified();
            let read = self
                .end
                .incoming
                .read(&mut buf, &mut world.network().random.borrow_mut());
            if let Some(result) = read {
                return (result, buf);
            }
            changed.await;
        }
    }

    pub(crate) async fn send(&self, parts: Vec<Slice>) -> io::Result<()> {
        let pipe = &self.end.outgoing;
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            loop {
                let changed = pipe.changed.notified();
                if let Some(error) = pipe.write_error() {
                    return Err(error);
                }
                if pipe.outstanding.get() < WINDOW_BYTES {
                    break;
                }
                changed.await;
            }
            pipe.deliver(part);
        }
        pipe.write_error().map_or(Ok(()), Err)
    }

    pub(crate) fn shutdown(&self) {
        self.shutdown_read();
        self.end.outgoing.close_writer();
    }

    pub(crate) fn shutdown_read(&self) {
        self.end.incoming.close_reader();
    }

    pub(crate) async fn hung_up(&self) {
        let pipe = &self.end.incoming;
        loop {
            let changed = pipe.changed.notified();
            if pipe.broken.get() || pipe.ended.get() {
                return;
            }
            changed.await;
        }
    }
}

impl std::fmt::Debug for SimStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimStream({} to {})", self.end.local, self.end.peer)
    }
}
