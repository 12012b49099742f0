//! Checks the order of generations against the databases in them.
//!
//! Times are all that a listing offers, and a copied or touched replica has others. The change counter in a
//! database header only grows while the database lives (it counts commits that touch page 1, so it can also stay
//! the same). If the generation that seems newest holds the *lesser* counter, either the times lie or the database
//! was once replaced by an older one: no program can know, so the user is asked instead of guessing.

use std::io::Cursor;

use super::choice::Choice;
use super::unpack::Unpacker;
use crate::bucket::ByteRange;
use crate::error::{ErrorKind, Result};
use crate::restore::Context;

/// The first LZ4 block has at most 4 MiB, and both formats around it have small headers.
const START_LEN: u64 = (4 << 20) + (256 << 10);

/// Offset of the change counter in a database header.
const COUNTER: usize = 24;

/// Refuses to choose if an older generation holds a database that has seen more changes than the newest one.
///
/// `candidates` are ordered by time, newest first.
pub(super) async fn check_order(context: Context<'_>, candidates: &[Choice]) -> Result<()> {
    let Some((newest, older)) = candidates.split_first().filter(|(_, older)| !older.is_empty()) else {
        return Ok(());
    };
    let Some(newest_counter) = change_counter(context, newest).await else { return Ok(()) };
    for other in older {
        let counter = change_counter(context, other).await;
        if let Some(counter) = counter.filter(|&counter| counter > newest_counter) {
            return Err(context.replica_error(
                ErrorKind::Conflict,
                format_args!(
                    "generation {} was written to last, but the database in generation {} has seen more changes \
                     (counter {counter}, not {newest_counter}): either file times were changed or the database \
                     was once replaced by an older one; restore the right one with replicator restore \
                     -generation ID",
                    newest.generation, other.generation
                ),
            ));
        }
    }
    Ok(())
}

/// The counter, unless it cannot be read: the order by time then stands alone.
async fn change_counter(context: Context<'_>, choice: &Choice) -> Option<u32> {
    match read_counter(context, choice).await {
        Ok(counter) => Some(counter),
        Err(error) => {
            let generation = &choice.generation;
            tracing::warn!(generation, %error, "cannot compare this generation with the others");
            None
        }
    }
}

async fn read_counter(context: Context<'_>, choice: &Choice) -> Result<u32> {
    let snapshot = &choice.snapshot.1;
    let range = ByteRange { start: 0, len: Some(START_LEN.min(snapshot.size).max(1)) };
    let mut body = context.bucket.get(&snapshot.key, Some(range)).await?;
    let mut packed = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        packed.extend_from_slice(&chunk);
    }
    let identities = context.options.legacy.identities.clone();
    context
        .host
        .blocking(move || {
            let header: [u8; 100] = Unpacker::open(Cursor::new(packed), &identities)?.start()?;
            let counter = header[COUNTER..].first_chunk().expect("inside the header");
            Ok(u32::from_be_bytes(*counter))
        })
        .await
}
