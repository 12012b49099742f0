//! Calls that only SQLite makes: locks on the database file, and the WAL-index with its memory and locks.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use replicator::host::{Clock as _, with_suffix};

use super::files::refuse;
use super::locks::Level;
use super::names::NameChange;
use super::{Call, Inode, Machine, Process, raw};

/// Watches one database through the VFS; called between SQLite's own steps, never inside another disk call.
pub trait Observer: Send + Sync {
    /// SQLite, in a process of `role`, is about to make a call on the database, its WAL or its WAL-index.
    fn before_call(&self, machine: &Machine, role: &str);
    /// SQLite wrote a page of the database file.
    fn wrote_database(&self, offset: u64, data: &[u8]);
    /// SQLite changed the length of the database file.
    fn resized_database(&self, len: u64);
    /// A connection gave up its write lock on the database file (how a rollback-journal commit ends).
    fn released_database(&self, machine: &Machine);
}

impl Machine {
    /// Lets `observer` watch the database at `path`; `None` stops.
    pub fn observe(&self, path: &Path, observer: Option<Arc<dyn Observer>>) {
        *self.observer.lock().expect("plain data") = observer.map(|observer| (path.to_path_buf(), observer));
    }

    /// The observer of the database that `path` (a database, WAL or WAL-index) belongs to.
    pub(crate) fn observer(&self, database: &Path) -> Option<Arc<dyn Observer>> {
        let observer = self.observer.lock().expect("plain data");
        observer.as_ref().filter(|(path, _)| path == database).map(|(_, observer)| Arc::clone(observer))
    }

    /// The first bytes of the WAL-index at `path`; `None` while nobody maps it.
    #[must_use]
    pub fn wal_index_head<const N: usize>(&self, path: &Path) -> Option<[u8; N]> {
        let state = self.lock();
        let inode = state.names.get(path)?;
        state.inode(inode).shm.head()
    }

    /// Whether a process has the database at `path` open and locked, and has yet to map its WAL-index.
    #[must_use]
    pub fn is_opening(&self, path: &Path) -> bool {
        let state = self.lock();
        let Some(inode) = state.names.get(path) else { return false };
        let mut lockers = state.inode(inode).locks.lockers();
        lockers.any(|process| !state.mapped.contains_key(&(process, inode)))
    }

    /// A number for a new connection-level handle.
    pub(crate) fn new_handle(&self) -> u64 {
        let mut state = self.lock();
        state.next_handle += 1;
        state.next_handle
    }
}

/// A WAL-index as one connection has mapped it.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    inode: u64,
    database: u64,
    path: PathBuf,
}

impl Process {
    /// What `path` stands for now.
    pub(crate) fn named_inode(&self, path: &Path) -> Option<u64> {
        self.machine().lock().names.get(path)
    }

    /// Raises `handle`'s lock on a database file; `false` means busy.
    pub(crate) fn raise_lock(&self, inode: u64, handle: u64, level: Level) -> io::Result<bool> {
        self.pass()?;
        let granted = self.machine().lock().inode_mut(inode).locks.raise(self.id(), handle, level);
        self.machine().context.log.step("lock", self.id(), [inode, level as u64, u64::from(granted)]);
        Ok(granted)
    }

    /// Lowers `handle`'s lock on a database file.
    pub(crate) fn lower_lock(&self, inode: u64, handle: u64, level: Level) -> io::Result<()> {
        self.pass()?;
        self.machine().lock().inode_mut(inode).locks.lower(self.id(), handle, level);
        self.machine().context.log.step("unlock", self.id(), [inode, level as u64, 0]);
        Ok(())
    }

    /// Whether anybody holds `Reserved` or more on a database file.
    pub(crate) fn is_reserved(&self, inode: u64) -> io::Result<bool> {
        self.stay_if_alive()?;
        Ok(self.machine().lock().inode(inode).locks.reserved())
    }

    /// Maps the WAL-index of the database `inode` at `database`, creating its file if absent.
    pub(crate) fn map_wal_index(&self, database: &Path, inode: u64) -> io::Result<Mapping> {
        let path = with_suffix(database, "-shm");
        refuse(self.enter(Call::Open, &path)?)?;
        let mut state = self.machine().lock();
        let state = &mut *state;
        let key = (self.id(), inode);
        let shm = match (state.mapped.get(&key), state.names.get(&path)) {
            (Some((shm, _)), _) => *shm,
            (None, Some(existing)) => existing,
            (None, None) => {
                state.parent_exists(&path)?;
                let file = Inode { mode: 0o644, modified: self.clock().now(), ..Inode::default() };
                state.create(&path, file)
            }
        };
        let (_, users) = state.mapped.entry(key).or_insert((shm, 0));
        *users += 1;
        if *users == 1 {
            let file = state.inode_mut(shm);
            file.open += 1;
            if file.shm.locks.attach(self.id()) {
                file.shm.discard();
            }
        }
        self.machine().context.log.step("shmopen", self.id(), [shm, 0, 0]);
        Ok(Mapping { inode: shm, database: inode, path })
    }

    /// Address of region `index`; `None` if it does not exist and `extend` is false.
    pub(crate) fn region(&self, map: &Mapping, index: usize, extend: bool) -> io::Result<Option<*mut u8>> {
        self.stay_if_alive()?;
        Ok(self.machine().lock().inode_mut(map.inode).shm.region(index, extend))
    }

    /// Takes WAL-index locks; `false` means busy.
    pub(crate) fn take_shm(&self, map: &Mapping, handle: u64, mask: u8, exclusive: bool) -> io::Result<bool> {
        self.pass()?;
        let mut state = self.machine().lock();
        let locks = &mut state.inode_mut(map.inode).shm.locks;
        let held = locks.held(self.id(), handle);
        let granted = locks.take(self.id(), handle, mask, exclusive);
        if granted && exclusive {
            state.writers.took(self.id(), handle, held, mask);
        }
        drop(state);
        let how = u64::from(mask) | u64::from(exclusive) << 8;
        self.machine().context.log.step("shmlock", self.id(), [map.inode, how, u64::from(granted)]);
        Ok(granted)
    }

    /// Releases WAL-index locks.
    pub(crate) fn release_shm(&self, map: &Mapping, handle: u64, mask: u8) -> io::Result<()> {
        self.pass()?;
        let mut state = self.machine().lock();
        state.inode_mut(map.inode).shm.locks.release(self.id(), handle, mask);
        state.writers.released(self.id(), handle, mask);
        drop(state);
        self.machine().context.log.step("shmunlock", self.id(), [map.inode, u64::from(mask), 0]);
        Ok(())
    }

    /// Unmaps the WAL-index for one connection; the process's last one may remove the file.
    pub(crate) fn unmap_wal_index(&self, map: &Mapping, handle: u64, delete: bool) -> io::Result<()> {
        if !self.is_alive() {
            return Err(raw(libc::EIO));
        }
        let mut state = self.machine().lock();
        let state = &mut *state;
        state.inode_mut(map.inode).shm.locks.forget(self.id(), handle);
        let key = (self.id(), map.database);
        let Some((_, users)) = state.mapped.get_mut(&key) else { return Ok(()) };
        *users -= 1;
        if *users > 0 {
            return Ok(());
        }
        state.mapped.remove(&key);
        if delete && state.names.get(&map.path) == Some(map.inode) {
            let sequence = state.next_sequence();
            state.names.change(sequence, NameChange::Unlink(map.path.clone()));
        }
        let file = state.inode_mut(map.inode);
        file.shm.locks.detach(self.id());
        file.open = file.open.saturating_sub(1);
        state.collect(map.inode);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use replicator::host::{Disk as _, OpenMode};

    use super::*;
    use crate::clock::{Timeline, WallClock};
    use crate::context::Context;
    use crate::disk::{Hardware, Persistence, ProcessDisk};

    #[test]
    fn a_process_is_opening_from_its_first_lock_until_it_has_the_wal_index() {
        let context = Context::new(1, Timeline::manual());
        let hardware = Hardware { sector: 512, powersafe_overwrite: true, persistence: Persistence::Posix };
        let machine = Machine::new(&context, 1, hardware);
        let process = Process::start(&machine, "replicator", WallClock::new(context.timeline.clone()));
        let path = Path::new("/app.db");
        ProcessDisk(Arc::clone(&process)).open(path, OpenMode::CreateNew).unwrap();
        let (inode, handle) = (process.named_inode(path).unwrap(), machine.new_handle());
        assert!(!machine.is_opening(path));
        assert!(process.raise_lock(inode, handle, Level::Shared).unwrap());
        assert!(machine.is_opening(path));
        let map = process.map_wal_index(path, inode).unwrap();
        assert!(!machine.is_opening(path));
        process.unmap_wal_index(&map, handle, true).unwrap();
        assert!(machine.is_opening(path));
        process.kill();
        assert!(!machine.is_opening(path), "a dead process opens nothing");
    }
}
