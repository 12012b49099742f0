//! The calls themselves, shared by the SQLite VFS and the plain file interface.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use replicator::host::{Clock as _, DirEntry, Disk, DiskFile, FileMetadata, OpenMode, UnixMillis};

use super::content::Change;
use super::names::NameChange;
use super::{Call, Effect, Inode, Process, State, raw};
use crate::events::Mark;

impl State {
    /// The kernel's side of a process's end.
    pub(super) fn exited(&mut self, process: u64) {
        for inode in self.inodes.values_mut() {
            inode.locks.exited(process);
            inode.shm.locks.exited(process);
            inode.reserved_by.take_if(|holder| *holder == process);
        }
        self.mapped.retain(|(owner, _), _| *owner != process);
    }

    fn facts(&self, device: u64, number: u64) -> FileMetadata {
        let inode = self.inode(number);
        FileMetadata {
            len: inode.bytes.live.len().max(inode.shm.len()),
            device,
            inode: number,
            links: self.names.links(number),
            modified: inode.modified,
            changed_nanos: inode.changed.0.saturating_mul(1_000_000),
            is_dir: inode.is_dir,
            is_file: !inode.is_dir,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
        }
    }

    fn change(&mut self, number: u64, change: Change, now: UnixMillis) -> io::Result<()> {
        if let (Some(capacity), Change::Write { data, .. }) = (self.capacity, &change)
            && self.allocated() + data.len() as u64 > capacity
        {
            self.faults.hits += 1;
            return Err(raw(libc::ENOSPC));
        }
        let sequence = self.next_sequence();
        let inode = self.inode_mut(number);
        inode.bytes.change(sequence, change);
        inode.writes = sequence;
        (inode.modified, inode.changed) = (now, now);
        Ok(())
    }
}

/// An open descriptor. Dropping it closes it.
pub struct Handle {
    process: Arc<Process>,
    /// The name it was opened by.
    pub(crate) path: PathBuf,
    /// What it refers to, whatever the name means by now.
    pub(crate) inode: u64,
    writable: bool,
    /// A plain descriptor: closing it has the POSIX lock trap. SQLite's own VFS knows the trap and avoids it.
    plain: bool,
    /// Nobody else may lock the file while this is open.
    reserves: bool,
}

impl Process {
    fn step(&self, what: &'static str, numbers: [u64; 3]) {
        self.machine().context.log.step(what, self.id(), numbers);
    }

    /// Opens a file.
    pub(crate) fn open_handle(
        self: &Arc<Self>,
        path: &Path,
        mode: OpenMode,
        plain: bool,
    ) -> io::Result<Handle> {
        refuse(self.enter(Call::Open, path)?)?;
        let mut state = self.machine().lock();
        let inode = match (state.names.get(path), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(raw(libc::EEXIST)),
            (Some(inode), _) if state.inode(inode).is_dir => return Err(raw(libc::EISDIR)),
            (Some(inode), OpenMode::Truncate) => {
                state.change(inode, Change::SetLen(0), self.clock().now())?;
                inode
            }
            (Some(inode), _) => inode,
            (None, OpenMode::Read | OpenMode::ReadWrite) => return Err(raw(libc::ENOENT)),
            (None, _) => {
                state.parent_exists(path)?;
                let now = self.clock().now();
                let file = Inode { mode: 0o644, modified: now, changed: now, ..Inode::default() };
                state.create(path, file)
            }
        };
        state.inode_mut(inode).open += 1;
        drop(state);
        self.step("open", [inode, mode as u64, 0]);
        let writable = mode != OpenMode::Read;
        Ok(Handle { process: Arc::clone(self), path: path.into(), inode, writable, plain, reserves: false })
    }

    /// Removes a name of a file.
    pub(crate) fn unlink(&self, path: &Path) -> io::Result<()> {
        refuse(self.enter(Call::Names, path)?)?;
        let mut state = self.machine().lock();
        let inode = state.lookup(path)?;
        if state.inode(inode).is_dir {
            return Err(raw(libc::EISDIR));
        }
        let sequence = state.next_sequence();
        state.names.change(sequence, NameChange::Unlink(path.into()));
        state.collect(inode);
        drop(state);
        self.step("unlink", [inode, 0, 0]);
        Ok(())
    }

    /// Makes the names in `dir` durable.
    pub(crate) fn sync_names(&self, dir: &Path) -> io::Result<()> {
        let effect = self.enter(Call::SyncDir, dir)?;
        refuse(effect)?;
        let mut state = self.machine().lock();
        let inode = state.lookup(dir)?;
        if effect != Some(Effect::Lie) {
            for inode in state.names.sync(dir) {
                state.collect(inode);
            }
        }
        drop(state);
        self.step("syncdir", [inode, 0, 0]);
        Ok(())
    }

    /// Facts about what `path` names.
    pub(crate) fn look(&self, path: &Path) -> io::Result<FileMetadata> {
        refuse(self.enter(Call::Look, path)?)?;
        let state = self.machine().lock();
        let inode = state.lookup(path)?;
        Ok(state.facts(self.machine().device, inode))
    }

    fn note_touched(&self, path: &Path) {
        let mut state = self.machine().lock();
        let paths = state.touched.entry(self.role()).or_default();
        if !paths.contains(path.as_os_str()) {
            paths.insert(path.into());
        }
    }
}

/// Turns an error effect into the error; other effects are for the call to bring about.
pub(super) fn refuse(effect: Option<Effect>) -> io::Result<()> {
    effect.and_then(Effect::error).map_or(Ok(()), Err)
}

impl Handle {
    /// Reads at `offset`; fewer bytes mean the end, or a short read.
    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let effect = self.process.enter(Call::Read, &self.path)?;
        refuse(effect)?;
        let state = self.process.machine().lock();
        let inode = state.inode(self.inode);
        let mut wanted = buffer.len();
        if effect == Some(Effect::Short) && wanted > 1 {
            wanted /= 2;
        }
        let n = if inode.shm.len() > 0 {
            inode.shm.read(&mut buffer[..wanted], offset)
        } else {
            inode.bytes.live.read(&mut buffer[..wanted], offset)
        };
        drop(state);
        self.process.step("read", [self.inode, offset, n as u64]);
        Ok(n)
    }

    /// Writes all of `data` at `offset`.
    pub(crate) fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let effect = self.process.enter(Call::Write, &self.path)?;
        if !self.writable {
            return Err(raw(libc::EBADF));
        }
        let mut state = self.process.machine().lock();
        let now = self.process.clock().now();
        let stored = if effect == Some(Effect::NoSpace) { &data[..data.len() / 2] } else { data };
        if !matches!(effect, Some(Effect::Eio | Effect::ReadOnly | Effect::Denied)) {
            state.change(self.inode, Change::Write { offset, data: Arc::from(stored) }, now)?;
        }
        drop(state);
        self.process.machine().written.notify_waiters();
        self.process.step("write", [self.inode, offset, crate::history::hash_bytes(stored)]);
        refuse(effect)
    }

    /// Cuts or extends the file.
    pub(crate) fn set_length(&self, len: u64) -> io::Result<()> {
        refuse(self.process.enter(Call::SetLen, &self.path)?)?;
        if !self.writable {
            return Err(raw(libc::EBADF));
        }
        let now = self.process.clock().now();
        self.process.machine().lock().change(self.inode, Change::SetLen(len), now)?;
        self.process.step("setlen", [self.inode, len, 0]);
        Ok(())
    }

    /// Makes the content durable.
    pub(crate) fn make_durable(&self) -> io::Result<()> {
        let effect = self.process.enter(Call::Sync, &self.path)?;
        let mut state = self.process.machine().lock();
        let bytes = &mut state.inode_mut(self.inode).bytes;
        match effect {
            None => bytes.sync(),
            Some(Effect::Forget) => bytes.forget(),
            Some(_) => {}
        }
        drop(state);
        self.process.step("sync", [self.inode, 0, 0]);
        refuse(effect)
    }

    /// Facts about the file.
    pub(crate) fn facts(&self) -> FileMetadata {
        let machine = self.process.machine();
        machine.lock().facts(machine.device, self.inode)
    }

    /// The process that opened it.
    pub(crate) fn process(&self) -> &Arc<Process> {
        &self.process
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.process.is_alive() {
            return;
        }
        let machine = self.process.machine();
        let mut state = machine.lock();
        let inode = state.inode_mut(self.inode);
        inode.open = inode.open.saturating_sub(1);
        let id = self.process.id();
        if self.reserves {
            inode.reserved_by = None;
        }
        if self.plain && (inode.locks.closed(id) | inode.shm.locks.closed(id)) {
            let text = format!("closing {} dropped SQLite's locks on it", self.path.display());
            machine.context.event(self.process.role(), Mark::Note, text);
            let lost = (self.process.role(), self.path.clone());
            machine.lost_locks.lock().expect("plain data").push(lost);
        }
        state.collect(self.inode);
    }
}

/// The plain file interface of one process.
pub struct ProcessDisk(pub Arc<Process>);

impl Disk for ProcessDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        if matches!(mode, OpenMode::Truncate) {
            self.0.note_touched(path);
        }
        Ok(Box::new(self.0.open_handle(path, mode, true)?))
    }

    fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        self.0.look(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        refuse(self.0.enter(Call::Look, path)?)?;
        let state = self.0.machine().lock();
        if !state.inode(state.lookup(path)?).is_dir {
            return Err(raw(libc::ENOTDIR));
        }
        let entry = |(name, inode): (&Path, u64)| {
            let name = name.file_name()?.to_str()?.to_owned();
            Some(DirEntry { name, is_dir: state.inode(inode).is_dir })
        };
        Ok(state.names.children(path).filter_map(entry).collect())
    }

    fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
        refuse(self.0.enter(Call::Names, path)?)?;
        let mut state = self.0.machine().lock();
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        for dir in ancestors.into_iter().filter(|dir| !dir.as_os_str().is_empty()) {
            match state.names.get(dir) {
                Some(inode) if state.inode(inode).is_dir => {}
                Some(_) => return Err(raw(libc::ENOTDIR)),
                None => {
                    state.create(dir, Inode { is_dir: true, mode, ..Inode::default() });
                }
            }
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.note_touched(path);
        self.0.unlink(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        refuse(self.0.enter(Call::Names, path)?)?;
        let mut state = self.0.machine().lock();
        let inode = state.lookup(path)?;
        if !state.inode(inode).is_dir {
            return Err(raw(libc::ENOTDIR));
        }
        if state.names.children(path).next().is_some() {
            return Err(raw(libc::ENOTEMPTY));
        }
        let sequence = state.next_sequence();
        state.names.change(sequence, NameChange::Unlink(path.into()));
        state.collect(inode);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        refuse(self.0.enter(Call::Names, from)?)?;
        self.0.note_touched(to);
        let mut state = self.0.machine().lock();
        let inode = state.lookup(from)?;
        if state.inode(inode).is_dir {
            return Err(raw(libc::EXDEV)); // not modelled, and nobody needs it
        }
        state.parent_exists(to)?;
        let replaced = state.names.get(to);
        if replaced.is_some_and(|target| state.inode(target).is_dir) {
            return Err(raw(libc::EISDIR));
        }
        let sequence = state.next_sequence();
        state.names.change(sequence, NameChange::Rename(from.into(), to.into(), inode));
        if let Some(replaced) = replaced.filter(|replaced| *replaced != inode) {
            state.collect(replaced);
        }
        drop(state);
        self.0.step("rename", [inode, 0, 0]);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        refuse(self.0.enter(Call::Names, to)?)?;
        self.0.note_touched(to);
        let mut state = self.0.machine().lock();
        let inode = state.lookup(from)?;
        state.parent_exists(to)?;
        if state.names.get(to).is_some() {
            return Err(raw(libc::EEXIST));
        }
        let sequence = state.next_sequence();
        state.names.change(sequence, NameChange::Link(to.into(), inode));
        drop(state);
        self.0.step("link", [inode, 0, 0]);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut handle = self.0.open_handle(path, OpenMode::Create, true)?;
        let mut state = self.0.machine().lock();
        let inode = state.inode_mut(handle.inode);
        let is_free = inode.reserved_by.is_none();
        if is_free {
            inode.reserved_by = Some(self.0.id());
        }
        drop(state);
        self.0.step("lock", [handle.inode, u64::from(is_free), 0]);
        handle.reserves = is_free;
        if is_free { Ok(Box::new(handle)) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync_names(path)
    }

    fn set_modified(&self, path: &Path, time: UnixMillis) -> io::Result<()> {
        refuse(self.0.enter(Call::Names, path)?)?;
        let mut state = self.0.machine().lock();
        let inode = state.lookup(path)?;
        let inode = state.inode_mut(inode);
        (inode.modified, inode.changed) = (time, self.0.clock().now());
        Ok(())
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        refuse(self.0.enter(Call::Look, path)?)?;
        let is_full = self.0.machine().lock().faults.is_full(self.0.role(), path);
        Ok(if is_full { 0 } else { u64::MAX })
    }

    fn set_permissions(&self, path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
        refuse(self.0.enter(Call::Names, path)?)?;
        let mut state = self.0.machine().lock();
        let number = state.lookup(path)?;
        let inode = state.inode_mut(number);
        (inode.mode, inode.uid, inode.gid) = (mode, uid, gid);
        inode.changed = self.0.clock().now();
        Ok(())
    }
}

impl DiskFile for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read(buffer, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.process.note_touched(&self.path);
        self.write(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.process.note_touched(&self.path);
        self.set_length(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.make_durable()
    }

    fn metadata(&self) -> io::Result<FileMetadata> {
        self.process.stay_if_alive()?;
        Ok(self.facts())
    }
}
