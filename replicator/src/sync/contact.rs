//! What the replica says about our chain, decided from one listing.

use crate::bucket::Bucket;
use crate::error::{Error, ErrorKind, Result};
use crate::ltx::Txid;
use crate::replica::Inventory;

use super::first;
use super::local::Staged;

/// No chain gets here by counting, and none could go on for long from the highest ids.
const OUT_OF_REACH: Txid = Txid(1 << 63);

/// How local and remote fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// The replica is whole up to `replicated`, and everything behind it is staged here.
    Continue {
        /// Newest transaction in the replica; 0 if it is empty, and all of the chain is staged here.
        replicated: Txid,
    },
    /// The chain has to start anew with a full copy as transaction `next`.
    Rebase {
        /// Transaction id of the full copy.
        next: Txid,
        /// Why, for the log.
        reason: &'static str,
    },
}

/// The transaction id of a full copy: above everything seen on either side, so that nothing is ever overwritten.
#[must_use]
pub fn base_txid(local: Option<Txid>, inventory: &Inventory) -> Txid {
    local.max(planted!("ids-from-local-state", None, inventory.max_txid())).map_or(Txid(1), Txid::next)
}

/// Sees to it that a chain can go on above everything in the replica.
///
/// # Errors
/// `Corrupt` if there is an object with a transaction id that no replicator can have reached.
pub fn check_reach(bucket: &dyn Bucket, inventory: &Inventory) -> Result<()> {
    let names = inventory.iter().map(|entry| entry.name);
    let Some(stray) = names.max_by_key(|name| name.max).filter(|name| name.max >= OUT_OF_REACH) else {
        return Ok(());
    };
    let key = stray.key(bucket.layout());
    let what = "has a transaction id that no replicator can have reached: move it away, or delete it";
    Err(Error::new(ErrorKind::Corrupt, format!("{}/{key} {what}", bucket.location())))
}

/// Compares staged files, oldest first, with the replica.
#[must_use]
pub fn contact(staged: &[Staged], inventory: &Inventory) -> Contact {
    let newest = staged.last().map(|file| file.txid);
    let rebase = |reason| Contact::Rebase { next: base_txid(newest, inventory), reason };
    let Some(newest) = newest else { return rebase("there is no local state") };
    let Some(remote) = inventory.max_txid() else {
        let is_whole = staged.first().is_some_and(first::is_first_copy);
        return if is_whole {
            Contact::Continue { replicated: Txid(0) }
        } else {
            rebase("the replica is empty")
        };
    };
    if inventory.gap().is_some() {
        return rebase("transactions are missing in the replica");
    }
    if remote > newest {
        return rebase("the replica is ahead of the local state: something else has written to it");
    }
    let mut expected = remote.next();
    for file in staged.iter().filter(|file| file.txid > remote) {
        if file.txid != expected || file.is_base {
            return rebase("the replica has lost transactions that are no longer here");
        }
        expected = expected.next();
    }
    if expected != newest.next() {
        return rebase("the replica has lost transactions that are no longer here");
    }
    Contact::Continue { replicated: remote }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::{Entry, LtxName};
    use crate::wal::Position;

    fn staged(txids: std::ops::RangeInclusive<u64>) -> Vec<Staged> {
        txids.map(|txid| Staged { txid: Txid(txid), position: Position::default(), is_base: false }).collect()
    }

    fn remote(txids: impl IntoIterator<Item = u64>) -> Inventory {
        let mut inventory = Inventory::default();
        for txid in txids {
            inventory.insert(Entry { name: LtxName::l0(Txid(txid)), size: 500, modified: None });
        }
        inventory
    }

    #[test]
    fn uploads_continue_behind_the_replica() {
        for upto in 3..=7 {
            let expected = Contact::Continue { replicated: Txid(upto) };
            assert_eq!(contact(&staged(4..=7), &remote(1..=upto)), expected);
        }
    }

    #[test]
    fn anything_that_does_not_fit_needs_a_full_copy_above_both_sides() {
        let next = |staged: &[Staged], remote: &Inventory| match contact(staged, remote) {
            Contact::Rebase { next, .. } => next.0,
            Contact::Continue { .. } => 0,
        };
        assert_eq!(next(&staged(4..=7), &remote([])), 8);
        assert_eq!(next(&staged(4..=7), &remote(1..=9)), 10);
        assert_eq!(next(&staged(4..=7), &remote(1..=2)), 8, "3 is nowhere");
        assert_eq!(next(&staged(4..=7), &remote([1, 2, 4, 5])), 8, "3 is lost in the replica");
        assert_eq!(next(&[], &remote(1..=2)), 3);
        assert_eq!(next(&[], &remote([])), 1);
        assert_eq!(next(&staged(1..=7), &remote([])), 0, "everything is here");
        let mut with_base = staged(1..=7);
        with_base[0].is_base = true;
        assert_eq!(next(&with_base, &remote([])), 8, "the first copy was only in the store");
        let mut with_base = staged(4..=7);
        with_base[2].is_base = true;
        assert_eq!(next(&with_base, &remote(1..=5)), 8, "the content of 6 was only in the store");
    }
}
