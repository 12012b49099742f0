//! Closing a gap: the live database is compared page by page with what the chain holds, and only what differs is
//! published as the next transaction.

use crate::error::{Error, ErrorKind, Result};
use crate::ltx::{Encoder, PageNumber, page_checksum};
use crate::sqlite::{ReadAhead, Source};

use super::capture::{Chain, flush};
use super::first::SHARE_OF_FREE;
use super::image::{plain_header, set_wal_range};
use super::local::Staged;
use super::pages::PageTable;

const WRITE_LEN: usize = 1 << 20;

/// What a comparison found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconciled {
    /// The database is what the chain says; copying goes on at the new position.
    Equal,
    /// The pages that differ were staged as one file.
    Differed {
        /// The file.
        staged: Staged,
        /// Pages in it.
        pages: u32,
    },
    /// The chain's content is not known here, or has another page size: a full copy is needed.
    NeedsBase(&'static str),
}

/// Compares the pinned database with the chain and stages the difference. `staged` are all staged files.
///
/// # Errors
/// Those of reading and staging; the chain is unchanged then.
pub fn reconcile(chain: &mut Chain, source: &Source, staged: &[Staged]) -> Result<Reconciled> {
    let view = source.view()?;
    if view.page_size != chain.page_size {
        return Ok(Reconciled::NeedsBase("the page size changed"));
    }
    let Some(mut table) = PageTable::open(&chain.local)? else {
        return Ok(Reconciled::NeedsBase("the page checksums of the last full copy are not here"));
    };
    match table.catch_up(&chain.local, staged) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
            tracing::warn!(%error, "local state is incomplete");
            return Ok(Reconciled::NeedsBase("staged files are missing or damaged"));
        }
        Err(error) => return Err(error),
    }
    if table.page_size() != chain.page_size || table.complete_to() != chain.newest.txid {
        return Ok(Reconciled::NeedsBase("the page checksums belong to another chain"));
    }
    let staged = Staged { txid: chain.newest.txid.next(), position: view.position, is_base: false };
    let timestamp = chain.next_timestamp();
    let mut header = plain_header(view.page_size, view.page_count, staged.txid, timestamp);
    set_wal_range(&mut header, 0, view.position);
    let mut encoder = Encoder::new(header)?;
    // A full copy needs no disk, and the application needs it.
    let room = chain.local.available()? / SHARE_OF_FREE;
    let mut unfinished = chain.local.create_unfinished()?;
    let mut out = encoder.header_bytes().to_vec();
    let mut ahead = ReadAhead::default();
    let mut entries = table.entries();
    let mut pages = 0;
    for number in
        (1..=planted!("last-page-not-compared", view.page_count - 1, view.page_count)).map(PageNumber)
    {
        if number == view.page_size.lock_page() {
            continue;
        }
        let page = view.page(number, &mut ahead)?;
        if entries.get(number)? != Some(page_checksum(number, &page)) {
            pages += 1;
            encoder.page(number, &page, &mut out)?;
            match flush(&mut unfinished, &mut out, WRITE_LEN) {
                Ok(()) if unfinished.written() <= room => {}
                Err(error) if error.kind() != ErrorKind::Exhausted => return Err(error),
                Ok(()) | Err(_) => {
                    drop(unfinished);
                    chain.local.remove_unfinished()?;
                    return Ok(Reconciled::NeedsBase("the local disk has no room for what differs"));
                }
            }
        }
    }
    if pages == 0 && view.page_count == chain.commit {
        let same = Staged { txid: chain.newest.txid, is_base: chain.newest.is_base, ..staged };
        chain.local.reposition(&chain.newest, &same)?;
        chain.newest = same;
        return Ok(Reconciled::Equal);
    }
    encoder.finish(&mut out)?;
    flush(&mut unfinished, &mut out, 1)?;
    if source.is_replaced()? {
        return Err(Error::new(
            ErrorKind::Transient,
            "the database was replaced while it was being compared",
        ));
    }
    chain.local.publish(unfinished, &staged)?;
    chain.newest = staged;
    chain.commit = view.page_count;
    chain.timestamp = timestamp;
    Ok(Reconciled::Differed { staged, pages })
}
