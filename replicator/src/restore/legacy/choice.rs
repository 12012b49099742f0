//! Which generation, snapshot and segments make up a 0.3.x state. Pure.
//!
//! Inside a generation, index and offset say what comes after what, and must be without a hole. Between
//! generations, only the times given by the store do: the generation that was written to last holds the newest
//! state. (A newer *snapshot* proves nothing: the generation after it may have begun with an older clock or not yet
//! have taken one again.) The caller checks that order against the databases themselves before relying on it.

use crate::bucket::ObjectInfo;
use crate::error::{Error, ErrorKind, Result};
use crate::host::UnixMillis;

use super::inventory::{Generation, Inventory};

/// What is wanted of a 0.3.x replica.
#[derive(Debug, Clone, Default)]
pub(super) struct Want {
    /// Nothing written after this.
    pub until: Option<UnixMillis>,
    /// Only this generation.
    pub generation: Option<String>,
    /// No WAL index after this.
    pub index: Option<u64>,
}

impl Want {
    fn is_in_time(&self, object: &ObjectInfo) -> bool {
        match (self.until, object.modified) {
            (Some(until), Some(written)) => written <= until,
            (Some(_), None) => false,
            (None, _) => true,
        }
    }
}

/// The objects of one state, in the order they are applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    /// Name of the generation.
    pub generation: String,
    /// The base.
    pub snapshot: (u64, ObjectInfo),
    /// WAL index, offset and object.
    pub segments: Vec<(u64, u64, ObjectInfo)>,
}

impl Choice {
    /// When the last of its objects was written.
    fn written(&self) -> Option<UnixMillis> {
        self.segments
            .iter()
            .map(|(_, _, object)| object)
            .chain([&self.snapshot.1])
            .map(|o| o.modified)
            .max()?
    }
}

/// Every generation that has a state to offer, the one written to last first.
pub(super) fn candidates(inventory: &Inventory, want: &Want) -> Vec<Choice> {
    let named = |name: &String| want.generation.as_ref().is_none_or(|wanted| wanted == name);
    let mut candidates: Vec<Choice> = inventory
        .generations
        .iter()
        .filter(|(name, _)| named(name))
        .filter_map(|(name, generation)| choose(name, generation, want))
        .collect();
    // Equal times (a copied replica): the later snapshot, then any fixed order.
    candidates.sort_by_key(|choice| (choice.written(), choice.snapshot.1.modified));
    candidates.reverse();
    candidates
}

/// A generation that was written to after the last object of `newest`, within the time that is wanted, and has no snapshot
/// to begin with: what it held is lost, and was newer.
pub(super) fn lost<'a>(inventory: &'a Inventory, want: &Want, newest: &Choice) -> Option<&'a str> {
    let written = newest.written();
    let is_newer = |object: &ObjectInfo| want.is_in_time(object) && object.modified > written;
    inventory
        .generations
        .iter()
        .find(|(name, generation)| {
            generation.objects().any(is_newer) && choose(name, generation, want).is_none()
        })
        .map(|(name, _)| name.as_str())
}

/// The newest state of one generation within the bounds.
fn choose(name: &str, generation: &Generation, want: &Want) -> Option<Choice> {
    let last_index = want.index.unwrap_or(u64::MAX);
    let (&index, snapshot) =
        generation.snapshots.range(..=last_index).rev().find(|(_, snapshot)| want.is_in_time(snapshot))?;
    // Stop at the first one that is too new: what comes after it builds on it, whatever its time says.
    let segments = generation
        .segments
        .range((index, 0)..=(last_index, u64::MAX))
        .take_while(|(_, segment)| want.is_in_time(segment))
        .map(|(&(index, offset), segment)| (index, offset, segment.clone()))
        .collect();
    Some(Choice { generation: name.to_owned(), snapshot: (index, snapshot.clone()), segments })
}

/// Checks everything that names can tell about holes. Whether each segment begins where the one before ended is
/// only known when they are decoded.
///
/// # Errors
/// `Corrupt`, naming what is missing and what is restorable before it.
pub(super) fn check_contiguous(choice: &Choice) -> Result<()> {
    let mut last_index = None;
    for (position, &(index, offset, ref segment)) in choice.segments.iter().enumerate() {
        let expected = last_index.map_or(choice.snapshot.0, |last: u64| last.saturating_add(1));
        let continues = last_index == Some(index) && offset > 0;
        if !continues && (index != expected || offset != 0) {
            let hole = if index > expected || last_index.is_none() { (expected, 0) } else { (index, 0) };
            let before = match position.checked_sub(1) {
                Some(before) => &choice.segments[before].2,
                None => &choice.snapshot.1,
            };
            return Err(hole_error(hole, segment, before));
        }
        last_index = Some(index);
    }
    Ok(())
}

/// An error about bytes that no segment holds.
pub(super) fn hole_error((index, offset): (u64, u64), next: &ObjectInfo, before: &ObjectInfo) -> Error {
    let hint = match before.modified.and_then(|time| jiff::Timestamp::from_millisecond(time.0).ok()) {
        Some(time) => format!("the state before the hole is restorable with -timestamp {time}"),
        None => "the state before the hole ends there".to_owned(),
    };
    Error::new(
        ErrorKind::Corrupt,
        format!(
            "WAL {index:08x} from byte {offset} is missing although {} comes after it; {hint} (up to {})",
            next.key, before.key
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_index_of_all_is_no_hole() {
        let object = || ObjectInfo { key: String::new(), size: 1, modified: None };
        let segments = [0, 8].map(|offset| (u64::MAX, offset, object())).to_vec();
        let choice = Choice { generation: String::new(), snapshot: (u64::MAX, object()), segments };
        check_contiguous(&choice).unwrap();
    }
}
