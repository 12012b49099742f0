//! The first full copy of a database whose store is away: on the local disk, so that commits are copied meanwhile.
//!
//! It is staged as transaction 1 and goes to the store like any staged file; then it is removed, and if it is still the
//! newest transaction a record takes its place. Only a
//! database without local state gets one, in a process that has replicated nothing of it: whether ids that begin at 1 fit
//! the replica is found out at the first contact. Owns that copy; must not decide whether the store is away.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::host::{Clock, UnixMillis};
use crate::ltx::{HEADER_LEN, Txid};
use crate::sqlite::{PinnedView, Source};

use super::base::{CHUNK_LEN, write_record};
use super::capture::Chain;
use super::image::{ImageEncoder, image_header};
use super::local::{LocalState, Staged, Unfinished};
use super::pages::TableBuilder;
use super::session::read_header;
use super::task::Shared;

/// The copy may take up to one part in this many of what is free on its disk: the application needs the rest.
pub const SHARE_OF_FREE: u64 = 4;

/// Whether a staged file is such a copy; one that went straight to the store is only recorded.
#[must_use]
pub fn is_first_copy(file: &Staged) -> bool {
    file.txid == Txid(1) && !file.is_base
}

/// A copy that is being made.
struct Draft {
    source: Box<Source>,
    view: PinnedView,
    local: LocalState,
    encoder: ImageEncoder,
    unfinished: Unfinished,
    timestamp: UnixMillis,
    max_batch_bytes: u64,
    clock: Arc<dyn Clock>,
}

/// Copies the pinned database to the local disk and starts a chain from it; `None` if it has local state or the disk has
/// no room to spare.
///
/// # Errors
/// Those of reading and of the local disk, and `Transient` if the database was replaced meanwhile.
pub async fn stage(shared: &Shared, source: Box<Source>) -> Result<Option<(Box<Source>, Chain)>> {
    // One at a time, so that each sees what the others have left of the disk.
    let _turn = shared.turns.take_for_local_copy().await;
    let host = &shared.host;
    let (disk, options, clock) = (Arc::clone(&host.disk), shared.options.clone(), Arc::clone(&host.clock));
    let begin = move || -> Result<Option<Draft>> {
        let local = LocalState::open(disk, &options.meta_dir)?;
        let view = source.view()?;
        if !local.staged()?.is_empty() || !has_room(&local, &view)? {
            return Ok(None);
        }
        // After the view: what is dated so was all committed by then.
        let timestamp = clock.now();
        let table = TableBuilder::new(&local, view.page_size)?;
        let encoder = ImageEncoder::new(image_header(&view, Txid(1), Txid(1), timestamp), Some(table))?;
        let unfinished = local.create_unfinished()?;
        let max_batch_bytes = options.max_batch_bytes;
        Ok(Some(Draft { source, view, local, encoder, unfinished, timestamp, max_batch_bytes, clock }))
    };
    let Some(mut draft) = host.blocking(begin).await? else { return Ok(None) };
    loop {
        // In pieces, so that a stop need not wait for the rest.
        let (returned, is_complete) = host
            .blocking(move || {
                let is_complete = draft.write_some();
                (draft, is_complete)
            })
            .await;
        draft = returned;
        match is_complete {
            Ok(true) => return host.blocking(move || draft.finish().map(Some)).await,
            Ok(false) => {}
            Err(error) => {
                // What was written may be what fills the disk.
                host.blocking(move || draft.local.remove_unfinished()).await?;
                return Err(error);
            }
        }
    }
}

/// Asked with the size of the whole database: how well it can be compressed is not known.
fn has_room(local: &LocalState, view: &PinnedView) -> Result<bool> {
    let size = u64::from(view.page_count) * view.page_size.bytes() as u64;
    let free = local.available()?;
    let has_room = size <= free / SHARE_OF_FREE;
    if !has_room {
        tracing::warn!(
            size,
            free,
            share = SHARE_OF_FREE,
            "no full copy is made locally, it could take more than its share of what is free: nothing is copied until the \
             store can be reached"
        );
    }
    Ok(has_room)
}

impl Draft {
    /// Whether that was the end.
    fn write_some(&mut self) -> Result<bool> {
        match self.encoder.next_chunk(&self.view, CHUNK_LEN)? {
            Some(chunk) => self.unfinished.append(&chunk).map(|()| false),
            None => Ok(true),
        }
    }

    fn finish(self) -> Result<(Box<Source>, Chain)> {
        let Self { source, view, local, encoder, unfinished, timestamp, max_batch_bytes, clock } = self;
        let newest = Staged { txid: Txid(1), position: view.position, is_base: false };
        // The table first: alone it means nothing.
        encoder.into_table().expect("one was given").finish(&local, newest.txid)?;
        if source.is_replaced()? {
            let what = "the database was replaced while it was being copied";
            return Err(Error::new(ErrorKind::Transient, what));
        }
        local.publish(unfinished, &newest)?;
        let (commit, page_size) = (view.page_count, view.page_size);
        Ok((source, Chain { local, newest, commit, page_size, timestamp, max_batch_bytes, clock }))
    }
}

/// Removes the copy, which must be in the store. If it is the newest transaction, a record of it takes its place.
///
/// # Errors
/// Of reading and writing; can be tried again.
pub fn release(chain: &mut Chain) -> Result<()> {
    for file in chain.local.staged()?.into_iter().filter(is_first_copy) {
        if file == chain.newest {
            let header: [u8; HEADER_LEN] = read_header(&chain.local, &file)?.to_bytes();
            let record = Staged { is_base: true, ..file };
            write_record(&chain.local, &record, &header)?;
            chain.newest = record;
        }
        chain.local.remove(&file.name())?;
    }
    Ok(())
}
