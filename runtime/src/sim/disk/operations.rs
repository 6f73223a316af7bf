//! The face's operations on a simulated disk: they take time, may fail, and run to their end whoever
//! waits for them.

use std::future::pending;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::Disk;
use super::faults::{Fault, OpKind, Verdict, eio};
use super::node::{ChangeKind, Directory, FileNode, Node, NodeId};
use super::state::{InFlight, State};
use crate::buffer::{AlignedBuf, BLOCK_BYTES, Slice};
use crate::dir::{DirEntry, DiskSpace};
use crate::file::{Durability, OpenMode};
use crate::sim::world::current;
use crate::sync::oneshot;

impl Disk {
    /// Counts an operation and asks what is to become of it. After the crash nothing ever answers.
    async fn begin(&self, kind: OpKind) -> Verdict {
        if self.state.borrow().crashed {
            return pending().await;
        }
        let mut state = self.state_mut();
        let State { faults, random, .. } = &mut *state;
        let verdict = faults.begin(kind, random);
        drop(state);
        let world = current().expect("a simulated disk is used inside its simulation");
        world.note(kind as u64);
        verdict
    }

    /// An operation that changes something is with the disk: the power may fail now, and then the machine
    /// stops within it.
    async fn crash_point(&self, verdict: &Verdict) {
        if let Some(observer) = &mut *self.observer.borrow_mut() {
            observer(Self::from_state(self.state.borrow().clone()));
        }
        if verdict.crash {
            self.power_off();
            if let Some(world) = current() {
                world.halt();
            }
            pending::<()>().await;
        }
    }

    /// Waits as long as an operation takes, then does `end` to the disk, even if nobody waits any more.
    async fn later<T: 'static>(&self, end: impl FnOnce(&mut State) -> T + 'static) -> T {
        let world = current().expect("a simulated disk is used inside its simulation");
        let delay = self.delay();
        let (sender, receiver) = oneshot::oneshot();
        let disk = self.clone();
        world.after(delay, move || {
            let result = end(&mut disk.state_mut());
            // Nobody waits for a dropped operation.
            drop(sender.send(result));
        });
        match receiver.await {
            Ok(result) => result,
            Err(oneshot::Canceled) => pending().await,
        }
    }

    fn delay(&self) -> Duration {
        let mut state = self.state_mut();
        let latency = state.faults.latency;
        let spread = latency.max.saturating_sub(latency.min).as_nanos() as u64;
        latency.min + Duration::from_nanos(state.random.below(spread + 1))
    }

    /// An operation on names or sizes: `change` happens at once, the answer comes later.
    async fn change_metadata<T: 'static>(
        &self,
        change: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let verdict = self.begin(OpKind::Metadata).await;
        // Names do not lie; only data does.
        if let Some(error) = verdict.error() {
            return Err(error);
        }
        let result = change(&mut self.state_mut());
        self.crash_point(&verdict).await;
        self.later(move |_| result).await
    }

    /// Hands a change of a file to the disk. `keep` lives until it has ended.
    async fn change_file(
        &self,
        op_kind: OpKind,
        node: NodeId,
        (kind, durability): (ChangeKind, Durability),
        keep: impl Sized + 'static,
    ) -> io::Result<()> {
        let verdict = self.begin(op_kind).await;
        let op = self.state_mut().submit(InFlight {
            node,
            kind,
            durability,
        });
        self.crash_point(&verdict).await;
        let ended = move |state: &mut State| (state.finish_change(op, verdict.fault), keep);
        // What was kept is dropped here, when the disk is not borrowed: closing changes it.
        self.later(ended).await.0
    }

    async fn sync_file(&self, node: NodeId, keep: impl Sized + 'static) -> io::Result<()> {
        let verdict = self.begin(OpKind::Sync).await;
        self.crash_point(&verdict).await;
        // What ends while the sync runs is not covered by it.
        let bound = self.state.borrow().next_id;
        let ended = move |state: &mut State| {
            let mut random = state.random.fork();
            let file = state.file_mut(node);
            match verdict.fault {
                None => file.sync(bound),
                Some(Fault::Lie) => {}
                Some(Fault::Eio | Fault::Enospc | Fault::Emfile) => {
                    file.fail_sync(bound, &mut random);
                }
            }
            (verdict.error().map_or(Ok(()), Err), keep)
        };
        self.later(ended).await.0
    }

    pub(crate) async fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        let verdict = self.begin(OpKind::Sync).await;
        self.state.borrow().lookup_file(path)?;
        self.crash_point(&verdict).await;
        let bound = self.state.borrow().next_id;
        let ended = move |state: &mut State| match verdict.fault {
            None => state.sync_everything(bound),
            Some(Fault::Lie) => {}
            Some(Fault::Eio | Fault::Enospc | Fault::Emfile) => {
                state.fail_sync_of_everything(bound);
            }
        };
        self.later(ended).await;
        verdict.error().map_or(Ok(()), Err)
    }

    pub(crate) async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        let handle = match mode {
            OpenMode::Read | OpenMode::ReadWrite => {
                self.begin_open().await?;
                let found = self.state.borrow().lookup_file(path);
                self.later(move |_| found)
                    .await
                    .map(|node| self.handle(node, mode))?
            }
            OpenMode::CreateNew => {
                let create = |state: &mut State| create_file(state, path);
                let node = self.change_metadata(create).await?;
                self.handle(node, mode)
            }
        };
        Ok(SimFile {
            handle: Rc::new(handle),
        })
    }

    /// Step by step, as the system does it.
    pub(crate) async fn open_or_create(&self, path: &Path) -> io::Result<(SimFile, bool)> {
        match self.open(path, OpenMode::ReadWrite).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened.map(|file| (file, false)),
        }
        if let Some(directory) = path.parent() {
            self.create_dir_all(directory).await?;
        }
        let created = self.open(path, OpenMode::CreateNew).await;
        created.map(|file| (file, true))
    }

    async fn begin_open(&self) -> io::Result<()> {
        let verdict = self.begin(OpKind::Open).await;
        verdict.error().map_or(Ok(()), Err)
    }

    pub(crate) async fn disk_space(&self) -> io::Result<DiskSpace> {
        self.begin_open().await?;
        let state = self.state.borrow();
        let bytes = |blocks: u64| blocks.saturating_mul(BLOCK_BYTES as u64);
        Ok(DiskSpace {
            free_bytes: bytes(state.capacity_blocks.saturating_sub(state.used_blocks)),
            total_bytes: bytes(state.capacity_blocks),
        })
    }

    /// Whether the directory can be opened; it is synced by its name.
    pub(crate) async fn open_dir(&self, path: &Path) -> io::Result<()> {
        self.begin_open().await?;
        self.state.borrow().lookup_directory(path).map(drop)
    }

    fn handle(&self, node: NodeId, mode: OpenMode) -> Handle {
        self.state_mut().open_handle(node);
        Handle {
            disk: self.clone(),
            node,
            writable: mode != OpenMode::Read,
        }
    }

    pub(crate) async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let names = super::state::names(path)?;
        for depth in 1..=names.len() {
            let path: PathBuf = names[..depth].iter().collect();
            if !self.is_there(&path) {
                self.change_metadata(|state| create_dir(state, &path))
                    .await?;
            }
        }
        let state = self.state.borrow();
        state.directory(state.lookup(path)?).map(drop)
    }

    fn is_there(&self, path: &Path) -> bool {
        self.state.borrow().lookup(path).is_ok()
    }

    pub(crate) async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let verdict = self.begin(OpKind::Metadata).await;
        let directory = self.state.borrow().lookup_directory(path)?;
        self.crash_point(&verdict).await;
        if let Some(error) = verdict.error() {
            return self.later(|_| Err(error)).await;
        }
        let bound = self.state.borrow().next_id;
        self.later(move |state| state.sync_names(directory, bound))
            .await;
        Ok(())
    }

    pub(crate) async fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let found = {
            let state = self.state.borrow();
            state
                .lookup(path)
                .and_then(|directory| state.list(directory))
        };
        self.later(move |_| found).await
    }

    pub(crate) async fn remove_file(&self, path: &Path) -> io::Result<()> {
        let remove = |state: &mut State| {
            state.lookup_file(path)?;
            remove_name(state, path)
        };
        self.change_metadata(remove).await
    }

    pub(crate) async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.state.borrow().lookup_directory(path)?;
        // Parents come before what they hold; removal goes backwards.
        let mut found = vec![path.to_path_buf()];
        let mut at = 0;
        while let Some(path) = found.get(at).cloned() {
            at += 1;
            let state = self.state.borrow();
            if let Ok(directory) = state.directory(state.lookup(&path)?) {
                found.extend(directory.entries.keys().map(|name| path.join(name)));
            }
        }
        for path in found.into_iter().rev() {
            self.change_metadata(|state| remove_name(state, &path))
                .await?;
        }
        Ok(())
    }

    pub(crate) async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change_metadata(|state| rename(state, from, to)).await
    }

    pub(crate) async fn exists(&self, path: &Path) -> io::Result<bool> {
        let found = self.is_there(path);
        Ok(self.later(move |_| found).await)
    }

    pub(crate) async fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read).await?;
        let bytes = file.size().await?;
        let len = usize::try_from(bytes).map_err(|_| ErrorKind::FileTooLarge)?;
        file.read_bytes(0, len).await
    }

    /// Makes or replaces the content of a file and syncs it; its name is not synced.
    pub(crate) async fn write_file_synced(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let known = self.state.borrow().lookup_file(path);
        let file = match known {
            Ok(_) => self.open(path, OpenMode::ReadWrite).await?,
            Err(_) => self.open(path, OpenMode::CreateNew).await?,
        };
        if known_bytes(&file) > 0 {
            file.truncate(0).await?;
        }
        if !content.is_empty() {
            let data = Slice::from(content.to_vec());
            file.write_bytes(0, data, Durability::Buffered).await?;
        }
        file.sync_data().await
    }
}

fn known_bytes(file: &SimFile) -> u64 {
    let state = file.handle.disk.state.borrow();
    state
        .file(file.handle.node)
        .map_or(0, |file| file.current.bytes())
}

fn create_file(state: &mut State, path: &Path) -> io::Result<NodeId> {
    create(state, path, Node::File(FileNode::default()))
}

fn create_dir(state: &mut State, path: &Path) -> io::Result<NodeId> {
    create(state, path, Node::Directory(Directory::default()))
}

fn create(state: &mut State, path: &Path, node: Node) -> io::Result<NodeId> {
    let (parent, name) = state.parent(path)?;
    if state.directory(parent)?.entries.contains_key(&name) {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let id = state.insert(node);
    state.change_names(parent, vec![(parent, name, Some(id))]);
    Ok(id)
}

fn remove_name(state: &mut State, path: &Path) -> io::Result<()> {
    let (parent, name) = state.parent(path)?;
    let id = state.lookup(path)?;
    if state
        .directory(id)
        .is_ok_and(|directory| !directory.entries.is_empty())
    {
        return Err(ErrorKind::DirectoryNotEmpty.into());
    }
    state.change_names(parent, vec![(parent, name, None)]);
    Ok(())
}

fn rename(state: &mut State, from: &Path, to: &Path) -> io::Result<()> {
    let id = state.lookup(from)?;
    let (from_parent, from_name) = state.parent(from)?;
    let (to_parent, to_name) = state.parent(to)?;
    if let Ok(replaced) = state.lookup(to) {
        if replaced == id {
            return Ok(());
        }
        if state.directory(replaced).is_ok() != state.directory(id).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if state
            .directory(replaced)
            .is_ok_and(|directory| !directory.entries.is_empty())
        {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
    }
    let entries = vec![
        (from_parent, from_name, None),
        (to_parent, to_name, Some(id)),
    ];
    state.change_names(to_parent, entries);
    Ok(())
}

/// An open file of the disk; closing it may free space.
struct Handle {
    disk: Disk,
    node: NodeId,
    writable: bool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.disk.state_mut().close_handle(self.node);
    }
}

/// Twin of a file.
#[derive(Clone)]
pub(crate) struct SimFile {
    handle: Rc<Handle>,
}

impl SimFile {
    pub(crate) async fn read_at(&self, offset: u64, len: usize) -> io::Result<Slice> {
        let bytes = self.read_bytes(offset, len).await?;
        // Aligned, as what direct I/O gives.
        let mut buffer = AlignedBuf::zeroed(bytes.len().next_multiple_of(BLOCK_BYTES));
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(buffer.freeze().sub(0..bytes.len()))
    }

    async fn read_bytes(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let Handle { disk, node, .. } = &*self.handle;
        let (node, verdict) = (*node, disk.begin(OpKind::Read).await);
        disk.later(move |state| {
            let range = offset..offset + len as u64;
            if verdict.fault == Some(Fault::Eio) || state.faults.is_unreadable(node, &range) {
                return Err(eio());
            }
            Ok(state.file(node)?.current.read(offset, len))
        })
        .await
    }

    pub(crate) async fn write_at(
        &self,
        offset: u64,
        data: Slice,
        durability: Durability,
    ) -> io::Result<()> {
        self.write_bytes(offset, data, durability).await
    }

    async fn write_bytes(
        &self,
        offset: u64,
        data: Slice,
        durability: Durability,
    ) -> io::Result<()> {
        self.check_writable()?;
        let change = (ChangeKind::Write { offset, data }, durability);
        let Handle { disk, node, .. } = &*self.handle;
        disk.change_file(OpKind::Write, *node, change, self.handle.clone())
            .await
    }

    pub(crate) async fn sync_data(&self) -> io::Result<()> {
        let Handle { disk, node, .. } = &*self.handle;
        disk.sync_file(*node, self.handle.clone()).await
    }

    pub(crate) async fn allocate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.change_size(ChangeKind::Allocate { offset, bytes })
            .await
    }

    pub(crate) async fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.change_size(ChangeKind::Truncate { bytes }).await
    }

    async fn change_size(&self, kind: ChangeKind) -> io::Result<()> {
        self.check_writable()?;
        let change = (kind, Durability::Buffered);
        let Handle { disk, node, .. } = &*self.handle;
        disk.change_file(OpKind::Metadata, *node, change, self.handle.clone())
            .await
    }

    pub(crate) async fn size(&self) -> io::Result<u64> {
        let Handle { disk, node, .. } = &*self.handle;
        let node = *node;
        disk.later(move |state| Ok(state.file(node)?.current.bytes()))
            .await
    }

    fn check_writable(&self) -> io::Result<()> {
        let bad = || io::Error::from_raw_os_error(libc::EBADF);
        if self.handle.writable {
            Ok(())
        } else {
            Err(bad())
        }
    }
}

impl std::fmt::Debug for SimFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimFile({})", self.handle.node)
    }
}
