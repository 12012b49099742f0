//! Turns at the store: how many databases may make their first contact, or a full copy, at the same time.
//!
//! Opening and pinning a database, and copying the commits of a chain that has begun, never waits for a turn: a store that
//! does not answer must not keep databases from being watched. Full copies that are staged on the local disk have a turn
//! of their own, and so have snapshots: all of them are due at the same boundary of an interval, and no first contact is
//! to wait behind them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Turns at the same time.
const AT_ONCE: usize = 16;
/// Snapshots at the same time. Each keeps the log of its database from restarting for as long as it takes.
const SNAPSHOTS_AT_ONCE: usize = 4;
/// Who takes longer than this goes on, and lets the next one begin.
const LONGEST: Duration = Duration::from_secs(30);

/// The turns of a process. Clones share them.
#[derive(Clone)]
pub struct Turns {
    store: Arc<Semaphore>,
    snapshot: Arc<Semaphore>,
    local_copy: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        let [store, snapshot, local_copy] =
            [AT_ONCE, SNAPSHOTS_AT_ONCE, 1].map(|turns| Arc::new(Semaphore::new(turns)));
        Self { store, snapshot, local_copy }
    }
}

/// A turn, until it is dropped.
pub struct Turn {
    /// Has the permit; dropping it ends the task.
    _holder: JoinSet<()>,
}

impl Turns {
    /// Waits for a turn; first come, first served.
    pub async fn take(&self) -> Turn {
        Turn::of(&self.store).await
    }

    /// Waits for a turn to take a snapshot; first come, first served.
    pub async fn take_for_snapshot(&self) -> Turn {
        Turn::of(&self.snapshot).await
    }

    /// Waits for the turn to stage a full copy on the local disk: one at a time, however long it takes.
    ///
    /// # Panics
    /// Never: the semaphore is not closed.
    pub async fn take_for_local_copy(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.local_copy).acquire_owned().await.expect("the semaphore is never closed")
    }
}

impl Turn {
    async fn of(turns: &Arc<Semaphore>) -> Self {
        let permit = Arc::clone(turns).acquire_owned().await.expect("the semaphore is never closed");
        let mut holder = JoinSet::new();
        holder.spawn(async move {
            tokio::time::sleep(LONGEST).await;
            drop(permit);
        });
        Self { _holder: holder }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_turn_ends_by_being_dropped_or_by_taking_too_long() {
        let turns = Turns::default();
        let mut taken = Vec::new();
        for _ in 0..AT_ONCE {
            taken.push(turns.take().await);
        }
        let soon = Duration::from_secs(1);
        assert!(tokio::time::timeout(soon, turns.take()).await.is_err(), "all are taken");
        taken.pop();
        taken.push(tokio::time::timeout(soon, turns.take()).await.expect("one was given back"));
        assert!(tokio::time::timeout(soon, turns.take()).await.is_err(), "all are taken again");
        tokio::time::timeout(LONGEST, turns.take()).await.expect("the first ones have taken too long");
        drop(taken);
    }
}
