//! Why a run could not be done. A broker's refusals during a run are counted, not raised.

use std::io;
use std::path::PathBuf;

use client::ClientError;
use protocol::compression::CompressionError;
use protocol::record_batch::BatchError;
use thiserror::Error;

/// A run that cannot go on.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// The broker or the connection.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Records could not be compressed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// A fetched batch is broken.
    #[error("{topic}-{partition} at offset {offset}: {source}")]
    Batch {
        /// Name of the topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Offset that was fetched.
        offset: i64,
        /// What is wrong with it.
        #[source]
        source: BatchError,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// A state file that cannot be used.
    #[error("state file {}: {what}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A thread of the load died.
    #[error("a load thread panicked")]
    ThreadPanicked,
    /// Arguments that do not fit what was found.
    #[error("{0}")]
    Setup(String),
}

impl LoadError {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> LoadError {
        move |source| LoadError::Io { what, source }
    }
}
