//! Which page may follow which in a file. One rule book for writing, reading and merging.

use super::types::{Header, PageNumber};

/// Checks the sequence of pages of one file.
#[derive(Debug, Clone)]
pub(super) struct PageOrder {
    commit: u32,
    lock_page: u32,
    full: bool,
    previous: u32,
}

impl PageOrder {
    pub(super) fn new(header: &Header) -> Self {
        Self {
            commit: header.commit,
            lock_page: header.page_size.lock_page().0,
            full: header.is_full(),
            previous: 0,
        }
    }

    /// Accepts the next page, or says why it may not come here.
    pub(super) fn accept(&mut self, page: PageNumber) -> Result<(), String> {
        let PageNumber(number) = page;
        if number == 0 || number > self.commit {
            return Err(format!("page {number} is outside the database of {} pages", self.commit));
        }
        if number == self.lock_page {
            return Err(format!("page {number} is the lock page, which no file may carry"));
        }
        if number <= self.previous {
            return Err(format!("page {number} comes after page {}", self.previous));
        }
        if self.full && number != self.expected() {
            return Err(format!(
                "page {} is missing (page {number} comes next) from a file that must hold every page",
                self.expected()
            ));
        }
        self.previous = number;
        Ok(())
    }

    /// Accepts the end of the pages, or says what is missing.
    pub(super) fn finish(&self) -> Result<(), String> {
        if self.full && self.expected() <= self.commit {
            return Err(format!(
                "pages end at {} in a file that must hold all {} pages",
                self.previous, self.commit
            ));
        }
        Ok(())
    }

    /// The page a file with every page must bring next. Wraps to 0 after the highest number, which nothing matches.
    fn expected(&self) -> u32 {
        let next = self.previous.wrapping_add(1);
        if next == self.lock_page { next + 1 } else { next }
    }
}
