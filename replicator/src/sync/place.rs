//! Under which transaction id a full copy goes into the replica.
//!
//! Level 0 tells two writers apart only as long as neither leaves an id out: a rival that goes on at the id that was left
//! out is not refused, and a restore mixes both. So a copy takes the first id that nobody has, although files staged
//! here may have had that id in mind; where that cannot be told, it goes above everything.
//!
//! Snapshots count for more than ids: one that reaches farther than the copy would be restored instead of it, and an
//! earlier attempt may have left one that no listing shows yet.

use std::collections::BTreeSet;
use std::ops::Range;

use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::bucket::Bucket;
use crate::error::{ErrorKind, Result};
use crate::ltx::Txid;
use crate::replica::{Inventory, LtxName};

/// Ids that are asked for by name, and as many more as are taken. Listings do not lag by more, and a full copy that went
/// further up because many ids are staged here would leave all of them to a rival.
const ASKED: usize = 16;

/// Ids that are asked for at most: a rival that publishes faster than we ask is not caught up with.
const MOST_ASKED: usize = 1024;

/// How often an id is asked for, if the store answers that it cannot tell at the moment: one refusal among so many questions
/// is likely on a bad day, and each would cost a whole attempt.
const TRIES: usize = 3;

/// Questions under way at once.
const AT_ONCE: usize = 8;

/// A transaction id for a full copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The id.
    pub txid: Txid,
    /// The replica is whole up to the transaction before it.
    pub follows: bool,
}

/// Ids that the store may hold although the listing does not: those between the listing's newest and `above_all`, which is
/// above everything seen on either side. `None` if the copy has to go to `above_all`.
fn in_doubt(inventory: &Inventory, replicated: Option<Txid>, above_all: Txid) -> Option<Range<u64>> {
    let newest = inventory.max_txid()?;
    let is_trusted = inventory.gap().is_none() && Some(newest) >= replicated;
    let ids = newest.next().0..above_all.0;
    (is_trusted && ids.start <= ids.end && !planted!("copies-skip-ids")).then_some(ids)
}

/// Whether somebody has left an id out: it is free, and one above it is taken.
fn leave_out(asked: &[(Txid, bool)]) -> bool {
    asked.iter().skip_while(|(_, is_there)| *is_there).any(|(_, is_there)| *is_there)
}

/// Whether enough is known. A rival may be publishing a backlog: whoever stopped asking in the middle of it, and went above
/// everything, would leave to it all that is between (seed 50004604).
fn is_enough(asked: &[(Txid, bool)]) -> bool {
    let ends_free = asked.last().is_some_and(|(_, is_there)| !is_there);
    let may_end = ends_free || asked.len() >= MOST_ASKED || planted!("asks-for-sixteen-ids");
    leave_out(asked) || asked.len() >= ASKED && may_end
}

/// Decides with what the store says about the ids in doubt.
fn decide(asked: &[(Txid, bool)], above_all: Txid) -> Place {
    let free = asked.iter().find(|(_, is_there)| !is_there).map(|&(txid, _)| txid);
    let behind_all_asked = asked.last().is_none_or(|(txid, _)| txid.next() == above_all);
    match free {
        Some(_) if leave_out(asked) => Place { txid: above_all, follows: false },
        Some(txid) => Place { txid, follows: true },
        None => Place { txid: above_all, follows: behind_all_asked },
    }
}

/// Finds the place. `replicated` is the newest transaction that this process knows to be in the store.
///
/// # Errors
/// The store's.
pub async fn find(
    bucket: &dyn Bucket,
    inventory: &Inventory,
    replicated: Option<Txid>,
    above_all: Txid,
) -> Result<Place> {
    let place = match in_doubt(inventory, replicated, above_all) {
        Some(ids) => decide(&ask_for(bucket, ids).await?, above_all),
        None => {
            let newest = inventory.max_txid().unwrap_or_default();
            let follows = newest.next() == above_all && inventory.gap().is_none();
            Place { txid: above_all, follows }
        }
    };
    Ok(match newest_snapshot(bucket, place.txid, above_all).await? {
        Some(left) => Place { txid: above_all.max(left.next()), follows: false },
        None => place,
    })
}

/// Asks for files of level 0 until enough is known.
async fn ask_for(bucket: &dyn Bucket, ids: Range<u64>) -> Result<Vec<(Txid, bool)>> {
    let mut asked: Vec<(Txid, bool)> = Vec::new();
    for txid in ids.map(Txid) {
        let is_there = holds(bucket, LtxName::l0(txid)).await?;
        if is_there {
            // Those before it may have been published since they were asked for.
            for (earlier, is_there) in asked.iter_mut().filter(|(_, is_there)| !is_there) {
                *is_there = holds(bucket, LtxName::l0(*earlier)).await?;
            }
        }
        asked.push((txid, is_there));
        if is_enough(&asked) {
            break;
        }
    }
    Ok(asked)
}

/// The newest snapshot that reaches as far as a copy at `place` or farther. An attempt that went above everything seen
/// publishes its snapshot first, and may have got no further (seed 52061338); so those ids are asked for which an earlier
/// attempt can have had, here and where nothing was known but the same listing.
async fn newest_snapshot(bucket: &dyn Bucket, place: Txid, above_all: Txid) -> Result<Option<Txid>> {
    // The first copy of all has no snapshot.
    if place == Txid(1) || planted!("snapshots-left-above") {
        return Ok(None);
    }
    let near = |from: u64| from..=from.saturating_add(ASKED as u64 - 1);
    let below_all = near(above_all.0.saturating_sub(ASKED as u64 - 1));
    let ids: BTreeSet<u64> = near(place.0).chain(below_all).filter(|&id| id >= place.0).collect();
    let questions = ids.into_iter().map(Txid).map(async |txid| {
        let is_there = holds(bucket, LtxName::snapshot(txid)).await?;
        Ok(is_there.then_some(txid))
    });
    let found = stream::iter(questions).buffer_unordered(AT_ONCE);
    found.try_fold(None, async |newest: Option<Txid>, found| Ok(newest.max(found))).await
}

async fn holds(bucket: &dyn Bucket, name: LtxName) -> Result<bool> {
    let mut tries = 1;
    loop {
        match bucket.head(&name.key(bucket.layout())).await {
            Err(error) if error.kind() == ErrorKind::Transient && tries < TRIES => tries += 1,
            answer => return Ok(answer?.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::bucket::memory::MemoryBucket;
    use crate::bucket::{PutCondition, PutOptions};
    use crate::replica::Entry;

    fn inventory(txids: &[u64]) -> Inventory {
        let mut inventory = Inventory::default();
        for &txid in txids {
            inventory.insert(Entry { name: LtxName::l0(Txid(txid)), size: 500, modified: None });
        }
        inventory
    }

    #[test]
    fn a_copy_takes_the_first_id_that_nobody_has() {
        let place = |there: &[bool]| {
            let asked: Vec<(Txid, bool)> = (5..).map(Txid).zip(there.iter().copied()).collect();
            let Place { txid, follows } = decide(&asked, Txid(5 + there.len() as u64));
            (txid.0, follows)
        };
        assert_eq!(place(&[]), (5, true));
        assert_eq!(place(&[false, false]), (5, true));
        assert_eq!(place(&[true, false]), (6, true), "the listing lagged");
        assert_eq!(place(&[true, true]), (7, true));
        assert_eq!(place(&[false, true]), (7, false), "somebody has left one out");
    }

    #[test]
    fn what_cannot_be_told_goes_above_everything() {
        let doubt = |txids: &[u64], replicated: Option<u64>, above_all| {
            in_doubt(&inventory(txids), replicated.map(Txid), Txid(above_all)).map(|ids| ids.end - ids.start)
        };
        assert_eq!(doubt(&[1, 2, 3], Some(3), 6), Some(2));
        assert_eq!(doubt(&[1, 2, 3], None, 4), Some(0));
        assert_eq!(doubt(&[], None, 6), None, "an empty replica may be a wiped one");
        assert_eq!(doubt(&[1, 3], None, 6), None, "a gap");
        assert_eq!(doubt(&[1, 2, 3], Some(4), 6), None, "the listing lacks what is known to be there");
        let taken: Vec<(Txid, bool)> = (4..20).map(|txid| (Txid(txid), true)).collect();
        assert_eq!(decide(&taken, Txid(100)), Place { txid: Txid(100), follows: false });
        assert_eq!(decide(&taken, Txid(20)), Place { txid: Txid(20), follows: true });
        let free: Vec<(Txid, bool)> = (4..20).map(|txid| (Txid(txid), txid < 6)).collect();
        assert_eq!(decide(&free, Txid(100)), Place { txid: Txid(6), follows: true }, "not left to a rival");
    }

    #[tokio::test]
    async fn a_rival_that_publishes_a_backlog_is_followed_to_its_end() {
        let bucket = MemoryBucket::new();
        for txid in 1..=70 {
            let key = LtxName::l0(Txid(txid)).key(bucket.layout());
            let (body, options) = (Bytes::from(vec![0; 200]), PutOptions::default());
            bucket.put(&key, body, PutCondition::IfAbsent, options).await.unwrap();
        }
        // What the listing showed, a moment ago, and what is staged here.
        let place = find(&bucket, &inventory(&[1, 2, 3]), Some(Txid(3)), Txid(190)).await.unwrap();
        assert_eq!(place, Place { txid: Txid(71), follows: true });
        let place = find(&bucket, &inventory(&[1, 2, 3]), Some(Txid(3)), Txid(71)).await.unwrap();
        assert_eq!(place, Place { txid: Txid(71), follows: true }, "nothing in doubt is left");
        let place = find(&bucket, &inventory(&[1, 2, 3]), Some(Txid(3)), Txid(60)).await.unwrap();
        assert_eq!(
            place,
            Place { txid: Txid(60), follows: true },
            "it finds its name taken, and the next look is newer"
        );
    }

    #[tokio::test]
    async fn a_copy_goes_above_the_snapshot_that_an_earlier_attempt_left() {
        let place = async |left: u64, above_all: u64| {
            let bucket = MemoryBucket::new();
            let key = LtxName::snapshot(Txid(left)).key(bucket.layout());
            let (body, options) = (Bytes::from(vec![0; 200]), PutOptions::default());
            bucket.put(&key, body, PutCondition::IfAbsent, options).await.unwrap();
            let place = find(&bucket, &inventory(&[1, 2, 3, 4]), Some(Txid(4)), Txid(above_all)).await;
            let Place { txid, follows } = place.unwrap();
            (txid.0, follows)
        };
        assert_eq!(place(12, 12).await, (13, false), "the staged files were kept");
        assert_eq!(place(100, 100).await, (101, false), "and there were many");
        assert_eq!(place(12, 5).await, (13, false), "they were lost");
        assert_eq!(place(5, 5).await, (6, false), "its very name");
        assert_eq!(place(4, 5).await, (5, true), "one that reaches less far harms nobody");
    }
}
