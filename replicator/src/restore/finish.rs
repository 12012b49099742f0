//! The last steps, the same for both formats: on stable storage, checked, renamed.

use std::sync::Arc;

use super::Context;
use super::options::IntegrityCheck;
use super::output::TempFile;
use super::report::Step;
use crate::error::{Error, Result};
use crate::verify::{Depth, check_integrity};

/// Puts the complete file in place; returns its size in bytes. Syncing and checking go on side by side: one waits
/// for the disk, the other for the processor. A file that fails either never gets its name.
pub(super) async fn finish(context: Context<'_>, temp: TempFile) -> Result<u64> {
    context.progress.step(Step::Checking);
    let temp = Arc::new(temp);
    let (synced, checked) = tokio::join!(sync(context, temp.clone()), check(context, temp.clone()));
    let temp = Arc::into_inner(temp).expect("both have ended");
    let force = context.options.force;
    context
        .host
        .blocking(move || {
            synced.and(checked)?;
            let facts = temp.file().metadata().map_err(|error| temp.error("look at", error))?;
            temp.publish(force)?;
            Ok(facts.len)
        })
        .await
}

async fn sync(context: Context<'_>, temp: Arc<TempFile>) -> Result<()> {
    context.host.blocking(move || temp.sync()).await
}

async fn check(context: Context<'_>, temp: Arc<TempFile>) -> Result<()> {
    let depth = match context.options.integrity_check {
        IntegrityCheck::None => return Ok(()),
        IntegrityCheck::Quick => Depth::Quick,
        IntegrityCheck::Full => Depth::Full,
    };
    let vfs = context.host.vfs.clone();
    let checked = context.host.blocking(move || check_integrity(vfs.as_deref(), temp.path(), depth)).await;
    checked.map_err(|error: Error| error.context("the restored database was not put in place"))
}
