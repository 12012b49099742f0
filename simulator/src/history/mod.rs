//! The exact page image of the database at every commit, derived at the VFS: what restores are judged against.
//!
//! States form a tree: a power loss under `synchronous=NORMAL` goes back to an older state, and what comes next is a
//! new branch. A state becomes part of history when SQLite publishes it in the WAL-index (or ends a rollback-journal
//! commit), not when its frames hit the disk. Must not use any code of the product.

mod image;
mod wal;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use replicator::host::with_suffix;

use crate::clock::Timeline;
use crate::disk::{Machine, Observer};

pub use image::{FileImage, hash_bytes};
use image::{hole, image_of, page_sum};
use wal::{Frame, committed};

/// Number of a state in its [`History`], in the order they appeared.
pub type StateId = usize;

/// One committed state of the database.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The state it grew from.
    pub parent: Option<StateId>,
    /// Simulated milliseconds at which it became visible.
    pub at_millis: u64,
    /// Fingerprint of all pages.
    pub image: u64,
    /// Database size in pages.
    pub pages: u32,
    /// Bytes per page.
    pub page_size: u32,
    /// Pages that differ from the parent, with their fingerprints.
    pub changed: Vec<(u32, u64)>,
}

struct Inner {
    states: Vec<Committed>,
    head: Option<StateId>,
    /// When which state became the head, in order.
    heads: Vec<(u64, StateId)>,
    page_size: u32,
    /// Pages of the database file.
    base: Vec<u64>,
    /// Rollback-journal writes since the last such commit.
    base_dirty: bool,
    /// Newest committed content in the WAL.
    overlay: BTreeMap<u32, u64>,
    /// Pages as a reader sees them: the head's image.
    visible: Vec<u64>,
    /// Where SQLite's WAL stands.
    salt: [u8; 8],
    max_frame: u32,
    checksum: [u32; 2],
    header: Option<wal::WalHeader>,
    last_head: [u8; 48],
    /// The WAL-index describes another file than the WAL, and the application has not looked yet.
    foreign_index: bool,
    /// The database as it was seen to contradict itself: lost checkpointed pages, unreadable WAL.
    anomalies: Vec<String>,
}

/// History of one database.
pub struct History {
    database: PathBuf,
    wal: PathBuf,
    wal_index: PathBuf,
    timeline: Timeline,
    inner: Mutex<Inner>,
}

impl History {
    /// Starts watching `database` on `machine`, which must not exist yet.
    #[must_use]
    pub fn watch(machine: &Arc<Machine>, database: &Path) -> Arc<Self> {
        let timeline = machine.context().timeline.clone();
        let history = Arc::new(Self {
            database: database.into(),
            wal: with_suffix(database, "-wal"),
            wal_index: with_suffix(database, "-shm"),
            timeline,
            inner: Mutex::new(Inner::new()),
        });
        machine.observe(database, Some(history.clone() as Arc<dyn Observer>));
        history
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic while history is written")
    }

    /// The newest committed state.
    #[must_use]
    pub fn head(&self) -> Option<StateId> {
        self.lock().head
    }

    /// The state that was newest just before `millis`.
    #[must_use]
    pub fn head_before(&self, millis: u64) -> Option<StateId> {
        let inner = self.lock();
        let after = inner.heads.partition_point(|(at, _)| *at < millis);
        Some(inner.heads[after.checked_sub(1)?].1)
    }

    /// Number of states so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().states.len()
    }

    /// Whether nothing was ever committed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One state.
    #[must_use]
    pub fn state(&self, id: StateId) -> Committed {
        self.lock().states[id].clone()
    }

    /// States whose image is `image`, newest first.
    #[must_use]
    pub fn find(&self, image: u64) -> Vec<StateId> {
        let inner = self.lock();
        (0..inner.states.len()).rev().filter(|id| inner.states[*id].image == image).collect()
    }

    /// Whether `ancestor` lies on the path from the beginning to `state` (both included).
    #[must_use]
    pub fn is_ancestor(&self, ancestor: StateId, state: StateId) -> bool {
        let inner = self.lock();
        let mut at = Some(state);
        while let Some(id) = at {
            if id == ancestor {
                return true;
            }
            at = inner.states[id].parent;
        }
        false
    }

    /// The newest state that lies on the paths to both.
    ///
    /// # Panics
    /// If they have nothing in common; all states grow from the first.
    #[must_use]
    pub fn common_ancestor(&self, one: StateId, other: StateId) -> StateId {
        let mut at = one;
        while !self.is_ancestor(at, other) {
            at = self.state(at).parent.expect("all states grow from the first");
        }
        at
    }

    /// Contradictions seen so far.
    #[must_use]
    pub fn anomalies(&self) -> Vec<String> {
        self.lock().anomalies.clone()
    }

    /// Fingerprints of the pages of `state`.
    #[must_use]
    pub fn pages_of(&self, state: StateId) -> BTreeMap<u32, u64> {
        let inner = self.lock();
        let mut path = vec![state];
        while let Some(parent) = inner.states[*path.last().expect("not empty")].parent {
            path.push(parent);
        }
        let mut pages = BTreeMap::new();
        for id in path.into_iter().rev() {
            let state = &inner.states[id];
            pages.extend(state.changed.iter().copied());
            pages.retain(|number, _| *number <= state.pages);
        }
        pages
    }

    /// What recovery of a disk could come to, newest first: fingerprints of the newest whole transaction in its log and
    /// of the one before. The newest may have been written out, but not published, when the machine went down.
    #[must_use]
    pub fn recoverable(&self, machine: &Machine) -> Vec<u64> {
        let mut inner = Inner::new();
        let log = machine.peek(&self.wal).unwrap_or_default();
        let log = committed(&log);
        let page_size = log.as_ref().map(|(header, _)| header.page_size);
        inner.reload_base(machine.image(&self.database, page_size));
        let mut images: Vec<u64> = inner.image().map(|(image, _)| image).into_iter().collect();
        if let Some((header, frames)) = log {
            inner.page_size = header.page_size;
            inner.start_generation(header);
            for transaction in frames.chunk_by(|a, _| a.commit == 0) {
                inner.apply(transaction);
                images.extend(inner.image().map(|(image, _)| image));
            }
        }
        images.reverse();
        // Where a torn write spoils a whole sector, SQLite writes the last frame of a commit again until one is full.
        images.dedup();
        images.truncate(2);
        images
    }

    /// Whether the newest transaction in the log of a disk is longer than its file, with pages that the log does not have:
    /// an application that grows its database by free pages does not log them, and a power loss need not leave what
    /// stood there before.
    #[must_use]
    pub fn lacks_free_pages(&self, machine: &Machine) -> bool {
        let mut inner = Inner::new();
        let log = machine.peek(&self.wal).unwrap_or_default();
        let Some((header, frames)) = committed(&log) else { return false };
        inner.reload_base(machine.image(&self.database, Some(header.page_size)));
        inner.page_size = header.page_size;
        inner.start_generation(header);
        inner.apply(&frames);
        (inner.base.len()..inner.visible.len())
            .any(|index| u32::try_from(index + 1).is_ok_and(|number| !inner.overlay.contains_key(&number)))
    }

    /// Reads the disk as recovery would, after a power loss or after the file was replaced behind SQLite's back, and
    /// continues from that state. Returns it.
    pub fn resume(&self, machine: &Machine) -> Option<StateId> {
        let log = machine.peek(&self.wal).unwrap_or_default();
        let log = committed(&log);
        let database = machine.image(&self.database, log.as_ref().map(|(header, _)| header.page_size));
        let mut inner = self.lock();
        let before = inner.head;
        inner.reload_base(database);
        (inner.max_frame, inner.salt, inner.header) = (0, [0; 8], None);
        inner.last_head = [0; 48];
        inner.base_dirty = false;
        if let Some((header, frames)) = log {
            inner.page_size = header.page_size;
            inner.start_generation(header);
            for transaction in frames.chunk_by(|a, _| a.commit == 0) {
                inner.apply(transaction);
            }
        }
        let (image, _) = inner.image()?;
        drop(inner);
        let known = self.find(image);
        let on_path = known.iter().copied().find(|id| before.is_some_and(|head| self.is_ancestor(*id, head)));
        let mut inner = self.lock();
        match on_path.or(known.first().copied()) {
            Some(id) => {
                inner.head = Some(id);
                inner.heads.push((self.timeline.millis(), id));
            }
            None => inner.commit_all(self.timeline.millis()),
        }
        inner.head
    }
}

impl Inner {
    fn new() -> Self {
        Self {
            states: Vec::new(),
            head: None,
            heads: Vec::new(),
            page_size: 0,
            base: Vec::new(),
            base_dirty: false,
            overlay: BTreeMap::new(),
            visible: Vec::new(),
            salt: [0; 8],
            max_frame: 0,
            checksum: [0; 2],
            header: None,
            last_head: [0; 48],
            foreign_index: false,
            anomalies: Vec::new(),
        }
    }

    /// Takes a database file for what lies under the log; nothing is in the log.
    fn reload_base(&mut self, database: FileImage) {
        self.page_size = database.page_size.unwrap_or(0);
        self.overlay.clear();
        self.visible = database.pages[..database.in_use].to_vec();
        self.base = database.pages;
    }

    fn start_generation(&mut self, header: wal::WalHeader) {
        self.overlay.clear();
        self.salt = header.salt;
        self.max_frame = 0;
        self.checksum = header.checksum;
        self.header = Some(header);
    }

    /// Takes one transaction's frames: into the WAL's content, and into what readers see.
    fn apply(&mut self, frames: &[Frame<'_>]) {
        for frame in frames {
            self.overlay.insert(frame.page, page_sum(frame.page, frame.content));
            self.max_frame += 1;
            self.checksum = frame.checksum;
        }
        let pages = frames.last().map_or(0, |frame| frame.commit) as usize;
        self.visible.truncate(pages);
        while self.visible.len() < pages {
            let sum = self.sum_at(self.visible.len() as u32 + 1);
            self.visible.push(sum);
        }
        for frame in frames.iter().filter(|frame| frame.page as usize <= pages) {
            self.visible[frame.page as usize - 1] = self.overlay[&frame.page];
        }
    }

    fn sum_at(&self, number: u32) -> u64 {
        let base = || self.base.get(number as usize - 1).copied();
        self.overlay.get(&number).copied().or_else(base).unwrap_or_else(|| hole(number, self.page_size))
    }

    fn image(&self) -> Option<(u64, u32)> {
        let pages = u32::try_from(self.visible.len()).expect("page counts are 32 bits");
        let sums = (1..).zip(self.visible.iter().copied());
        (self.page_size > 0 && pages > 0).then(|| (image_of(sums, pages, self.page_size), pages))
    }

    /// Adds what is visible as a new state, `changed` being a superset of the pages that changed.
    fn commit(&mut self, changed: Vec<(u32, u64)>, at_millis: u64) {
        let Some((image, pages)) = self.image() else { return };
        if self.head.is_some_and(|head| self.states[head].image == image) {
            return;
        }
        let state =
            Committed { parent: self.head, at_millis, image, pages, page_size: self.page_size, changed };
        self.heads.push((at_millis, self.states.len()));
        self.head = Some(self.states.len());
        self.states.push(state);
    }

    fn commit_all(&mut self, at_millis: u64) {
        self.commit((1..).zip(self.visible.iter().copied()).collect(), at_millis);
    }

    /// The WAL starts anew: the database file alone must show the last state.
    fn check_base(&mut self) {
        self.overlay.clear();
        let Some(head) = self.head else { return };
        let pages = u32::try_from(self.base.len()).expect("page counts are 32 bits");
        let image = image_of((1..).zip(self.base.iter().copied()), pages, self.page_size);
        if self.states[head].image != image {
            let want = self.states[head].pages;
            self.anomalies.push(format!(
                "the WAL was restarted, but the database file ({pages} pages) is not the last committed state \
                 {head} ({want} pages)"
            ));
        }
    }

    /// Brings the database file's page count to `pages`.
    fn resize_base(&mut self, pages: usize) {
        self.base.truncate(pages);
        while self.base.len() < pages {
            self.base.push(hole(self.base.len() as u32 + 1, self.page_size));
        }
    }
}

fn native(head: &[u8; 48], at: usize) -> u32 {
    u32::from_ne_bytes(head[at..at + 4].try_into().expect("four bytes"))
}

impl History {
    /// Whether the file of the WAL has the salts that a WAL-index names.
    fn is_of_the_log(&self, machine: &Machine, salt: [u8; 8]) -> bool {
        let bytes = machine.peek_at(&self.wal, 0, wal::HEADER as usize).unwrap_or_default();
        wal::header(&bytes).is_some_and(|header| header.salt == salt)
    }

    /// Takes the frames that SQLite published since the last look.
    fn published(&self, inner: &mut Inner, machine: &Machine, max_frame: u32) -> Result<(), String> {
        let header = match inner.header {
            Some(header) => header,
            None => {
                let bytes = machine.peek_at(&self.wal, 0, wal::HEADER as usize).unwrap_or_default();
                let header = wal::header(&bytes).filter(|header| header.salt == inner.salt);
                let header = header.ok_or("the WAL-index names frames of a WAL that is not there")?;
                inner.page_size = header.page_size;
                inner.start_generation(header);
                header
            }
        };
        let size = wal::FRAME_HEADER + u64::from(header.page_size);
        let start = wal::HEADER + u64::from(inner.max_frame) * size;
        let wanted = (max_frame - inner.max_frame) as usize;
        let bytes = machine.peek_at(&self.wal, start, wanted * size as usize).unwrap_or_default();
        let mut frames = Vec::new();
        let mut before = inner.checksum;
        for bytes in bytes.chunks(size as usize) {
            let Some(frame) = wal::frame(&header, before, bytes) else { break };
            before = frame.checksum;
            frames.push(frame);
        }
        // Usually one transaction; after recovery there can be several.
        for transaction in frames.chunk_by(|a, _| a.commit == 0) {
            inner.apply(transaction);
            let changed = transaction.iter().map(|f| (f.page, inner.overlay[&f.page])).collect();
            inner.commit(changed, self.timeline.millis());
        }
        if frames.len() < wanted || frames.last().is_none_or(|frame| frame.commit == 0) {
            return Err(format!("frames up to {max_frame} were published, but the WAL does not hold them"));
        }
        Ok(())
    }
}

impl Observer for History {
    fn before_call(&self, machine: &Machine, role: &str) {
        let Some(head) = machine.wal_index_head::<96>(&self.wal_index) else { return };
        let (first, second) = head.split_at(48);
        let head: [u8; 48] = first.try_into().expect("48 bytes");
        let mut inner = self.lock();
        // Two equal copies, initialised: otherwise SQLite itself is still writing it.
        if first != second || head[12] == 0 {
            return;
        }
        if head == inner.last_head {
            if inner.foreign_index && role == "app" {
                inner.foreign_index = false;
                inner.anomalies.push("the application met a WAL-index of another file's WAL".into());
            }
            return;
        }
        inner.last_head = head;
        let (max_frame, salt) = (native(&head, 16), head[32..40].try_into().expect("eight bytes"));
        // Whoever is opening the database while it is replaced can come to the old log and the new index, and if nobody
        // else has it open SQLite rebuilds the one from the other. It must have left before the application comes.
        inner.foreign_index = salt != inner.salt && max_frame > 0 && !self.is_of_the_log(machine, salt);
        if inner.foreign_index {
            return;
        }
        if salt != inner.salt || max_frame < inner.max_frame {
            inner.check_base();
            (inner.salt, inner.max_frame, inner.header) = (salt, 0, None);
        }
        if max_frame > inner.max_frame
            && let Err(anomaly) = self.published(&mut inner, machine, max_frame)
        {
            inner.anomalies.push(anomaly);
            inner.max_frame = max_frame;
        }
    }

    fn wrote_database(&self, offset: u64, data: &[u8]) {
        let mut inner = self.lock();
        inner.base_dirty = true;
        if data.len() == inner.page_size as usize {
            let at = usize::try_from(offset / data.len() as u64).expect("fits in memory");
            let pages = inner.base.len().max(at + 1);
            inner.resize_base(pages);
            inner.base[at] = page_sum(at as u32 + 1, data);
        }
    }

    fn resized_database(&self, len: u64) {
        let mut inner = self.lock();
        inner.base_dirty = true;
        if inner.page_size > 0 {
            let pages = len / u64::from(inner.page_size);
            inner.resize_base(usize::try_from(pages).expect("fits in memory"));
        }
    }

    /// A rollback-journal commit, unless there is a WAL: then it was a checkpoint.
    fn released_database(&self, machine: &Machine) {
        self.before_call(machine, "");
        let mut inner = self.lock();
        let no_wal = machine.peek_len(&self.wal).is_none_or(|len| len == 0);
        if std::mem::take(&mut inner.base_dirty) && no_wal {
            inner.reload_base(machine.image(&self.database, None));
            inner.commit_all(self.timeline.millis());
        }
    }
}
