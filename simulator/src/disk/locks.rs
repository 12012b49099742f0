//! POSIX advisory locks on database files and on the WAL-index, with their trap: they belong to (process, inode),
//! and closing any descriptor of the inode drops them all, silently.
//!
//! Two layers, as in SQLite's own unix VFS: connections of one process exclude each other through bookkeeping that a
//! stray `close` does not touch; processes exclude each other through kernel locks, which it drops.

use std::collections::{BTreeMap, BTreeSet};

/// SQLite's lock levels on the database file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// No lock.
    #[default]
    None,
    /// Reading.
    Shared,
    /// Intends to write.
    Reserved,
    /// Waits for readers to leave.
    Pending,
    /// Writing.
    Exclusive,
}

/// Locks on one database file.
#[derive(Debug, Clone, Default)]
pub struct FileLocks {
    /// (process, handle) → level.
    holders: BTreeMap<(u64, u64), Level>,
    /// Levels visible to other processes.
    kernel: BTreeMap<u64, Level>,
    /// Who came by `Reserved`. Playing back a hot journal goes past it, so that others see that the journal is hot.
    /// (SQLite's own VFS lets threads of one process mistake `Pending` for it, in a window of two calls; not so here.)
    intent: BTreeSet<(u64, u64)>,
}

impl FileLocks {
    fn others(&self, process: u64, handle: u64) -> impl Iterator<Item = Level> {
        let inside = self
            .holders
            .iter()
            .filter(move |((p, h), _)| *p == process && *h != handle)
            .map(|(_, level)| *level);
        let outside = self.kernel.iter().filter(move |(p, _)| **p != process).map(|(_, level)| *level);
        inside.chain(outside)
    }

    /// Processes that hold a lock.
    pub fn lockers(&self) -> impl Iterator<Item = u64> {
        self.kernel.keys().copied()
    }

    /// Raises the lock to `wanted`; `false` means busy (a request for `Exclusive` may have got `Pending`).
    pub fn raise(&mut self, process: u64, handle: u64, wanted: Level) -> bool {
        let have = self.level(process, handle);
        if have >= wanted {
            return true;
        }
        let highest = self.others(process, handle).max().unwrap_or_default();
        let (granted, level) = match wanted {
            Level::None => (true, Level::None),
            Level::Shared if highest >= Level::Pending => (false, have),
            Level::Reserved if highest >= Level::Reserved => (false, have),
            Level::Shared | Level::Reserved => (true, wanted),
            Level::Pending | Level::Exclusive if highest >= Level::Pending => (false, have),
            Level::Pending | Level::Exclusive if highest >= Level::Shared => (false, Level::Pending),
            Level::Pending | Level::Exclusive => (true, wanted),
        };
        if granted || level > have {
            self.set(process, handle, level);
        }
        if granted && wanted == Level::Reserved {
            self.intent.insert((process, handle));
        }
        granted
    }

    /// Lowers the lock to `level`.
    pub fn lower(&mut self, process: u64, handle: u64, level: Level) {
        if self.level(process, handle) > level {
            self.set(process, handle, level);
        }
    }

    /// Whether anybody holds `Reserved`, or more by way of it.
    pub fn reserved(&self) -> bool {
        !self.intent.is_empty()
    }

    fn level(&self, process: u64, handle: u64) -> Level {
        self.holders.get(&(process, handle)).copied().unwrap_or_default()
    }

    fn set(&mut self, process: u64, handle: u64, level: Level) {
        if level == Level::None {
            self.holders.remove(&(process, handle));
        } else {
            self.holders.insert((process, handle), level);
        }
        if level < Level::Reserved {
            self.intent.remove(&(process, handle));
        }
        let mine = self.holders.iter().filter(|((p, _), _)| *p == process).map(|(_, level)| *level).max();
        match mine {
            Some(level) => self.kernel.insert(process, level),
            None => self.kernel.remove(&process),
        };
    }

    /// The kernel's reaction to `close` of any descriptor of this inode. `true` if locks were lost.
    pub fn closed(&mut self, process: u64) -> bool {
        self.intent.retain(|(p, _)| *p != process);
        self.kernel.remove(&process).is_some()
    }

    /// The process is gone.
    pub fn exited(&mut self, process: u64) {
        self.kernel.remove(&process);
        self.intent.retain(|(p, _)| *p != process);
        self.holders.retain(|(p, _), _| *p != process);
    }
}

/// Number of lock bytes in the WAL-index (`SQLITE_SHM_NLOCK`).
pub const SHM_LOCKS: usize = 8;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Masks {
    shared: u8,
    exclusive: u8,
}

/// Locks on one WAL-index.
#[derive(Debug, Clone, Default)]
pub struct ShmLocks {
    holders: BTreeMap<(u64, u64), Masks>,
    kernel: BTreeMap<u64, Masks>,
    /// Processes that hold the "dead man's switch" byte: while nobody does, the content is stale.
    attached: BTreeMap<u64, bool>,
}

impl ShmLocks {
    /// A process maps the file. `true` if nobody else had it, so that the content must be discarded.
    pub fn attach(&mut self, process: u64) -> bool {
        let first = !self.attached.values().any(|holds| *holds);
        self.attached.insert(process, true);
        first
    }

    /// The bytes that a connection holds, shared or exclusive.
    pub fn held(&self, process: u64, handle: u64) -> u8 {
        self.holders.get(&(process, handle)).map_or(0, |masks| masks.shared | masks.exclusive)
    }

    /// Takes `mask`, shared or exclusive; `false` means busy.
    pub fn take(&mut self, process: u64, handle: u64, mask: u8, exclusive: bool) -> bool {
        let conflict =
            |other: &Masks| mask & (other.exclusive | if exclusive { other.shared } else { 0 }) != 0;
        let inside = self.holders.iter().any(|((p, h), m)| *p == process && *h != handle && conflict(m));
        let outside = self.kernel.iter().any(|(p, m)| *p != process && conflict(m));
        if inside || outside {
            return false;
        }
        let masks = self.holders.entry((process, handle)).or_default();
        if exclusive {
            masks.exclusive |= mask;
        } else {
            masks.shared |= mask;
        }
        let kernel = self.kernel.entry(process).or_default();
        if exclusive {
            kernel.exclusive |= mask;
        } else {
            kernel.shared |= mask;
        }
        true
    }

    /// Releases `mask`.
    pub fn release(&mut self, process: u64, handle: u64, mask: u8) {
        if let Some(masks) = self.holders.get_mut(&(process, handle)) {
            masks.shared &= !mask;
            masks.exclusive &= !mask;
        }
        // The kernel keeps a shared byte while another connection of this process still holds it.
        let mut mine = Masks::default();
        for (_, masks) in self.holders.iter().filter(|((p, _), _)| *p == process) {
            mine.shared |= masks.shared;
            mine.exclusive |= masks.exclusive;
        }
        if let Some(kernel) = self.kernel.get_mut(&process) {
            kernel.shared &= mine.shared;
            kernel.exclusive &= mine.exclusive;
        }
    }

    /// One connection unmaps.
    pub fn forget(&mut self, process: u64, handle: u64) {
        self.release(process, handle, u8::MAX);
        self.holders.remove(&(process, handle));
    }

    /// The last connection of a process unmaps.
    pub fn detach(&mut self, process: u64) {
        self.exited(process);
    }

    /// The kernel's reaction to `close` of any descriptor of this inode. `true` if locks were lost.
    pub fn closed(&mut self, process: u64) -> bool {
        let had = self.kernel.remove(&process).is_some_and(|masks| masks != Masks::default());
        let attached = self.attached.get_mut(&process).is_some_and(|holds| std::mem::replace(holds, false));
        had || attached
    }

    /// The process is gone.
    pub fn exited(&mut self, process: u64) {
        self.kernel.remove(&process);
        self.attached.remove(&process);
        self.holders.retain(|(p, _), _| *p != process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_keep_a_writer_pending_and_pending_keeps_readers_out() {
        let mut locks = FileLocks::default();
        assert!(locks.raise(1, 1, Level::Shared));
        assert!(locks.raise(2, 2, Level::Shared));
        assert!(locks.raise(1, 1, Level::Reserved));
        assert!(!locks.raise(2, 2, Level::Reserved));
        assert!(!locks.raise(1, 1, Level::Exclusive));
        assert!(!locks.raise(3, 3, Level::Shared));
        locks.lower(2, 2, Level::None);
        assert!(locks.raise(1, 1, Level::Exclusive));
    }

    #[test]
    fn closing_any_descriptor_lets_another_process_in_but_not_another_connection() {
        let mut locks = FileLocks::default();
        assert!(locks.raise(1, 1, Level::Shared) && locks.raise(1, 1, Level::Reserved));
        assert!(locks.closed(1));
        assert!(!locks.raise(1, 9, Level::Reserved), "inside the process the bookkeeping still excludes");
        assert!(locks.raise(2, 2, Level::Reserved), "another process no longer sees the lock");
    }

    #[test]
    fn shm_locks_exclude_and_the_first_to_attach_discards() {
        let mut locks = ShmLocks::default();
        assert!(locks.attach(1));
        assert!(!locks.attach(2));
        assert!(locks.take(1, 1, 0b1, true));
        assert!(!locks.take(2, 2, 0b1, false));
        locks.release(1, 1, 0b1);
        assert!(locks.take(2, 2, 0b1, false) && locks.take(1, 1, 0b1, false));
        assert!(!locks.take(3, 3, 0b1, true));
        assert!(locks.closed(2), "a stray close drops the locks");
        assert!(!locks.take(3, 3, 0b1, true));
        locks.exited(1);
        assert!(locks.take(3, 3, 0b1, true));
        locks.detach(3);
        assert!(locks.attach(4), "nobody holds the switch any more");
    }
}
