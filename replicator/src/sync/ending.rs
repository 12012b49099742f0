//! The answer to a stop when no database is open: whether the store holds all that was ever copied here.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::ltx::Txid;
use crate::replica::LtxName;

use super::Phase;
use super::contact::{Contact, contact};
use super::handle::time_for_final_sync;
use super::local::{LocalState, Staged, newest, since_last_base};
use super::task::Shared;
use super::upload;

/// A database that has appeared since the last look is not replicated, and what was copied from one that is gone is owed
/// to the store all the same, by whichever process it was copied. Asking the store may take up to `deadline`.
///
/// # Errors
/// Unless the store holds everything.
pub async fn without_database(shared: &Shared, deadline: Duration) -> Result<()> {
    let status = shared.status();
    if status.phase != Phase::WaitingForDatabase || !is_absent(shared).await {
        let why = status.error().unwrap_or("the database was not open yet");
        return Err(Error::new(
            ErrorKind::Cancelled,
            format!("stopped before everything was replicated: {why}"),
        ));
    }
    let (copied, replicated) = match status.local_txid {
        Some(local) => (local, status.replicated_txid),
        None => match copied_before(shared).await? {
            Some((local, staged)) => {
                let asked = tokio::time::timeout(
                    time_for_final_sync(deadline),
                    of_an_earlier_process(shared, &local, &staged),
                )
                .await;
                let asked =
                    asked.unwrap_or_else(|_| Err(Error::new(ErrorKind::Transient, "no answer in time")));
                asked.map_err(|error| {
                    let what = "is gone, and what was copied from it before is not known to be in the store";
                    error.context(format!("{} {what}", shared.options.db.display()))
                })?
            }
            None => return Ok(()),
        },
    };
    if replicated >= Some(copied) {
        return Ok(());
    }
    let replicated = replicated.map_or_else(|| "nothing".to_owned(), |txid| txid.to_string());
    let why = status.error().map(|error| format!("; last error: {error}")).unwrap_or_default();
    Err(Error::new(
        ErrorKind::Transient,
        format!(
            "{} is gone, and of what was committed before only {replicated} of {copied} is in the store; the rest is in {}{why}",
            shared.options.db.display(),
            shared.options.meta_dir.display(),
        ),
    ))
}

/// Whether there is no database, or an empty file.
pub async fn is_absent(shared: &Shared) -> bool {
    let (disk, db) = (Arc::clone(&shared.host.disk), shared.options.db.clone());
    let facts = shared.host.blocking(move || disk.metadata(&db)).await;
    facts.map_or_else(|error| error.kind() == std::io::ErrorKind::NotFound, |facts| facts.len == 0)
}

/// What an earlier process left, if there is anything that may be owed.
async fn copied_before(shared: &Shared) -> Result<Option<(LocalState, Vec<Staged>)>> {
    let local = LocalState::peek(Arc::clone(&shared.host.disk), &shared.options.meta_dir);
    let reader = local.clone();
    let staged = match shared.host.blocking(move || reader.staged()).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        staged => since_last_base(staged?),
    };
    Ok(staged.iter().any(|file| !file.is_base).then_some((local, staged)))
}

/// Its newest transaction, and the newest of its own that the store has.
async fn of_an_earlier_process(
    shared: &Shared,
    local: &LocalState,
    staged: &[Staged],
) -> Result<(Txid, Option<Txid>)> {
    let last = newest(staged)?.expect("there is a file that is no record");
    let conflict =
        |what: &str| Error::new(ErrorKind::Conflict, format!("{}: {what}", shared.bucket.location()));
    match contact(staged, &upload::look(shared, staged).await?) {
        Contact::Rebase { reason, .. } => Err(conflict(reason)),
        Contact::Continue { replicated } if replicated == last.txid && !last.is_base => {
            let key = LtxName::l0(last.txid).key(shared.bucket.layout());
            if shared.bucket.head(&key).await?.is_none() {
                return Err(conflict("there is a snapshot of the newest transaction only"));
            }
            if !upload::put_or_compare(shared, local, &last).await? {
                return Err(conflict("its newest transaction is another's"));
            }
            Ok((last.txid, Some(replicated)))
        }
        Contact::Continue { replicated } => {
            Ok((last.txid, Some(replicated).filter(|&replicated| replicated > Txid(0))))
        }
    }
}
