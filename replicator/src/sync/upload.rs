//! Staged files to the store: in order, one at a time, create-if-absent, until each is durable.

use std::sync::Arc;

use bytes::Bytes;

use crate::bucket::{PutCondition, PutOptions, PutOutcome, Upload};
use crate::compact::LocalCopy;
use crate::error::{Error, ErrorKind, Result};
use crate::host::UnixMillis;
use crate::ltx::{Trailer, Txid};
use crate::replica::{Entry, Inventory, LtxName};

use super::backoff::Backoff;
use super::checked::CheckedFile;
use super::contact::{Contact, check_reach, contact};
use super::first;
use super::local::{LocalState, Staged};
use super::queue::Queued;
use super::rival::{self, Sight};
use super::task::Shared;

/// Files up to this size go out in one request.
const SINGLE_PUT_LEN: usize = 4 << 20;

/// Bytes of a larger file that are read at once.
const CHUNK_LEN: usize = 1 << 20;

/// Why uploading ended.
#[derive(Debug)]
pub enum UploadEnd {
    /// The chain has to start anew as this transaction.
    Rebase {
        /// Transaction id of the full copy.
        next: Txid,
        /// Why.
        reason: String,
    },
    /// Somebody else writes to this replica; going on would mix two histories.
    Fenced(Error),
}

impl UploadEnd {
    /// For a caller that cannot start anew.
    #[must_use]
    pub fn into_error(self) -> Error {
        match self {
            Self::Rebase { reason, .. } => {
                Error::new(ErrorKind::Conflict, format!("a full copy is needed: {reason}"))
            }
            Self::Fenced(error) => error,
        }
    }
}

/// What has failed between a staged file and the store, by the side on which it did. The kinds of errors are the same on
/// both, and a store that does not find something, or a proxy before it, says nothing about our files.
enum Failed {
    /// Here.
    Local(Error),
    /// There.
    Store(Error),
    /// There is a snapshot of what we have not published yet.
    Passed(LtxName),
}

impl Failed {
    /// The local file is damaged or gone: nothing that can be repeated helps.
    fn is_unreadable(&self) -> bool {
        matches!(self, Self::Local(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound))
    }

    fn into_error(self) -> Error {
        match self {
            Self::Local(error) | Self::Store(error) => error,
            Self::Passed(name) => Error::new(ErrorKind::Conflict, format!("snapshot {name} is not ours")),
        }
    }
}

/// Uploads until something ends it. Failures that may pass are repeated for ever, and reported while they last.
pub async fn run(shared: Arc<Shared>, local: LocalState, staged: Vec<Staged>) -> UploadEnd {
    let mut backoff = shared.backoff();
    let mut sight = match first_contact(&shared, &local, &staged, &mut backoff).await {
        Ok(sight) => sight,
        Err(end) => return end,
    };
    backoff.reset();
    loop {
        let queued = match next_file(&shared, &local, &mut backoff).await {
            Ok(queued) => queued,
            Err(end) => return end,
        };
        if planted!("claim-before-upload") {
            shared.acknowledge(queued.staged.txid, queued.captured_at);
        }
        // Takes turns here, too: the store may be back for all databases at once.
        let turn = if first::is_first_copy(&queued.staged) { Some(shared.turns.take().await) } else { None };
        let uploaded = upload(&shared, &local, &queued, &mut sight).await;
        drop(turn);
        match uploaded {
            Ok(()) => {
                backoff.reset();
                shared.acknowledge(queued.staged.txid, queued.captured_at);
            }
            Err(failed) if failed.is_unreadable() => {
                let reason = failed.into_error().to_string();
                return UploadEnd::Rebase { next: shared.next_base_txid(), reason };
            }
            Err(Failed::Passed(name)) => return above(&shared, &name),
            Err(failed) => match failed.into_error() {
                error if error.kind() == ErrorKind::Conflict && first::is_first_copy(&queued.staged) => {
                    // Nothing was acknowledged yet: we go on above whatever is there.
                    let reason = "another file is in the place of the first full copy".to_owned();
                    return UploadEnd::Rebase { next: shared.next_base_txid(), reason };
                }
                error if error.kind() == ErrorKind::Conflict => return UploadEnd::Fenced(error),
                _ if planted!("failed-upload-skipped") => shared.acknowledge(queued.staged.txid, None),
                error => shared.wait_after("upload", error, &mut backoff).await,
            },
        }
    }
}

/// The file to upload next, unless the replica turns out to hold a snapshot that is not ours. If somebody has gone on from
/// there, the replica is theirs; else it is what a former life has left, and only a full copy above it is safe from it.
async fn next_file(
    shared: &Shared,
    local: &LocalState,
    backoff: &mut Backoff,
) -> std::result::Result<Queued, UploadEnd> {
    loop {
        let name = tokio::select! {
            biased;
            name = shared.strange_snapshot() => name,
            queued = shared.queue.front() => return Ok(queued),
        };
        // The file of our next transaction counts: nothing else would say that the rival's full copy is a rival's.
        let replicated = shared.status().replicated_txid.unwrap_or_default();
        match foreign_file(shared, local, replicated).await {
            Ok(Some(file)) => return Err(UploadEnd::Fenced(written_by_another(shared, &file))),
            Ok(None) => return Err(above(shared, &name)),
            Err(failed) if failed.is_unreadable() => return Err(above(shared, &name)),
            Err(failed) => shared.wait_after("look for others", failed.into_error(), backoff).await,
        }
    }
}

/// The chain has to go on above a snapshot that is not ours.
fn above(shared: &Shared, name: &LtxName) -> UploadEnd {
    let reason = format!("snapshot {name} in the replica is not of what was replicated here");
    UploadEnd::Rebase { next: shared.next_base_txid().max(name.max.next()), reason }
}

/// Finds out where the chain stands in the replica, and acknowledges what is there; or says why it cannot go on. The sight
/// is from before the listing that told.
async fn first_contact(
    shared: &Shared,
    local: &LocalState,
    staged: &[Staged],
    backoff: &mut Backoff,
) -> std::result::Result<Sight, UploadEnd> {
    let _turn = shared.turns.take().await;
    let (contact, sight) = loop {
        let sight = Sight::new(shared);
        let listing = shared.compactor.begin_listing();
        match look(shared, staged).await {
            Ok(inventory) => {
                let contact = contact(staged, &inventory);
                listing.adopt(inventory);
                break (contact, sight);
            }
            Err(error) => {
                drop(listing);
                shared.wait_after("list the replica", error, backoff).await;
            }
        }
    };
    let replicated = match contact {
        Contact::Rebase { next, reason } => {
            return Err(UploadEnd::Rebase { next, reason: reason.to_owned() });
        }
        Contact::Continue { replicated } => replicated,
    };
    if let Some(file) = staged.iter().find(|file| file.txid == replicated && !file.is_base)
        && !planted!("same-id-same-transaction")
        && let Some(end) = check_twin(shared, local, (file, staged), backoff).await
    {
        return Err(end);
    }
    if replicated > Txid(0) {
        shared.acknowledge(replicated, None);
    } else {
        // Whatever an earlier session had replicated is not there any more.
        shared.update(|status| (status.replicated_txid, status.last_sync) = (None, None));
    }
    Ok(sight)
}

/// What the replica holds. Listings of some stores lag. A full copy that the listing lacks is asked for by name before it
/// is taken for lost, for each copy made because of that would be missed in turn; and where nothing is to be uploaded, so
/// that no conflict would tell, the next transaction is, in case somebody has gone on from here.
///
/// # Errors
/// The store's, and those of [`check_reach`].
pub async fn look(shared: &Shared, staged: &[Staged]) -> Result<Inventory> {
    let bucket = shared.bucket.as_ref();
    let mut inventory = Inventory::load(bucket).await?;
    check_reach(bucket, &inventory)?;
    let base = staged.iter().rev().find(|file| file.is_base).map(|file| file.txid);
    let newest = staged.last().map(|file| file.txid).filter(|&txid| inventory.max_txid() == Some(txid));
    let own = base.map(|txid| [LtxName::l0(txid), LtxName::snapshot(txid)]);
    let asked = own.into_iter().flatten().chain(newest.map(|txid| LtxName::l0(txid.next())));
    for name in asked {
        if inventory.get(&name).is_none()
            && let Some(object) = bucket.head(&name.key(bucket.layout())).await?
        {
            inventory.insert(Entry { name, size: object.size, modified: object.modified });
        }
    }
    Ok(inventory)
}

/// The newest transaction that both sides have must be the same file, or two histories meet here.
async fn check_twin(
    shared: &Shared,
    local: &LocalState,
    (file, staged): (&Staged, &[Staged]),
    backoff: &mut Backoff,
) -> Option<UploadEnd> {
    let rebase = |reason| Some(UploadEnd::Rebase { next: shared.next_base_txid(), reason });
    let key = LtxName::l0(file.txid).key(shared.bucket.layout());
    loop {
        match shared.bucket.head(&key).await {
            Ok(Some(_)) => break,
            // A full copy that was killed leaves a snapshot, whose transaction nobody got. Retention keeps the newest
            // file of level 0, so that in a replica that is well there is one.
            Ok(None) => {
                return rebase(format!("the replica has a snapshot of transaction {} only", file.txid));
            }
            Err(error) => shared.wait_after("look for the newest transaction", error, backoff).await,
        }
    }
    loop {
        match upload_file(shared, local, file).await {
            Ok(Uploaded { outcome: PutOutcome::Conflict, .. }) => {
                return rebase(format!(
                    "transaction {} in the replica is not the one staged here",
                    file.txid
                ));
            }
            Ok(Uploaded { outcome: PutOutcome::AlreadyThere, .. }) => return None,
            // It was there a moment ago. Either an attempt without an answer makes it look new, or somebody has gone on
            // from it for so long that it had expired.
            Ok(Uploaded { outcome: PutOutcome::Written, .. }) => {
                match others_went_on(shared, file.txid).await {
                    Ok(false) => return None,
                    Ok(true) => {
                        return rebase(format!("others have gone on from transaction {}", file.txid));
                    }
                    Err(error) => shared.wait_after("look for others", error, backoff).await,
                }
            }
            // A chain that has never met the replica has nothing else to show that it belongs there.
            Err(failed) if failed.is_unreadable() && staged.first().is_some_and(first::is_first_copy) => {
                return rebase(failed.into_error().to_string());
            }
            Err(failed) if failed.is_unreadable() => return None,
            Err(failed) => shared.wait_after("compare with the replica", failed.into_error(), backoff).await,
        }
    }
}

/// Whether others are ahead of `txid`, which has just been written; gives way to them then.
async fn others_went_on(shared: &Shared, txid: Txid) -> Result<bool> {
    let bucket = shared.bucket.as_ref();
    let are_ahead = rival::ahead_of(bucket, txid).await?.is_some();
    if are_ahead {
        rival::give_way(bucket, txid, &[LtxName::l0(txid)]).await?;
    }
    Ok(are_ahead)
}

async fn upload(
    shared: &Shared,
    local: &LocalState,
    queued: &Queued,
    sight: &mut Sight,
) -> Result<(), Failed> {
    let bucket = shared.bucket.as_ref();
    let fenced = |name: &LtxName| Err(Failed::Store(written_by_another(shared, name)));
    if sight.is_old() {
        let before = sight.anew();
        if let Some(name) = foreign_file(shared, local, queued.staged.txid).await? {
            return fenced(&name);
        }
        if let Some(name) = rival::snapshot_from(bucket, queued.staged.txid).await.map_err(Failed::Store)? {
            return Err(Failed::Passed(name));
        }
        *sight = before;
    }
    let before = sight.anew();
    let Uploaded { outcome, timestamp, copy } = upload_file(shared, local, &queued.staged).await?;
    match planted!("foreign-object-is-ours", PutOutcome::Written, outcome) {
        PutOutcome::Written | PutOutcome::AlreadyThere => {
            let txid = queued.staged.txid;
            // The upload itself may have taken as long, or the machine slept.
            if sight.is_old()
                && let Some(name) = foreign_file(shared, local, txid).await?
            {
                if outcome == PutOutcome::Written {
                    rival::give_way(bucket, txid, &[LtxName::l0(txid)]).await.map_err(Failed::Store)?;
                }
                return fenced(&name);
            }
            *sight = before;
            shared.compactor.note_published(LtxName::l0(txid), copy.size, timestamp);
            shared.compactor.note_copy(txid, copy);
            Ok(())
        }
        PutOutcome::Conflict => fenced(&LtxName::l0(queued.staged.txid)),
    }
}

/// A file of level 0 behind transaction `next` that is not ours. Ours are there if an earlier listing lacked them, so that
/// what is in the store already is sent once more.
async fn foreign_file(shared: &Shared, local: &LocalState, next: Txid) -> Result<Option<LtxName>, Failed> {
    let ahead = rival::ahead_of(shared.bucket.as_ref(), next).await.map_err(Failed::Store)?;
    let Some(name) = ahead else { return Ok(None) };
    let reader = local.clone();
    let staged = shared.host.blocking(move || reader.staged()).await.map_err(Failed::Local)?;
    match staged.iter().find(|file| file.txid == name.max && !file.is_base) {
        Some(file) if upload_file(shared, local, file).await?.outcome != PutOutcome::Conflict => Ok(None),
        _ => Ok(Some(name)),
    }
}

fn written_by_another(shared: &Shared, name: &LtxName) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!(
            "{}/{} was written by somebody else; only one replicator may write to a replica: stop the other one, \
             then restart this one",
            shared.bucket.location(),
            name.key(shared.bucket.layout()),
        ),
    )
}

/// What is in the store after an upload.
struct Uploaded {
    outcome: PutOutcome,
    timestamp: UnixMillis,
    /// The file that is now in the store as well.
    copy: LocalCopy,
}

/// Whether the store's file of a transaction is the staged one. If there is none, it is from now on.
///
/// # Errors
/// The store's, and those of reading the staged file.
pub async fn put_or_compare(shared: &Shared, local: &LocalState, file: &Staged) -> Result<bool> {
    let uploaded = upload_file(shared, local, file).await.map_err(Failed::into_error)?;
    Ok(uploaded.outcome != PutOutcome::Conflict)
}

/// Uploads a staged file. It is read once: the bytes that go out are the bytes that were checked, and nothing is
/// visible under the key before the last of them was.
async fn upload_file(shared: &Shared, local: &LocalState, file: &Staged) -> Result<Uploaded, Failed> {
    let (reader, staged) = (local.clone(), *file);
    let open = move || {
        let mut checked = CheckedFile::open(&reader, &staged)?;
        let first = checked.next_chunk(SINGLE_PUT_LEN)?;
        Ok::<_, Error>((checked, first))
    };
    let (checked, first) = shared.host.blocking(open).await.map_err(Failed::Local)?;
    let header = checked.header().expect("the first chunk was checked");
    let (size, timestamp) = (checked.len(), header.timestamp);
    let path = local.path(&file.name());
    let key = LtxName::l0(file.txid).key(shared.bucket.layout());
    let options = PutOptions { timestamp: Some(timestamp) };
    let (outcome, trailer) = match checked.trailer().copied() {
        Some(trailer) => {
            let condition = planted!("overwrites", PutCondition::Overwrite, PutCondition::IfAbsent);
            (shared.bucket.put(&key, first, condition, options).await.map_err(Failed::Store)?, trailer)
        }
        None => {
            let upload = shared.bucket.upload(&key, PutCondition::IfAbsent, options).await;
            let mut upload = upload.map_err(Failed::Store)?;
            match send(shared, checked, first, &mut *upload).await {
                Ok(trailer) => (upload.finish().await.map_err(Failed::Store)?, trailer),
                Err(failed) => {
                    upload.abort().await.ok();
                    return Err(failed);
                }
            }
        }
    };
    Ok(Uploaded { outcome, timestamp, copy: LocalCopy { path, size, file_checksum: trailer.file_checksum } })
}

/// Sends a file that does not fit into one chunk. Success means that all that was sent was found right.
async fn send(
    shared: &Shared,
    mut checked: CheckedFile,
    first: Bytes,
    upload: &mut dyn Upload,
) -> Result<Trailer, Failed> {
    upload.write(first).await.map_err(Failed::Store)?;
    loop {
        if let Some(trailer) = checked.trailer() {
            return Ok(*trailer);
        }
        let read = move || {
            let chunk = checked.next_chunk(CHUNK_LEN);
            (checked, chunk)
        };
        let (returned, chunk) = shared.host.blocking(read).await;
        checked = returned;
        upload.write(chunk.map_err(Failed::Local)?).await.map_err(Failed::Store)?;
    }
}
