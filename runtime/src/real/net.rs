//! ⚠ Sockets on the shard's ring.
//!
//! *Place*: below the face `net`.
//! *Ordering*: one send at a time per stream (two would interleave); a receive may run beside it.
//! *Cancel safety*: a dropped receive, accept or `hung_up` is cancelled in the kernel; what a
//! receive took in the meantime is lost with its buffer, so drop it only with the connection. A
//! dropped send goes on.
//! *Limits*: a pending receive costs its buffer and one slot of the ring.
#![allow(unsafe_code)] // addresses in message headers, socket addresses, descriptors

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::{cqueue, opcode};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockRef, Socket, Type};

use super::shard;
use crate::buffer::{AppendBuf, Slice};
use crate::ring::operation::Operation;
use crate::ring::slots::{Memory, Message, OnDrop, PeerAddress};

/// Connections that wait to be accepted.
const LISTEN_BACKLOG: i32 = 4096;
/// Parts of one vectored send (the kernel's own limit is 1,024).
const SEND_PARTS_MAX: usize = 1024;
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

    /// Sends everything, in order.
    pub(crate) async fn send(&self, mut parts: Vec<Slice>) -> io::Result<()> {
        parts.retain(|part| !part.is_empty());
        while !parts.is_empty() {
            let only = if parts.len() == 1 { parts.pop() } else { None };
            let operation = match only {
                Some(part) => self.send_slice(part),
                None => self.send_message(std::mem::take(&mut parts)),
            };
            let finished = operation.await;
            let sent = finished.count()?;
            match finished.memory {
                Memory::Slice(part) => parts.push(part),
                Memory::Message(message) => parts = message.parts,
                _ => unreachable!("a send's memory"),
            }
            skip(&mut parts, sent);
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    fn send_slice(&self, part: Slice) -> Operation {
        shard::current().start(
            &self.connection.descriptor,
            Memory::Slice(part),
            OnDrop::Finish,
            |descriptor, memory| {
                let (source, bytes) = memory.source();
                opcode::Send::new(descriptor, source, bytes)
                    .flags(SEND_FLAGS)
                    .build()
            },
        )
    }

    fn send_message(&self, parts: Vec<Slice>) -> Operation {
        shard::current().start(
            &self.connection.descriptor,
            Memory::Message(Box::new(Message::new(parts))),
            OnDrop::Finish,
            |descriptor, memory| {
                let Memory::Message(message) = memory else {
                    unreachable!("a send's memory")
                };
                opcode::SendMsg::new(descriptor, &raw const message.header)
                    .flags(SEND_FLAGS as u32)
                    .build()
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

/// Removes the first `sent` bytes.
fn skip(parts: &mut Vec<Slice>, mut sent: usize) {
    let whole = parts
        .iter()
        .take_while(|part| {
            let fits = part.len() <= sent;
            sent -= if fits { part.len() } else { 0 };
            fits
        })
        .count();
    parts.drain(..whole);
    if let Some(first) = parts.first_mut().filter(|_| sent > 0) {
        *first = first.sub(sent..first.len());
    }
}

fn inet(address: &SockAddr) -> io::Result<SocketAddr> {
    address
        .as_socket()
        .ok_or_else(|| io::Error::other("not an internet address"))
}

impl Message {
    /// The header points to the vectors' memory, the vectors to the parts' memory; both lie on the
    /// heap and stay there when the message itself moves into its box.
    fn new(parts: Vec<Slice>) -> Self {
        let mut vectors: Vec<libc::iovec> = parts
            .iter()
            .take(SEND_PARTS_MAX)
            .map(|part| libc::iovec {
                iov_base: part.as_ptr().cast_mut().cast(),
                iov_len: part.len(),
            })
            .collect();
        // SAFETY: `msghdr` is integers and pointers; all zeros is an empty message.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = vectors.as_mut_ptr();
        header.msg_iovlen = vectors.len();
        Self {
            parts,
            vectors,
            header,
        }
    }
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
