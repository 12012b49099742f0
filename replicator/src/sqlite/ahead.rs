//! Reading a file page by page, several at once where they follow one another: asking the system for a page costs more
//! than copying it.
//!
//! Keeps bytes for as long as the caller keeps the buffer. So it must be made anew for every state that is read, and
//! only asked for what that state's pin keeps from changing; what it read beside that is never given to anybody.

use std::io;

use crate::host::DiskFile;

/// Bytes read at once where reading is sequential.
const AHEAD_LEN: usize = 128 << 10;

/// Bytes that may lie between two pages that still count as following one another: a frame header.
const NEAR: u64 = 64;

/// Pages read, and perhaps some more, of the log and of the database file.
#[derive(Debug, Default)]
pub struct ReadAhead {
    pub(super) log: Window,
    pub(super) db: Window,
}

/// A piece of one file.
#[derive(Debug, Default)]
pub(super) struct Window {
    bytes: Vec<u8>,
    /// Bytes of `bytes` that the file has.
    filled: usize,
    start: u64,
    /// Where the last bytes asked for end.
    asked_to: u64,
}

impl Window {
    /// The `len` bytes at `offset`, or fewer if the file ends before.
    pub(super) fn get(&mut self, file: &dyn DiskFile, offset: u64, len: usize) -> io::Result<&[u8]> {
        let end = offset + len as u64;
        let is_here = offset >= self.start && end <= self.start + self.filled as u64;
        let follows = offset >= self.asked_to && offset - self.asked_to <= NEAR;
        self.asked_to = end;
        if !is_here {
            let wanted = if follows { len.max(AHEAD_LEN) } else { len };
            if self.bytes.len() < wanted {
                self.bytes.resize(wanted, 0);
            }
            self.filled = 0;
            self.start = offset;
            self.filled = file.read_full_at(&mut self.bytes[..wanted], offset)?;
        }
        let from = usize::try_from(offset - self.start).expect("inside the window");
        Ok(&self.bytes[from..(from + len).min(self.filled)])
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Mutex;

    use super::*;
    use crate::host::FileMetadata;

    /// A file in memory that notes how much it was asked for.
    struct Counted(Vec<u8>, Mutex<Cell<Vec<usize>>>);

    impl DiskFile for Counted {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.1.lock().unwrap().get_mut().push(buffer.len());
            let rest = self.0.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        }
        fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            unreachable!()
        }
        fn set_len(&self, _: u64) -> io::Result<()> {
            unreachable!()
        }
        fn sync(&self) -> io::Result<()> {
            unreachable!()
        }
        fn metadata(&self) -> io::Result<FileMetadata> {
            unreachable!()
        }
    }

    #[test]
    fn every_order_gives_the_bytes_of_the_file_and_runs_are_read_at_once() {
        const PAGE: usize = 4096;
        let bytes: Vec<u8> = (0..PAGE * 100 + 7).map(|n| (n / 7) as u8).collect();
        let file = Counted(bytes, Mutex::default());
        let asked = || file.1.lock().unwrap().take();
        let mut window = Window::default();
        let mut check = |page: usize| {
            let from = page * PAGE;
            let expected = file.0.get(from..(from + PAGE).min(file.0.len())).unwrap_or_default();
            assert_eq!(window.get(&file, from as u64, PAGE).unwrap(), expected, "page {page}");
        };
        for page in 40..72 {
            check(page);
        }
        assert_eq!(asked(), [PAGE, AHEAD_LEN], "one to see where it goes, then all the others");
        for page in [3, 90, 5, 4, 99] {
            check(page);
        }
        assert_eq!(asked(), [PAGE; 5], "nothing is read that nobody asked for");
        for page in [98, 99, 100, 101, 0, 1, 2, 0] {
            check(page);
        }
    }
}
