//! When objects become durable: a thread that looks at the replica all the time and notes what is new.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use conformance::replica::Store;

/// Keys by the moment they were first seen.
pub struct Arrivals {
    seen: Arc<Mutex<BTreeMap<String, Instant>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Arrivals {
    /// Begins to watch. `pause` is the time between two looks: the resolution of every lag.
    ///
    /// # Errors
    /// If no thread can be had.
    pub fn watch(store: Box<dyn Store + Send>, pause: Duration) -> io::Result<Self> {
        let (seen, stop) = (Arc::<Mutex<BTreeMap<String, Instant>>>::default(), Arc::<AtomicBool>::default());
        let (noted, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("arrivals".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // A directory that is not there yet is a replica without objects.
                let objects = store.list().unwrap_or_default();
                let now = Instant::now();
                let mut noted = noted.lock().expect("nobody panics with the list");
                for object in objects {
                    if object.key.ends_with(".ltx") {
                        noted.entry(object.key).or_insert(now);
                    }
                }
                drop(noted);
                std::thread::sleep(pause);
            }
        })?;
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    /// What was seen so far.
    ///
    /// # Panics
    /// Never; no holder of the list panics.
    #[must_use]
    pub fn seen(&self) -> BTreeMap<String, Instant> {
        self.seen.lock().expect("nobody panics with the list").clone()
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
