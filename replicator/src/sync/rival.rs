//! Whether somebody else has written to the replica while this process was silent.
//!
//! Create-if-absent tells two writers apart as long as the file of the next transaction is there, and retention
//! deletes files of level 0. After a silence as long as that only a listing tells.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::bucket::Bucket;
use crate::error::Result;
use crate::host::{Clock, UnixMillis};
use crate::ltx::Txid;
use crate::replica::{Inventory, Level, LtxName};

use super::Options;
use super::task::Shared;

/// When the store last showed that nobody else had gone on from where we stand.
pub struct Sight {
    clock: Arc<dyn Clock>,
    trusted_for: Duration,
    at: Instant,
    /// The wall clock as well: the other one stands still while the machine sleeps.
    wall: UnixMillis,
}

impl Sight {
    /// The store is about to be looked at.
    #[must_use]
    pub fn new(shared: &Shared) -> Self {
        let clock = Arc::clone(&shared.host.clock);
        let trusted_for = trusted_for(&shared.options, shared.bucket.kind());
        Self { wall: clock.now(), clock, trusted_for, at: Instant::now() }
    }

    /// A sight of now, to be taken before the store is asked, and to be used once it has answered.
    #[must_use]
    pub fn anew(&self) -> Self {
        let (clock, wall) = (Arc::clone(&self.clock), self.clock.now());
        Self { clock, trusted_for: self.trusted_for, at: Instant::now(), wall }
    }

    /// Whether a rival may have published our next transaction *and* deleted it meanwhile.
    #[must_use]
    pub fn is_old(&self) -> bool {
        let wall = u64::try_from(self.clock.now().0.saturating_sub(self.wall.0)).unwrap_or(0);
        self.at.elapsed().max(Duration::from_millis(wall)) >= self.trusted_for
            && !planted!("silence-is-no-risk")
    }
}

/// Half of the shortest level-0 retention that a rival may have: ours, for it may run with our configuration, or the
/// default, which is Litestream's. In a directory, files bear the time of their transaction: the next look of a rival may
/// find a file old that has just been written.
fn trusted_for(options: &Options, kind: &str) -> Duration {
    let default = Options::new(options.db.clone());
    let (own, usual) = if kind == "file" {
        (options.l0_retention_check_interval, default.l0_retention_check_interval)
    } else {
        (options.l0_retention, default.l0_retention)
    };
    Some(own).filter(|own| !own.is_zero()).map_or(usual, |own| own.min(usual)) / 2
}

/// A level-0 file behind transaction `next`, which is the next one that we would publish: not from us, unless an earlier
/// listing lacked it. (The file of `next` itself may be ours, from an upload whose answer was lost; create-if-absent deals
/// with that one.)
///
/// # Errors
/// The store's.
pub async fn ahead_of(bucket: &dyn Bucket, next: Txid) -> Result<Option<LtxName>> {
    let layout = bucket.layout();
    let after = LtxName::l0(next).key(layout);
    let objects = bucket.list(&Level::L0.prefix(layout), Some(&after)).await?;
    let mut names = objects.iter().filter_map(|object| LtxName::parse_key(layout, &object.key));
    Ok(names.find(|name| name.min > next))
}

/// A snapshot that reaches at least as far as transaction `next`, which is the next one that we would publish: not from us,
/// who show none before its transaction is there. A request of a former life may have been applied late (seed 100032587).
/// Restores would begin with it, and apply our files to its state.
///
/// # Errors
/// The store's.
pub async fn snapshot_from(bucket: &dyn Bucket, next: Txid) -> Result<Option<LtxName>> {
    let layout = bucket.layout();
    let before = LtxName::snapshot(Txid(next.0.saturating_sub(1))).key(layout);
    let objects = bucket.list(&Level::SNAPSHOT.prefix(layout), Some(&before)).await?;
    let names = objects.iter().filter_map(|object| LtxName::parse_key(layout, &object.key));
    let newest = names.filter(|name| name.is_base() && name.max >= next).max_by_key(|name| name.max);
    let Some(newest) = newest.filter(|_| !planted!("strangers-believed")) else { return Ok(None) };
    // If the transaction is there as well, creating it says whose it is.
    let is_decided = newest.max == next && bucket.head(&LtxName::l0(next).key(layout)).await?.is_some();
    Ok((!is_decided).then_some(newest))
}

/// A rival is ahead of `txid`, with which `ours` end. If others hold it as well, the rival went on from where we stood
/// and its own file has expired: ours stand for a state that the replica never had, and are withdrawn. If nobody does,
/// the rival goes on from ours, and without them there would be a hole before its files (seed 40010674). (There may be one
/// even so, if ours spanned it; an error is better than a restore that applies the rival's files to our state.)
///
/// # Errors
/// The store's.
pub async fn give_way(bucket: &dyn Bucket, txid: Txid, ours: &[LtxName]) -> Result<()> {
    let inventory = Inventory::load(bucket).await?;
    let mut others = inventory.iter().map(|entry| entry.name).filter(|name| !ours.contains(name));
    let is_held = others.any(|name| name.min <= txid && txid <= name.max);
    if planted!("gives-way-to-a-follower") || is_held {
        withdraw(bucket, ours).await?;
    }
    Ok(())
}

/// Removes files of ours whose transaction became somebody else's. They have our bytes, time included, so that they are
/// ours even if an upload was answered only the second time.
///
/// # Errors
/// The store's; the first one, if it refused several.
pub async fn withdraw(bucket: &dyn Bucket, ours: &[LtxName]) -> Result<()> {
    let keys: Vec<String> = ours.iter().map(|name| name.key(bucket.layout())).collect();
    let failures = bucket.delete(&keys).await?;
    failures.into_iter().next().map_or(Ok(()), |failure| Err(failure.error))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::bucket::memory::MemoryBucket;
    use crate::bucket::{PutCondition, PutOptions};

    /// What is left of `ours`, which end with transaction 5, once they gave way beside `others`.
    async fn left(ours: &[LtxName], others: &[LtxName]) -> usize {
        let bucket = MemoryBucket::new();
        for name in ours.iter().chain(others) {
            let (key, options) = (name.key(bucket.layout()), PutOptions::default());
            bucket.put(&key, Bytes::from(vec![0; 200]), PutCondition::IfAbsent, options).await.unwrap();
        }
        give_way(&bucket, Txid(5), ours).await.unwrap();
        let inventory = Inventory::load(&bucket).await.unwrap();
        ours.iter().filter(|name| inventory.get(name).is_some()).count()
    }

    #[tokio::test]
    async fn what_a_rival_goes_on_from_stays() {
        let merged = |min, max| LtxName { level: Level::new(1).unwrap(), min: Txid(min), max: Txid(max) };
        let ours = [LtxName::l0(Txid(5)), LtxName::snapshot(Txid(5))];
        let base = LtxName::l0(Txid(1));
        assert_eq!(left(&ours, &[base, LtxName::l0(Txid(6))]).await, 2, "a hole otherwise");
        assert_eq!(left(&ours, &[base, LtxName::l0(Txid(6)), merged(2, 4)]).await, 2);
        assert_eq!(left(&ours, &[base, LtxName::l0(Txid(7)), merged(2, 6)]).await, 0, "its 5 is in there");
        assert_eq!(left(&ours, &[LtxName::l0(Txid(7)), LtxName::snapshot(Txid(6))]).await, 0);
        assert_eq!(left(&ours[..1], &[LtxName::l0(Txid(6)), ours[1]]).await, 0, "the snapshot is not ours");
    }

    #[tokio::test]
    async fn a_snapshot_of_what_was_not_published_is_a_strangers() {
        let bucket = MemoryBucket::new();
        let put = async |name: LtxName| {
            let (key, options) = (name.key(bucket.layout()), PutOptions::default());
            bucket.put(&key, Bytes::from(vec![0; 200]), PutCondition::IfAbsent, options).await.unwrap();
        };
        let found = async |next| snapshot_from(&bucket, Txid(next)).await.unwrap();
        assert_eq!(found(1).await, None);
        put(LtxName::snapshot(Txid(5))).await;
        assert_eq!(found(6).await, None, "ours may be as old as that");
        for next in [1, 4, 5] {
            assert_eq!(found(next).await, Some(LtxName::snapshot(Txid(5))), "{next}");
        }
        put(LtxName::l0(Txid(5))).await;
        assert_eq!(found(5).await, None, "from an attempt that was not answered, perhaps");
        assert_eq!(found(4).await, Some(LtxName::snapshot(Txid(5))));
    }

    #[test]
    fn trust_ends_before_the_shortest_retention_does() {
        let mut options = Options::new("app.db".into());
        assert_eq!(trusted_for(&options, "file"), options.l0_retention_check_interval / 2);
        let trusted_for = |options: &Options| trusted_for(options, "s3");
        assert_eq!(trusted_for(&options), Duration::from_secs(150));
        options.l0_retention = Duration::from_secs(10);
        assert_eq!(trusted_for(&options), Duration::from_secs(5));
        options.l0_retention = Duration::from_secs(3600);
        assert_eq!(trusted_for(&options), Duration::from_secs(150), "the rival may keep less");
        options.l0_retention = Duration::ZERO;
        assert_eq!(trusted_for(&options), Duration::from_secs(150), "we keep all, the rival may not");
    }
}
