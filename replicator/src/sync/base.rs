//! Full copies: the first file of a chain, the restart of a chain that cannot be continued, and snapshots.
//!
//! They go straight from the pinned database to the store, in chunks, so that neither memory nor local disk has to
//! hold a database.

use std::sync::Arc;

use bytes::Bytes;

use crate::bucket::{Bucket, PutCondition, PutOptions, PutOutcome};
use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::ltx::{Header, Txid};
use crate::replica::LtxName;
use crate::sqlite::{PinnedView, Source};

use super::capture::Chain;
use super::image::{ImageEncoder, image_header};
use super::local::{LocalState, Staged};
use super::pages::TableBuilder;
use super::session::LastRecord;
use super::task::Shared;

/// Bytes encoded at once.
const CHUNK_LEN: usize = 1 << 20;

/// Copies all pages of `view` to the store as `name`. Returns the checksum table, if one was to be built, and the
/// object's size in bytes.
///
/// # Errors
/// Those of reading and of the store; nothing is visible under the name then.
pub async fn upload_image(
    host: &Host,
    bucket: &dyn Bucket,
    view: Arc<PinnedView>,
    name: LtxName,
    header: Header,
    table: Option<TableBuilder>,
) -> Result<(Option<TableBuilder>, u64)> {
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
    match upload.finish().await? {
        PutOutcome::Written | PutOutcome::AlreadyThere => Ok((encoder.into_table(), size)),
        PutOutcome::Conflict => Err(Error::new(
            ErrorKind::Transient,
            format!(
                "{}/{key} appeared while it was being written: another replicator is at work",
                bucket.location()
            ),
        )),
    }
}

/// Publishes a full copy of the pinned database as transaction `txid` and starts a chain from it.
///
/// Any full copy but the very first is published as a snapshot first: a restore then needs nothing before it, not
/// even files of the same page size.
///
/// # Errors
/// Those of reading, of the store and of the local disk. Nothing was acknowledged then.
pub async fn publish(
    shared: &Shared,
    source: Box<Source>,
    last: Option<LastRecord>,
    txid: Txid,
) -> Result<(Box<Source>, Chain)> {
    let host = &shared.host;
    let options = shared.options.clone();
    let disk = Arc::clone(&host.disk);
    let (source, prepared) = host
        .blocking(move || {
            let prepared = (|| {
                let local = LocalState::open(disk, &options.meta_dir)?;
                let view = source.view()?;
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
    if txid != Txid(1) {
        let header = image_header(&view, Txid(1), txid, timestamp);
        let name = LtxName::snapshot(txid);
        let (_, size) = upload_image(host, bucket, Arc::clone(&view), name, header, None).await?;
        shared.compactor.note_published(name, size, timestamp);
    }
    let header = image_header(&view, txid, txid, timestamp);
    let name = LtxName::l0(txid);
    let (table, size) = upload_image(host, bucket, Arc::clone(&view), name, header, Some(table)).await?;
    shared.compactor.note_published(name, size, timestamp);
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
        Ok((source, chain))
    })
    .await
}

/// Makes the new chain durable locally, then forgets the old one.
fn record(local: &LocalState, staged: Staged, header: &Header, table: Option<TableBuilder>) -> Result<()> {
    let old = local.staged()?;
    if let Some(table) = table {
        table.finish(local, staged.txid)?;
    }
    let mut marker = local.create_unfinished()?;
    marker.append(&header.to_bytes())?;
    local.publish(marker, &staged)?;
    for file in old.iter().filter(|file| **file != staged) {
        local.remove(&file.name())?;
    }
    Ok(())
}
