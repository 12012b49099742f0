//! Pieces of work of a few microseconds, asked for by hundreds of tasks at once: one thread does them in turn, instead
//! of hundreds of hand-overs between threads that each cost more than the work.
//!
//! A piece that hangs (a network file system that is away) holds up only itself: who waits too long for a turn brings
//! another thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{BoxFuture, Work};

/// How long a piece waits for its turn before it gets a thread of its own from the pool.
const PATIENCE: Duration = Duration::from_millis(50);

/// Waiting pieces.
#[derive(Clone, Default)]
pub(super) struct BriefWork {
    waiting: Arc<Mutex<VecDeque<Work>>>,
    /// Whether a thread was asked for that has not begun. It will look for pieces when it does; one more would be of no
    /// use, and while all threads of the pool hang the requests would pile up.
    is_coming: Arc<AtomicBool>,
}

/// A thread that was asked for: it comes until this is dropped, which it is also if the pool shuts down before.
struct Coming(Arc<AtomicBool>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl BriefWork {
    /// Runs `work` to its end.
    pub(super) fn run(&self, work: Work) -> BoxFuture<'static, ()> {
        let this = self.clone();
        Box::pin(async move {
            let (done, mut ended) = oneshot::channel();
            let mine: Work = Box::new(move || {
                work();
                // Nobody listens any more if the caller was cancelled.
                let _ = done.send(());
            });
            let is_first = {
                let mut waiting = this.waiting();
                waiting.push_back(mine);
                waiting.len() == 1
            };
            if is_first {
                // The tasks that a timer woke together with this one get to ask before the thread begins.
                tokio::task::yield_now().await;
                this.bring_thread();
            }
            // An error means that the work panicked, which the caller of `Host::blocking_brief` finds out.
            while tokio::time::timeout(PATIENCE, &mut ended).await.is_err() {
                if !this.waiting().is_empty() {
                    this.bring_thread();
                }
            }
        })
    }

    #[expect(clippy::disallowed_methods, reason = "part of the host")]
    fn bring_thread(&self) {
        if self.is_coming.swap(true, Ordering::SeqCst) {
            return;
        }
        let (this, coming) = (self.clone(), Coming(Arc::clone(&self.is_coming)));
        tokio::task::spawn_blocking(move || {
            // Before looking: what is added from now on may be too late for this thread, and brings another one.
            drop(coming);
            while let Some(work) = this.next() {
                work();
            }
        });
    }

    fn next(&self) -> Option<Work> {
        self.waiting().pop_front()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Work>> {
        // Pushing and popping cannot leave the list half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::host::os;

    #[tokio::test(flavor = "multi_thread")]
    async fn all_is_done_and_neither_a_hanging_piece_nor_a_panic_holds_up_the_others() {
        let host = os::host();
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let hanging = tokio::spawn({
            let host = host.clone();
            async move { host.blocking_brief(move || hang.recv().is_ok()).await }
        });
        let panicking = tokio::spawn({
            let host = host.clone();
            async move { host.blocking_brief(|| panic!("a defect, for the test")).await }
        });
        let count = Arc::new(AtomicUsize::new(0));
        let pieces = (0..200_usize).map(|_| {
            let count = Arc::clone(&count);
            host.blocking_brief(move || count.fetch_add(1, Ordering::Relaxed))
        });
        let all = futures::future::join_all(pieces);
        let mut results = tokio::time::timeout(Duration::from_secs(10), all).await.expect("nothing waits");
        results.sort_unstable();
        assert_eq!(results, (0..200).collect::<Vec<_>>());
        assert!(panicking.await.unwrap_err().is_panic(), "a panic is passed on");
        release.send(()).unwrap();
        assert!(hanging.await.unwrap());
    }

    /// Each of those who waited used to ask for a thread every 50 ms, and the pool's list of requests has no bound.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "waits from outside the runtime")]
    fn while_every_thread_hangs_one_more_is_asked_for() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let host = os::host();
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let hang = Arc::new(Mutex::new(hang));
        let hanging = (0..2).map(|_| {
            let (host, hang) = (host.clone(), Arc::clone(&hang));
            runtime
                .spawn(async move { host.blocking_brief(move || hang.lock().unwrap().recv().is_err()).await })
        });
        let hanging: Vec<_> = hanging.collect();
        std::thread::sleep(4 * PATIENCE);
        let pieces: Vec<_> = (0..50)
            .map(|piece| {
                let host = host.clone();
                runtime.spawn(async move { host.blocking_brief(move || piece).await })
            })
            .collect();
        std::thread::sleep(Duration::from_secs(1));
        assert!(pieces.iter().all(|piece| !piece.is_finished()), "there is no thread for them");
        let asked = runtime.metrics().blocking_queue_depth();
        drop(release);
        let all = futures::future::join_all(hanging);
        runtime.block_on(async {
            assert!(all.await.into_iter().all(Result::unwrap));
            for (count, piece) in pieces.into_iter().enumerate() {
                assert_eq!(piece.await.unwrap(), count);
            }
        });
        assert!(asked <= 1, "{asked} requests for a thread");
    }
}
