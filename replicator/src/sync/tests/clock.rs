//! The wall clock is set back.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::host::{Clock, Host, UnixMillis};

const HOURS: i64 = 3 * 3600 * 1000;

/// The real clock, but for so many milliseconds.
struct Ahead(Arc<dyn Clock>, AtomicI64);

impl Clock for Ahead {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.now().0 + self.1.load(Ordering::SeqCst))
    }
}

fn ahead() -> (Host, Arc<Ahead>) {
    let mut host = os::host();
    let clock = Arc::new(Ahead(Arc::clone(&host.clock), AtomicI64::new(HOURS)));
    host.clock = Arc::clone(&clock) as Arc<dyn Clock>;
    (host, clock)
}

/// A hang went unnoticed until the time was reached that had been claimed before.
#[tokio::test(flavor = "multi_thread")]
async fn claims_follow_a_clock_that_is_set_back() {
    let world = World::new();
    let app = world.app();
    let (host, clock) = ahead();
    let handle = start(host, world.options.clone(), Arc::clone(&world.bucket), Turns::default());
    settle(&handle).await;
    let before = handle.status().borrow().last_sync.unwrap();
    clock.1.store(0, Ordering::SeqCst);
    until(&handle, "it claims again", |status| status.last_sync < Some(before)).await;
    let now = os::host().clock.now();
    assert!(handle.status().borrow().is_level(now, Duration::from_secs(20)));
    insert(&app, 3);
    settle(&handle).await;
    stop(handle).await;
    world.assert_equal(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_later_counts() {
    let world = World::new();
    let (options, bucket) = (world.options.clone(), Arc::clone(&world.bucket));
    let (shared, _status) = task::Shared::new(os::host(), options, bucket, Turns::default());
    let claim = |txid, captured_at: Option<i64>| {
        shared.acknowledge(Txid(txid), captured_at.map(UnixMillis));
        shared.status().last_sync.map(|at| at.0)
    };
    assert_eq!(claim(1, None), None);
    assert_eq!(claim(2, Some(1000)), Some(1000));
    assert_eq!(claim(3, None), Some(1000), "the first part of a long log says nothing");
    assert_eq!(claim(4, Some(500)), Some(500));
}
