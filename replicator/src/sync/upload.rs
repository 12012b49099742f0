//! Staged files to the store: in order, one at a time, create-if-absent, until each is durable.

use std::sync::Arc;

use bytes::Bytes;

use crate::bucket::{PutCondition, PutOptions, PutOutcome};
use crate::error::{Error, ErrorKind, Result};
use crate::host::UnixMillis;
use crate::ltx::{Decoder, Event, Header, Txid};
use crate::replica::{Inventory, LtxName};

use super::contact::{Contact, contact};
use super::local::{LocalState, Staged};
use super::queue::Queued;
use super::task::Shared;

/// Files up to this size go out in one request.
const SINGLE_PUT_LEN: usize = 4 << 20;

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

/// Uploads until something ends it. Failures that may pass are repeated for ever, and reported while they last.
pub async fn run(shared: Arc<Shared>, local: LocalState, staged: Vec<Staged>) -> UploadEnd {
    let mut backoff = shared.backoff();
    let inventory = loop {
        match Inventory::load(shared.bucket.as_ref()).await {
            Ok(inventory) => break inventory,
            Err(error) => shared.wait_after("list the replica", error, &mut backoff).await,
        }
    };
    let contact = contact(&staged, &inventory);
    shared.compactor.adopt(inventory);
    match contact {
        Contact::Rebase { next, reason } => return UploadEnd::Rebase { next, reason: reason.to_owned() },
        Contact::Continue { replicated } => {
            if let Some(file) = staged.iter().find(|file| file.txid == replicated && !file.is_base)
                && let Some(end) = check_twin(&shared, &local, file, &mut backoff).await
            {
                return end;
            }
            shared.acknowledge(replicated, None);
        }
    }
    backoff.reset();
    loop {
        let queued = shared.queue.front().await;
        if planted!("claim-before-upload") {
            shared.acknowledge(queued.staged.txid, queued.captured_at);
        }
        match upload(&shared, &local, &queued).await {
            Ok(()) => {
                backoff.reset();
                shared.acknowledge(queued.staged.txid, queued.captured_at);
            }
            Err(error) if error.kind() == ErrorKind::Conflict => return UploadEnd::Fenced(error),
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                // The local file is damaged or gone: nothing that can be repeated helps.
                return UploadEnd::Rebase { next: shared.next_base_txid(), reason: error.to_string() };
            }
            Err(_) if planted!("failed-upload-skipped") => shared.acknowledge(queued.staged.txid, None),
            Err(error) => shared.wait_after("upload", error, &mut backoff).await,
        }
    }
}

/// The newest transaction that both sides have must be the same file, or two histories meet here.
async fn check_twin(
    shared: &Shared,
    local: &LocalState,
    file: &Staged,
    backoff: &mut super::backoff::Backoff,
) -> Option<UploadEnd> {
    loop {
        match upload_file(shared, local, file).await {
            Ok((PutOutcome::Conflict, ..)) => {
                let reason = format!("transaction {} in the replica is not the one staged here", file.txid);
                return Some(UploadEnd::Rebase { next: shared.next_base_txid(), reason });
            }
            Ok(_) => return None,
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => return None,
            Err(error) => shared.wait_after("compare with the replica", error, backoff).await,
        }
    }
}

async fn upload(shared: &Shared, local: &LocalState, queued: &Queued) -> Result<()> {
    let (outcome, size, timestamp) = upload_file(shared, local, &queued.staged).await?;
    match planted!("foreign-object-is-ours", PutOutcome::Written, outcome) {
        PutOutcome::Written | PutOutcome::AlreadyThere => {
            shared.compactor.note_published(LtxName::l0(queued.staged.txid), size, timestamp);
            Ok(())
        }
        PutOutcome::Conflict => Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "{}/{} was written by somebody else; only one replicator may write to a replica: stop the other one, \
                 then restart this one",
                shared.bucket.location(),
                LtxName::l0(queued.staged.txid).key(shared.bucket.layout()),
            ),
        )),
    }
}

async fn upload_file(
    shared: &Shared,
    local: &LocalState,
    file: &Staged,
) -> Result<(PutOutcome, u64, UnixMillis)> {
    let (reader, staged) = (local.clone(), *file);
    let (bytes, header) = shared.host.blocking(move || verified(&reader, &staged)).await?;
    let key = LtxName::l0(file.txid).key(shared.bucket.layout());
    let options = PutOptions { timestamp: Some(header.timestamp) };
    let (size, timestamp) = (bytes.len() as u64, header.timestamp);
    if bytes.len() <= SINGLE_PUT_LEN {
        let condition = planted!("overwrites", PutCondition::Overwrite, PutCondition::IfAbsent);
        let outcome = shared.bucket.put(&key, bytes, condition, options).await?;
        return Ok((outcome, size, timestamp));
    }
    let mut upload = shared.bucket.upload(&key, PutCondition::IfAbsent, options).await?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let chunk = rest.split_to(rest.len().min(SINGLE_PUT_LEN));
        if let Err(error) = upload.write(chunk).await {
            upload.abort().await.ok();
            return Err(error);
        }
    }
    Ok((upload.finish().await?, size, timestamp))
}

/// Reads a staged file and checks it once more: what the local disk has spoiled must not reach the store.
fn verified(local: &LocalState, staged: &Staged) -> Result<(Bytes, Header)> {
    let bytes = local.read(staged)?;
    let mut decoder = Decoder::new();
    let mut header = None;
    for chunk in bytes.chunks(256 << 10) {
        decoder.push(chunk);
        while let Some(event) = decoder.next()? {
            if let Event::Header(found) = event {
                header = Some(found);
            }
        }
    }
    decoder.finish()?;
    let header = header.filter(|header| header.max_txid == staged.txid).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, format!("local state: {} holds another transaction", staged.name()))
    })?;
    Ok((bytes.into(), header))
}
