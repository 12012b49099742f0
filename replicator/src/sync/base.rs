//! Full copies: the first file of a chain, the restart of a chain that cannot be continued, and snapshots.
//!
//! They go straight from the pinned database to the store, in chunks, so that neither memory nor local disk has to
//! hold a database. (The one that waits for the store on the local disk is in [`super::first`].)

use std::future::{Future, ready};
use std::sync::Arc;

use bytes::Bytes;

use crate::bucket::{Bucket, PutCondition, PutOptions, PutOutcome};
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::ltx::{HEADER_LEN, Header, PageNumber, Txid, page_checksum};
use crate::replica::LtxName;
use crate::sqlite::{PinnedView, Source};

use super::capture::Chain;
use super::image::{ImageEncoder, image_header};
use super::local::{LocalState, Staged};
use super::pages::TableBuilder;
use super::place::Place;
use super::rival::{self, Sight};
use super::session::{LastRecord, end_chain};
use super::task::Shared;

/// Bytes encoded at once.
pub const CHUNK_LEN: usize = 1 << 20;

/// A full copy that is in the store.
pub struct Image {
    /// The checksum table, if one was to be built.
    table: Option<TableBuilder>,
    /// Size of the object in bytes.
    pub size: u64,
}

/// What became of an image.
pub enum Sent {
    /// It is in the store.
    Done(Image),
    /// Somebody else's object has the name.
    Taken,
    /// It was not to be shown.
    Hidden,
}

/// `Transient`: the next look at the store finds another name.
#[must_use]
pub fn taken(bucket: &dyn Bucket, name: LtxName) -> Error {
    let key = name.key(bucket.layout());
    let what = "appeared while it was being written: another replicator is at work";
    Error::new(ErrorKind::Transient, format!("{}/{key} {what}", bucket.location()))
}

/// Copies all pages of `view` to the store as `name`, if at the end `may_show` says so. Until then nothing is visible
/// under the name. Completes `table`, if there is one.
///
/// # Errors
/// Those of reading and of the store; nothing is visible under the name then.
pub async fn upload_image(
    host: &Host,
    bucket: &dyn Bucket,
    view: Arc<PinnedView>,
    (name, header): (LtxName, Header),
    table: Option<TableBuilder>,
    may_show: impl Future<Output = bool>,
) -> Result<Sent> {
    let mut encoder = ImageEncoder::new(header, table)?;
    let key = name.key(bucket.layout());
    let options = PutOptions { timestamp: Some(header.timestamp) };
    let mut upload = bucket.upload(&key, PutCondition::IfAbsent, options).await?;
    let mut size = 0;
    loop {
        let view = Arc::clone(&view);
        let (returned, chunk) = host
            .blocking(move || {
                let chunk = encoder.next_chunk(&view, CHUNK_LEN);
                (encoder, chunk)
            })
            .await;
        encoder = returned;
        let written = match chunk {
            Ok(Some(chunk)) => {
                size += chunk.len() as u64;
                upload.write(Bytes::from(chunk)).await
            }
            Ok(None) => break,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            upload.abort().await.ok();
            return Err(error);
        }
    }
    if !may_show.await {
        upload.abort().await.ok();
        return Ok(Sent::Hidden);
    }
    let disk = Arc::clone(&host.disk);
    if let Err(error) = host.blocking(move || view.check(disk.as_ref())).await {
        upload.abort().await.ok();
        return Err(error);
    }
    let outcome = upload.finish().await?;
    let image = Image { table: encoder.into_table(), size };
    Ok(if outcome == PutOutcome::Conflict { Sent::Taken } else { Sent::Done(image) })
}

/// What became of a full copy.
pub enum Published {
    /// It is in the store, and a chain starts from it.
    Chain(Box<Source>, Chain),
    /// Somebody else's object has the transaction id, whatever the last listing said.
    Taken(Error),
}

/// Publishes a full copy of the pinned database at `place` and starts a chain from it.
///
/// Any but the very first is published twice: as the file of level 0, which decides whose the transaction is, and as a
/// snapshot, so that a restore needs nothing before it. If the replica is whole up to the transaction before,
/// level 0 goes first: the other way round, the snapshot stands for a moment for a state that the chain may never have.
/// That is enough for the chain to go on, and the snapshot is left to maintenance (if both had to be through, each failure
/// would cost a full copy more); unless the page size may have changed, for Litestream applies no file to another page size.
/// Otherwise the snapshot has to go first, or a restore would find a hole before the file of level 0; if that is lost to
/// somebody else, the snapshot is withdrawn. `sight` is from before the listing by which the place was found.
///
/// # Errors
/// Those of reading, of the store and of the local disk. Nothing was acknowledged then.
pub async fn publish(
    shared: &Shared,
    source: Box<Source>,
    last: Option<LastRecord>,
    (place, sight): (Place, Sight),
) -> Result<Published> {
    let Place { txid, follows } = place;
    let host = &shared.host;
    let options = shared.options.clone();
    let disk = Arc::clone(&host.disk);
    let (source, prepared) = host
        .blocking(move || {
            let prepared = (|| {
                let local = LocalState::open(disk, &options.meta_dir)?;
                let view = source.view()?;
                end_chain(&local)?;
                let table = TableBuilder::new(&local, view.page_size)?;
                Ok((local, Arc::new(view), table))
            })();
            (source, prepared)
        })
        .await;
    let (local, view, table): (LocalState, Arc<PinnedView>, TableBuilder) = prepared?;
    let earliest = last.map_or(crate::host::UnixMillis(i64::MIN), |last| last.timestamp);
    let timestamp = host.clock.now().max(earliest);
    let bucket = shared.bucket.as_ref();
    let snapshot = async || {
        let header = image_header(&view, Txid(1), txid, timestamp);
        let name = LtxName::snapshot(txid);
        let sent = upload_image(host, bucket, Arc::clone(&view), (name, header), None, ready(true)).await?;
        if let Sent::Done(image) = &sent {
            shared.compactor.note_published(name, image.size, timestamp);
        }
        Ok::<_, Error>(matches!(sent, Sent::Done(_)))
    };
    let lost = |name| Ok(Published::Taken(taken(bucket, name)));
    if !follows && !snapshot().await? {
        return lost(LtxName::snapshot(txid));
    }
    let header = image_header(&view, txid, txid, timestamp);
    let name = LtxName::l0(txid);
    let sent =
        upload_image(host, bucket, Arc::clone(&view), (name, header), Some(table), ready(true)).await?;
    let Sent::Done(image) = sent else {
        if !follows {
            rival::withdraw(bucket, &[LtxName::snapshot(txid)]).await?;
        }
        return lost(name);
    };
    // While it was sent, a rival may have gone on from the same place, and its file of this transaction expired.
    // (In a directory, files bear the time of their transaction, and the rival's retention may delete young ones.)
    let may_be_gone = sight.is_old() || bucket.kind() == "file";
    if txid > Txid(1) && may_be_gone && rival::ahead_of(bucket, txid).await?.is_some() {
        let ours: &[LtxName] = if follows { &[name] } else { &[name, LtxName::snapshot(txid)] };
        rival::give_way(bucket, txid, ours).await?;
        return lost(name);
    }
    shared.compactor.note_published(name, image.size, timestamp);
    let same_pages = last.is_some_and(|last| last.page_size == view.page_size);
    if follows && txid > Txid(1) && !same_pages && !snapshot().await? {
        return lost(LtxName::snapshot(txid));
    }
    let table = image.table;
    let staged = Staged { txid, position: view.position, is_base: true };
    let chain = Chain {
        local,
        newest: staged,
        commit: view.page_count,
        page_size: view.page_size,
        timestamp,
        max_batch_bytes: shared.options.max_batch_bytes,
        clock: Arc::clone(&host.clock),
    };
    host.blocking(move || {
        record(&chain.local, staged, &header, table)?;
        if source.is_replaced()? {
            return Err(Error::new(
                ErrorKind::Transient,
                "the database was replaced while it was being copied",
            ));
        }
        Ok(Published::Chain(source, chain))
    })
    .await
}

/// What follows the header in the local record of a full copy: its time dates all that comes after it, so that a bit
/// which the disk flips must not be believed.
#[must_use]
pub fn record_checksum(header: &[u8]) -> [u8; 8] {
    page_checksum(PageNumber(0), header).to_be_bytes()
}

/// Records that the content of `staged` is in the store.
///
/// # Errors
/// Of the local disk.
pub fn write_record(local: &LocalState, staged: &Staged, header: &[u8; HEADER_LEN]) -> Result<()> {
    let mut record = local.create_unfinished()?;
    record.append(header)?;
    record.append(&record_checksum(header))?;
    local.publish(record, staged)
}

/// Makes the new chain durable locally, then forgets the old one.
fn record(local: &LocalState, staged: Staged, header: &Header, table: Option<TableBuilder>) -> Result<()> {
    let (ahead, old): (Vec<Staged>, Vec<Staged>) =
        local.staged()?.into_iter().partition(|file| file.txid >= staged.txid && *file != staged);
    // First and for good: after a power loss they must not be taken for what follows the copy.
    for file in &ahead {
        local.remove(&file.name())?;
    }
    if !ahead.is_empty() {
        local.sync()?;
    }
    if let Some(table) = table {
        table.finish(local, staged.txid)?;
    }
    write_record(local, &staged, &header.to_bytes())?;
    for file in old.iter().filter(|file| **file != staged) {
        local.remove(&file.name())?;
    }
    Ok(())
}
