//! What happens while the replicator is down must not be lost, and must not cost a full copy if it can be avoided.

use super::*;
use crate::host::OpenMode;

const MODES: [&str; 4] = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"];

/// Ends replication as a kill does: no final sync.
async fn kill(handle: Handle) {
    drop(handle);
    // Blocking work that has begun runs to its end; wait for the connections to be closed.
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Sizes of the level-0 files.
async fn object_sizes(world: &World) -> Vec<u64> {
    let inventory = crate::replica::Inventory::load(world.bucket.as_ref()).await.unwrap();
    inventory.level(crate::replica::Level::L0).map(|entry| entry.size).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_restarted_any_number_of_times_while_down() {
    for restarts in 0..=3 {
        for (run, mode) in [(2, "PASSIVE"), (20, "FULL"), (60, "RESTART"), (35, "TRUNCATE")] {
            let world = World::new();
            let app = world.app();
            insert(&app, 20);
            let handle = world.start();
            settle(&handle).await;
            app.execute("UPDATE t SET v = randomblob(900)", []).unwrap();
            settle(&handle).await;
            kill(handle).await;
            for _ in 0..restarts {
                app.execute("UPDATE t SET v = randomblob(900) WHERE id % 2", []).unwrap();
                checkpoint(&app, mode);
                insert(&app, run);
            }
            let handle = world.start();
            settle(&handle).await;
            world.assert_equal(&app).await;
            insert(&app, 1);
            stop(handle).await;
            world.assert_equal(&app).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_changes_publishes_nothing() {
    let world = World::new();
    let app = world.app();
    insert(&app, 50);
    let handle = world.start();
    settle(&handle).await;
    insert(&app, 1);
    stop(handle).await;
    let before = object_sizes(&world).await;
    let handle = world.start();
    settle(&handle).await;
    stop(handle).await;
    assert_eq!(object_sizes(&world).await, before);
}

/// Found by simulation (seed 2000411): the next snapshot was dated later than its state, and the moments before it could
/// not be asked for once level 0 was gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_finds_nothing_does_not_date_the_next_snapshot() {
    let world = World::new();
    let app = world.app();
    insert(&app, 10);
    let handle = world.start();
    settle(&handle).await;
    insert(&app, 1);
    stop(handle).await;
    // The last connection to close deletes the log: the next start compares.
    drop(app);
    let copied = os::host().clock.now();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let handle = world.start();
    settle(&handle).await;
    handle.upkeep().snapshot().await.unwrap();
    stop(handle).await;
    let inventory = crate::replica::Inventory::load(world.bucket.as_ref()).await.unwrap();
    let dated = inventory.newest_snapshot().unwrap().modified.unwrap();
    assert!(dated <= copied, "{dated:?} is later than {copied:?}");
}

/// Found by review: the next writer could restart the log before its end was copied, for nothing held it any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_copied_back_before_it_was_copied_is_not_gone_on_with() {
    let world = World::new();
    let app = world.app();
    insert(&app, 10);
    let handle = world.start();
    settle(&handle).await;
    stop(handle).await;
    let start = || match session::start(&os::host(), &world.options, None, &mut None).unwrap() {
        session::Start::Ready { session, how, .. } => (session, how),
        _ => panic!("the chain is known"),
    };
    let (mut session, _) = start();
    insert(&app, 5);
    // A commit while copying goes on is under the next pin, and in no file.
    session.capture(&mut |_, _| insert(&app, 1)).unwrap();
    checkpoint(&app, "PASSIVE");
    session.check_files().unwrap();
    drop(session);
    let (session, how) = start();
    assert_eq!(how, "changed pages were staged");
    drop(session);
    let handle = world.start();
    settle(&handle).await;
    stop(handle).await;
    world.assert_equal(&app).await;
}

/// Found by simulation (seed 6001873): the frame of the position was still in the file, behind the end that SQLite had found
/// after a power loss, and copying never went on.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_before_the_position_since_a_power_loss_is_not_gone_on_with() {
    let world = World::new();
    let app = world.app();
    insert(&app, 10);
    let handle = world.start();
    settle(&handle).await;
    insert(&app, 5);
    settle(&handle).await;
    kill(handle).await;
    app.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    drop(app);
    // A frame near the beginning never reached the disk, and those behind it did.
    let wal =
        os::host().disk.open(&crate::host::with_suffix(world.db(), "-wal"), OpenMode::ReadWrite).unwrap();
    wal.write_all_at(&[0xaa; 100], 32 + 2 * 4120 + 200).unwrap();
    drop(wal);
    let start = session::start(&os::host(), &world.options, None, &mut None).unwrap();
    let session::Start::Ready { session, how, .. } = start else { panic!("the chain is known") };
    let at = (session.chain().newest.position, session.source().index());
    assert_eq!(how, "changed pages were staged", "{at:?}");
    drop(session);
    let handle = world.start();
    let app = world.app();
    insert(&app, 10);
    settle(&handle).await;
    stop(handle).await;
    world.assert_equal(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_deleted_by_the_last_closer_costs_only_the_changed_pages() {
    let world = World::new();
    let app = world.app();
    insert(&app, 400);
    let handle = world.start();
    settle(&handle).await;
    stop(handle).await;
    let before = object_sizes(&world).await;
    app.execute("UPDATE t SET v = zeroblob(10) WHERE id = 7", []).unwrap();
    // The last connection to close checkpoints and deletes the log.
    drop(app);
    assert!(os::host().disk.metadata(&crate::host::with_suffix(world.db(), "-wal")).is_err());
    let handle = world.start();
    settle(&handle).await;
    stop(handle).await;
    let after = object_sizes(&world).await;
    assert_eq!(after.len(), before.len() + 1);
    let total: u64 = after.iter().sum::<u64>() - before.iter().sum::<u64>();
    assert!(total < 40_000, "only changed pages are published: {total} bytes");
    world.assert_equal(&world.app()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_file_put_back_is_followed_and_the_newer_state_stays_restorable() {
    let world = World::new();
    let app = world.app();
    insert(&app, 30);
    let handle = world.start();
    settle(&handle).await;
    stop(handle).await;
    checkpoint(&app, "TRUNCATE");
    drop(app);
    let backup = world.dir.path().join("backup.db");
    copy(world.db(), &backup);
    let app = world.app();
    app.execute("UPDATE t SET v = randomblob(700)", []).unwrap();
    let newer = dump(&app);
    let handle = world.start();
    settle(&handle).await;
    let newer_txid = handle.status().borrow().replicated_txid.unwrap();
    stop(handle).await;
    checkpoint(&app, "TRUNCATE");
    drop(app);
    copy(&backup, world.db());
    let handle = world.start();
    settle(&handle).await;
    let app = world.app();
    insert(&app, 1);
    settle(&handle).await;
    world.assert_equal(&app).await;
    stop(handle).await;
    let restored = world.restore(restore::Target::Txid(newer_txid)).await.unwrap();
    assert_eq!(dump(&Connection::open(restored).unwrap()), newer);
}

#[tokio::test(flavor = "multi_thread")]
async fn journal_mode_switched_away_and_back_while_down() {
    for mode in MODES {
        let world = World::new();
        let app = world.app();
        insert(&app, 30);
        let handle = world.start();
        settle(&handle).await;
        kill(handle).await;
        checkpoint(&app, mode);
        app.execute_batch("PRAGMA journal_mode=DELETE").unwrap();
        insert(&app, 5);
        app.execute("DELETE FROM t WHERE id < 9", []).unwrap();
        app.execute_batch("PRAGMA journal_mode=WAL").unwrap();
        insert(&app, 2);
        let handle = world.start();
        settle(&handle).await;
        world.assert_equal(&app).await;
        stop(handle).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "the test stands for an operator")]
fn copy(from: &Path, to: &Path) {
    std::fs::write(to, std::fs::read(from).unwrap()).unwrap();
}

/// Found by comparing the application's waits with and without the replicator: such a checkpoint holds the write lock
/// while it waits for readers, and waited for our pin as long as its busy timeout allowed.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_the_application_that_restarts_the_log_waits_for_a_tick_at_most() {
    let world = World::new();
    let app = world.app();
    app.busy_timeout(Duration::from_secs(5)).unwrap();
    let handle = world.start();
    for mode in ["RESTART", "TRUNCATE"] {
        insert(&app, 20);
        settle(&handle).await;
        // While another checkpoint runs SQLite says busy at once, so it is asked more than once.
        let busy = (0..4).all(|_| {
            let ask = format!("PRAGMA wal_checkpoint({mode})");
            app.query_row(&ask, [], |row| row.get::<_, i64>(0)).unwrap() != 0
        });
        assert!(!busy, "{mode}");
    }
    insert(&app, 20);
    settle(&handle).await;
    world.assert_equal(&app).await;
    stop(handle).await;
}

/// The log used to be pinned for ever, so that it grew without bound and no checkpoint could get past the frame.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_frame_does_not_pin_the_log_for_ever() {
    let world = World::new();
    let app = world.app();
    insert(&app, 10);
    let handle = world.start();
    settle(&handle).await;
    stop(handle).await;
    let session::Start::Ready { session, .. } =
        session::start(&os::host(), &world.options, None, &mut None).unwrap()
    else {
        panic!("the chain is known")
    };
    let frames = u64::from(session.source().index().unwrap().max_frame);
    drop(session);
    insert(&app, 3);
    // Its checksum, which SQLite does not look at when it reads.
    let wal =
        os::host().disk.open(&crate::host::with_suffix(world.db(), "-wal"), OpenMode::ReadWrite).unwrap();
    wal.write_all_at(&[0xaa; 8], 32 + frames * 4120 + 16).unwrap();
    let before = log_salt(&world);
    let handle = world.start();
    until(&handle, "it is told", |status| {
        status.error().is_some_and(|error| error.contains("does not match its checksum"))
    })
    .await;
    let is_over = async {
        while log_salt(&world) == before {
            checkpoint(&app, "PASSIVE");
            insert(&app, 1);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), is_over).await.expect("the log starts over");
    settle(&handle).await;
    stop(handle).await;
    world.assert_equal(&app).await;
}

/// Only the last two directories used to be.
#[test]
fn local_state_lasts_however_deep_it_is() {
    let root = tempfile::tempdir().unwrap();
    let mut host = os::host();
    let disk = stopping::Hanging::new(&host);
    let synced = Arc::clone(&disk.synced);
    host.disk = Arc::new(disk);
    let path = |below: &str| root.path().join(below);
    let lock = lock::StateLock::take(host.disk.as_ref(), &path("a/b/c/meta")).unwrap();
    local::LocalState::open(Arc::clone(&host.disk), &path("a/b/c/meta")).unwrap();
    drop(lock);
    let synced = synced.lock().unwrap();
    for dir in [root.path(), &path("a"), &path("a/b"), &path("a/b/c"), &path("a/b/c/meta")] {
        assert!(synced.contains(dir), "{}: {synced:?}", dir.display());
    }
}

/// Of file systems that are on no device of their own, the number may be another after each boot: that used to cost a
/// comparison of all pages.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_known_by_another_device_number() {
    let world = World::new();
    let app = world.app();
    insert(&app, 10);
    let handle = world.start();
    settle(&handle).await;
    stop(handle).await;
    let disk = os::host().disk;
    let path = world.options.meta_dir.join("replicator/facts");
    let db = disk.metadata(world.db()).unwrap();
    let known = format!("{:x} {:x} {:x}", db.inode, db.len, db.changed_nanos);
    let other = format!("{:x} {:x} {:x}", db.inode, db.len, db.changed_nanos + 1);
    let as_before = format!("{:x} {known}", db.device + 1);
    for (saved, is_known) in [
        (format!("{known}\n"), true),
        (format!("{as_before}\n"), true),
        (known, false),
        (as_before, false),
        (format!("{other}\n"), false),
        (format!("{:x} {other}\n", db.device), false),
    ] {
        let file = disk.open(&path, OpenMode::Truncate).unwrap();
        file.write_all_at(saved.as_bytes(), 0).unwrap();
        let start = session::start(&os::host(), &world.options, None, &mut None).unwrap();
        let session::Start::Ready { how, .. } = start else { panic!("the chain is known") };
        assert_eq!(how == "the log continues", is_known, "{saved:?}: {how}");
    }
}
