//! The application: a thread that commits as fast as an unhurried program does, and writes down what it committed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use conformance::workload::{Action, Failure, History, Settings, Workload};
use rusqlite::Connection;

/// Between two things it does.
const PAUSE: Duration = Duration::from_millis(4);

/// A running application.
pub struct Application {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<(), Failure>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    committed: AtomicU64,
    checkpoints: AtomicU64,
}

impl Application {
    /// Creates the database, commits once, and goes on in a thread.
    pub fn start(database: &Path, history: &Path, seed: u64) -> Result<Self, Failure> {
        let mut history = History::open(history)?;
        let db = Connection::open(database)?;
        // Checkpoints that want all readers gone cannot win against a replicator: they should not wait long.
        db.busy_timeout(Duration::from_millis(50))?;
        let mut workload = Workload::start(db, Settings::ordinary(), seed, 1, &mut history)?;
        let shared = Arc::new(Shared::default());
        shared.committed.store(workload.seq(), Ordering::Relaxed);
        let counters = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("application".to_owned()).spawn(move || {
            while !counters.stop.load(Ordering::Relaxed) {
                let action = workload.step(&mut history)?;
                counters.committed.store(workload.seq(), Ordering::Relaxed);
                if action >= Action::CheckpointPassive {
                    counters.checkpoints.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(PAUSE);
            }
            workload.close()
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Commits so far.
    pub fn committed(&self) -> u64 {
        self.shared.committed.load(Ordering::Relaxed)
    }

    /// Checkpoints it asked for so far; those SQLite makes by itself come on top.
    pub fn checkpoints(&self) -> u64 {
        self.shared.checkpoints.load(Ordering::Relaxed)
    }

    /// Ends it in an orderly way and returns the number of its last commit.
    pub fn stop(&mut self) -> Result<u64, Failure> {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| io::Error::other("the application panicked"))??;
        }
        Ok(self.committed())
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // Only after an error that is being reported already.
        let _ = self.stop();
    }
}
