//! The answer to a stop when no database is open: whether the store holds all that was ever copied here.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::ltx::Txid;
use crate::replica::Inventory;

use super::State;
use super::contact::{Contact, contact};
use super::local::{LocalState, Staged, newest, since_last_base};
use super::task::Shared;

/// A database that has appeared since the last look is not replicated, and what was copied from one that is gone is owed
/// to the store all the same, by whichever process it was copied. Asking the store may take up to `deadline`.
///
/// # Errors
/// Unless the store holds everything.
pub async fn without_database(shared: &Shared, deadline: Duration) -> Result<()> {
    let status = shared.status();
    if status.state != State::WaitingForDatabase || !is_absent(shared).await {
        let why = status.error.unwrap_or_else(|| "the database was not open yet".to_owned());
        return Err(Error::new(
            ErrorKind::Cancelled,
            format!("stopped before everything was replicated: {why}"),
        ));
    }
    let (copied, replicated) = match status.local_txid {
        Some(local) => (local, status.replicated_txid),
        None => match copied_before(shared).await? {
            Some(staged) => of_an_earlier_process(shared, &staged, deadline).await?,
            None => return Ok(()),
        },
    };
    if replicated >= Some(copied) {
        return Ok(());
    }
    let replicated = replicated.map_or_else(|| "nothing".to_owned(), |txid| txid.to_string());
    Err(Error::new(
        ErrorKind::Transient,
        format!(
            "{} is gone, and of what was committed before only {replicated} of {copied} is in the store; the rest is in {}",
            shared.options.db.display(),
            shared.options.meta_dir.display(),
        ),
    ))
}

async fn is_absent(shared: &Shared) -> bool {
    let (disk, db) = (Arc::clone(&shared.host.disk), shared.options.db.clone());
    let facts = shared.host.blocking(move || disk.metadata(&db)).await;
    facts.map_or_else(|error| error.kind() == std::io::ErrorKind::NotFound, |facts| facts.len == 0)
}

/// What an earlier process left, if there is anything that may be owed.
async fn copied_before(shared: &Shared) -> Result<Option<Vec<Staged>>> {
    let (disk, meta_dir) = (Arc::clone(&shared.host.disk), shared.options.meta_dir.clone());
    let staged = shared.host.blocking(move || LocalState::peek(disk, &meta_dir)).await?;
    let staged = since_last_base(staged);
    Ok(staged.iter().any(|file| !file.is_base).then_some(staged))
}

/// Its newest transaction, and the newest that the store has.
async fn of_an_earlier_process(
    shared: &Shared,
    staged: &[Staged],
    deadline: Duration,
) -> Result<(Txid, Option<Txid>)> {
    let copied = newest(staged)?.map(|file| file.txid).unwrap_or_default();
    let listing = tokio::time::timeout(deadline, Inventory::load(shared.bucket.as_ref())).await;
    let listing = listing.unwrap_or_else(|_| Err(Error::new(ErrorKind::Transient, "no answer in time")));
    let inventory = listing.map_err(|error| {
        let what = "is gone; whether the store has what was copied from it is not known";
        error.context(format!("{} {what}", shared.options.db.display()))
    })?;
    Ok(match contact(staged, &inventory) {
        Contact::Continue { replicated } => (copied, Some(replicated)),
        Contact::Rebase { .. } => (copied, None),
    })
}
