//! The database file is replaced, deleted or rebuilt, while the replicator runs and while it is stopped.

use std::sync::atomic::Ordering;

use super::mischief::Mischief;
use super::*;

#[derive(Clone, Copy, Debug)]
enum How {
    Rename,
    CopyOver,
}

/// Puts another database in place, as an operator would: application closed, side files removed.
#[expect(clippy::disallowed_methods, reason = "the test stands for an operator")]
fn replace(world: &World, rows: u32, how: How) {
    let other = world.dir.path().join("other.db");
    let app = open_app(&other);
    insert(&app, rows);
    checkpoint(&app, "TRUNCATE");
    drop(app);
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(crate::host::with_suffix(world.db(), suffix));
    }
    match how {
        How::Rename => std::fs::rename(&other, world.db()).unwrap(),
        How::CopyOver => {
            std::fs::write(world.db(), std::fs::read(&other).unwrap()).unwrap();
            std::fs::remove_file(&other).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smaller_equal_or_larger_database_takes_the_place() {
    for running in [true, false] {
        for how in [How::Rename, How::CopyOver] {
            for rows in [5, 60, 300] {
                let world = World::new();
                let app = world.app();
                insert(&app, 60);
                let mut handle = world.start();
                settle(&handle).await;
                drop(app);
                if !running {
                    stop(handle).await;
                    replace(&world, rows, how);
                    handle = world.start();
                } else {
                    replace(&world, rows, how);
                    tokio::time::sleep(Duration::from_millis(60)).await;
                }
                let app = world.app();
                insert(&app, 20);
                settle_equal(&world, &handle, &app, format!("{running} {how:?} {rows}")).await;
                stop(handle).await;
            }
        }
    }
}

/// The replacement is noticed at an interval: give it a few.
async fn settle_equal(world: &World, handle: &Handle, app: &Connection, what: String) {
    for _ in 0..50 {
        settle(handle).await;
        let restored = world.restore(restore::Target::Latest).await.unwrap();
        if dump(&Connection::open(restored).unwrap()) == dump(app) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the replica does not follow the replaced database: {what}");
}

/// Found by the simulator: the stop answered from the last look, when there was no database yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_overlook_a_database_that_has_just_appeared() {
    let mut world = World::new();
    world.options.monitor_interval = Duration::from_secs(60);
    for appears in [false, true] {
        let handle = world.start();
        let mut status = handle.status();
        let waiting = status.wait_for(|status| status.state() == State::WaitingForDatabase);
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
        let app = appears.then(|| world.app());
        let stopped = handle.stop(Duration::from_secs(20)).await;
        assert_eq!(stopped.is_err(), app.is_some(), "{stopped:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the test stands for an operator")]
async fn deleted_and_created_again() {
    let world = World::new();
    let app = world.app();
    insert(&app, 40);
    let handle = world.start();
    settle(&handle).await;
    drop(app);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(crate::host::with_suffix(world.db(), suffix));
    }
    let mut status = handle.status();
    let waiting = status.wait_for(|status| status.state() == State::WaitingForDatabase);
    tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    let app = world.app();
    insert(&app, 3);
    settle_equal(&world, &handle, &app, "created again".to_owned()).await;
    stop(handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_size_change_starts_from_a_new_base() {
    let world = World::new();
    let app = world.app();
    insert(&app, 40);
    let handle = world.start();
    settle(&handle).await;
    let (before, before_txid) = (dump(&app), handle.status().borrow().replicated_txid.unwrap());
    stop(handle).await;
    app.execute_batch("PRAGMA journal_mode=DELETE; PRAGMA page_size=1024; VACUUM; PRAGMA journal_mode=WAL;")
        .unwrap();
    insert(&app, 4);
    let handle = world.start();
    settle(&handle).await;
    world.assert_equal(&app).await;
    insert(&app, 4);
    stop(handle).await;
    world.assert_equal(&app).await;
    let restored = world.restore(restore::Target::Txid(before_txid)).await.unwrap();
    assert_eq!(dump(&Connection::open(restored).unwrap()), before, "the old states stay restorable");
}

/// Found by simulation: commits of the new file were reported as replicated while the old one was being copied.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_about_the_file_that_has_the_name_now() {
    let mut world = World::new();
    // Neither a tick nor a notification is to come before the commits are asked for.
    (world.options.monitor_interval, world.options.sync_interval) =
        (Duration::from_secs(4), Duration::from_secs(2));
    let old = world.app();
    insert(&old, 10);
    let handle = world.start();
    settle(&handle).await;
    replace(&world, 5, How::Rename);
    let since = os::host().clock.now();
    // Whoever has the old file open can go on writing to it.
    insert(&old, 1);
    handle.sync_now();
    let is_claimed =
        |status: &Status| status.last_sync >= Some(since) && status.local_txid == status.replicated_txid;
    until(&handle, "claimed", is_claimed).await;
    world.assert_equal(&open_app(world.db())).await;
    stop(handle).await;
}

/// Heartbeats went on, and the replica seemed to be level, for as long as it took.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_copy_that_is_under_way_is_not_called_replicating() {
    let mut world = World::new();
    let store = Mischief::before(&mut world);
    let app = world.app();
    insert(&app, 20);
    let handle = world.start();
    settle(&handle).await;
    until(&handle, "in contact", |status| status.state() == State::Replicating).await;
    drop(app);
    os::host().disk.remove_file(&world.options.meta_dir.join("replicator").join("pages")).unwrap();
    store.holds.store(true, Ordering::SeqCst);
    let uploads = store.uploads.load(Ordering::SeqCst);
    replace(&world, 60, How::Rename);
    for _ in 0..400 {
        if store.uploads.load(Ordering::SeqCst) > uploads {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(store.uploads.load(Ordering::SeqCst) > uploads, "a full copy");
    assert_eq!(handle.status().borrow().state(), State::Starting);
    store.holds.store(false, Ordering::SeqCst);
    until(&handle, "done", |status| status.state() == State::Replicating).await;
    settle_equal(&world, &handle, &world.app(), "replaced".to_owned()).await;
    stop(handle).await;
}

/// It used to be waited for as after a failure, which may be long.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_finds_another_file_has_it_opened_at_once() {
    let mut world = World::new();
    let app = world.app();
    let handle = world.start();
    settle(&handle).await;
    stop(handle).await;
    world.options.min_checkpoint_pages = 1;
    let start = session::start(&os::host(), &world.options, None, &mut None).unwrap();
    let session::Start::Ready { session, .. } = start else { panic!("the chain is known") };
    insert(&app, 1);
    let (options, bucket) = (world.options.clone(), Arc::clone(&world.bucket));
    let (shared, _status) = task::Shared::new(os::host(), options, bucket, Turns::default());
    let shared = Arc::new(shared);
    let mut follower = follow::Follower::new(&shared, session, true);
    os::host().disk.remove_file(world.db()).unwrap();
    assert!(matches!(follower.checkpoint_if_due().await, Ok(Some(follow::Ended::Reopen { .. }))));
}

/// The space of a deleted file is free only when nobody has it open: it used to be held until there was another.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the test asks the system")]
async fn a_deleted_database_is_let_go() {
    let world = World::new();
    let app = world.app();
    insert(&app, 10);
    let handle = world.start();
    settle(&handle).await;
    drop(app);
    for suffix in ["", "-wal", "-shm"] {
        let _ = os::host().disk.remove_file(&crate::host::with_suffix(world.db(), suffix));
    }
    until(&handle, "it is gone", |status| status.state() == State::WaitingForDatabase).await;
    let is_open = || {
        let named =
            std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fd.unwrap().path().read_link().ok());
        named.into_iter().any(|name| name.to_string_lossy().starts_with(&*world.db().to_string_lossy()))
    };
    for _ in 0..100 {
        if !is_open() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!is_open(), "its space is free");
    let app = world.app();
    insert(&app, 3);
    settle(&handle).await;
    stop(handle).await;
    world.assert_equal(&app).await;
}
