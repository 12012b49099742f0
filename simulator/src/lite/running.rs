//! A replicator that runs, and one that runs beside the world's own.

use std::ops::Deref;
use std::sync::Arc;

use replicator::sync::Handle;

use crate::disk::Process;
use crate::vfs::Vfs;

/// A replicator and its process.
pub struct Running {
    /// Its process.
    pub process: Arc<Process>,
    /// Its end of the product's interface.
    pub handle: Handle,
    /// Kept: SQLite looks the VFS up by name.
    pub _vfs: Vfs,
}

/// Ends a process however the work that waits for it ends.
pub struct KilledAtEnd(pub Arc<Process>);

impl Drop for KilledAtEnd {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// A replicator that nobody stops in order: however its time ends, it is killed, and nothing of it is dropped, for its
/// destructors must not run.
pub struct Doomed(Option<Running>);

impl Doomed {
    /// Takes charge.
    pub fn new(running: Running) -> Self {
        Self(Some(running))
    }

    /// Spares it.
    pub fn into_inner(mut self) -> Running {
        self.0.take().expect("taken only here and at the end")
    }
}

impl Deref for Doomed {
    type Target = Running;

    fn deref(&self) -> &Running {
        self.0.as_ref().expect("taken only at the end")
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            running.process.kill();
            std::mem::forget(running);
        }
    }
}
