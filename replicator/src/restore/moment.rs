//! Which state the database had at a given time.
//!
//! The time a file stands for is in its header. The store's own time says when an object was *uploaded*, which a
//! compaction, a copy of the bucket or another clock changes; so headers are read, but only as many as a binary
//! search needs. If the writer's clock once went back, some times name several states, and one of them is found.
//!
//! A header by itself proves nothing: see [`super::confirm`].

use crate::bucket::{Bucket, ByteRange};
use crate::error::{Error, ErrorKind, Result};
use crate::host::UnixMillis;
use crate::ltx::{HEADER_LEN, Header, Txid};
use crate::replica::Level;

use super::{Failure, plan};

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// The newest state captured before the time.
    State(Txid),
    /// Every state is of that time or later; this is the oldest.
    TooEarly {
        /// The oldest restorable state.
        oldest: Txid,
        /// When it was captured.
        captured: UnixMillis,
    },
    /// Nothing is restorable.
    Nothing,
}

/// Finds the newest restorable state captured strictly before `time`, with about log2(states) small requests. Notes in
/// `files` what was read, for [`super::confirm`] and for who applies them.
pub(super) async fn state_before(
    bucket: &dyn Bucket,
    files: &mut [plan::File],
    time: UnixMillis,
) -> Result<Moment, Failure> {
    let states = planted!(
        "moments-of-level-0-only",
        files.iter().filter(|file| file.name.level.number() == 0).map(|file| file.name.max).collect(),
        plan::restorable(files)
    );
    let Some(&oldest) = states.first() else { return Ok(Moment::Nothing) };
    let (mut before, mut not_before) = (0, states.len());
    let mut captured_oldest = None;
    // Invariant: states[..before] were captured before `time`, states[not_before..] were not.
    while before < not_before {
        let middle = before + (not_before - before) / 2;
        let captured = captured(bucket, files, states[middle]).await?;
        if middle == 0 {
            captured_oldest = Some(captured);
        }
        if captured < time {
            before = middle + 1;
        } else {
            not_before = middle;
        }
    }
    Ok(match (before.checked_sub(1), captured_oldest) {
        (Some(found), _) => {
            Moment::State(states[planted!("moment-rounds-up", (found + 1).min(states.len() - 1), found)])
        }
        (None, captured) => {
            Moment::TooEarly { oldest, captured: captured.expect("the search ends at the oldest state") }
        }
    })
}

/// The gap behind `state`, the last that can be restored, if it hides states from before `time`: then `state` only seems to
/// be the newest of them. Notes the time of the file behind the gap for [`super::confirm`].
pub(super) async fn gap_before(
    bucket: &dyn Bucket,
    files: &mut [plan::File],
    state: Txid,
    time: UnixMillis,
) -> Result<Option<plan::NoPlan>, Failure> {
    let Some(missing) = plan::gap_after(files, state) else { return Ok(None) };
    let beyond = files.iter_mut().filter(|file| file.name.max > state);
    let first = beyond.min_by_key(|file| (file.name.min, file.name.max, file.name.level));
    let file = first.expect("a gap has a file behind it");
    let is_hidden = capture_time(bucket, file).await? < time;
    Ok(is_hidden.then_some(plan::NoPlan::Gap { reached: state, missing }))
}

/// Leaves out snapshots that say of themselves to be of `time` or later, if `state` can be had without them.
///
/// The file of level 0 dates a transaction. A snapshot that bears the same number may be of another state: it was left
/// by a replicator that lost the race for that number, and the winner's file came in late.
pub(super) async fn leave_out_later(
    bucket: &dyn Bucket,
    files: &mut Vec<plan::File>,
    state: Txid,
    time: UnixMillis,
) -> Result<(), Failure> {
    while let Ok(chosen) = plan::plan(files, plan::Want::Exactly(state), None) {
        let Some(snapshot) = chosen.into_iter().find(|file| file.name.level == Level::SNAPSHOT) else {
            break;
        };
        let captured = captured_at(bucket, &snapshot).await?;
        if captured < time {
            let kept = files.iter_mut().filter(|file| **file == snapshot);
            kept.for_each(|file| file.captured = Some(captured));
            break;
        }
        let others: Vec<_> = files.iter().filter(|file| **file != snapshot).cloned().collect();
        if plan::plan(&others, plan::Want::Exactly(state), None).is_err() {
            break;
        }
        *files = others;
    }
    Ok(())
}

/// When a state was captured.
async fn captured(bucket: &dyn Bucket, files: &mut [plan::File], state: Txid) -> Result<UnixMillis, Failure> {
    let ends_there = files.iter_mut().filter(|file| file.name.max == state);
    let file = ends_there.min_by_key(|file| file.name.level);
    capture_time(bucket, file.expect("a restorable state is the end of a file")).await
}

/// The file that dates a state. The lowest level was written first and has the time of the commit itself; a snapshot
/// only has the time of the snapshot.
pub(super) fn dating(files: &[plan::File], state: Txid) -> Option<&plan::File> {
    files.iter().filter(|file| file.name.max == state).min_by_key(|file| file.name.level)
}

/// Reads the time in the header of `file`, and notes it there.
async fn capture_time(bucket: &dyn Bucket, file: &mut plan::File) -> Result<UnixMillis, Failure> {
    let captured = captured_at(bucket, file).await?;
    file.captured = Some(captured);
    Ok(captured)
}

/// Reads the time in the header of `file`.
pub(super) async fn captured_at(bucket: &dyn Bucket, file: &plan::File) -> Result<UnixMillis, Failure> {
    let header = read_header(bucket, file).await.map_err(|error| Failure::of_object(&file.key, error))?;
    Ok(header.timestamp)
}

/// Reads only the header of a file.
async fn read_header(bucket: &dyn Bucket, file: &plan::File) -> Result<Header> {
    let range = ByteRange { start: 0, len: Some(HEADER_LEN as u64) };
    let mut body = bucket.get(&file.key, Some(range)).await?;
    let mut bytes = Vec::with_capacity(HEADER_LEN);
    while let Some(chunk) = body.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    let bytes = bytes.first_chunk().ok_or_else(|| {
        Error::new(
            ErrorKind::Corrupt,
            format!("{} is cut after {} bytes, inside its header", file.key, bytes.len()),
        )
    })?;
    Header::from_bytes(bytes).map_err(|error| error.context(&file.key))
}
