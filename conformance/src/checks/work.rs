//! Work of a check on a thread of its own, which nothing can cancel: it is asked to stop, and waited for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Complaint;

/// Longest wait for work that was asked to stop: a restore or an orderly end that hangs is killed after a minute.
const LONGEST_END: Duration = Duration::from_secs(90);

/// Says whether work is to stop. Cheap to clone; clones share everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// To be asked before anything is begun that writes, and in every wait.
    ///
    /// # Errors
    /// If the work is to stop. Nobody reads it: the check has failed for being late by then.
    pub(super) fn look(&self) -> Result<(), Complaint> {
        if self.0.load(Ordering::Relaxed) { Err(Complaint::new("the check was ended")) } else { Ok(()) }
    }
}

/// What a check runs beside the requests of its own, if anything.
#[derive(Debug, Default)]
pub(super) struct Work {
    stop: Stop,
    /// Closed when the thread ends, whoever waits for its result.
    ending: Mutex<Option<oneshot::Receiver<()>>>,
    /// Begun, and not known to have ended well.
    is_in_doubt: AtomicBool,
}

impl Work {
    /// Runs it and waits for its result.
    ///
    /// # Errors
    /// Its complaint, or that it panicked.
    pub(super) async fn run(
        &self,
        work: impl FnOnce(Stop) -> Result<(), Complaint> + Send + 'static,
    ) -> Result<(), Complaint> {
        let (end, ending) = oneshot::channel::<()>();
        *self.ending.lock().expect("no holder of the channel panics") = Some(ending);
        self.is_in_doubt.store(true, Ordering::Relaxed);
        let stop = self.stop.clone();
        let task = tokio::task::spawn_blocking(move || {
            // Dropped last, when the work has ended its processes.
            let _end = end;
            work(stop)
        });
        let result = task.await.map_err(|error| Complaint::new(error.to_string()))?;
        self.is_in_doubt.store(result.is_err(), Ordering::Relaxed);
        result
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// If it goes on.
    pub(super) async fn end(&self) -> Result<(), Complaint> {
        self.stop.0.store(true, Ordering::Relaxed);
        let ending = self.ending.lock().expect("no holder of the channel panics").take();
        let Some(ending) = ending else { return Ok(()) };
        let ended = tokio::time::timeout(LONGEST_END, ending).await;
        ended.map(drop).map_err(|_| {
            Complaint::new(format!("what it runs goes on {LONGEST_END:?} after its end, and may still write"))
        })
    }

    /// Whether it may have begun what it did not finish.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.is_in_doubt.load(Ordering::Relaxed)
    }
}
