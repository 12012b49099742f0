//! [`replicator::host::Host`] made of simulated parts, for one process.

use std::io;
use std::path::{Path, PathBuf};
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
    path: PathBuf,
    seen: u64,
}

impl Watch for SimWatch {
    fn watch(&self, path: &Path) -> Option<Box<dyn Watcher>> {
        let seen = self.0.writes_to(path);
        Some(Box::new(SimWatcher { machine: Arc::clone(&self.0), path: path.into(), seen }))
    }
}

impl Watcher for SimWatcher {
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                let written = self.machine.written().notified();
                let now = self.machine.writes_to(&self.path);
                if now != self.seen {
                    self.seen = now;
                    return;
                }
                written.await;
            }
        })
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
