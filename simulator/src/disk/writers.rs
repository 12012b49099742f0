//! Who takes SQLite's write lock on a WAL-index, and for what: recovery of the log needs it, everything else writes.

use std::collections::{BTreeMap, BTreeSet};

/// Lock bytes of a WAL-index (`WAL_WRITE_LOCK`, `WAL_RECOVER_LOCK` in SQLite's wal.c).
const WRITE: u8 = 1 << 0;
const RECOVER: u8 = 1 << 2;
/// A reader that met a half-written header looks at it again under the write lock, and gives that back at once (seed
/// 80003254: a writer had been killed between the halves, and another connection recovered the log meanwhile). Other threads
/// of the process make calls at the same time.
const LOOK_AGAIN_CALLS: u64 = 40;

/// Write locks held and written down.
#[derive(Debug, Clone, Default)]
pub struct Writers {
    /// (process, handle) that hold the lock, the process's number of calls then, and whether they have recovered the
    /// log under it; whoever takes other locks under it before that does something else.
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
        if let Some((_, recovers)) = self.holders.get_mut(&(process, handle)).filter(|_| mask & WRITE == 0) {
            *recovers |= mask & RECOVER != 0;
            if !*recovers {
                self.writers.insert(process);
            }
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

    /// A reader's lock byte (`WAL_READ_LOCK(0)`).
    const READ_0: u8 = 1 << 3;

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
        writers.released(1, 2, WRITE, 160);
        assert!(writers.wrote(1) && !writers.wrote(2));
        writers.took(2, 1, WRITE, 10);
        writers.took(2, 1, READ_0, 11);
        assert!(writers.wrote(2), "a checkpoint that makes writers wait");
    }
}
