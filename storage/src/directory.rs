//! Making the names in a directory durable.
//!
//! *Durability*: what has these names is to be synced before or after, by whoever needs it. *Invariants*: a
//! directory that could not be opened was not synced and may be tried again
//! ([`StorageError::is_shortage`]); a sync that failed may not.

use std::path::Path;

use runtime::dir::Directory;

use crate::error::StorageError;

pub(crate) async fn sync_dir(path: &Path) -> Result<(), StorageError> {
    let opened = Directory::open(path).await;
    let directory = opened.map_err(|e| StorageError::io("open directory", path, e))?;
    let synced = directory.sync().await;
    synced.map_err(|e| StorageError::io("fsync directory", path, e))
}
