//! Who takes SQLite's write lock on a WAL-index, and for what: recovery of the log needs it, everything else writes.

use std::collections::{BTreeMap, BTreeSet};

/// Lock bytes of a WAL-index (`WAL_WRITE_LOCK`, `WAL_RECOVER_LOCK` in SQLite's wal.c).
const WRITE: u8 = 1 << 0;
const RECOVER: u8 = 1 << 2;
/// A reader that met a half-written header looks at it again under the write lock, and gives that back at once.
const LOOK_AGAIN_CALLS: u64 = 4;

/// Write locks held and written down.
#[derive(Debug, Clone, Default)]
pub struct Writers {
    /// (process, handle) that hold the lock, the process's number of calls then, and whether they have recovered the
    /// log under it.
    holders: BTreeMap<(u64, u64), (u64, bool)>,
    /// Processes that had it for something else than recovery.
    writers: BTreeSet<u64>,
}

impl Writers {
    /// A connection was granted exclusive locks, when its process had made so many calls.
    pub fn took(&mut self, process: u64, handle: u64, mask: u8, calls: u64) {
        if mask & WRITE != 0 {
            self.holders.insert((process, handle), (calls, false));
        }
        if mask & RECOVER != 0
            && let Some((_, recovers)) = self.holders.get_mut(&(process, handle))
        {
            *recovers = true;
        }
    }

    /// A connection gives locks back.
    pub fn released(&mut self, process: u64, handle: u64, mask: u8, calls: u64) {
        if mask & WRITE != 0
            && let Some((since, false)) = self.holders.remove(&(process, handle))
            && calls > since + LOOK_AGAIN_CALLS
        {
            self.writers.insert(process);
        }
    }

    /// Whether a process held the lock for something else than recovery.
    pub fn wrote(&self, process: u64) -> bool {
        self.writers.contains(&process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_is_told_from_writing() {
        let mut writers = Writers::default();
        writers.took(1, 1, WRITE, 1);
        writers.took(1, 1, RECOVER, 2);
        writers.released(1, 1, WRITE, 90);
        writers.took(1, 1, WRITE, 100);
        writers.released(1, 1, WRITE, 101);
        assert!(!writers.wrote(1));
        writers.took(1, 2, WRITE, 110);
        writers.released(1, 2, WRITE, 130);
        assert!(writers.wrote(1) && !writers.wrote(2));
    }
}
