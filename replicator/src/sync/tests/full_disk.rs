//! A local disk without room for what is to be copied.

use super::stopping::Hanging;
use super::*;
use crate::host::Host;

/// A host on whose disk so many bytes are free, and of which so many fit into a file.
fn host(available: u64, fits: u64) -> Host {
    let mut host = os::host();
    let mut disk = Hanging::new(&host);
    (disk.available, disk.fits) = (available, fits);
    host.disk = Arc::new(disk);
    host
}

fn staged(world: &World) -> Vec<local::Staged> {
    local::LocalState::peek(os::host().disk, &world.options.meta_dir).staged().unwrap()
}

/// A world whose application is about to commit more than a batch at once.
fn world() -> World {
    let mut world = World::new();
    world.options.max_batch_bytes = 200_000;
    world
}

fn commit_much(app: &Connection) {
    app.execute("INSERT INTO t(v) VALUES (randomblob(3000000))", []).unwrap();
}

/// It used to fill the disk, fail, leave what it had written, and begin again, while the log was pinned.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_the_disk_has_no_room_for_goes_out_as_a_full_copy() {
    for (available, fits) in [(u64::MAX, 1_500_000), (4_000_000, u64::MAX)] {
        let world = world();
        let app = world.app();
        let handle =
            start(host(available, fits), world.options.clone(), Arc::clone(&world.bucket), Turns::default());
        settle(&handle).await;
        commit_much(&app);
        until(&handle, "it is told", |status| status.failures.is_disk_full()).await;
        settle(&handle).await;
        insert(&app, 1);
        settle(&handle).await;
        stop(handle).await;
        assert!(staged(&world).iter().any(|file| file.is_base && file.txid == Txid(2)), "{available} {fits}");
        world.assert_equal(&app).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_does_not_fit_takes_up_no_room() {
    for (available, fits) in [(u64::MAX, 1_500_000), (4_000_000, u64::MAX)] {
        let world = world();
        let app = world.app();
        let handle = world.start();
        settle(&handle).await;
        stop(handle).await;
        let host = host(available, fits);
        let Ok(session::Start::Ready { mut session, .. }) =
            session::start(&host, &world.options, None, &mut None)
        else {
            panic!("the chain is known")
        };
        commit_much(&app);
        let error = session.capture(&mut |_, _| panic!("nothing is staged")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
        let left = host.disk.metadata(&session.chain().local.path("unfinished.tmp"));
        assert!(left.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound));
    }
}

/// As long as no full copy can be made, because the store is away too, nothing keeps the log from starting over.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_and_a_store_that_is_away_do_not_pin_the_log() {
    let mut world = world();
    let store = mischief::Mischief::before(&mut world);
    let app = world.app();
    let handle =
        start(host(u64::MAX, 1_500_000), world.options.clone(), Arc::clone(&world.bucket), Turns::default());
    settle(&handle).await;
    store.away.store(true, std::sync::atomic::Ordering::SeqCst);
    commit_much(&app);
    let before = log_salt(&world);
    let is_over = async {
        while log_salt(&world) == before {
            checkpoint(&app, "PASSIVE");
            insert(&app, 1);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), is_over).await.expect("the log starts over");
    store.away.store(false, std::sync::atomic::Ordering::SeqCst);
    settle(&handle).await;
    stop(handle).await;
    world.assert_equal(&app).await;
}

/// A disk without room even for what is small: one more full copy after the other went to the store, and stayed there.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_stays_full_costs_one_full_copy() {
    let world = world();
    let app = world.app();
    let handle =
        start(host(u64::MAX, 5_000), world.options.clone(), Arc::clone(&world.bucket), Turns::default());
    settle(&handle).await;
    for _ in 0..20 {
        app.execute("INSERT INTO t(v) VALUES (randomblob(20000))", []).unwrap();
        handle.sync_now();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    until(&handle, "it is told", |status| status.failures.is_disk_full()).await;
    let inventory = crate::replica::Inventory::load(world.bucket.as_ref()).await.unwrap();
    let copies = inventory.iter().filter(|entry| entry.name.level == crate::replica::Level::L0).count();
    assert!(copies <= 2, "{copies}: the first, and one for want of room");
    handle.stop(Duration::from_secs(1)).await.unwrap_err();
}
