//! Starts the real broker binary on a free port in a directory of its own, kills it, starts it again.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "test support: each test file uses its own part"
)]

pub(crate) mod requests;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use protocol::header::decode_response_header;
use protocol::primitives::{Decoder, Encoder};

/// A running broker; killed when it is dropped.
pub(crate) struct Broker {
    child: Child,
    pub directory: PathBuf,
    pub kafka: SocketAddr,
    pub http: SocketAddr,
}

/// Runs the binary to its end: exit status, standard output, standard error.
pub(crate) fn run_to_end(arguments: &[&str]) -> (ExitStatus, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_streambus"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status, text(output.stdout), text(output.stderr))
}

impl Broker {
    /// Starts a broker whose data is in `directory`.
    pub(crate) fn start(directory: &Path) -> Broker {
        Self::start_on(directory, "127.0.0.1:0", &[])
    }

    /// Starts a broker on an address, with further flags.
    pub(crate) fn start_on(directory: &Path, address: &str, flags: &[&str]) -> Broker {
        Self::try_start_on(directory, address, flags)
            .unwrap_or_else(|log| panic!("the broker did not start\n{log}"))
    }

    /// As [`Broker::start_on`]; what it logged if it refuses to start.
    pub(crate) fn try_start_on(
        directory: &Path,
        address: &str,
        flags: &[&str],
    ) -> Result<Broker, String> {
        let data = directory.join("data");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(directory.join("log"))
            .unwrap();
        let logged_before = log.metadata().unwrap().len() as usize;
        let mut child = Command::new(env!("CARGO_BIN_EXE_streambus"))
            .arg("--data-dir")
            .arg(&data)
            .args(["--listen", address, "--http", "127.0.0.1:0"])
            .args(flags)
            // Whatever machine it is: with one shard nothing would cross shards. Flags go before it.
            .env("STREAMBUS__RUNTIME__SHARDS", "2")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let mut addresses = line.split_whitespace().filter_map(|word| word.parse().ok());
        let (Some(kafka), Some(http)) = (addresses.next(), addresses.next()) else {
            child.wait().unwrap();
            let log = std::fs::read(directory.join("log")).unwrap();
            return Err(String::from_utf8_lossy(&log[logged_before..]).into_owned());
        };
        Ok(Broker {
            child,
            directory: directory.to_owned(),
            kafka,
            http,
        })
    }

    /// Kills it as a power switch would end the process.
    pub(crate) fn kill(mut self) -> SocketAddr {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.kafka
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        self.child.wait().unwrap()
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Whether the process is alive.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// What the broker logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// A connection for raw frames.
    pub(crate) fn connect(&self) -> Raw {
        Raw::connect(self.kafka)
    }

    /// Answers a GET of its HTTP listener: status line and body.
    pub(crate) fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.http).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// What a metric has over all of its series.
    pub(crate) fn metric_total(&self, name: &str) -> u64 {
        self.metric(name).iter().sum()
    }

    /// What a metric has in each of its series, of which there must be one at least.
    pub(crate) fn metric(&self, name: &str) -> Vec<u64> {
        let (_, metrics) = self.get("/metrics");
        let series = metrics.lines().filter(|line| line.starts_with(name));
        let values = series.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap());
        let values: Vec<u64> = values.collect();
        assert!(!values.is_empty(), "no {name}");
        values
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A socket on which a test says what it likes.
pub(crate) struct Raw {
    pub stream: TcpStream,
}

impl Raw {
    pub(crate) fn connect(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Raw { stream }
    }

    /// Sends bytes as they are; a broker that has closed is no failure.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a frame with a request header before `body`.
    pub(crate) fn request(&mut self, key: i16, version: i16, body: impl FnOnce(&mut Encoder)) {
        let frame = requests::frame(key, version, body);
        self.send(&frame);
    }

    /// The next answer's frame, or `None` if the broker closed the connection.
    pub(crate) fn receive(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).ok()?;
        Some(frame)
    }

    /// Sends a request and reads its answer's body with `decode`.
    pub(crate) fn call<T>(
        &mut self,
        key: i16,
        version: i16,
        body: impl FnOnce(&mut Encoder),
        decode: impl FnOnce(&mut Decoder<'_>) -> T,
    ) -> T {
        self.request(key, version, body);
        let frame = self.receive().expect("an answer");
        let mut decoder = Decoder::new(&frame);
        let correlation_id = decode_response_header(&mut decoder, key, version);
        assert_eq!(correlation_id, Ok(requests::CORRELATION_ID));
        decode(&mut decoder)
    }

    /// Whether the broker has closed this connection (waits for it).
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }
}
