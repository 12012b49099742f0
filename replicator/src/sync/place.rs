//! Under which transaction id a full copy goes into the replica.
//!
//! Level 0 tells two writers apart only as long as neither leaves an id out: a rival that goes on at the id that was left
//! out is not refused, and a restore mixes both. So a copy takes the first id that nobody has, although files staged
//! here may have had that id in mind; where that cannot be told, it goes above everything.

use crate::bucket::Bucket;
use crate::error::Result;
use crate::ltx::Txid;
use crate::replica::{Inventory, LtxName};

/// Ids that are asked for by name at most. Listings do not lag by more, and a full copy that went further up because many
/// ids are staged here would leave all of them to a rival.
const MOST_ASKED: u64 = 16;

/// A transaction id for a full copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The id.
    pub txid: Txid,
    /// The replica is whole up to the transaction before it.
    pub follows: bool,
}

/// Ids that the store may hold although the listing does not: the first between the listing's newest and `above_all`,
/// which is above everything seen on either side. `None` if the copy has to go to `above_all`.
fn in_doubt(inventory: &Inventory, replicated: Option<Txid>, above_all: Txid) -> Option<Vec<Txid>> {
    let newest = inventory.max_txid()?;
    let is_trusted = inventory.gap().is_none() && Some(newest) >= replicated;
    let count = above_all.0.checked_sub(newest.next().0)?;
    let asked = newest.next().0..newest.next().0 + count.min(MOST_ASKED);
    (is_trusted && !planted!("copies-skip-ids")).then(|| asked.map(Txid).collect())
}

/// Decides with what the store says about the ids in doubt.
fn decide(asked: &[(Txid, bool)], above_all: Txid) -> Place {
    let taken = asked.iter().take_while(|(_, is_there)| *is_there).count();
    let is_left_out = asked[taken..].iter().any(|(_, is_there)| *is_there);
    let free = asked.get(taken).map(|&(txid, _)| txid);
    let behind_all_asked = asked.last().is_none_or(|(txid, _)| txid.next() == above_all);
    match free {
        Some(txid) if !is_left_out => Place { txid, follows: true },
        _ => Place { txid: above_all, follows: !is_left_out && behind_all_asked },
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
    let mut asked = Vec::with_capacity(ids.len());
    for txid in ids {
        let is_there = bucket.head(&LtxName::l0(txid).key(bucket.layout())).await?.is_some();
        asked.push((txid, is_there));
    }
    Ok(decide(&asked, above_all))
}

#[cfg(test)]
mod tests {
    use super::*;
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
            in_doubt(&inventory(txids), replicated.map(Txid), Txid(above_all)).map(|ids| ids.len())
        };
        assert_eq!(doubt(&[1, 2, 3], Some(3), 6), Some(2));
        assert_eq!(doubt(&[1, 2, 3], None, 4), Some(0));
        assert_eq!(doubt(&[], None, 6), None, "an empty replica may be a wiped one");
        assert_eq!(doubt(&[1, 3], None, 6), None, "a gap");
        assert_eq!(doubt(&[1, 2, 3], Some(4), 6), None, "the listing lacks what is known to be there");
        assert_eq!(doubt(&[1, 2, 3], None, 100), Some(16), "too many to ask for all");
        let taken: Vec<(Txid, bool)> = (4..20).map(|txid| (Txid(txid), true)).collect();
        assert_eq!(decide(&taken, Txid(100)), Place { txid: Txid(100), follows: false });
        assert_eq!(decide(&taken, Txid(20)), Place { txid: Txid(20), follows: true });
        let free: Vec<(Txid, bool)> = (4..20).map(|txid| (Txid(txid), txid < 6)).collect();
        assert_eq!(decide(&free, Txid(100)), Place { txid: Txid(6), follows: true }, "not left to a rival");
    }
}
