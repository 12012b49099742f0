//! Bytes of one file: what processes see, what the platter has, and what lies between.
//!
//! Knows nothing of names, processes or time. Chunks are shared between copies, so that cloning a whole disk for
//! several crash images is cheap, and a file past 1 GiB costs only the chunks that hold
//! more than zeros.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

const CHUNK: usize = 4096;

/// A sparse file.
#[derive(Debug, Clone, Default)]
pub struct Content {
    len: u64,
    chunks: BTreeMap<u64, Arc<[u8; CHUNK]>>,
}

impl Content {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Bytes of storage in use.
    pub fn allocated(&self) -> u64 {
        (self.chunks.len() * CHUNK) as u64
    }

    /// Reads at `offset`; returns the bytes read, fewer at the end of the file.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let available = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let total = buffer.len().min(available);
        let mut done = 0;
        while done < total {
            let (index, within, n) = piece(offset + done as u64, total - done);
            let target = &mut buffer[done..done + n];
            match self.chunks.get(&index) {
                Some(chunk) => target.copy_from_slice(&chunk[within..within + n]),
                None => target.fill(0),
            }
            done += n;
        }
        total
    }

    /// Writes all of `data`, growing the file as needed.
    pub fn write(&mut self, data: &[u8], offset: u64) {
        let mut done = 0;
        while done < data.len() {
            let (index, within, n) = piece(offset + done as u64, data.len() - done);
            let piece = &data[done..done + n];
            // A hole reads as zeros already.
            if piece.iter().any(|&byte| byte != 0) || self.chunks.contains_key(&index) {
                let chunk = self.chunks.entry(index).or_insert_with(|| Arc::new([0; CHUNK]));
                Arc::make_mut(chunk)[within..within + n].copy_from_slice(piece);
            }
            done += n;
        }
        self.len = self.len.max(offset + data.len() as u64);
    }

    /// Cuts or extends (with zeros) to `len`.
    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (last, within) = (len / CHUNK as u64, (len % CHUNK as u64) as usize);
            self.chunks.split_off(&(last + u64::from(within > 0)));
            if within > 0
                && let Some(chunk) = self.chunks.get_mut(&last)
            {
                Arc::make_mut(chunk)[within..].fill(0);
            }
        }
        self.len = len;
    }

    /// The whole file; for tests and oracles on small files.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = vec![0; usize::try_from(self.len).expect("file fits in memory")];
        self.read(&mut all, 0);
        all
    }
}

fn piece(offset: u64, wanted: usize) -> (u64, usize, usize) {
    let within = (offset % CHUNK as u64) as usize;
    (offset / CHUNK as u64, within, wanted.min(CHUNK - within))
}

/// A change that has reached the page cache only.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Position in the machine-wide order of changes.
    pub sequence: u64,
    /// What changed.
    pub change: Change,
}

/// One change of content.
#[derive(Debug, Clone)]
pub enum Change {
    /// Bytes at an offset.
    Write {
        /// Where.
        offset: u64,
        /// What.
        data: Arc<[u8]>,
    },
    /// New length.
    SetLen(u64),
}

impl Change {
    fn apply(&self, content: &mut Content) {
        match self {
            Self::Write { offset, data } => content.write(data, *offset),
            Self::SetLen(len) => content.set_len(*len),
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Write { data, .. } => data.len() as u64,
            Self::SetLen(_) => 0,
        }
    }
}

/// Page cache kept per file before the oldest change is written back, as kernels do on their own.
const WRITE_BACK_ABOVE: u64 = 16 << 20;

/// A file's two states and the changes between them.
#[derive(Debug, Clone, Default)]
pub struct FileBytes {
    /// What processes see.
    pub live: Content,
    /// What survives a power loss for certain.
    pub durable: Content,
    /// In order; each may or may not survive.
    pub pending: VecDeque<Pending>,
    pending_bytes: u64,
}

impl FileBytes {
    /// Changes the live state and remembers that it is not durable.
    pub fn change(&mut self, sequence: u64, change: Change) {
        change.apply(&mut self.live);
        self.pending_bytes += change.size();
        self.pending.push_back(Pending { sequence, change });
        while self.pending_bytes > WRITE_BACK_ABOVE
            && self.pending.len() > 1
            && let Some(oldest) = self.pending.pop_front()
        {
            self.pending_bytes -= oldest.change.size();
            oldest.change.apply(&mut self.durable);
        }
    }

    /// Everything so far is durable.
    pub fn sync(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            pending.change.apply(&mut self.durable);
        }
        self.pending_bytes = 0;
    }

    /// Linux after a failed write-back: the pages count as clean, their content never reaches the platter.
    pub fn forget(&mut self) {
        self.pending.clear();
        self.pending_bytes = 0;
    }

    /// Flips bits of one byte on the platter and in the cache.
    pub fn rot(&mut self, offset: u64, mask: u8) {
        for content in [&mut self.live, &mut self.durable] {
            let mut byte = [0];
            if content.read(&mut byte, offset) == 1 {
                content.write(&[byte[0] ^ mask], offset);
            }
        }
    }

    /// Becomes what a power loss left: durable content plus the surviving `changes`, in order.
    pub fn reboot(&mut self, changes: &[Change]) {
        for change in changes {
            change.apply(&mut self.durable);
        }
        self.live = self.durable.clone();
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_content_reads_back_and_truncation_zeroes() {
        let mut content = Content::default();
        content.write(b"hello", 5_000_000_000);
        assert_eq!(content.len(), 5_000_000_005);
        assert!(content.allocated() <= 8192);
        let mut buffer = [1; 8];
        assert_eq!(content.read(&mut buffer, 4_999_999_999), 6);
        assert_eq!(&buffer[..6], b"\0hello");
        content.set_len(5_000_000_002);
        content.set_len(5_000_000_010);
        assert_eq!(content.read(&mut buffer, 5_000_000_000), 8);
        assert_eq!(&buffer, b"he\0\0\0\0\0\0");
    }

    #[test]
    fn only_synced_content_is_durable_and_forgotten_content_never_is() {
        let mut file = FileBytes::default();
        file.change(1, Change::Write { offset: 0, data: Arc::from(&b"aaaa"[..]) });
        file.sync();
        file.change(2, Change::Write { offset: 0, data: Arc::from(&b"bb"[..]) });
        file.forget();
        file.sync();
        assert_eq!(file.live.to_vec(), b"bbaa");
        file.reboot(&[]);
        assert_eq!(file.live.to_vec(), b"aaaa");
    }
}
