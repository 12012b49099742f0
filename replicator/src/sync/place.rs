//! Under which transaction id a full copy goes into the replica.
//!
//! Level 0 tells two writers apart only as long as neither leaves an id out: a rival that goes on at the id that was left
//! out is not refused, and a restore mixes both. So a copy takes the first id that nobody has, although files staged
//! here may have had that id in mind; where that cannot be told, it goes above everything.

use std::ops::Range;

use crate::bucket::Bucket;
use crate::error::{Error, Result};
use crate::ltx::Txid;
use crate::replica::{Inventory, LtxName};

/// Ids that are asked for by name, and as many more as are taken. Listings do not lag by more, and a full copy that went
/// further up because many ids are staged here would leave all of them to a rival.
const ASKED: usize = 16;

/// Ids that are asked for at most: a rival that publishes faster than we ask is not caught up with.
const MOST_ASKED: usize = 1024;

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
    let Some(ids) = in_doubt(inventory, replicated, above_all) else {
        let newest = inventory.max_txid().unwrap_or_default();
        let follows = newest.next() == above_all && inventory.gap().is_none();
        return Ok(Place { txid: above_all, follows });
    };
    let ask = async |txid| {
        let found = bucket.head(&LtxName::l0(txid).key(bucket.layout())).await?;
        Ok::<_, Error>(found.is_some())
    };
    let mut asked: Vec<(Txid, bool)> = Vec::new();
    for txid in ids.map(Txid) {
        let is_there = ask(txid).await?;
        if is_there {
            // Those before it may have been published since they were asked for.
            for (earlier, is_there) in asked.iter_mut().filter(|(_, is_there)| !is_there) {
                *is_there = ask(*earlier).await?;
            }
        }
        asked.push((txid, is_there));
        if is_enough(&asked) {
            break;
        }
    }
    Ok(decide(&asked, above_all))
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
}
