//! The store is away when a database is replicated for the first time.

use std::sync::atomic::Ordering;

use super::mischief::Mischief;
use super::stopping::Hanging;
use super::*;
use crate::replica::LtxName;

/// A world whose store can be away, and is.
fn world() -> (World, Arc<Mischief>) {
    let mut world = World::new();
    let store = Mischief::before(&mut world);
    store.away.store(true, Ordering::SeqCst);
    (world, store)
}

/// Waits until a commit has been copied to the local disk.
async fn copied(handle: &Handle, app: &Connection) -> Txid {
    let before = handle.status().borrow().local_txid;
    // One: of several commits the first may be copied alone.
    insert(app, 1);
    handle.sync_now();
    until(handle, "copied", |status| status.local_txid > before).await;
    handle.status().borrow().local_txid.unwrap()
}

fn staged(world: &World) -> Vec<local::Staged> {
    local::LocalState::peek(os::host().disk, &world.options.meta_dir).staged().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_copied_and_every_state_is_there_once_the_store_is_back() {
    let (world, store) = world();
    let app = world.app();
    insert(&app, 20);
    let handle = world.start();
    until(&handle, "a full copy is staged", |status| status.local_txid == Some(Txid(1))).await;
    let mut states = Vec::new();
    for round in 0..4 {
        let txid = copied(&handle, &app).await;
        states.push((txid, dump(&app)));
        if round == 1 {
            // What is copied need not stay in the log.
            checkpoint(&app, "TRUNCATE");
        }
    }
    assert_eq!(handle.status().borrow().replicated_txid, None, "nothing is in the store");
    let error = handle.stop(Duration::from_millis(200)).await.unwrap_err();
    assert!(error.to_string().contains("the store has nothing"), "{error}");
    // It is down meanwhile, and the store still away when it starts again.
    insert(&app, 3);
    let handle = world.start();
    until(&handle, "the rest is copied", |status| status.local_txid > Some(states[3].0)).await;
    store.away.store(false, Ordering::SeqCst);
    settle(&handle).await;
    world.assert_equal(&app).await;
    for (txid, rows) in &states {
        let restored = world.restore(restore::Target::Txid(*txid)).await.unwrap();
        assert!(&dump(&Connection::open(restored).unwrap()) == rows, "at {txid}");
    }
    stop(handle).await;
    assert!(!staged(&world).iter().any(first::is_first_copy), "the copy goes once the store has it");
    // The chain goes on without it.
    insert(&app, 3);
    let handle = world.start();
    settle(&handle).await;
    stop(handle).await;
    assert!(staged(&world).iter().all(|file| !file.is_base), "no full copy was needed");
    world.assert_equal(&app).await;
}

/// Deletes a database that nobody has open.
fn delete(db: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let gone = os::host().disk.remove_file(&crate::host::with_suffix(db, suffix));
        assert!(gone.is_ok() || !suffix.is_empty(), "{gone:?}");
    }
}

/// A database that was deleted while the store was away, and what its states were.
async fn deleted(world: &World, store: &Mischief) -> (Handle, Vec<(Txid, Vec<(i64, Vec<u8>)>)>) {
    store.away.store(false, Ordering::SeqCst);
    let app = world.app();
    let handle = world.start();
    settle(&handle).await;
    store.away.store(true, Ordering::SeqCst);
    let mut states = Vec::new();
    for _ in 0..3 {
        states.push((copied(&handle, &app).await, dump(&app)));
    }
    drop(app);
    delete(world.db());
    until(&handle, "noticed", |status| status.phase == Phase::WaitingForDatabase).await;
    (handle, states)
}

/// It used to stay on the local disk for ever, untold, and a stop did not even try.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_deleted_database_owes_is_sent_once_the_store_is_back() {
    for only_at_the_stop in [false, true] {
        let (world, store) = world();
        let (handle, states) = deleted(&world, &store).await;
        until(&handle, "it is told", |status| status.state() == State::Failing).await;
        store.away.store(false, Ordering::SeqCst);
        if !only_at_the_stop {
            let newest = Some(states[2].0);
            until(&handle, "sent", |status| status.replicated_txid == newest).await;
            until(&handle, "well", |status| status.state() == State::WaitingForDatabase).await;
        }
        stop(handle).await;
        for (txid, rows) in &states {
            let restored = world.restore(restore::Target::Txid(*txid)).await.unwrap();
            assert!(&dump(&Connection::open(restored).unwrap()) == rows, "at {txid}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_without_the_store_says_what_a_deleted_database_owes() {
    let (world, store) = world();
    let (handle, states) = deleted(&world, &store).await;
    let error = handle.stop(Duration::from_millis(300)).await.unwrap_err().to_string();
    for part in ["of what was committed before only", &states[2].0.to_string(), "connection refused"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

/// The new database is another one: what is left of the old one goes first.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_the_place_of_a_deleted_one_goes_on_behind_it() {
    let (world, store) = world();
    let (handle, states) = deleted(&world, &store).await;
    let app = world.app();
    insert(&app, 7);
    until(&handle, "opened", |status| status.phase != Phase::WaitingForDatabase).await;
    store.away.store(false, Ordering::SeqCst);
    settle(&handle).await;
    stop(handle).await;
    world.assert_equal(&app).await;
    let restored = world.restore(restore::Target::Txid(states[2].0)).await.unwrap();
    assert!(dump(&Connection::open(restored).unwrap()) == states[2].1, "the last state of the old one");
}

/// Nothing can be sent any more, and no full copy made: that is told until there is a database again.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_deleted_database_owes_may_be_lost_as_well() {
    let (world, store) = world();
    let (handle, _) = deleted(&world, &store).await;
    for file in staged(&world).into_iter().filter(|file| file.txid > Txid(1)) {
        let local = local::LocalState::peek(os::host().disk, &world.options.meta_dir);
        local.remove(&file.name()).unwrap();
    }
    store.away.store(false, Ordering::SeqCst);
    until(&handle, "it is told", |status| status.error().is_some_and(|e| e.contains("local state"))).await;
    let app = world.app();
    insert(&app, 7);
    settle(&handle).await;
    stop(handle).await;
    world.assert_equal(&app).await;
}

/// Changes the page size of a database that nobody has open.
fn change_page_size(db: &Path) {
    let admin = Connection::open(db).unwrap();
    admin
        .execute_batch(
            "PRAGMA journal_mode = DELETE; PRAGMA page_size = 8192; VACUUM; PRAGMA journal_mode = WAL",
        )
        .unwrap();
}

/// Found by simulation (seed 40038788): the snapshot of the attempt was applied late, and what the chain did under the
/// same id was applied to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_does_not_go_on_behind_an_attempt_at_a_full_copy() {
    let (world, store) = world();
    let app = world.app();
    insert(&app, 20);
    let handle = world.start();
    until(&handle, "a full copy is staged", |status| status.local_txid == Some(Txid(1))).await;
    let newest = copied(&handle, &app).await;
    handle.stop(Duration::from_millis(100)).await.unwrap_err();
    drop(app);
    let kept = world.dir.path().join("kept.db");
    std::fs::copy(world.db(), &kept).unwrap();
    change_page_size(world.db());
    store.away.store(false, Ordering::SeqCst);
    store.loses_snapshot.store(true, Ordering::SeqCst);
    let handle = world.start();
    until(&handle, "an attempt fails", |status| status.error().is_some()).await;
    #[expect(clippy::disallowed_methods, reason = "the test stands for an operator")]
    std::fs::rename(&kept, world.db()).unwrap();
    let app = world.app();
    insert(&app, 1);
    settle(&handle).await;
    stop(handle).await;
    let snapshot = LtxName::snapshot(newest.next()).key(world.bucket.layout());
    assert!(world.bucket.head(&snapshot).await.unwrap().is_some(), "what comes late finds its name taken");
    world.assert_equal(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_of_an_idle_database_is_replaced_by_a_record() {
    let (world, store) = world();
    let app = world.app();
    insert(&app, 20);
    let handle = world.start();
    until(&handle, "a full copy is staged", |status| status.local_txid == Some(Txid(1))).await;
    store.away.store(false, Ordering::SeqCst);
    settle(&handle).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop(handle).await;
    let records = staged(&world);
    assert!(records.len() == 1 && records[0].is_base, "{records:?}");
    insert(&app, 1);
    let handle = world.start();
    settle(&handle).await;
    assert_eq!(handle.status().borrow().replicated_txid, Some(Txid(2)));
    stop(handle).await;
    assert!(!staged(&world).last().unwrap().is_base, "no full copy was needed");
    world.assert_equal(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_room_the_first_copy_waits_for_the_store() {
    let (world, store) = world();
    let app = world.app();
    insert(&app, 20);
    let mut host = os::host();
    let mut disk = Hanging::new(&host);
    disk.available = 100_000;
    host.disk = Arc::new(disk);
    let handle = start(host, world.options.clone(), Arc::clone(&world.bucket), Turns::default());
    until(&handle, "it fails", |status| status.sync_error_count > 1).await;
    assert_eq!((handle.status().borrow().local_txid, staged(&world)), (None, Vec::new()));
    store.away.store(false, Ordering::SeqCst);
    settle(&handle).await;
    stop(handle).await;
    world.assert_equal(&app).await;
    assert!(staged(&world)[0].is_base, "straight to the store");
}

/// It used to fill the disk, fail, and begin again, while the application met the full disk.
#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_room_for_what_differs_a_full_copy_is_sent() {
    let (world, store) = world();
    store.away.store(false, Ordering::SeqCst);
    let app = world.app();
    let handle = world.start();
    settle(&handle).await;
    stop(handle).await;
    app.execute("INSERT INTO t(v) VALUES (randomblob(3000000))", []).unwrap();
    drop(app);
    let mut host = os::host();
    let mut disk = Hanging::new(&host);
    disk.available = 4_000_000;
    host.disk = Arc::new(disk);
    let handle = start(host, world.options.clone(), Arc::clone(&world.bucket), Turns::default());
    settle(&handle).await;
    stop(handle).await;
    assert!(staged(&world).iter().any(|file| file.is_base && file.txid == Txid(2)), "{:?}", staged(&world));
    world.assert_equal(&open_app(world.db())).await;
}

/// Ids that begin at 1 say nothing about a replica that nobody could look at.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_turns_out_to_have_a_history_is_not_mixed_with_ours() {
    let (mut world, store) = world();
    let other = open_app(&world.dir.path().join("other.db"));
    let ours = std::mem::replace(&mut world.options, Options::new(world.dir.path().join("other.db")));
    store.away.store(false, Ordering::SeqCst);
    let handle = world.start();
    for _ in 0..3 {
        insert(&other, 4);
        settle(&handle).await;
    }
    let (newest, theirs) = (handle.status().borrow().replicated_txid.unwrap(), dump(&other));
    stop(handle).await;
    world.options = ours;
    store.away.store(true, Ordering::SeqCst);
    let app = world.app();
    insert(&app, 20);
    let handle = world.start();
    until(&handle, "a full copy is staged", |status| status.local_txid == Some(Txid(1))).await;
    for _ in 0..5 {
        copied(&handle, &app).await;
    }
    store.away.store(false, Ordering::SeqCst);
    settle(&handle).await;
    insert(&app, 1);
    stop(handle).await;
    world.assert_equal(&app).await;
    let restored = world.restore(restore::Target::Txid(newest)).await.unwrap();
    assert!(dump(&Connection::open(restored).unwrap()) == theirs, "their newest state is still there");
}
