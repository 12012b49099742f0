//! The operator: restores on another machine, and meddles with files.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use replicator::host::{Disk, UnixMillis, with_suffix};
use replicator::restore::{self, NoProgress, Options, Report, Target};
use replicator::sync::default_meta_dir;

use super::world::World;
use crate::app::DATABASE;
use crate::clock::{EPOCH_MILLIS, WallClock};
use crate::disk::{Process, ProcessDisk};
use crate::events::Mark;
use crate::evidence::{Asked, RestoreError, RestoreRun};
use crate::history::image_of_file;
use crate::oracles::CATCH_UP_MILLIS;
use crate::simhost;
use crate::vfs::Vfs;

/// A restore may take so long, in simulated milliseconds.
const RESTORE_LIMIT_MILLIS: u64 = 600_000;

/// Restores at the planned times: the latest state, and a moment before.
pub async fn spot_restores(world: Rc<World>) {
    for (n, at) in world.plan.restores.clone().into_iter().enumerate() {
        let now = world.context.timeline.millis();
        tokio::time::sleep(Duration::from_millis(at.saturating_sub(now))).await;
        restore(&world, Asked::Latest).await;
        if !world.clock_was_wrong.get() {
            let millis = 1 + world.context.choices.below("restore.moment", n as u64, at.max(1));
            restore(&world, Asked::Before(millis)).await;
        }
    }
}

/// Restores until the newest state comes out; returns how long after healing, or `None` past the bound.
pub async fn catch_up(world: &Rc<World>) -> Option<u64> {
    let started = world.context.timeline.millis();
    let head = world.history.head()?;
    let image = world.history.state(head).image;
    loop {
        restore(world, Asked::Latest).await;
        let last = world.restores.borrow().last().cloned().expect("just pushed");
        if let Ok((bytes, _)) = &last.outcome
            && image_of_file(bytes) == Some(image)
        {
            return Some(last.ended_millis - started);
        }
        if last.ended_millis - started > CATCH_UP_MILLIS {
            return None;
        }
        // Only the last attempt is evidence of its own; the others were early.
        world.restores.borrow_mut().pop();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// One more restore of the latest state.
pub async fn restore_latest(world: &Rc<World>) {
    restore(world, Asked::Latest).await;
}

async fn restore(world: &Rc<World>, asked: Asked) {
    let n = world.restores.borrow().len();
    let process = Process::start(&world.scratch, "operator", WallClock::new(world.context.timeline.clone()));
    let vfs = Vfs::register(&process);
    let output = PathBuf::from(format!("/tmp/restored-{}.db", process.id()));
    let mut options = Options::new(&output);
    options.target = match asked {
        Asked::Latest => Target::Latest,
        Asked::Before(millis) => Target::Timestamp(UnixMillis(EPOCH_MILLIS + millis as i64)),
    };
    let host = simhost::host(&process, &vfs, 4, false, world.store.dial());
    let bucket = world.store.bucket(&process, &host, true);
    let (claimed, head) = world.standing();
    let started_millis = world.context.timeline.millis();
    let work = restore::run(&host, bucket, options, &NoProgress);
    let limit = Duration::from_millis(RESTORE_LIMIT_MILLIS);
    let outcome = match tokio::time::timeout(limit, work).await {
        Ok(Ok(Report::Restored(restored))) => {
            Ok((world.scratch.peek(&output).unwrap_or_default(), restored.plan.txid))
        }
        Ok(Ok(other)) => Err(RestoreError { kind: None, message: format!("{other:?}") }),
        Ok(Err(error)) => Err(RestoreError { kind: Some(error.kind()), message: error.to_string() }),
        Err(_) => Err(RestoreError { kind: None, message: "it did not end within ten minutes".into() }),
    };
    let text = match &outcome {
        Ok((bytes, txid)) => {
            let states = image_of_file(bytes).map(|image| world.history.find(image)).unwrap_or_default();
            format!("restore {n} of {asked:?}: TXID {}, state {:?}", txid.map_or(0, |t| t.0), states.first())
        }
        Err(error) => format!("restore {n} of {asked:?}: {}", error.message),
    };
    world.context.event("operator", Mark::Promise, text);
    // The scratch disk holds one database at a time.
    for suffix in ["", "-wal", "-shm"] {
        let _ = ProcessDisk(Arc::clone(&process)).remove_file(&with_suffix(&output, suffix));
    }
    process.kill();
    world.restores.borrow_mut().push(RestoreRun {
        started_millis,
        ended_millis: world.context.timeline.millis(),
        asked,
        claimed,
        heads: (head, world.history.head()),
        outcome,
    });
}

/// Puts another database in the place of the application's, which is stopped: as an administrator would, with the old
/// WAL and WAL-index removed first.
pub fn replace_database(world: &World) {
    let process = Process::start(&world.machine, "admin", Arc::clone(&world.clock));
    let vfs = Vfs::register(&process);
    let disk = ProcessDisk(Arc::clone(&process));
    let fresh = Path::new("/data/fresh.db");
    let build = || -> rusqlite::Result<()> {
        let flags = rusqlite::OpenFlags::default();
        let db = rusqlite::Connection::open_with_flags_and_vfs(fresh, flags, vfs.name().as_str())?;
        db.execute_batch(&format!(
            "PRAGMA page_size={}; PRAGMA journal_mode=WAL;
             CREATE TABLE t(id INTEGER PRIMARY KEY, k INTEGER, sum INTEGER, v BLOB); CREATE INDEX i ON t(k);
             CREATE TABLE replaced(at);",
            world.plan.app.page_size
        ))?;
        db.execute("INSERT INTO replaced VALUES (?)", [world.context.timeline.millis() as i64])?;
        db.close().map_err(|(_, error)| error)
    };
    build().expect("only the replicator's calls are hit by faults");
    let database = Path::new(DATABASE);
    for suffix in ["-wal", "-shm"] {
        // Absent when nobody has the database open.
        let _ = disk.remove_file(&with_suffix(database, suffix));
    }
    disk.rename(fresh, database).expect("it was just made");
    disk.sync_dir(Path::new("/data")).expect("the directory exists");
    process.kill();
    let state = world.history.resume(&world.machine);
    world.context.event("operator", Mark::Fault, format!("database replaced, now state {state:?}"));
}

/// Deletes the replicator's local state.
pub fn wipe_local_state(world: &World, database: &Path) {
    let process = Process::start(&world.machine, "admin", Arc::clone(&world.clock));
    wipe(&ProcessDisk(Arc::clone(&process)), &default_meta_dir(database));
    process.kill();
}

fn wipe(disk: &ProcessDisk, dir: &Path) {
    for entry in disk.read_dir(dir).unwrap_or_default() {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            wipe(disk, &path);
            let _ = disk.remove_dir(&path);
        } else {
            let _ = disk.remove_file(&path);
        }
    }
}
