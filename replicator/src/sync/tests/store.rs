//! The store is empty, ahead, damaged, shared or away.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::mischief::Mischief;
use super::*;
use crate::bucket::{PutCondition, PutOptions};
use crate::host::UnixMillis;
use crate::replica::{Inventory, LtxName};

pub(super) fn forget_local_state(world: &World) {
    #[expect(clippy::disallowed_methods, reason = "the test stands for an operator")]
    std::fs::remove_dir_all(&world.options.meta_dir).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_local_state_the_chain_goes_on_above_the_replica() {
    let world = World::new();
    let app = world.app();
    insert(&app, 10);
    let handle = world.start();
    settle(&handle).await;
    insert(&app, 10);
    stop(handle).await;
    forget_local_state(&world);
    app.execute("DELETE FROM t WHERE id > 12", []).unwrap();
    let handle = world.start();
    settle(&handle).await;
    assert!(handle.status().borrow().replicated_txid.unwrap() > Txid(2));
    world.assert_equal(&app).await;
    insert(&app, 1);
    stop(handle).await;
    world.assert_equal(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_or_holed_replica_heals_at_the_next_start() {
    for lost in [vec![1], vec![2], vec![1, 2, 3]] {
        let world = World::new();
        let app = world.app();
        let handle = world.start();
        for _ in 0..3 {
            insert(&app, 5);
            settle(&handle).await;
        }
        stop(handle).await;
        let layout = world.bucket.layout();
        let keys: Vec<String> = lost.iter().map(|&txid| LtxName::l0(Txid(txid)).key(layout)).collect();
        world.bucket.delete(&keys).await.unwrap();
        let handle = world.start();
        settle(&handle).await;
        insert(&app, 5);
        stop(handle).await;
        world.assert_equal(&app).await;
    }
}

/// It cannot be counted past, and every full copy failed with an error that named nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_with_an_id_that_nobody_can_reach_is_named() {
    for stray in [u64::MAX, u64::MAX - 1] {
        let mut world = World::new();
        let store = Mischief::before(&mut world);
        let app = world.app();
        insert(&app, 1);
        let key = LtxName::l0(Txid(stray)).key(world.bucket.layout());
        let put = async || {
            let body = Bytes::from(vec![7; 200]);
            world.bucket.put(&key, body, PutCondition::IfAbsent, PutOptions::default()).await.unwrap();
        };
        let names_it = |status: &Status| status.error().is_some_and(|error| error.contains(&key));
        put().await;
        let handle = world.start();
        until(&handle, "a fresh host names it", names_it).await;
        assert_eq!(store.uploads.load(Ordering::SeqCst), 0, "no full copy");
        world.bucket.delete(std::slice::from_ref(&key)).await.unwrap();
        until(&handle, "it is gone", |status| status.replicated_txid == Some(Txid(1))).await;
        insert(&app, 1);
        stop(handle).await;
        put().await;
        let uploads = store.uploads.load(Ordering::SeqCst);
        let handle = world.start();
        until(&handle, "a host that comes back names it", names_it).await;
        assert_eq!(store.uploads.load(Ordering::SeqCst), uploads, "no full copy");
        drop(handle);
    }
}

/// Another machine that has just written to the same replica.
async fn rival(world: &World) -> (World, Connection, Handle) {
    let mut clone = World::new();
    clone.bucket = Arc::clone(&world.bucket);
    let app = clone.app();
    insert(&app, 3);
    let handle = clone.start();
    settle(&handle).await;
    (clone, app, handle)
}

/// Waits until replication has given the replica up.
async fn ends_with_an_error(handle: Handle) {
    let mut status = handle.status();
    let stopped = status.wait_for(|status| status.state() == State::Stopped);
    let error = tokio::time::timeout(Duration::from_secs(10), stopped)
        .await
        .unwrap()
        .unwrap()
        .error()
        .map(str::to_owned);
    assert!(error.as_ref().is_some_and(|error| error.contains("written by somebody else")), "{error:?}");
    assert!(handle.stop(Duration::from_secs(1)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loser_of_two_writers_stops_with_an_error() {
    let world = World::new();
    let app = world.app();
    insert(&app, 10);
    let first = world.start();
    settle(&first).await;
    let (clone, clone_app, second) = rival(&world).await;
    insert(&app, 2);
    first.sync_now();
    ends_with_an_error(first).await;
    insert(&clone_app, 3);
    stop(second).await;
    clone.assert_equal(&clone_app).await;
}

/// Found by simulation (seed 3002247): the rival's file of the next transaction was gone again, so that ours was taken,
/// and a restore gave the rival's state.
#[tokio::test(flavor = "multi_thread")]
async fn a_loser_that_slept_until_the_winners_file_was_deleted_stops_as_well() {
    let mut world = World::new();
    world.options.l0_retention = Duration::from_millis(400);
    let app = world.app();
    insert(&app, 10);
    let first = world.start();
    settle(&first).await;
    let next = first.status().borrow().replicated_txid.unwrap().next();
    let (_clone, clone_app, second) = rival(&world).await;
    insert(&clone_app, 3);
    settle(&second).await;
    let key = LtxName::l0(next).key(world.bucket.layout());
    assert!(world.bucket.head(&key).await.unwrap().is_some(), "the rival has taken it");
    world.bucket.delete(std::slice::from_ref(&key)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    insert(&app, 2);
    first.sync_now();
    ends_with_an_error(first).await;
    assert!(world.bucket.head(&key).await.unwrap().is_none(), "nothing of ours among the rival's");
    drop(second);
}

/// Found by simulation (seed 4002184): the snapshot of the loser's state stayed under the winner's transaction id, and
/// points in time were restored from it.
#[tokio::test(flavor = "multi_thread")]
async fn a_loser_publishes_no_snapshot_of_a_transaction_that_is_not_its_own() {
    let world = World::new();
    let app = world.app();
    insert(&app, 10);
    let handle = world.start();
    settle(&handle).await;
    let next = handle.status().borrow().replicated_txid.unwrap().next();
    let layout = world.bucket.layout();
    let foreign = Bytes::from_static(b"not ours");
    let key = LtxName::l0(next).key(layout);
    world.bucket.put(&key, foreign, PutCondition::IfAbsent, PutOptions::default()).await.unwrap();
    insert(&app, 1);
    let snapshot = tokio::time::timeout(Duration::from_secs(60), handle.upkeep().snapshot()).await;
    assert!(snapshot.unwrap().is_err());
    assert!(world.bucket.head(&LtxName::snapshot(next).key(layout)).await.unwrap().is_none());
    assert!(handle.stop(Duration::from_secs(1)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_fails_while_the_store_lacks_something() {
    let world = World::new();
    let app = world.app();
    insert(&app, 10);
    let handle = world.start();
    settle(&handle).await;
    stop(handle).await;
    // Somebody takes the next key, so the next file cannot be published.
    let key = LtxName::l0(Txid(3)).key(world.bucket.layout());
    let handle = world.start();
    settle(&handle).await;
    let put = world.bucket.put(
        &key,
        Bytes::from_static(b"not ours"),
        PutCondition::Overwrite,
        PutOptions::default(),
    );
    put.await.unwrap();
    insert(&app, 1);
    tokio::time::sleep(Duration::from_millis(200)).await;
    insert(&app, 1);
    assert!(handle.stop(Duration::from_secs(2)).await.is_err());
}

/// Found on real servers and by simulation: the snapshot stood for a state that the other's transaction never had, and a
/// restore in that moment mixed the two.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_copy_that_lost_the_race_leaves_no_snapshot() {
    let mut world = World::new();
    let app = world.app();
    insert(&app, 10);
    let handle = world.start();
    settle(&handle).await;
    stop(handle).await;
    forget_local_state(&world);
    let layout = world.bucket.layout();
    let taken = world.bucket.list("", None).await.unwrap().len() as u64 + 1;
    let mischief = Mischief::none(&world.bucket);
    *mischief.taken.lock().unwrap() = Some(LtxName::l0(Txid(taken)).key(layout));
    world.bucket = Arc::new(mischief);
    let handle = world.start();
    settle(&handle).await;
    stop(handle).await;
    let keys: Vec<String> =
        world.bucket.list("", None).await.unwrap().into_iter().map(|object| object.key).collect();
    assert!(keys.contains(&LtxName::l0(Txid(taken)).key(layout)), "{keys:?}");
    assert!(!keys.contains(&LtxName::snapshot(Txid(taken)).key(layout)), "{keys:?}");
    assert!(keys.contains(&LtxName::snapshot(Txid(taken + 1)).key(layout)), "{keys:?}");
}

/// Its first chunks are sent before the damage is found.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_staged_file_that_the_disk_spoiled_is_never_published() {
    let world = World::new();
    let app = world.app();
    let handle = world.start();
    settle(&handle).await;
    app.execute("INSERT INTO t(v) VALUES (randomblob(7000000))", []).unwrap();
    settle(&handle).await;
    let txid = handle.status().borrow().replicated_txid.unwrap();
    stop(handle).await;
    let key = LtxName::l0(txid).key(world.bucket.layout());
    world.bucket.delete(std::slice::from_ref(&key)).await.unwrap();
    let state = world.options.meta_dir.join("replicator");
    let disk = os::host().disk;
    let names = disk.read_dir(&state).unwrap();
    let name = names.into_iter().find(|entry| entry.name.starts_with(&txid.to_string())).unwrap().name;
    let file = disk.open(&state.join(name), crate::host::OpenMode::ReadWrite).unwrap();
    let at = file.metadata().unwrap().len - 1000;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    let handle = world.start();
    settle(&handle).await;
    assert!(handle.status().borrow().replicated_txid.unwrap() >= txid, "a full copy took its place");
    stop(handle).await;
    world.assert_equal(&app).await;
}

/// Found by simulation (seed 156 with old local state): the snapshot hid the file that had got its transaction, and a
/// restore gave a state older than what was reported as replicated.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_left_by_a_killed_full_copy_is_not_taken_for_our_transaction() {
    let world = World::new();
    let (app, handle) = replicating(&world).await;
    let newest = handle.status().borrow().replicated_txid.unwrap();
    stop(handle).await;
    leave(&world, LtxName::snapshot(newest.next())).await;
    insert(&app, 5);
    // The last connection to close deletes the log: the next start compares, and stages the difference at once.
    drop(app);
    let handle = world.start();
    settle(&handle).await;
    assert!(handle.status().borrow().replicated_txid.unwrap() > newest.next());
    until_passed(&world, newest.next()).await;
    stop(handle).await;
    world.assert_equal(&world.app()).await;
}

/// A file that somebody else, or a former life of ours, has left in the replica.
async fn leave(world: &World, name: LtxName) {
    let key = name.key(world.bucket.layout());
    let (body, options) = (Bytes::from(vec![7; 4096]), PutOptions::default());
    world.bucket.put(&key, body, PutCondition::IfAbsent, options).await.unwrap();
}

/// Waits for a snapshot above that one. Without it, a restore has to make do with what cannot be read.
async fn until_passed(world: &World, txid: Txid) {
    for _ in 0..400 {
        let inventory = Inventory::load(world.bucket.as_ref()).await.unwrap();
        if inventory.newest_snapshot().is_some_and(|entry| entry.name.max > txid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no snapshot above {txid}");
}

/// Found by simulation (seed 100032587): the store applied the upload of a killed replicator late, above the full copy of its
/// successor, who took the snapshot for its own, deleted what it seemed to replace, and applied its files to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_appears_above_the_chain_is_not_taken_for_ours() {
    for is_silent in [true, false] {
        let mut world = World::new();
        if is_silent {
            // Nothing seen in the store is trusted for long.
            world.options.l0_retention = Duration::from_millis(1);
        }
        let (app, handle) = replicating(&world).await;
        let passed = handle.status().borrow().replicated_txid.unwrap().next();
        leave(&world, LtxName::snapshot(passed)).await;
        // One transaction: the name of its snapshot is taken.
        insert(&app, 1);
        settle(&handle).await;
        if !is_silent {
            let error = handle.upkeep().snapshot().await.unwrap_err();
            assert!(error.to_string().contains("another replicator"), "{error}");
            until(&handle, "a full copy", |status| status.replicated_txid > Some(passed)).await;
        }
        assert!(handle.status().borrow().replicated_txid.unwrap() > passed, "{is_silent}");
        until_passed(&world, passed).await;
        world.assert_equal(&app).await;
        stop(handle).await;
    }
}

/// A rival's full copy is no leftover: going above it, the two would push each other up for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_with_its_transaction_is_a_rivals_and_ends_replication() {
    let world = World::new();
    let (_app, handle) = replicating(&world).await;
    let theirs = handle.status().borrow().replicated_txid.unwrap().next();
    for name in [LtxName::snapshot(theirs), LtxName::l0(theirs)] {
        leave(&world, name).await;
    }
    // As maintenance does that has seen the snapshot.
    handle.upkeep().shared.stranger.send_replace(Some(LtxName::snapshot(theirs)));
    until(&handle, "the end", |status| status.phase == Phase::Stopped).await;
    assert_eq!(world.bucket.list("", None).await.unwrap().len(), 3, "nothing of ours above it");
}

/// The same, when maintenance looks at the store anew, because an upload of its own has failed.
#[tokio::test(flavor = "multi_thread")]
async fn maintenance_deletes_nothing_because_of_a_snapshot_that_is_not_ours() {
    let mut world = World::new();
    world.options.levels = vec![Duration::from_millis(100)];
    world.options.snapshot_interval = Duration::from_millis(300);
    let mischief = Mischief::before(&mut world);
    let (app, handle) = replicating(&world).await;
    let passed = Txid(handle.status().borrow().replicated_txid.unwrap().0 + 1000);
    leave(&world, LtxName::snapshot(passed)).await;
    mischief.loses_snapshot.store(true, Ordering::SeqCst);
    for _ in 0..200 {
        insert(&app, 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
        if handle.status().borrow().replicated_txid > Some(passed) {
            break;
        }
    }
    settle(&handle).await;
    assert!(handle.status().borrow().replicated_txid.unwrap() > passed);
    until_passed(&world, passed).await;
    stop(handle).await;
    world.assert_equal(&app).await;
}

/// Found by simulation (seed 1424, power loss right after a full copy): the old files and the next one were queued for
/// upload with the full copy missing between them, and replication ended in a panic.
#[tokio::test(flavor = "multi_thread")]
async fn staged_files_that_come_back_after_a_full_copy_are_not_queued() {
    let world = World::new();
    let app = world.app();
    let handle = world.start();
    for _ in 0..3 {
        insert(&app, 5);
        settle(&handle).await;
    }
    stop(handle).await;
    let state = world.options.meta_dir.join("replicator");
    let disk = os::host().disk;
    let mut old = Vec::new();
    for entry in disk.read_dir(&state).unwrap() {
        if local::Staged::parse(&entry.name).is_some_and(|file| !file.is_base) {
            let file = disk.open(&state.join(&entry.name), crate::host::OpenMode::Read).unwrap();
            let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            old.push((entry.name, bytes));
        }
    }
    assert!(!old.is_empty());
    let objects = world.bucket.list("", None).await.unwrap();
    let keys: Vec<String> = objects.into_iter().map(|object| object.key).collect();
    world.bucket.delete(&keys).await.unwrap();
    let handle = world.start();
    settle(&handle).await;
    let base = handle.status().borrow().replicated_txid.unwrap();
    stop(handle).await;
    for (name, bytes) in old {
        let file = disk.open(&state.join(name), crate::host::OpenMode::Truncate).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
    }
    insert(&app, 5);
    // The last connection to close deletes the log: the next start stages the difference before it queues anything.
    drop(app);
    let handle = world.start();
    settle(&handle).await;
    assert_eq!(handle.status().borrow().replicated_txid, Some(base.next()), "the chain goes on");
    stop(handle).await;
    world.assert_equal(&world.app()).await;
}

/// A simulated application that wrote more than one batch while a first full copy was under way: the first file of the
/// rest was reported with the time at which copying began, as if it held all of it.
#[tokio::test]
async fn only_the_last_of_the_files_that_a_long_log_becomes_holds_everything() {
    let mut world = World::new();
    let app = world.app();
    insert(&app, 1);
    let handle = world.start();
    settle(&handle).await;
    stop(handle).await;
    world.options.max_batch_bytes = 32 << 10;
    let (host, options) = (os::host(), world.options.clone());
    let started = os::host().blocking(move || session::start(&host, &options, None, &mut None)).await;
    let session::Start::Ready { mut session, .. } = started.unwrap() else { panic!("nothing was lost") };
    insert(&app, 60);
    let mut told = Vec::new();
    session.capture(&mut |staged, is_everything| told.push((staged.txid, is_everything))).unwrap();
    let (last, first) = told.split_last().unwrap();
    assert!(first.len() >= 3, "{told:?}");
    assert!(last.1 && first.iter().all(|(_, is_everything)| !is_everything), "{told:?}");
}

/// Flips a bit in the time of the newest local file: the eight bytes from 32 on, in milliseconds.
fn spoil_newest_time(world: &World) {
    let local = local::LocalState::peek(os::host().disk, &world.options.meta_dir);
    let newest = *local.staged().unwrap().last().unwrap();
    let path = local.path(&newest.name());
    let file = local.disk().open(&path, crate::host::OpenMode::ReadWrite).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 34).unwrap();
    file.write_all_at(&[byte[0] ^ 4], 34).unwrap();
}

/// Found by simulation (seed 32010970): the full copy that took its place was dated by it.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_staged_file_that_the_disk_spoiled_is_not_believed() {
    let world = World::new();
    let app = world.app();
    insert(&app, 3);
    let handle = world.start();
    settle(&handle).await;
    insert(&app, 1);
    stop(handle).await;
    spoil_newest_time(&world);
    let handle = world.start();
    settle(&handle).await;
    insert(&app, 1);
    stop(handle).await;
    let now = restore::Target::Timestamp(UnixMillis(os::host().clock.now().0 + 1));
    let restored = world.restore(now).await.unwrap();
    assert!(dump(&Connection::open(restored).unwrap()) == dump(&app), "what follows is dated later");
}

/// Found by simulation (seed 1001655): a flipped bit in its time dated what followed into the future.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_a_full_copy_that_the_disk_spoiled_is_not_believed() {
    let world = World::new();
    let app = world.app();
    insert(&app, 3);
    let handle = world.start();
    settle(&handle).await;
    let before = handle.status().borrow().replicated_txid.unwrap();
    stop(handle).await;
    spoil_newest_time(&world);
    let handle = world.start();
    settle(&handle).await;
    assert!(handle.status().borrow().replicated_txid.unwrap() > before, "a full copy takes its place");
    stop(handle).await;
    world.assert_equal(&app).await;
}

fn staged(world: &World) -> Vec<local::Staged> {
    local::LocalState::peek(os::host().disk, &world.options.meta_dir).staged().unwrap()
}

/// It used to count as a staged file that is gone: a full copy took the place of all that was staged.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_find_something_is_no_damage_here() {
    let mut world = World::new();
    let store = Mischief::before(&mut world);
    let (app, handle) = replicating(&world).await;
    let before = handle.status().borrow().replicated_txid.unwrap();
    store.is_lost.store(true, Ordering::SeqCst);
    insert(&app, 1);
    settle(&handle).await;
    assert!(!store.is_lost.load(Ordering::SeqCst), "it was asked");
    assert_eq!(handle.status().borrow().replicated_txid, Some(before.next()), "the same file once more");
    stop(handle).await;
    assert!(staged(&world).iter().all(|file| !file.is_base || file.txid == Txid(1)), "{:?}", staged(&world));
    world.assert_equal(&app).await;
}

/// It used to count as the same file, and the chain went on from a transaction that was another's.
#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_the_store_did_not_make_is_made_again() {
    let mut world = World::new();
    let store = Mischief::before(&mut world);
    let (app, handle) = replicating(&world).await;
    insert(&app, 1);
    stop(handle).await;
    let newest = staged(&world).last().unwrap().txid;
    let (key, foreign) = (LtxName::l0(newest).key(world.bucket.layout()), Bytes::from(vec![7; 4096]));
    world.bucket.put(&key, foreign, PutCondition::Overwrite, PutOptions::default()).await.unwrap();
    store.is_lost.store(true, Ordering::SeqCst);
    let handle = world.start();
    settle(&handle).await;
    // Until there is one, a restore reads the foreign file.
    handle.upkeep().snapshot().await.unwrap();
    stop(handle).await;
    assert!(!store.is_lost.load(Ordering::SeqCst), "it was asked");
    assert!(staged(&world).iter().any(|file| file.is_base && file.txid > newest), "{:?}", staged(&world));
    world.assert_equal(&app).await;
}
