//! A simulated machine's disk: files by inode, names, page cache and platter apart, locks, shared memory.
//!
//! The application's SQLite (through [`crate::vfs`]) and the replicator's file code (through
//! [`replicator::host::Disk`]) share it, so they see each other's half-done work and die in the same power loss.
//! Calls are atomic; a process may be paused or killed before each of them. Must not know what the files mean,
//! except for the oracles ([`Machine::image`]).

mod content;
mod crash;
mod faults;
mod files;
mod locks;
mod names;
mod process;
mod shm;
mod sqlite;
mod writers;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use replicator::host::UnixMillis;

use crate::choices::mix;
use crate::context::Context;
use crate::events::Mark;
use crate::history::FileImage;

pub use crash::{Hardware, Persistence};
pub use faults::{Call, Effect, Fault};
pub use files::{Handle, ProcessDisk};
pub use locks::{Level, SHM_LOCKS};
pub use process::Pace;
pub use process::Process;
pub use shm::REGION;
pub(crate) use sqlite::Mapping;
pub use sqlite::Observer;

use content::FileBytes;
use crash::Crash;
use faults::Faults;
use locks::FileLocks;
use names::{NameChange, Names};
use shm::Shm;
use writers::Writers;

const ROOT: u64 = 1;

#[derive(Clone, Default)]
struct Inode {
    is_dir: bool,
    bytes: FileBytes,
    mode: u32,
    uid: u32,
    gid: u32,
    modified: UnixMillis,
    /// Last change of anything, by the host's clock; one millisecond is as fine as kernels are.
    changed: UnixMillis,
    locks: FileLocks,
    /// Who has the file to itself, as [`replicator::host::Disk::lock`] says.
    reserved_by: Option<u64>,
    shm: Shm,
    /// Open descriptors, of all processes.
    open: u64,
    /// Machine-wide sequence number of the last change of content.
    writes: u64,
}

#[derive(Clone)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: Names,
    /// Counts every change on this machine.
    sequence: u64,
    faults: Faults,
    hardware: Hardware,
    /// Total bytes of storage, or `None` for plenty.
    capacity: Option<u64>,
    crashes: u64,
    next_process: u64,
    next_handle: u64,
    /// (process, database inode) → inode of the WAL-index it mapped, and how many of its connections did.
    mapped: BTreeMap<(u64, u64), (u64, u64)>,
    /// Shared memory of files that are gone; connections of dead processes still hold its address.
    graveyard: Vec<Shm>,
    /// Paths written through plain file calls, by role: lets oracles check who touched what.
    touched: BTreeMap<&'static str, BTreeSet<OsString>>,
    writers: Writers,
}

/// Facts about locks that were lost to a stray `close`: (role, path).
pub type LostLocks = Vec<(&'static str, PathBuf)>;

/// One machine.
pub struct Machine {
    context: Context,
    device: u64,
    state: Mutex<State>,
    lost_locks: Mutex<LostLocks>,
    observer: Mutex<Option<(PathBuf, Arc<dyn Observer>)>>,
    /// Rung after every change of content, for change notification.
    written: tokio::sync::Notify,
}

impl Machine {
    /// A machine with an empty disk; `device` tells its files from another machine's.
    #[must_use]
    pub fn new(context: &Context, device: u64, hardware: Hardware) -> Arc<Self> {
        let mut state = State {
            inodes: BTreeMap::new(),
            next_inode: ROOT,
            names: Names::default(),
            sequence: 0,
            faults: Faults::default(),
            hardware,
            capacity: None,
            crashes: 0,
            next_process: 0,
            next_handle: 0,
            mapped: BTreeMap::new(),
            graveyard: Vec::new(),
            writers: Writers::default(),
            touched: BTreeMap::new(),
        };
        for dir in ["/", "/tmp"] {
            state.create(Path::new(dir), Inode { is_dir: true, mode: 0o755, ..Inode::default() });
        }
        let created: Vec<NameChange> = state.names.pending.iter().map(|p| p.change.clone()).collect();
        state.names.reboot(&created);
        Arc::new(Self {
            context: context.clone(),
            device,
            state: Mutex::new(state),
            lost_locks: Mutex::default(),
            observer: Mutex::default(),
            written: tokio::sync::Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic inside a disk call")
    }

    /// What this run shares.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Number that tells its files from another machine's.
    #[must_use]
    pub fn device(&self) -> u64 {
        self.device
    }

    /// The disk's physical properties.
    #[must_use]
    pub fn hardware(&self) -> Hardware {
        self.lock().hardware
    }

    /// Switches a fault on.
    pub fn inject(&self, fault: Fault) {
        self.context.event("disk", Mark::Fault, format!("{fault:?}"));
        self.lock().faults.add(fault);
    }

    /// Switches all faults off and removes the size limit.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.faults.heal();
        state.capacity = None;
    }

    /// Calls that faults have hit so far.
    #[must_use]
    pub fn fault_hits(&self) -> u64 {
        self.lock().faults.hits
    }

    /// Limits the disk to the space in use plus `free` bytes.
    pub fn limit_free(&self, free: u64) {
        let mut state = self.lock();
        state.capacity = Some(state.allocated() + free);
        self.context.event("disk", Mark::Fault, format!("only {free} bytes free"));
    }

    /// Flips bits in one byte of a file, in cache and on the platter.
    pub fn rot(&self, path: &Path, offset: u64, mask: u8) {
        let mut state = self.lock();
        if let Some(inode) = state.names.get(path) {
            state.inode_mut(inode).bytes.rot(offset, mask);
            self.context.event("disk", Mark::Fault, format!("bit rot in {} at {offset}", path.display()));
        }
    }

    /// Locks that were lost because a process closed another descriptor of the same file.
    #[must_use]
    pub fn lost_locks(&self) -> LostLocks {
        self.lost_locks.lock().expect("no panic inside a disk call").clone()
    }

    /// Paths that processes of `role` changed through plain file calls (not through SQLite).
    #[must_use]
    pub fn touched_by(&self, role: &str) -> Vec<PathBuf> {
        self.lock().touched.get(role).into_iter().flatten().map(PathBuf::from).collect()
    }

    /// Whether `process` held SQLite's write lock for something else than recovery of the log.
    #[must_use]
    pub fn held_write_lock(&self, process: u64) -> bool {
        self.lock().writers.wrote(process)
    }

    /// Content of a file as processes see it; `None` if there is none. For oracles: no fault, no pause, no trace.
    #[must_use]
    pub fn peek(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        let inode = state.names.get(path)?;
        Some(state.inodes[&inode].bytes.live.to_vec())
    }

    /// What a database file holds, as processes see it; nothing if there is none. For `log_page_size` see
    /// [`FileImage::read`].
    #[must_use]
    pub fn image(&self, path: &Path, log_page_size: Option<u32>) -> FileImage {
        let state = self.lock();
        let Some(inode) = state.names.get(path) else { return FileImage::default() };
        let live = &state.inodes[&inode].bytes.live;
        FileImage::read(live.len(), log_page_size, |buffer, offset| live.read(buffer, offset))
    }

    /// A range of a file as processes see it, shorter at its end; `None` if there is no such file.
    #[must_use]
    pub fn peek_at(&self, path: &Path, offset: u64, len: usize) -> Option<Vec<u8>> {
        let state = self.lock();
        let inode = state.names.get(path)?;
        let live = &state.inodes[&inode].bytes.live;
        // No more than there is: who asks may have believed a length in a spoiled file.
        let there = usize::try_from(live.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut buffer = vec![0; len.min(there)];
        live.read(&mut buffer, offset);
        Some(buffer)
    }

    /// Length of a file; `None` if there is none.
    #[must_use]
    pub fn peek_len(&self, path: &Path) -> Option<u64> {
        let state = self.lock();
        Some(state.inodes[&state.names.get(path)?].bytes.live.len())
    }

    /// Frees the disk's content once a run is over and all its processes are dead. What killed processes leaked keeps
    /// the machine itself alive for ever, and thousands of disks would fill the memory.
    pub fn scrap(&self) {
        let mut state = self.lock();
        (state.inodes, state.names) = (BTreeMap::new(), Names::default());
        state.graveyard.clear();
        drop(state);
        *self.observer.lock().expect("plain data") = None;
    }

    /// Rung after every change of content.
    #[must_use]
    pub fn written(&self) -> &tokio::sync::Notify {
        &self.written
    }

    /// Number that changes whenever the content of `path` does; 0 if there is no such file.
    #[must_use]
    pub fn writes_to(&self, path: &Path) -> u64 {
        let state = self.lock();
        state.names.get(path).map_or(0, |inode| state.inode(inode).writes)
    }

    /// Every file name, sorted.
    #[must_use]
    pub fn peek_names(&self) -> Vec<PathBuf> {
        let state = self.lock();
        state.names.all().filter(|(_, i)| !state.inodes[i].is_dir).map(|(path, _)| path.into()).collect()
    }

    /// Power loss: everything not durable may or may not survive, locks and shared memory are gone. All processes
    /// of the machine must be dead (see [`Process::kill`]).
    pub fn power_loss(&self) {
        let mut state = self.lock();
        state.crashes += 1;
        let id = mix(state.crashes) ^ self.device;
        state.crash(&self.context, id);
        self.context.event("disk", Mark::Fault, format!("power loss {}", state.crashes));
    }

    /// The machine as it would be after losing power now, in the `image`-th of many legal ways. This machine is
    /// left alone; its processes do not exist on the copy.
    #[must_use]
    pub fn crash_image(&self, image: u64) -> Arc<Self> {
        let mut state = self.lock().clone();
        let id = mix(state.crashes + 1) ^ mix(image) ^ self.device;
        state.crash(&self.context, id);
        Arc::new(Self {
            context: self.context.clone(),
            device: self.device,
            state: Mutex::new(state),
            lost_locks: Mutex::default(),
            observer: Mutex::default(),
            written: tokio::sync::Notify::new(),
        })
    }
}

impl State {
    fn inode(&self, inode: u64) -> &Inode {
        self.inodes.get(&inode).expect("open or named inodes exist")
    }

    fn inode_mut(&mut self, inode: u64) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("open or named inodes exist")
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn create(&mut self, path: &Path, inode: Inode) -> u64 {
        let number = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(number, inode);
        let sequence = self.next_sequence();
        self.names.change(sequence, NameChange::Link(path.into(), number));
        number
    }

    fn lookup(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    fn parent_exists(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().ok_or_else(|| io::Error::from_raw_os_error(libc::EISDIR))?;
        if self.inode(self.lookup(parent)?).is_dir { Ok(()) } else { Err(raw(libc::ENOTDIR)) }
    }

    /// Drops an inode that nothing refers to any more.
    fn collect(&mut self, inode: u64) {
        if self.inodes.get(&inode).is_some_and(|file| file.open == 0)
            && !self.names.mentions(inode)
            && let Some(gone) = self.inodes.remove(&inode)
        {
            self.graveyard.push(gone.shm);
        }
    }

    fn allocated(&self) -> u64 {
        self.inodes.values().map(|inode| inode.bytes.live.allocated()).sum()
    }

    fn crash(&mut self, context: &Context, id: u64) {
        let pending = self.names.pending.iter().map(|p| p.sequence);
        let content = self.inodes.values().flat_map(|inode| inode.bytes.pending.iter().map(|p| p.sequence));
        let oldest = pending.chain(content).min().unwrap_or(self.sequence);
        let crash = Crash::new(&context.choices, self.hardware, id, oldest, self.sequence);
        let names = crash.names(&self.names);
        self.names.reboot(&names);
        let alive: BTreeSet<u64> = self.names.all().map(|(_, inode)| inode).collect();
        for inode in self.inodes.values_mut() {
            self.graveyard.push(std::mem::take(&mut inode.shm));
        }
        self.inodes.retain(|number, _| alive.contains(number));
        for inode in self.inodes.values_mut() {
            let kept = crash.content(&inode.bytes);
            inode.bytes.reboot(&kept);
            inode.locks = FileLocks::default();
            inode.reserved_by = None;
            inode.open = 0;
        }
        self.mapped.clear();
    }
}

fn raw(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}
