//! Stream sockets.
//!
//! *Place*: the broker's listener and connections, and its connections to peers. *Core*: a socket
//! belongs to the thread that made it; [`Stream::into_fd`] takes it to another one. *Ordering*: one
//! receive and one send at a time on a stream; the two directions are independent.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::buffer::{AppendBuf, Slice};
pub use crate::zero_copy::{ZeroCopy, ZeroCopyCounts, ZeroCopyMode};
use crate::{real, sim};

/// Accepts connections.
#[derive(Debug)]
pub struct Listener {
    backend: ListenerBackend,
}

#[derive(Debug)]
enum ListenerBackend {
    Real(real::net::Listener),
    Sim(sim::SimListener),
}

impl Listener {
    /// Listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// `AddrInUse`, or the system's answer.
    pub fn bind(address: SocketAddr) -> io::Result<Listener> {
        let backend = match sim::current() {
            Some(world) => ListenerBackend::Sim(sim::SimListener::bind(&world, address)?),
            None => ListenerBackend::Real(real::net::Listener::bind(address)?),
        };
        Ok(Listener { backend })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// The system's answer.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.backend {
            ListenerBackend::Real(listener) => listener.local_addr(),
            ListenerBackend::Sim(listener) => Ok(listener.local_addr()),
        }
    }

    /// The next connection, with its peer's address.
    ///
    /// # Errors
    /// The system's answer; the listener can go on.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match &self.backend {
            ListenerBackend::Real(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((
                    Stream {
                        backend: StreamBackend::Real(stream),
                    },
                    peer,
                ))
            }
            ListenerBackend::Sim(listener) => {
                let stream = listener.accept().await;
                let peer = stream.peer_addr();
                Ok((
                    Stream {
                        backend: StreamBackend::Sim(stream),
                    },
                    peer,
                ))
            }
        }
    }
}

/// A connection; clones share it, and the last one closes it.
#[derive(Clone, Debug)]
pub struct Stream {
    backend: StreamBackend,
}

#[derive(Clone, Debug)]
enum StreamBackend {
    Real(real::net::Stream),
    Sim(sim::SimStream),
}

impl Stream {
    /// Connects to `address`.
    ///
    /// # Errors
    /// `ConnectionRefused`, or the system's answer.
    pub async fn connect(address: SocketAddr) -> io::Result<Stream> {
        let backend = match sim::current() {
            Some(world) => StreamBackend::Sim(sim::SimStream::connect(&world, address).await?),
            None => StreamBackend::Real(real::net::Stream::connect(address).await?),
        };
        Ok(Stream { backend })
    }

    /// Waits for data and appends what there is to `buf`, at most what remains in it. Zero bytes are
    /// the end of the stream. `buf` must have room.
    ///
    /// # Cancel safety
    /// None: what arrives for a dropped future is lost with its buffer.
    pub async fn recv(&self, buf: AppendBuf) -> (io::Result<usize>, AppendBuf) {
        assert!(
            buf.remaining() > 0,
            "a receive into a full buffer would look like the end"
        );
        match &self.backend {
            StreamBackend::Real(stream) => stream.recv(buf).await,
            StreamBackend::Sim(stream) => stream.recv(buf).await,
        }
    }

    /// Sends all parts in order; returns when the system has taken all of them.
    ///
    /// # Errors
    /// `BrokenPipe`, `ConnectionReset`, …; then nobody knows how much the peer got.
    pub async fn send(&self, parts: Vec<Slice>) -> io::Result<()> {
        match &self.backend {
            StreamBackend::Real(stream) => stream.send(parts).await,
            StreamBackend::Sim(stream) => stream.send(parts).await,
        }
    }

    /// From now on large sends leave without a copy in the kernel, as `zero_copy` says. Nothing else
    /// changes: what is being sent may be dropped at any time. The simulated network takes no notice.
    pub fn use_zero_copy(&self, zero_copy: &Rc<ZeroCopy>) {
        match &self.backend {
            StreamBackend::Real(stream) => stream.use_zero_copy(zero_copy),
            StreamBackend::Sim(_) => {}
        }
    }

    /// Closes both directions; what is waited for ends, what was sent before goes out.
    pub fn shutdown(&self) {
        match &self.backend {
            StreamBackend::Real(stream) => stream.shutdown(),
            StreamBackend::Sim(stream) => stream.shutdown(),
        }
    }

    /// Closes the direction towards us: a waiting receive ends with zero; sending goes on.
    pub fn shutdown_read(&self) {
        match &self.backend {
            StreamBackend::Real(stream) => stream.shutdown_read(),
            StreamBackend::Sim(stream) => stream.shutdown_read(),
        }
    }

    /// Waits until the peer has closed or reset the connection; data that arrives does not end it.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn hung_up(&self) {
        match &self.backend {
            StreamBackend::Real(stream) => stream.hung_up().await,
            StreamBackend::Sim(stream) => stream.hung_up().await,
        }
    }

    /// Takes the socket away from this thread; `None` if an operation is in flight, another clone
    /// lives, or the stream is a simulated one.
    pub fn into_fd(self) -> Option<OwnedFd> {
        match self.backend {
            StreamBackend::Real(stream) => stream.into_fd(),
            StreamBackend::Sim(_) => None,
        }
    }

    /// Takes over a connected socket.
    pub fn from_fd(fd: OwnedFd) -> Stream {
        Stream {
            backend: StreamBackend::Real(real::net::Stream::from_fd(fd)),
        }
    }

    /// The address at the other end.
    ///
    /// # Errors
    /// The system's answer, for instance when the connection has gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.backend {
            StreamBackend::Real(stream) => stream.peer_addr(),
            StreamBackend::Sim(stream) => Ok(stream.peer_addr()),
        }
    }
}
