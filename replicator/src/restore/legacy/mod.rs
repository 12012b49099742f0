//! Restoring replicas written by Litestream 0.3.x: generations, snapshots and WAL segments.
//!
//! A snapshot at WAL index *i* is the database file as it was when WAL *i* began (or a little later, which applying
//! the WAL again does not change); each WAL after it must be there from its first byte, without a hole.
//!
//! Limit of the format: nothing says where a WAL ended. If its *last* segment is lost and the next WAL is there, no
//! reader can tell; only SQLite's integrity check may.

mod build;
mod choice;
mod evidence;
mod inventory;
mod log;
mod unpack;

use tokio::time::Instant;

use build::{Builder, Part};
use choice::{Choice, Want};
pub(super) use inventory::Inventory;

use super::fetch::{Fetcher, Object};
use super::options::Target;
use super::report::{Format, Plan, PlannedFile, Report, Restored, Step};
use super::{Context, Failure, finish};
use crate::error::{Error, ErrorKind, Result};

/// Restores or, in a dry run, plans.
pub(super) async fn restore(
    context: Context<'_>,
    inventory: &Inventory,
    started: Instant,
) -> Result<Report, Failure> {
    let parts = choose(context, inventory).await?;
    let plan = describe(&parts);
    if context.options.dry_run {
        return Ok(Report::Planned(plan));
    }
    context.progress.step(Step::Fetching);
    context.progress.planned(&plan);
    let builder = build(context, &parts).await?;
    let temp = context.host.blocking(move || builder.into_temp()).await;
    let finished = finish::finish(context, temp).await?;
    Ok(Report::Restored(Restored {
        bytes_fetched: plan.bytes(),
        plan,
        database_bytes: finished.bytes,
        duration: started.elapsed(),
        integrity_check: finished.check,
    }))
}

/// The objects to apply, in order.
async fn choose(context: Context<'_>, inventory: &Inventory) -> Result<Vec<Part>> {
    let legacy = &context.options.legacy;
    let until = match context.options.target {
        Target::Latest => None,
        Target::Timestamp(time) => Some(time),
        Target::Txid(_) => {
            return Err(context.replica_error(
                ErrorKind::Usage,
                "it was written by Litestream 0.3, which has no transaction ids: use -timestamp",
            ));
        }
    };
    let want = Want { until, generation: legacy.generation.clone(), index: legacy.index };
    let candidates = choice::candidates(inventory, &want);
    let Some(newest) = candidates.first() else { return Err(nothing_fits(context, inventory, &want)) };
    if want.index.is_some() && candidates.len() > 1 {
        return Err(context.replica_error(
            ErrorKind::Usage,
            "-index needs -generation, because the replica has several generations",
        ));
    }
    let is_free = want.generation.is_none() && want.index.is_none();
    if let Some(lost) = choice::lost(inventory, &want, newest).filter(|_| is_free) {
        return Err(context.replica_error(
            ErrorKind::Corrupt,
            format_args!(
                "generation {lost} was written to last, but the snapshot that it begins with is lost; the state that \
                 generation {} ends with is restored by replicator restore -generation {0}",
                newest.generation
            ),
        ));
    }
    evidence::check_order(context, &candidates).await?;
    choice::check_contiguous(newest)?;
    Ok(parts(newest))
}

fn nothing_fits(context: Context<'_>, inventory: &Inventory, want: &Want) -> Error {
    let names: Vec<&str> = inventory.generations.keys().map(String::as_str).collect();
    let message = match &want.generation {
        _ if names.is_empty() => {
            "it holds LTX files, which have neither generations nor WAL indexes: use -txid or -timestamp"
                .to_owned()
        }
        Some(wanted) if !inventory.generations.contains_key(wanted) => {
            format!("it has no generation {wanted}; there are: {}", names.join(", "))
        }
        _ => format!("no snapshot is old enough for what was asked; generations: {}", names.join(", ")),
    };
    context.replica_error(ErrorKind::NotFound, message)
}

fn parts(choice: &Choice) -> Vec<Part> {
    let snapshot = Part { object: choice.snapshot.1.clone(), segment: None };
    let segments = choice
        .segments
        .iter()
        .map(|(index, offset, object)| Part { object: object.clone(), segment: Some((*index, *offset)) });
    [snapshot].into_iter().chain(segments).collect()
}

fn describe(parts: &[Part]) -> Plan {
    let files = parts.iter().map(|Part { object, .. }| PlannedFile {
        level: None,
        name: object.key.clone(),
        min_txid: None,
        max_txid: None,
        size: object.size,
        created: object.modified,
    });
    Plan { format: Format::Legacy, txid: None, files: files.collect() }
}

/// Fetches and applies all parts.
async fn build(context: Context<'_>, parts: &[Part]) -> Result<Builder, Failure> {
    let (disk, output) = (context.host.disk.clone(), context.options.output.clone());
    let identities = context.options.legacy.identities.clone();
    let mut builder = context.host.blocking(move || Builder::new(&disk, &output, identities)).await?;
    let objects =
        parts.iter().map(|Part { object, .. }| Object { key: object.key.clone(), size: object.size });
    let mut fetcher = Fetcher::new(context.bucket.clone(), objects.collect(), context.options.parallelism);
    loop {
        let fetched = match fetcher.next().await {
            Ok(Some(fetched)) => fetched,
            Ok(None) => return Ok(builder),
            Err(failure) => {
                context.discard(builder).await;
                return Err(failure);
            }
        };
        let part = parts[fetched.object].clone();
        let mut more = fetched.last;
        builder = context.host.blocking(move || builder.store(&fetched.chunks).map(|()| builder)).await?;
        while more {
            let part = part.clone();
            (builder, more) =
                context.host.blocking(move || builder.work(&part).map(|more| (builder, more))).await?;
        }
        context.progress.advanced(fetched.len);
    }
}
