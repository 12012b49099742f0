//! The last steps, the same for both formats: on stable storage, checked, renamed.

use std::sync::Arc;

use super::Context;
use super::options::IntegrityCheck;
use super::output::TempFile;
use super::report::Step;
use crate::error::{Error, ErrorKind, Result};
use crate::verify::{Checked, Depth, check_integrity};

/// What was put in place.
pub(super) struct Finished {
    /// Its size in bytes.
    pub bytes: u64,
    /// The check that it passed.
    pub check: IntegrityCheck,
}

/// Puts the complete file in place. Syncing and checking go on side by side: one waits for the disk, the other for the
/// processor. A file that fails either never gets its name.
pub(super) async fn finish(context: Context<'_>, temp: TempFile) -> Result<Finished> {
    context.progress.step(Step::Checking);
    let temp = Arc::new(temp);
    let (synced, checked) = tokio::join!(sync(context, temp.clone()), check(context, temp.clone()));
    let temp = Arc::into_inner(temp).expect("both have ended");
    let force = context.options.force;
    context
        .host
        .blocking(move || {
            let check = synced.and(checked)?;
            let facts = temp.file().metadata().map_err(|error| temp.error("look at", error))?;
            temp.publish(force)?;
            Ok(Finished { bytes: facts.len, check })
        })
        .await
}

async fn sync(context: Context<'_>, temp: Arc<TempFile>) -> Result<()> {
    context.host.blocking(move || temp.sync()).await
}

/// Returns the check that was made and passed: none, if SQLite cannot make it.
async fn check(context: Context<'_>, temp: Arc<TempFile>) -> Result<IntegrityCheck> {
    let asked = context.options.integrity_check;
    let depth = match asked {
        IntegrityCheck::None => return Ok(asked),
        IntegrityCheck::Quick => Depth::Quick,
        IntegrityCheck::Full => Depth::Full,
    };
    let vfs = context.host.vfs.clone();
    let checked = context.host.blocking(move || check_ours(vfs.as_deref(), &temp, depth)).await;
    let checked = checked.map_err(|error| error.context("the restored database was not put in place"))?;
    Ok(if checked == Checked::Sound { asked } else { IntegrityCheck::None })
}

/// SQLite opens the file by its name: what it finds in the file of another restore says nothing about ours.
fn check_ours(vfs: Option<&str>, temp: &TempFile, depth: Depth) -> Result<Checked> {
    temp.check_identity()?;
    let checked = check_integrity(vfs, temp.path(), depth);
    if checked.is_err() {
        temp.check_identity()?;
    }
    checked.map_err(|error| match error.kind() {
        ErrorKind::Corrupt => {
            let message =
                format!("{error}; replicator restore -integrity-check none restores it all the same");
            Error::new(ErrorKind::Corrupt, message)
        }
        _ => error,
    })
}
