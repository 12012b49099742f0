//! What a database that is gone still owes to the store: it is sent while another one is waited for.
//!
//! Only what this process has copied: that is in the status, and the local state is locked. What an earlier process left is
//! told at the stop ([`super::ending`]). Must not run beside a session, which has an uploader of its own.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::ltx::Txid;

use super::ending::is_absent;
use super::follow::Uploader;
use super::handle::time_for_final_sync;
use super::local::{LocalState, Staged, newest, since_last_base};
use super::queue::Queued;
use super::task::{Shared, Stop};
use super::upload::{self, UploadEnd};

/// Whether the store lacks something of what was copied here.
#[must_use]
pub fn is_owed(shared: &Shared) -> bool {
    let status = shared.status();
    status.local_txid > status.replicated_txid
}

/// Sends it, until the store has it or there is a database again. Asked to stop, it takes what time there is for that.
/// Returns why it cannot be sent, if it cannot.
pub async fn send(shared: &Arc<Shared>, stop: &mut Stop) -> Option<UploadEnd> {
    tracing::warn!(
        db = %shared.options.db.display(),
        "the database is gone, and not all that was committed to it is in the store yet: the rest is being sent"
    );
    tokio::select! {
        biased;
        end = send_all(shared) => end,
        () = last_attempt(shared, stop) => None,
        () = database_appears(shared) => None,
    }
}

/// `None` once the store has all of it.
async fn send_all(shared: &Arc<Shared>) -> Option<UploadEnd> {
    let mut backoff = shared.backoff();
    let (local, staged) = loop {
        match staged(shared).await {
            Ok(staged) => break staged,
            // Only a full copy helps, of whatever database comes next.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                return Some(UploadEnd::Rebase { next: shared.next_base_txid(), reason: error.to_string() });
            }
            Err(error) => shared.wait_after("read what is staged", error, &mut backoff).await,
        }
    };
    shared.queue.acknowledge(Txid(u64::MAX));
    for &staged in staged.iter().filter(|file| !file.is_base) {
        shared.queue.push(Queued { staged, captured_at: None });
    }
    let mut uploader = Uploader::spawn(upload::run(Arc::clone(shared), local, staged));
    tokio::select! {
        biased;
        end = uploader.ended() => Some(end),
        () = all_replicated(shared) => {
            tracing::info!(db = %shared.options.db.display(), "the rest is in the store");
            None
        }
    }
}

/// Not an empty queue: of a full copy only the status says that the store has it.
async fn all_replicated(shared: &Shared) {
    let mut status = shared.watch_status();
    let is_done = status.wait_for(|status| status.replicated_txid >= status.local_txid).await.is_ok();
    if !is_done {
        std::future::pending::<()>().await;
    }
}

async fn staged(shared: &Shared) -> Result<(LocalState, Vec<Staged>)> {
    let local = LocalState::peek(Arc::clone(&shared.host.disk), &shared.options.meta_dir);
    let reader = local.clone();
    let staged = since_last_base(shared.host.blocking(move || reader.staged()).await?);
    match newest(&staged)? {
        Some(newest) if Some(newest.txid) >= shared.status().local_txid => Ok((local, staged)),
        _ => Err(Error::new(ErrorKind::NotFound, "local state: staged files are missing")),
    }
}

/// Waits for a stop, and then for the end of its time. Without any, an upload is tried once.
async fn last_attempt(shared: &Shared, stop: &mut Stop) {
    let deadline =
        stop.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline).unwrap_or_default();
    let mut failures = shared.failed_attempts.subscribe();
    shared.hurry.notify_one();
    tokio::select! {
        () = tokio::time::sleep(time_for_final_sync(deadline)) => {}
        _ = failures.changed(), if deadline.is_zero() => {}
    }
}

async fn database_appears(shared: &Shared) {
    loop {
        tokio::time::sleep(shared.options.monitor_interval).await;
        if !is_absent(shared).await {
            return;
        }
    }
}
