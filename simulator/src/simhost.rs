//! [`replicator::host::Host`] made of simulated parts, for one process.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use replicator::host::{BoxFuture, Clock, Dial, Entropy, Host, NoWatch, Stream, UnixMillis, Watch, Watcher};

use crate::choices::{Choices, mix};
use crate::disk::{Machine, Process, ProcessDisk};
use crate::fiber::FiberPool;
use crate::vfs::Vfs;

struct ProcessClock(Arc<Process>);

impl Clock for ProcessClock {
    fn now(&self) -> UnixMillis {
        self.0.clock().now()
    }
}

struct Random {
    choices: Choices,
    process: u64,
}

impl Entropy for Random {
    fn fill(&self, buffer: &mut [u8]) {
        let instance = self.choices.next_below("entropy", self.process, u64::MAX);
        self.choices.stream("entropy", mix(self.process) ^ instance).fill(buffer);
    }
}

/// For worlds without a network.
struct NoNetwork;

impl Dial for NoNetwork {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            Err(io::Error::new(io::ErrorKind::NetworkUnreachable, format!("no network: {host}:{port}")))
        })
    }
}

/// inotify of a simulated machine.
struct SimWatch(Arc<Machine>);

struct SimWatcher {
    machine: Arc<Machine>,
    /// The files, and how often each had been written when that was last reported.
    files: Vec<(PathBuf, u64)>,
}

impl Watch for SimWatch {
    fn watch(&self, paths: &[PathBuf]) -> Option<Box<dyn Watcher>> {
        let files = paths.iter().map(|path| (path.clone(), self.0.writes_to(path))).collect();
        Some(Box::new(SimWatcher { machine: Arc::clone(&self.0), files }))
    }
}

impl Watcher for SimWatcher {
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                let written = self.machine.written().notified();
                let mut changed = false;
                for (path, seen) in &mut self.files {
                    let now = self.machine.writes_to(path);
                    changed |= std::mem::replace(seen, now) != now;
                }
                if changed {
                    return;
                }
                written.await;
            }
        })
    }

    /// Names that go away are not reported, as on a file system that loses notifications.
    fn is_complete(&self) -> bool {
        true
    }
}

/// The world as `process` meets it; `dial` is its network, if there is one.
#[must_use]
pub fn host(
    process: &Arc<Process>,
    vfs: &Vfs,
    slots: usize,
    watch: bool,
    dial: Option<Arc<dyn Dial>>,
) -> Host {
    let choices = process.machine().context().choices.clone();
    Host {
        clock: Arc::new(ProcessClock(Arc::clone(process))),
        disk: Arc::new(ProcessDisk(Arc::clone(process))),
        entropy: Arc::new(Random { choices, process: process.id() }),
        blocking: Arc::new(FiberPool::new(Arc::clone(process), slots)),
        dial: dial.unwrap_or_else(|| Arc::new(NoNetwork)),
        watch: if watch { Arc::new(SimWatch(Arc::clone(process.machine()))) } else { Arc::new(NoWatch) },
        vfs: Some(vfs.name()),
    }
}
