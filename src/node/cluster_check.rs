//! Whether the metadata is that of the logs. By metadata that was lost, or is another cluster's, every log would be
//! deleted as one that no topic has.
//!
//! Place: `node`, at start, before anything is made or deleted by the metadata.
//! Invariant: I1 a first start that was interrupted goes on: it has named no cluster, so it has made no log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cluster::metadata::Image;
use runtime::mailbox::Sender;

use super::NodeError;
use super::data_dir::Identity;
use crate::partition::log_dirs::LogDirs;
use crate::partition::shard::{ShardTask, call_from};

/// Why the metadata is refused, with what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClusterCheckError {
    /// It is another cluster's.
    #[error(
        "{metadata} is of cluster {found}, but the data directory is of cluster {expected}: by it every log would \
         be deleted; restore the metadata that belongs to the logs. Nothing was deleted", metadata = metadata.display()
    )]
    OtherCluster {
        /// The metadata log.
        metadata: PathBuf,
        /// The cluster that it names.
        found: String,
        /// The cluster of the data directory.
        expected: String,
    },
    /// It is empty, and there are logs.
    #[error(
        "{metadata} was not there or is empty, but {dir} {why}: by it every log would be deleted; restore the metadata \
         from a copy, or, to begin without these logs, move all data directories away. Nothing was deleted",
        metadata = metadata.display(), dir = dir.display()
    )]
    Lost {
        /// The metadata log.
        metadata: PathBuf,
        /// A data directory.
        dir: PathBuf,
        /// What it has to do with it.
        why: &'static str,
    },
}

/// Refuses metadata that names a cluster other than the data directory's.
pub(super) fn check_same_cluster(
    metadata: &Path,
    image: &Image,
    identity: &Identity,
) -> Result<(), ClusterCheckError> {
    if image.cluster_id().is_empty() || image.cluster_id() == identity.cluster_id {
        return Ok(());
    }
    Err(ClusterCheckError::OtherCluster {
        metadata: metadata.to_owned(),
        found: image.cluster_id().to_owned(),
        expected: identity.cluster_id.clone(),
    })
}

/// Refuses metadata without a cluster where the shards have logs, or where a directory that may have some is offline.
pub(super) async fn check_not_lost(
    metadata: &Path,
    image: &Image,
    identity: &Identity,
    shards: &[Sender<ShardTask>],
) -> Result<(), NodeError> {
    if !image.cluster_id().is_empty() {
        return Ok(());
    }
    let known = identity.further.iter().map(|dir| dir.path.clone());
    let known: Arc<[PathBuf]> = known.collect();
    for shard in 0..shards.len() {
        let known = known.clone();
        let at_stake = call_from(shards, shard, move |shard| async move {
            logs_at_stake(&shard.log_dirs, &known)
        });
        let at_stake = at_stake.await;
        if let Some((dir, why)) = at_stake.map_err(|_| "a shard ended before its logs were seen")? {
            let metadata = metadata.to_owned();
            return Err(ClusterCheckError::Lost { metadata, dir, why }.into());
        }
    }
    Ok(())
}

/// A directory with logs, or a `known` one that cannot be looked into.
fn logs_at_stake(log_dirs: &LogDirs, known: &[PathBuf]) -> Option<(PathBuf, &'static str)> {
    log_dirs.all().iter().find_map(|dir| {
        let why = match dir.online() {
            Some(storage) if storage.log_count() > 0 => "has logs",
            None if known.contains(&dir.path) => "is offline and may have logs",
            Some(_) | None => return None,
        };
        Some((dir.path.clone(), why))
    })
}
