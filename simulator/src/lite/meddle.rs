//! The administrator: meddles with files, modes, clocks and backups of a running setup.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use replicator::host::{Disk, OpenMode, with_suffix};
use replicator::sync::default_meta_dir;
use rusqlite::{Connection, OpenFlags};

use super::world::World;
use crate::app::DATABASE;
use crate::disk::{Process, ProcessDisk};
use crate::events::Mark;
use crate::vfs::Vfs;

/// The application's directory: database and local state.
pub const DATA: &str = "/data";

/// Databases up to this length get another page size.
const LARGEST_REBUILT: u64 = 1 << 20;

/// Simulated milliseconds in which a process that is opening the database comes to its WAL-index, whatever holds it up.
const OPENING_MILLIS: u32 = 60_000;

/// Files and their content.
pub type Copy = Vec<(PathBuf, Vec<u8>)>;

/// Does `work` as a process of the machine that ends afterwards.
fn as_admin<T>(world: &World, work: impl FnOnce(&Arc<Process>, &ProcessDisk) -> T) -> T {
    let process = Process::start(&world.machine, "admin", Arc::clone(&world.clock));
    let result = work(&process, &ProcessDisk(Arc::clone(&process)));
    process.kill();
    result
}

async fn wait(millis: u32) {
    tokio::time::sleep(Duration::from_millis(u64::from(millis))).await;
}

/// Gives the application a database that ends a few pages before SQLite's lock page: rows of zeros, which take up next
/// to no memory.
pub fn begin_large(world: &World) {
    as_admin(world, |process, _| {
        let vfs = Vfs::register(process);
        let build = || -> rusqlite::Result<()> {
            let flags = OpenFlags::default();
            let db = Connection::open_with_flags_and_vfs(DATABASE, flags, vfs.name().as_str())?;
            db.execute_batch(
                "PRAGMA page_size=65536; PRAGMA journal_mode=OFF; BEGIN; CREATE TABLE large(v);
                 INSERT INTO large VALUES (zeroblob(8000 * 65532)), (zeroblob(8374 * 65532)); COMMIT;",
            )?;
            db.close().map_err(|(_, error)| error)
        };
        build().expect("no faults yet");
    });
    let state = world.history.resume(&world.machine);
    world.context.event("plan", Mark::Note, format!("a database of 1 GiB, state {state:?}"));
}

/// Waits until nobody is on the way from the database and its log to its WAL-index. Who is replaced there, while no
/// application has the database open, has SQLite rebuild the new file's WAL-index from the old log, and no code of ours
/// runs in between (seed 110035444, where a call between the two took 50 ms).
async fn nobody_opens(world: &World) {
    for _ in 0..OPENING_MILLIS {
        if !world.machine.is_opening(Path::new(DATABASE)) {
            return;
        }
        wait(1).await;
    }
}

/// Puts another database in the place of the application's, which is stopped: as an administrator would, with the old
/// WAL and WAL-index removed first.
pub async fn replace_database(world: &World) {
    nobody_opens(world).await;
    as_admin(world, |process, disk| {
        let fresh = build_fresh(world, process);
        remove_log(disk);
        disk.rename(&fresh, Path::new(DATABASE)).expect("it was just made");
        disk.sync_dir(Path::new(DATA)).expect("the directory exists");
    });
    resume(world, "database replaced");
}

/// Makes a backup of the database, lets the application go on for a while, and puts the backup in place.
pub async fn old_database(world: &Rc<World>, age_millis: u32) {
    let backup = Path::new("/data/backup.db");
    world.stop_app().await;
    let made = as_admin(world, |process, disk| back_up(process, disk, backup));
    world.start_app();
    wait(age_millis).await;
    world.stop_app().await;
    if made.is_ok() {
        nobody_opens(world).await;
        as_admin(world, |_, disk| {
            remove_log(disk);
            disk.rename(backup, Path::new(DATABASE)).expect("it was just made");
            disk.sync_dir(Path::new(DATA)).expect("the directory exists");
        });
        resume(world, &format!("a backup from {age_millis} ms ago put in place"));
    } else {
        // There was no database yet.
        world.context.event("operator", Mark::Note, format!("no backup: {made:?}"));
    }
    world.start_app();
}

/// As a copy of the file where the whole log could be copied back; else, while somebody pins it, as SQLite copies it.
fn back_up(process: &Arc<Process>, disk: &ProcessDisk, backup: &Path) -> rusqlite::Result<()> {
    let vfs = Vfs::register(process);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags_and_vfs(DATABASE, flags, vfs.name().as_str())?;
    let _ = disk.remove_file(backup);
    // Busy: somebody else is at it.
    let is_done = |row: &rusqlite::Row<'_>| {
        let (busy, frames, copied_back) =
            (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
        Ok(busy == 0 && frames == copied_back)
    };
    if db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], is_done)? {
        let bytes = process.machine().peek(Path::new(DATABASE)).unwrap_or_default();
        write(disk, backup, &bytes, OpenMode::CreateNew);
    } else {
        db.execute_batch(&format!("VACUUM INTO '{}'", backup.display()))?;
    }
    db.close().map_err(|(_, error)| error)
}

/// Copies another database over the application's, which keeps its inode. Nobody has it open.
pub fn copy_over(world: &World) {
    as_admin(world, |process, disk| {
        let fresh = build_fresh(world, process);
        remove_log(disk);
        let bytes = world.machine.peek(&fresh).expect("it was just made");
        write(disk, Path::new(DATABASE), &bytes, OpenMode::Truncate);
        disk.remove_file(&fresh).expect("it was just made");
        disk.sync_dir(Path::new(DATA)).expect("the directory exists");
    });
    resume(world, "another database copied over");
}

/// Deletes the WAL-index of a database that the application has closed.
pub fn lose_wal_index(world: &World) {
    // Absent when the replicator is down, too.
    let removed = as_admin(world, |_, disk| disk.remove_file(&with_suffix(Path::new(DATABASE), "-shm")));
    world.context.event("operator", Mark::Fault, format!("WAL-index deleted: {removed:?}"));
}

fn build_fresh(world: &World, process: &Arc<Process>) -> PathBuf {
    let fresh = PathBuf::from("/data/fresh.db");
    let vfs = Vfs::register(process);
    let build = || -> rusqlite::Result<()> {
        let flags = OpenFlags::default();
        let db = Connection::open_with_flags_and_vfs(&fresh, flags, vfs.name().as_str())?;
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
    fresh
}

/// Absent when nobody has the database open.
fn remove_log(disk: &ProcessDisk) {
    for suffix in ["-wal", "-shm"] {
        let _ = disk.remove_file(&with_suffix(Path::new(DATABASE), suffix));
    }
}

fn write(disk: &ProcessDisk, path: &Path, bytes: &[u8], mode: OpenMode) {
    let file = disk.open(path, mode).expect("only the replicator's calls are hit by faults");
    file.write_all_at(bytes, 0).expect("only the replicator's calls are hit by faults");
    file.sync().expect("only the replicator's calls are hit by faults");
}

fn resume(world: &World, what: &str) {
    let state = world.history.resume(&world.machine);
    world.context.event("operator", Mark::Fault, format!("{what}, now state {state:?}"));
}

/// Takes the database, which the application has closed, out of WAL mode; commits; changes its page size.
pub fn leave_wal(world: &World, page_size: u32) {
    let result = as_admin(world, |process, _| -> rusqlite::Result<String> {
        let vfs = Vfs::register(process);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags_and_vfs(DATABASE, flags, vfs.name().as_str())?;
        db.busy_timeout(Duration::ZERO)?;
        let mode: String = db.query_row("PRAGMA journal_mode=DELETE", [], |row| row.get(0))?;
        if mode == "delete" {
            db.execute_batch("CREATE TABLE IF NOT EXISTS y(a); INSERT INTO y VALUES (randomblob(2000));")?;
            // Small pages in a large database would make a slow run, and show nothing new.
            if world.machine.peek_len(Path::new(DATABASE)).is_some_and(|len| len < LARGEST_REBUILT) {
                db.execute_batch(&format!(
                    "PRAGMA page_size={page_size}; VACUUM; INSERT INTO y VALUES (1);"
                ))?;
            }
        }
        db.close().map_err(|(_, error)| error)?;
        Ok(mode)
    });
    // Busy while the replicator is connected, absent while the application has never run: both are fine.
    world.context.event("operator", Mark::Note, format!("journal_mode=DELETE: {result:?}"));
}

/// Content of the files in `within`, without WAL-indexes: memory does not survive.
pub fn copy_of(world: &World, within: &Path) -> Copy {
    let files = world.machine.peek_names().into_iter().filter(|path| path.starts_with(within));
    let content = |path: PathBuf| world.machine.peek(&path).map(|bytes| (path, bytes));
    files.filter(|path| !path.to_string_lossy().ends_with("-shm")).filter_map(content).collect()
}

/// Everything in `within` becomes what `copy` says.
fn put_back(world: &World, within: &Path, copy: &Copy) {
    as_admin(world, |_, disk| {
        for path in world.machine.peek_names().into_iter().filter(|path| path.starts_with(within)) {
            disk.remove_file(&path).expect("it was just listed");
        }
        for (path, bytes) in copy {
            let dir = path.parent().expect("below the directory");
            disk.create_dir_all(dir, 0o755).expect("an administrator may");
            write(disk, path, bytes, OpenMode::CreateNew);
            disk.sync_dir(dir).expect("it was just made");
        }
    });
}

/// The replicator loses some time of its own state, but the database goes on.
pub async fn old_local_state(world: &Rc<World>, age_millis: u32, down_millis: u32) {
    let dir = default_meta_dir(Path::new(DATABASE));
    world.kill_replicator(1).await;
    let copy = copy_of(world, &dir);
    world.start_replicator();
    wait(age_millis).await;
    world.kill_replicator(1).await;
    put_back(world, &dir, &copy);
    world.context.event("operator", Mark::Fault, format!("local state of {age_millis} ms ago put back"));
    wait(down_millis).await;
    world.start_replicator();
}

/// The whole machine loses some time.
pub async fn old_machine(world: &Rc<World>, age_millis: u32) {
    world.stop_app().await;
    world.kill_replicator(1).await;
    let copy = copy_of(world, Path::new(DATA));
    world.start_app();
    world.start_replicator();
    wait(age_millis).await;
    world.stop_app().await;
    world.kill_replicator(1).await;
    put_back(world, Path::new(DATA), &copy);
    resume(world, &format!("the machine is as it was {age_millis} ms ago"));
    world.start_app();
    world.start_replicator();
}

/// Deletes the replicator's local state: all of it, or each file with even odds.
pub fn lose_local_state(world: &World, whole: bool) {
    let files = local_files(world);
    as_admin(world, |_, disk| {
        for (n, path) in files.iter().enumerate() {
            let instance = world.context.timeline.millis() << 16 | n as u64;
            if whole || world.context.choices.below("meddle.gone", instance, 2) == 1 {
                disk.remove_file(path).expect("it was just listed");
            }
        }
        // Empty unless files were kept.
        let _ = disk.remove_dir(&default_meta_dir(Path::new(DATABASE)));
    });
}

/// Flips a bit in one file of the local state.
pub fn rot_local_state(world: &World) {
    let files = local_files(world);
    let at = world.context.timeline.millis();
    let choose = |name, bound: usize| world.context.choices.below(name, at, bound as u64) as usize;
    if files.is_empty() {
        return;
    }
    let path = &files[choose("meddle.rot.file", files.len())];
    let len = world.machine.peek_len(path).unwrap_or(0) as usize;
    if len > 0 {
        world.machine.rot(path, choose("meddle.rot.at", len) as u64, 0x04);
    }
}

fn local_files(world: &World) -> Vec<PathBuf> {
    let dir = default_meta_dir(Path::new(DATABASE));
    world.machine.peek_names().into_iter().filter(|path| path.starts_with(&dir)).collect()
}
