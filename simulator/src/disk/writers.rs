//! Who takes SQLite's write lock on a WAL-index, and for what: recovery of the log needs it, everything else writes.

use std::collections::{BTreeMap, BTreeSet};

/// Lock bytes of a WAL-index (`WAL_WRITE_LOCK`, `WAL_RECOVER_LOCK` in SQLite's wal.c).
const WRITE: u8 = 1 << 0;
const RECOVER: u8 = 1 << 2;
/// The readers' (`WAL_READ_LOCK(0)` to `WAL_READ_LOCK(4)`).
const READ: u8 = 0b1111_1000;

/// Write locks held and written down.
#[derive(Debug, Clone, Default)]
pub struct Writers {
    /// (process, handle) that took the lock without being a reader, and whether they have recovered the log under it.
    /// So does who opens the log, and who meets a half-written header: it looks at that again under the lock, and gives
    /// it back at once (seeds 80003254 and 200003161: a writer had been killed between the halves, and another
    /// connection recovered the log meanwhile). Who writes is a reader before, and a checkpoint that makes writers
    /// wait takes readers' locks then.
    openers: BTreeMap<(u64, u64), bool>,
    /// Processes that had it for something else than recovery.
    writers: BTreeSet<u64>,
}

impl Writers {
    /// A connection that held the locks `held` was granted the exclusive locks `mask`.
    pub fn took(&mut self, process: u64, handle: u64, held: u8, mask: u8) {
        if mask & WRITE != 0 {
            if held & READ != 0 {
                self.writers.insert(process);
            } else {
                self.openers.insert((process, handle), false);
            }
        } else if let Some(recovers) = self.openers.get_mut(&(process, handle)) {
            *recovers |= mask & RECOVER != 0;
            if !*recovers {
                self.writers.insert(process);
            }
        }
    }

    /// A connection gives locks back.
    pub fn released(&mut self, process: u64, handle: u64, mask: u8) {
        if mask & WRITE != 0 {
            self.openers.remove(&(process, handle));
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

    /// The checkpointer's lock byte (`WAL_CKPT_LOCK`).
    const CHECKPOINT: u8 = 1 << 1;

    #[test]
    fn recovery_is_told_from_writing() {
        let mut writers = Writers::default();
        writers.took(1, 1, 0, WRITE);
        writers.took(1, 1, WRITE, RECOVER | CHECKPOINT);
        writers.took(1, 1, WRITE | RECOVER | CHECKPOINT, READ);
        writers.released(1, 1, WRITE);
        assert!(!writers.wrote(1), "opened the log");
        for held in [0, CHECKPOINT] {
            writers.took(1, 1, held, WRITE);
            writers.released(1, 1, WRITE);
            writers.took(1, 1, held, READ);
        }
        assert!(
            !writers.wrote(1),
            "looked again at a header, before reading and before a passive checkpoint"
        );
        writers.took(1, 2, READ, WRITE);
        assert!(writers.wrote(1) && !writers.wrote(2), "a transaction");
        writers.took(2, 1, CHECKPOINT, WRITE);
        writers.took(2, 1, CHECKPOINT | WRITE, READ);
        assert!(writers.wrote(2), "a checkpoint that makes writers wait");
    }
}
