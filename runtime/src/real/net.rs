//! ⚠ Sockets on the shard's ring.
//!
//! *Place*: below the face `net`.
//! *Ordering*: one send at a time per stream (two would interleave); a receive may run beside it.
//! *Cancel safety*: a dropped receive, accept or `hung_up` is cancelled in the kernel; what a
//! receive took in the meantime is lost with its buffer, so drop it only with the connection. A
//! dropped send goes on. A zero-copy send answers when the socket has taken the bytes; their memory stays in
//! the operation's slot until the kernel has let go of it, whatever happens to the stream.
//! *Limits*: a pending receive costs its buffer and one slot of the ring.
#![allow(unsafe_code)] // addresses in message headers, socket addresses, descriptors

use std::cell::{Cell, OnceCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::{cqueue, opcode};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockRef, Socket, Type};

use super::shard;
use crate::buffer::{AppendBuf, Slice, rest_of, split_off};
use crate::ring::operation::Operation;
use crate::ring::slots::{Memory, Message, OnDrop, PeerAddress};
use crate::zero_copy::{Held, Link, REPORT_USAGE, ZeroCopy};

/// Connections that wait to be accepted.
const LISTEN_BACKLOG: i32 = 4096;
/// Most bytes of one send with a copy: the shard stands still meanwhile, for 50 to 100 µs.
const SEND_BYTES_MAX: usize = 256 << 10;
/// Wait until everything is sent; report a closed peer as an error, not as a signal.
const SEND_FLAGS: i32 = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
/// `IORING_RECVSEND_POLL_FIRST`: do not try before the socket says it is ready.
const POLL_FIRST: u16 = 1;

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    descriptor: Rc<OwnedFd>,
}

/// A connected socket; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    connection: Rc<Connection>,
}

#[derive(Debug)]
struct Connection {
    descriptor: Rc<OwnedFd>,
    /// The last receive left something in the socket: the next one tries at once.
    more: Cell<bool>,
    /// We ended the receiving direction ourselves: that is no hang-up of the peer.
    reading_ended: Cell<bool>,
    /// Empty where sends are never zero-copy.
    zero_copy: OnceCell<Rc<Link>>,
}

impl Listener {
    /// Listens on `address`; port 0 picks a free one. `[::]` takes IPv4 too, as the system is set.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(LISTEN_BACKLOG)?;
        Ok(Self {
            descriptor: Rc::new(socket.into()),
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        inet(&SockRef::from(&self.descriptor).local_addr()?)
    }

    /// The next connection, with Nagle's algorithm off.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let memory = Memory::Address(Box::new(PeerAddress::new()));
        let operation = shard::current().start(
            &self.descriptor,
            memory,
            OnDrop::Cancel,
            |descriptor, memory| {
                let Memory::Address(peer) = memory else {
                    unreachable!("an accept's memory")
                };
                let (storage, bytes) = peer.as_pointers();
                opcode::Accept::new(descriptor, storage, bytes)
                    .flags(libc::SOCK_CLOEXEC)
                    .build()
            },
        );
        let finished = operation.await;
        let descriptor = finished.count()?;
        let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
        // SAFETY: the kernel has just opened this descriptor for us; nobody else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        SockRef::from(&descriptor).set_tcp_nodelay(true)?;
        let Memory::Address(peer) = finished.memory else {
            unreachable!("an accept's memory")
        };
        Ok((Stream::from_fd(descriptor), peer.to_socket_addr()?))
    }
}

impl Stream {
    /// A stream on a connected socket.
    pub(crate) fn from_fd(descriptor: OwnedFd) -> Self {
        let connection = Connection {
            descriptor: Rc::new(descriptor),
            more: Cell::new(true),
            reading_ended: Cell::new(false),
            zero_copy: OnceCell::new(),
        };
        Self {
            connection: Rc::new(connection),
        }
    }

    /// Connects to a listening socket. The connection is made by a blocking call on the helper
    /// thread: brokers accept, they rarely connect.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let shard = shard::current();
        let connected = shard.helper().run(move || {
            let stream = std::net::TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            Ok(OwnedFd::from(stream))
        });
        Ok(Self::from_fd(connected.await?))
    }

    /// The descriptor, if this is the only clone and nothing is in flight.
    pub(crate) fn into_fd(self) -> Option<OwnedFd> {
        let connection = Rc::try_unwrap(self.connection).ok()?;
        Rc::try_unwrap(connection.descriptor).ok()
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        inet(&SockRef::from(&self.connection.descriptor).peer_addr()?)
    }

    /// Ends both directions: pending operations finish, the peer sees the end of the stream.
    pub(crate) fn shutdown(&self) {
        // It fails only if the peer was faster.
        let _ = SockRef::from(&self.connection.descriptor).shutdown(std::net::Shutdown::Both);
    }

    /// Ends receiving: a pending receive returns 0, what is being sent goes out.
    pub(crate) fn shutdown_read(&self) {
        self.connection.reading_ended.set(true);
        let _ = SockRef::from(&self.connection.descriptor).shutdown(std::net::Shutdown::Read);
    }

    /// Appends what the socket has, up to the buffer's remaining space; 0 is the end of the stream.
    ///
    /// # Panics
    /// If the buffer is full: the answer would look like the end of the stream.
    pub(crate) async fn recv(&self, buffer: AppendBuf) -> (io::Result<usize>, AppendBuf) {
        assert!(buffer.remaining() > 0, "receive into a full buffer");
        // A socket that was emptied last time is most likely still empty: waiting for its
        // readiness first saves an attempt that fails.
        let hint = if self.connection.more.get() {
            0
        } else {
            POLL_FIRST
        };
        let operation = shard::current().start(
            &self.connection.descriptor,
            Memory::Append(buffer),
            OnDrop::Cancel,
            |descriptor, memory| {
                let (target, bytes) = memory.target();
                opcode::Recv::new(descriptor, target, bytes)
                    .ioprio(hint)
                    .build()
            },
        );
        let finished = operation.await;
        self.connection
            .more
            .set(cqueue::sock_nonempty(finished.flags));
        finished.into_appended()
    }

    /// Lets large sends be zero-copy ones; said once, before the first send.
    pub(crate) fn use_zero_copy(&self, zero_copy: &Rc<ZeroCopy>) {
        // Without a peer the connection is gone already.
        let link = self
            .peer_addr()
            .ok()
            .and_then(|peer| Link::new(zero_copy, peer));
        if let Some(link) = link {
            let is_first = self.connection.zero_copy.set(link).is_ok();
            assert!(is_first, "zero-copy sends are set up once");
        }
    }

    /// Sends everything, in order, [`SEND_BYTES_MAX`] at a time where the kernel copies.
    pub(crate) async fn send(&self, mut parts: Vec<Slice>) -> io::Result<()> {
        parts.retain(|part| !part.is_empty());
        while !parts.is_empty() {
            let link = self.connection.zero_copy.get();
            let held = link.and_then(|link| link.hold(&parts));
            let is_zero_copy = held.is_some();
            let behind = if is_zero_copy {
                Vec::new()
            } else {
                split_off(&mut parts, SEND_BYTES_MAX)
            };
            let more = if behind.is_empty() { 0 } else { libc::MSG_MORE };
            let only = if parts.len() == 1 && !is_zero_copy {
                parts.pop()
            } else {
                None
            };
            let operation = match only {
                Some(part) => self.send_slice(part, SEND_FLAGS | more),
                None => self.send_message(parts, held, SEND_FLAGS | more),
            };
            let finished = operation.await;
            let sent = match finished.count() {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => sent,
                // Again, with a copy.
                Err(error) if is_zero_copy && link.is_some_and(|link| link.refused(&error)) => 0,
                Err(error) => return Err(error),
            };
            parts = rest_of(sent_parts(&finished.memory), sent);
            parts.extend(behind);
        }
        Ok(())
    }

    fn send_slice(&self, part: Slice, flags: i32) -> Operation {
        shard::current().start(
            &self.connection.descriptor,
            Memory::Slice(part),
            OnDrop::Finish,
            |descriptor, memory| {
                let (source, bytes) = memory.source();
                opcode::Send::new(descriptor, source, bytes)
                    .flags(flags)
                    .build()
            },
        )
    }

    /// `held`: the kernel is to read the parts' memory where it is, also after its answer.
    fn send_message(&self, parts: Vec<Slice>, held: Option<Held>, flags: i32) -> Operation {
        let is_zero_copy = held.is_some();
        shard::current().start(
            &self.connection.descriptor,
            Memory::Message(Rc::new(Message::new(parts, held))),
            OnDrop::Finish,
            |descriptor, memory| {
                let header = &raw const memory.message().header;
                let flags = flags as u32;
                if is_zero_copy {
                    let send = opcode::SendMsgZc::new(descriptor, header);
                    send.ioprio(REPORT_USAGE).flags(flags).build()
                } else {
                    let send = opcode::SendMsg::new(descriptor, header);
                    send.flags(flags).build()
                }
            },
        )
    }

    /// Resolves when the peer has closed or reset the connection; neither data nor our own
    /// `shutdown_read` wakes it.
    pub(crate) async fn hung_up(&self) {
        const BROKEN: i16 = libc::POLLHUP | libc::POLLERR;
        loop {
            let ended = self.connection.reading_ended.get();
            let events = if ended {
                BROKEN
            } else {
                BROKEN | libc::POLLRDHUP
            };
            let events = u32::from(events.cast_unsigned());
            let operation = shard::current().start(
                &self.connection.descriptor,
                Memory::None,
                OnDrop::Cancel,
                |descriptor, _| opcode::PollAdd::new(descriptor, events).build(),
            );
            let seen = operation.await.result;
            let broken = seen < 0 || seen & i32::from(BROKEN) != 0;
            if broken || !self.connection.reading_ended.get() {
                return;
            }
            // Once we have ended the reading, the peer's end can no longer be told from ours.
        }
    }
}

fn sent_parts(memory: &Memory) -> &[Slice] {
    match memory {
        Memory::Slice(part) => std::slice::from_ref(part),
        Memory::Message(message) => &message.parts,
        _ => unreachable!("a send's memory"),
    }
}

fn inet(address: &SockAddr) -> io::Result<SocketAddr> {
    address
        .as_socket()
        .ok_or_else(|| io::Error::other("not an internet address"))
}

impl PeerAddress {
    fn new() -> Self {
        let bytes = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        // SAFETY: `sockaddr_storage` is plain bytes; all zeros is an unspecified address.
        let storage = unsafe { std::mem::zeroed() };
        Self { storage, bytes }
    }

    fn as_pointers(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        ((&raw mut self.storage).cast(), &raw mut self.bytes)
    }

    fn to_socket_addr(&self) -> io::Result<SocketAddr> {
        let mut storage = SockAddrStorage::zeroed();
        assert!(storage.size_of() as usize >= size_of::<libc::sockaddr_storage>());
        // SAFETY: a `sockaddr_storage` is what the view stands for, and its size is checked above.
        unsafe { *storage.view_as::<libc::sockaddr_storage>() = self.storage };
        // SAFETY: the kernel has written an address of `bytes` bytes.
        inet(&unsafe { SockAddr::new(storage, self.bytes) })
    }
}
