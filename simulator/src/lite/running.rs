//! A replicator that runs, and one that runs beside the world's own.

use std::ops::Deref;
use std::sync::Arc;

use replicator::sync::{Handle, State, Status};
use tokio::sync::watch;

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

/// Who works with the local state, by what each of them says of itself.
#[derive(Default)]
pub struct Watched(Vec<(Arc<Process>, watch::Receiver<Status>)>);

impl Watched {
    /// Adds one that has just been started.
    pub fn add(&mut self, process: &Arc<Process>, status: watch::Receiver<Status>) {
        self.0.retain(|(process, _)| process.is_alive());
        self.0.push((Arc::clone(process), status));
    }

    /// The processes at work, if they are more than one.
    pub fn together(&self) -> Option<Vec<u64>> {
        let at_work = |status: &watch::Receiver<Status>| status.borrow().state() == State::Replicating;
        let working = self.0.iter().filter(|(process, status)| process.is_alive() && at_work(status));
        let working: Vec<u64> = working.map(|(process, _)| process.id()).collect();
        (working.len() > 1).then_some(working)
    }
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
