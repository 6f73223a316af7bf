//! One connection to a broker: requests queued in order, responses received in order.
//!
//! Core: owned by one task. Queuing only encodes; [`Connection::receive`] and [`Connection::flush`]
//! move bytes both ways, so that a broker that stops reading until we read cannot hang both.
//! Ordering: Kafka answers requests of one connection in the order they were sent; a response that
//! is not the oldest request's is an error.
//! Limits: `in_flight_max` is the owner's to respect ([`Connection::has_room`]) and asserted.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use protocol::header::{RequestHeader, decode_response_header};
use protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::messages::{Request, Response};
use protocol::{ApiKey, Decoder, Encoder, ErrorCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::error::ClientError;
use crate::frame::FrameBuffer;
use crate::versions::ApiRanges;

/// Position of the correlation id in a request frame with its length prefix.
const CORRELATION_ID_AT: usize = 8;
/// Written bytes are dropped from the front of the queue when it is empty or this long.
const COMPACT_BYTES: usize = 1 << 20;

/// Settings of a connection.
#[derive(Debug, Clone)]
pub struct ConnectionOptions {
    /// Name told to the broker.
    pub client_id: String,
    /// Most requests without an answer.
    pub in_flight_max: usize,
    /// Longest response accepted, in bytes.
    pub response_bytes_max: usize,
    /// Longest wait for a connection, and for an answer in [`Connection::call`].
    pub timeout: Duration,
}

impl Default for ConnectionOptions {
    fn default() -> ConnectionOptions {
        ConnectionOptions {
            client_id: "streambus-client".to_owned(),
            in_flight_max: 1000,
            response_bytes_max: 256 << 20,
            timeout: Duration::from_secs(30),
        }
    }
}

/// A request that waits for its answer.
#[derive(Debug, Clone, Copy)]
struct Pending {
    correlation_id: i32,
    key: ApiKey,
    version: i16,
}

/// A connection to one broker.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    options: ConnectionOptions,
    ranges: ApiRanges,
    next_correlation_id: i32,
    pending: VecDeque<Pending>,
    /// Encoded requests; those before `written` are in the socket.
    queued: Vec<u8>,
    written: usize,
    received: FrameBuffer,
}

/// One response, not decoded yet.
#[derive(Debug)]
pub struct Reply<'a> {
    /// The request's correlation id.
    pub correlation_id: i32,
    key: ApiKey,
    version: i16,
    frame: &'a [u8],
}

impl<'a> Reply<'a> {
    /// Decodes the response.
    ///
    /// # Errors
    /// [`ClientError::Decode`].
    pub fn decode(&self) -> Result<Response<'a>, ClientError> {
        let (key, version) = (self.key, self.version);
        let mut decoder = Decoder::new(self.frame);
        decode_response_header(&mut decoder, key.as_i16(), version)
            .and_then(|_| Response::decode(key, &mut decoder, version))
            .map_err(|source| ClientError::Decode {
                key,
                version,
                source,
            })
    }

    /// Bytes of the response.
    pub fn bytes(&self) -> usize {
        self.frame.len()
    }
}

impl Connection {
    /// Resolves `host:port` and connects to the first address that answers.
    ///
    /// # Errors
    /// The last address's error.
    pub async fn open_host(
        host_port: &str,
        options: &ConnectionOptions,
    ) -> Result<Connection, ClientError> {
        let resolved = tokio::net::lookup_host(host_port).await;
        let mut last = ClientError::Closed { in_flight: 0 };
        for address in resolved.map_err(ClientError::io(format!("cannot resolve {host_port}")))? {
            match Connection::open(address, options.clone()).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Connects and learns the broker's API versions.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::TimedOut`], or a refused `ApiVersions` request.
    pub async fn open(
        address: SocketAddr,
        options: ConnectionOptions,
    ) -> Result<Connection, ClientError> {
        let after = options.timeout;
        tokio::time::timeout(after, Connection::open_unbounded(address, options))
            .await
            .map_err(|_| ClientError::TimedOut { after })?
    }

    async fn open_unbounded(
        address: SocketAddr,
        options: ConnectionOptions,
    ) -> Result<Connection, ClientError> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(ClientError::io(format!("cannot connect to {address}")))?;
        stream
            .set_nodelay(true)
            .map_err(ClientError::io("cannot set TCP_NODELAY"))?;
        let received = FrameBuffer::new(options.response_bytes_max);
        let mut connection = Connection {
            stream,
            options,
            ranges: ApiRanges::default(),
            next_correlation_id: 1,
            pending: VecDeque::new(),
            queued: Vec::new(),
            written: 0,
            received,
        };
        connection.ranges = connection.ask_versions().await?;
        Ok(connection)
    }

    /// Asks in version 3, which every broker since 2.4 answers; a broker that knows less answers in
    /// version 0 with the ranges all the same (KIP-511).
    async fn ask_versions(&mut self) -> Result<ApiRanges, ClientError> {
        let (key, version) = (ApiKey::ApiVersions, 3);
        let request = Request::ApiVersions(ApiVersionsRequest {
            client_software_name: "streambus-client".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        });
        let encoded = EncodedRequest::new(&request, &self.options.client_id, version)?;
        self.queue_encoded(&encoded, &[]);
        let reply = self.receive().await?;
        let body = reply.frame.get(4..).unwrap_or_default();
        let code = body
            .first_chunk::<2>()
            .map_or(0, |code| i16::from_be_bytes(*code));
        let is_old = code == ErrorCode::UnsupportedVersion as i16;
        let version = if is_old { 0 } else { version };
        let response =
            ApiVersionsResponse::decode(&mut Decoder::new(body), version).map_err(|source| {
                ClientError::Decode {
                    key,
                    version,
                    source,
                }
            })?;
        if !is_old {
            ClientError::check(key, response.error_code, None)?;
        }
        Ok(ApiRanges::new(&response.api_keys))
    }

    /// The broker's API versions.
    pub fn ranges(&self) -> &ApiRanges {
        &self.ranges
    }

    /// Requests without an answer.
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Whether another request may be queued.
    pub fn has_room(&self) -> bool {
        self.pending.len() < self.options.in_flight_max
    }

    /// Bytes queued that the socket has not taken yet.
    pub fn unsent_bytes(&self) -> usize {
        self.queued.len() - self.written
    }

    /// Queues a request in the newest common version; `external` are the records that it announces
    /// as [`protocol::Records::External`], in order. Returns its correlation id.
    ///
    /// # Errors
    /// [`ClientError::VersionMissing`], [`ClientError::Encode`].
    pub fn queue(&mut self, request: &Request<'_>, external: &[&[u8]]) -> Result<i32, ClientError> {
        let encoded = self.encode(request)?;
        Ok(self.queue_encoded(&encoded, external))
    }

    /// Encodes a request once, to be sent often ([`Self::queue_encoded`]).
    ///
    /// # Errors
    /// As [`Self::queue`].
    pub fn encode(&self, request: &Request<'_>) -> Result<EncodedRequest, ClientError> {
        let version = self.ranges.version(request.key())?;
        EncodedRequest::new(request, &self.options.client_id, version)
    }

    /// Queues an encoded request; only its correlation id is written anew.
    ///
    /// # Panics
    /// If `external` are not as many, or not as long in sum, as the request announced; or if
    /// `in_flight_max` requests are in flight.
    pub fn queue_encoded(&mut self, request: &EncodedRequest, external: &[&[u8]]) -> i32 {
        assert_eq!(request.splices.len(), external.len(), "external records");
        assert!(self.has_room(), "{} requests in flight", self.pending.len());
        let start = self.queued.len();
        let mut copied = 0;
        for (at, records) in request.splices.iter().zip(external) {
            self.queued.extend_from_slice(&request.bytes[copied..*at]);
            self.queued.extend_from_slice(records);
            copied = *at;
        }
        self.queued.extend_from_slice(&request.bytes[copied..]);
        assert_eq!(
            self.queued.len() - start,
            request.frame_bytes,
            "external records"
        );
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id = (self.next_correlation_id + 1) & i32::MAX;
        let at = start + CORRELATION_ID_AT;
        self.queued[at..at + 4].copy_from_slice(&correlation_id.to_be_bytes());
        if request.has_answer {
            let EncodedRequest { key, version, .. } = *request;
            self.pending.push_back(Pending {
                correlation_id,
                key,
                version,
            });
        }
        correlation_id
    }

    /// Takes the next response if it has arrived already, without touching the socket.
    ///
    /// # Errors
    /// [`ClientError::FrameInvalid`], [`ClientError::OutOfStep`].
    pub fn take_received(&mut self) -> Result<Option<Reply<'_>>, ClientError> {
        let Some(range) = self.received.take_frame()? else {
            return Ok(None);
        };
        let frame = self.received.slice(range);
        let found = frame
            .first_chunk::<4>()
            .map_or(-1, |id| i32::from_be_bytes(*id));
        let pending = self.pending.pop_front();
        match pending {
            Some(Pending {
                correlation_id,
                key,
                version,
            }) if correlation_id == found => Ok(Some(Reply {
                correlation_id,
                key,
                version,
                frame,
            })),
            Some(Pending { .. }) | None => {
                let expected = pending.map(|pending| pending.correlation_id);
                Err(ClientError::OutOfStep { found, expected })
            }
        }
    }

    /// Sends what is queued and waits for the next response.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Closed`] and those of [`Self::take_received`].
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped: bytes stay in the connection's buffers.
    pub async fn receive(&mut self) -> Result<Reply<'_>, ClientError> {
        poll_fn(|context| self.poll_frame(context)).await?;
        let in_flight = self.pending.len();
        self.take_received()?
            .ok_or(ClientError::Closed { in_flight })
    }

    /// Sends everything that is queued; responses that arrive meanwhile are kept.
    ///
    /// # Errors
    /// [`ClientError::Io`], [`ClientError::Closed`].
    ///
    /// # Cancel safety
    /// As [`Self::receive`].
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        poll_fn(|context| match self.poll_write(context) {
            Poll::Ready(outcome) => Poll::Ready(outcome),
            Poll::Pending => loop {
                if self.poll_read(context)?.is_pending() {
                    break Poll::Pending;
                }
            },
        })
        .await
    }

    /// Sends one request and waits for its answer. Nothing else may be in flight.
    ///
    /// # Errors
    /// Those of [`Self::queue`], [`Self::receive`] and [`Reply::decode`];
    /// [`ClientError::TimedOut`], after which the connection is out of step and must be dropped.
    ///
    /// # Panics
    /// If other requests wait for their answers.
    pub async fn call(&mut self, request: &Request<'_>) -> Result<Response<'_>, ClientError> {
        assert_eq!(self.in_flight(), 0, "other requests wait for their answers");
        self.queue(request, &[])?;
        let after = self.options.timeout;
        match tokio::time::timeout(after, self.receive()).await {
            Ok(reply) => reply?.decode(),
            Err(_) => Err(ClientError::TimedOut { after }),
        }
    }

    /// Ready when a whole response is in the buffer; sends what is queued on the way.
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        let _ = self.poll_write(context)?;
        while !self.received.has_frame()? {
            ready!(self.poll_read(context))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when everything that was queued is in the socket.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        while self.written < self.queued.len() {
            let unsent = &self.queued[self.written..];
            match Pin::new(&mut self.stream).poll_write(context, unsent) {
                Poll::Ready(Ok(count)) => self.written += count,
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(ClientError::io("cannot send")(error)));
                }
                Poll::Pending => {
                    if self.written >= COMPACT_BYTES {
                        self.queued.drain(..self.written);
                        self.written = 0;
                    }
                    return Poll::Pending;
                }
            }
        }
        self.queued.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Reads once; ready when something came.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        let mut room = ReadBuf::new(self.received.room()?);
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut room));
        let count = room.filled().len();
        read.map_err(ClientError::io("cannot receive"))?;
        if count == 0 {
            return Poll::Ready(Err(ClientError::Closed {
                in_flight: self.pending.len(),
            }));
        }
        self.received.advance(count);
        Poll::Ready(Ok(()))
    }
}

/// An encoded request and where its external records belong.
#[derive(Debug, Clone)]
pub struct EncodedRequest {
    key: ApiKey,
    version: i16,
    has_answer: bool,
    bytes: Vec<u8>,
    splices: Vec<usize>,
    frame_bytes: usize,
}

impl EncodedRequest {
    fn new(
        request: &Request<'_>,
        client_id: &str,
        version: i16,
    ) -> Result<EncodedRequest, ClientError> {
        let key = request.key();
        let mut encoder = Encoder::new();
        encoder.put_i32(0);
        let header = RequestHeader {
            api_key: key.as_i16(),
            api_version: version,
            correlation_id: 0,
            client_id: Some(client_id),
        };
        header.encode(&mut encoder);
        request.encode(&mut encoder, version);
        let frame_bytes = encoder.frame_bytes();
        encoder.patch_i32(0, i32::try_from(frame_bytes - 4).unwrap_or(i32::MAX));
        let (bytes, splices) = encoder.finish()?;
        let has_answer = has_answer(request);
        Ok(EncodedRequest {
            key,
            version,
            has_answer,
            bytes,
            splices,
            frame_bytes,
        })
    }
}

/// Whether the broker answers; it does not answer Produce with acks 0.
fn has_answer(request: &Request<'_>) -> bool {
    !matches!(request, Request::Produce(produce) if produce.acks == 0)
}
