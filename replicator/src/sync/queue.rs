//! Staged files on their way to the store, in order.

use std::collections::VecDeque;
use std::sync::Mutex;

use tokio::sync::Notify;

use crate::host::UnixMillis;
use crate::ltx::Txid;

use super::local::Staged;

/// A staged file waiting for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// The file.
    pub staged: Staged,
    /// When it was captured; everything committed before is in it or in an earlier file. `None` for a file that an
    /// earlier session staged: nothing is known about what was committed since.
    pub captured_at: Option<UnixMillis>,
}

/// Files from capture to upload. Holds names only: the content stays on disk, so a long outage costs no memory to
/// speak of.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<VecDeque<Queued>>,
    pushed: Notify,
    drained: Notify,
}

impl Queue {
    /// Appends a file.
    ///
    /// # Panics
    /// If it does not follow the one before it: publication is in order or not at all.
    pub fn push(&self, queued: Queued) {
        let mut waiting = self.lock();
        if let Some(last) = waiting.back() {
            assert_eq!(last.staged.txid.next(), queued.staged.txid, "staged files follow one another");
        }
        waiting.push_back(queued);
        drop(waiting);
        self.pushed.notify_one();
    }

    /// The file to upload next; waits for one.
    pub async fn front(&self) -> Queued {
        loop {
            if let Some(&front) = self.lock().front() {
                return front;
            }
            self.pushed.notified().await;
        }
    }

    /// Removes everything up to a transaction that is durable in the store.
    pub fn acknowledge(&self, txid: Txid) {
        let mut waiting = self.lock();
        while waiting.front().is_some_and(|front| front.staged.txid <= txid) {
            waiting.pop_front();
        }
        if waiting.is_empty() {
            self.drained.notify_waiters();
        }
    }

    /// The transaction that waits for the longest time.
    #[must_use]
    pub fn oldest(&self) -> Option<Txid> {
        self.lock().front().map(|front| front.staged.txid)
    }

    /// Number of files waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Resolves once nothing waits.
    pub async fn wait_until_empty(&self) {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            // Registered before looking, so that a drain in between is not missed.
            drained.as_mut().enable();
            if self.is_empty() {
                return;
            }
            drained.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Queued>> {
        self.waiting.lock().expect("nothing panics while holding the queue")
    }
}
