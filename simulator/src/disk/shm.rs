//! Memory shared by all processes that map one WAL-index file.

use std::cell::UnsafeCell;
use std::sync::Arc;

use super::locks::ShmLocks;

/// Bytes per region, as SQLite asks for them.
pub const REGION: usize = 32 * 1024;

/// One region. SQLite reads and writes it through raw pointers, from all simulated processes, on one thread.
struct Region(UnsafeCell<Box<[u64]>>);

// SAFETY: a simulated machine and all its processes live on one operating-system thread at a time.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

/// The regions of one WAL-index and the locks on it. Clones share memory, as mappings do.
#[derive(Clone, Default)]
pub struct Shm {
    regions: Vec<Arc<Region>>,
    /// Locks.
    pub locks: ShmLocks,
}

impl Shm {
    /// Address of region `index`, created with all before it if `extend`.
    pub fn region(&mut self, index: usize, extend: bool) -> Option<*mut u8> {
        while extend && self.regions.len() <= index {
            self.regions.push(Arc::new(Region(UnsafeCell::new(vec![0; REGION / 8].into_boxed_slice()))));
        }
        let region = self.regions.get(index)?;
        // SAFETY: single thread (see `Region`), and no reference into the region outlives this expression.
        Some(unsafe { (*region.0.get()).as_mut_ptr().cast() })
    }

    /// Zeroes the content: the first process to map a stale file does this.
    pub fn discard(&mut self) {
        for region in &self.regions {
            // SAFETY: as in `region`.
            unsafe { (*region.0.get()).fill(0) };
        }
    }

    /// The first `N` bytes, if mapped.
    pub fn head<const N: usize>(&self) -> Option<[u8; N]> {
        let region = self.regions.first()?;
        let mut head = [0; N];
        // SAFETY: a region holds REGION bytes, N is far smaller, and nothing writes at the same time.
        unsafe { std::ptr::copy_nonoverlapping((*region.0.get()).as_ptr().cast(), head.as_mut_ptr(), N) };
        Some(head)
    }

    /// Length of the file as `stat` would report it.
    pub fn len(&self) -> u64 {
        (self.regions.len() * REGION) as u64
    }

    /// Reads as from a file.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let available = usize::try_from(self.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let total = buffer.len().min(available);
        for (i, byte) in buffer[..total].iter_mut().enumerate() {
            let at = usize::try_from(offset).expect("inside the regions") + i;
            // SAFETY: `at` lies inside region `at / REGION`, and nothing writes at the same time.
            *byte = unsafe { *(*self.regions[at / REGION].0.get()).as_ptr().cast::<u8>().add(at % REGION) };
        }
        total
    }
}
