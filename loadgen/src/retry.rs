//! Asking again while a broker says that it is not ready yet.
//!
//! Metadata names a leader a moment before the leader knows; coordinators load after a start.

use std::time::{Duration, Instant};

use client::ClientError;

const PAUSE: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_mins(1);

/// Repeats `attempt` while it is refused with a retriable error code.
pub(crate) async fn until_ready<T>(
    mut attempt: impl AsyncFnMut() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        match attempt().await {
            Err(error @ ClientError::Refused { .. })
                if error.is_retriable() && Instant::now() < deadline =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}
