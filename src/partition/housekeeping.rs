//! Work that no request asks for: retention, in small steps, on every shard.

use std::rc::Rc;
use std::time::Duration;

use runtime::{task, time};

use super::shard::Shard;

/// Enforces retention on every log, again and again, until the node stops.
pub async fn enforce_retention(shard: Rc<Shard>) {
    let interval = Duration::from_millis(shard.config.topics.retention_check_ms);
    while !shard.is_stopping() {
        time::sleep(interval).await;
        for replica in shard.table.replicas() {
            if let Err(error) = replica.log.enforce_retention(time::wall_clock_ms()) {
                tracing::warn!(partition = ?replica.key, %error, "retention failed; tried again later");
            }
            task::yield_if_needed().await;
        }
    }
}
