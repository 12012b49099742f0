//! Replication end to end on real files, with this process as the application and memory as the store.

mod away;
mod clock;
mod continuity;
mod cycle;
mod full_disk;
mod lagging;
mod maintenance;
mod mischief;
mod replaced;
mod stopping;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::*;
use crate::bucket::{Bucket, memory::MemoryBucket};
use crate::error::{ErrorKind, Result};
use crate::host::os;
use crate::ltx::Txid;
use crate::restore;

/// A database, its application and its replica.
struct World {
    dir: tempfile::TempDir,
    bucket: Arc<dyn Bucket>,
    options: Options,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new(dir.path().join("app.db"));
        options.monitor_interval = Duration::from_millis(20);
        options.sync_interval = Duration::from_millis(10);
        Self { dir, bucket: Arc::new(MemoryBucket::new()), options }
    }

    fn db(&self) -> &Path {
        &self.options.db
    }

    fn app(&self) -> Connection {
        open_app(self.db())
    }

    fn start(&self) -> Handle {
        start(os::host(), self.options.clone(), Arc::clone(&self.bucket), Turns::default())
    }

    /// Restores and returns the file.
    async fn restore(&self, target: restore::Target) -> Result<PathBuf> {
        let output = self.dir.path().join("restored.db");
        let mut options = restore::Options::new(&output);
        options.force = true;
        options.target = target;
        restore::run(&os::host(), Arc::clone(&self.bucket), options, &restore::NoProgress).await?;
        Ok(output)
    }

    /// Asserts that the latest restore has exactly the rows of the live database.
    async fn assert_equal(&self, app: &Connection) {
        let restored = self.restore(restore::Target::Latest).await.unwrap();
        assert_eq!(dump(&Connection::open(restored).unwrap()), dump(app));
    }
}

fn open_app(path: &Path) -> Connection {
    let app = Connection::open(path).unwrap();
    app.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=2000;
         CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, v BLOB);
         CREATE INDEX IF NOT EXISTS ti ON t(v);",
    )
    .unwrap();
    app
}

fn insert(app: &Connection, rows: u32) {
    for _ in 0..rows {
        app.execute("INSERT INTO t(v) VALUES (randomblob(900))", []).unwrap();
    }
}

fn checkpoint(app: &Connection, mode: &str) {
    app.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())).unwrap();
}

fn dump(db: &Connection) -> Vec<(i64, Vec<u8>)> {
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let mut statement = db.prepare("SELECT id, v FROM t ORDER BY id").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(|row| row.unwrap()).collect()
}

/// Waits until everything committed so far is reported as replicated.
async fn settle(handle: &Handle) {
    let mut status = handle.status();
    let since = os::host().clock.now();
    handle.sync_now();
    let settled = status.wait_for(|status| {
        status.last_sync.is_some_and(|at| at > since) && status.local_txid == status.replicated_txid
    });
    let outcome = tokio::time::timeout(Duration::from_secs(20), settled).await.map(|result| result.is_ok());
    assert_eq!(outcome, Ok(true), "not replicated in time: {:?}", handle.status().borrow());
}

/// An application with some rows, and a replicator that has replicated them.
async fn replicating(world: &World) -> (Connection, Handle) {
    let app = world.app();
    insert(&app, 10);
    let handle = world.start();
    settle(&handle).await;
    (app, handle)
}

/// Asserts that replication ends by itself, and that its end is told as that of a panic.
async fn assert_panicked(handle: Handle) {
    until(&handle, "over", |status| status.state() == State::Stopped).await;
    let error = handle.stop(Duration::from_secs(5)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Internal && error.to_string().contains("panic"), "{error}");
}

/// Waits until the status says something, within reason.
async fn until(handle: &Handle, what: &str, is: impl FnMut(&Status) -> bool) {
    let mut status = handle.status();
    let reached = tokio::time::timeout(Duration::from_secs(20), status.wait_for(is)).await;
    let is_reached = reached.is_ok_and(|reached| reached.is_ok());
    assert!(is_reached, "{what}: {:?}", handle.status().borrow());
}

async fn stop(handle: Handle) {
    handle.stop(Duration::from_secs(20)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_restored() {
    let world = World::new();
    let app = world.app();
    insert(&app, 10);
    let handle = world.start();
    settle(&handle).await;
    world.assert_equal(&app).await;
    insert(&app, 50);
    app.execute("UPDATE t SET v = randomblob(500) WHERE id % 3 = 0", []).unwrap();
    settle(&handle).await;
    world.assert_equal(&app).await;
    insert(&app, 5);
    stop(handle).await;
    world.assert_equal(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_of_both_sides_lose_nothing() {
    let mut world = World::new();
    world.options.min_checkpoint_pages = 20;
    let app = world.app();
    let handle = world.start();
    for round in 0..30 {
        insert(&app, 7);
        if round % 3 == 0 {
            checkpoint(&app, ["PASSIVE", "FULL", "RESTART", "TRUNCATE"][round / 3 % 4]);
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    settle(&handle).await;
    world.assert_equal(&app).await;
    assert!(handle.status().borrow().passive_checkpoints.count > 3);
    // Once there is a pause, the next writer restarts the log.
    let before = log_salt(&world);
    for _ in 0..200 {
        insert(&app, 1);
        if log_salt(&world) != before {
            stop(handle).await;
            world.assert_equal(&app).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the log never restarts");
}

/// Salt-1 of the log, which grows with each restart.
fn log_salt(world: &World) -> Vec<u8> {
    let wal = crate::host::with_suffix(world.db(), "-wal");
    let mut salt = vec![0; 4];
    os::host().disk.open(&wal, crate::host::OpenMode::Read).unwrap().read_exact_at(&mut salt, 16).unwrap();
    salt
}

#[tokio::test(flavor = "multi_thread")]
async fn growth_shrink_and_vacuum_are_followed() {
    let world = World::new();
    let app = world.app();
    let handle = world.start();
    insert(&app, 200);
    settle(&handle).await;
    app.execute("DELETE FROM t WHERE id > 20", []).unwrap();
    app.execute_batch("VACUUM").unwrap();
    settle(&handle).await;
    world.assert_equal(&app).await;
    insert(&app, 100);
    app.execute_batch("DELETE FROM t WHERE id > 50; VACUUM;").unwrap();
    insert(&app, 300);
    settle(&handle).await;
    world.assert_equal(&app).await;
    stop(handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transaction_boundary_is_restorable() {
    let world = World::new();
    let app = world.app();
    let handle = world.start();
    let mut states = Vec::new();
    for _ in 0..6 {
        insert(&app, 3);
        settle(&handle).await;
        let txid = handle.status().borrow().replicated_txid.unwrap();
        states.push((txid, dump(&app)));
    }
    stop(handle).await;
    for (txid, rows) in states {
        let restored = world.restore(restore::Target::Txid(txid)).await.unwrap();
        assert_eq!(dump(&Connection::open(restored).unwrap()), rows, "at {txid}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_appears_later_is_picked_up() {
    let world = World::new();
    let handle = world.start();
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(handle.status().borrow().state(), State::WaitingForDatabase);
    let app = world.app();
    insert(&app, 4);
    settle(&handle).await;
    world.assert_equal(&app).await;
    stop(handle).await;
}

/// SQLite has the log beside the file that the link leads to. Local state stays beside the link.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_behind_a_link_is_replicated() {
    let world = World::new();
    let home = world.dir.path().join("home");
    os::host().disk.create_dir_all(&home, 0o700).unwrap();
    let app = open_app(&home.join("real.db"));
    std::os::unix::fs::symlink("home/real.db", world.db()).unwrap();
    insert(&app, 10);
    let handle = world.start();
    settle(&handle).await;
    insert(&app, 10);
    settle(&handle).await;
    checkpoint(&app, "TRUNCATE");
    insert(&app, 10);
    stop(handle).await;
    world.assert_equal(&app).await;
    let meta = world.dir.path().join(".app.db-litestream/replicator");
    assert!(os::host().disk.metadata(&meta).is_ok_and(|meta| meta.is_dir));
    let handle = world.start();
    settle(&handle).await;
    // The link leads elsewhere.
    let other = open_app(&world.dir.path().join("other.db"));
    insert(&other, 3);
    os::host().disk.remove_file(world.db()).unwrap();
    std::os::unix::fs::symlink("other.db", world.db()).unwrap();
    settle(&handle).await;
    stop(handle).await;
    world.assert_equal(&other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_size_works() {
    for page_size in [512, 1024, 8192, 65536] {
        let world = World::new();
        let app = Connection::open(world.db()).unwrap();
        app.execute_batch(&format!("PRAGMA page_size={page_size}")).unwrap();
        drop(app);
        let app = world.app();
        app.execute_batch(&format!(
            "PRAGMA page_size={page_size}; PRAGMA journal_mode=DELETE; VACUUM; PRAGMA journal_mode=WAL;"
        ))
        .unwrap();
        insert(&app, 20);
        let handle = world.start();
        settle(&handle).await;
        insert(&app, 20);
        stop(handle).await;
        let size: i64 = app.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
        assert_eq!(size, page_size);
        world.assert_equal(&app).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_without_a_database_is_no_failure() {
    let world = World::new();
    let handle = world.start();
    tokio::time::sleep(Duration::from_millis(50)).await;
    handle.stop(Duration::from_secs(1)).await.unwrap();
    assert!(world.restore(restore::Target::Txid(Txid(1))).await.is_err());
}
