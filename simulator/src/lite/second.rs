//! A second machine with a copy of everything, whose replicator writes to the same replica: a virtual machine that was
//! cloned, a failover that left the old one running.
//!
//! Whatever their race, a restore succeeds, and what it gives is a state of one or the other, never a mixture; what the
//! first one reported stays true until the second one has replaced it. Both have histories, and oracles accept either until
//! healing ends the second.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use replicator::host::{Disk as _, OpenMode};
use replicator::sync::{self, State};
use rusqlite::{Connection, OpenFlags};

use super::meddle::{DATA, copy_of};
use super::running::{Doomed, Running};
use super::world::{World, options};
use crate::app::DATABASE;
use crate::clock::WallClock;
use crate::disk::{Machine, Process, ProcessDisk};
use crate::events::Mark;
use crate::history::History;
use crate::simhost;
use crate::store::Client;
use crate::vfs::Vfs;

const ROLE: &str = "second";

/// Copies the machine as it is, and lets the copy work for some time.
pub async fn work_for(world: &Rc<World>, millis: u32) {
    let Some((machine, clock)) = copy_machine(world) else { return };
    let half = Duration::from_millis(u64::from(millis / 2));
    if !commit(world, (&machine, ROLE), &clock) {
        return;
    }
    let running = start(world, &machine, &clock);
    tokio::time::sleep(half).await;
    commit(world, (&machine, ROLE), &clock);
    tokio::time::sleep(half).await;
    let status = running.handle.status().borrow().clone();
    let told = if status.state() == State::Stopped { "stopped by itself" } else { "goes down" };
    let text = format!("{told} at TXID {:?}: {:?}", status.replicated_txid, status.error());
    world.context.event(ROLE, Mark::Note, text);
}

/// The first replicator meets what the second one left when it next has something to upload; nothing tells it earlier
/// that does not cost requests of an idle database. It must stop then, or have won; a service manager starts it again.
pub async fn meet(world: &Rc<World>) {
    if world.others.borrow().is_empty() {
        return;
    }
    world.commit_soon().await;
    world.restart_if_it_gives_up().await;
}

fn copy_machine(world: &World) -> Option<(Arc<Machine>, Arc<WallClock>)> {
    // A database that is not there yet cannot be told apart from another new one.
    world.history.head()?;
    let device = 100 + world.others.borrow().len() as u64;
    let machine = Machine::new(&world.context, device, world.plan.hardware);
    let history = History::watch(&machine, Path::new(DATABASE));
    let clock = WallClock::new(world.context.timeline.clone());
    let process = Process::start(&machine, "admin", Arc::clone(&clock));
    let disk = ProcessDisk(Arc::clone(&process));
    for (path, bytes) in copy_of(world, Path::new(DATA)) {
        let dir = path.parent().expect("below the directory");
        disk.create_dir_all(dir, 0o755).expect("an empty disk has room");
        let file = disk.open(&path, OpenMode::CreateNew).expect("no faults here");
        file.write_all_at(&bytes, 0).expect("no faults here");
    }
    process.kill();
    let state = history.resume(&machine);
    world.context.event(
        ROLE,
        Mark::Fault,
        format!("the machine runs twice, the copy from its state {state:?}"),
    );
    world.others.borrow_mut().push((Arc::clone(&machine), history));
    Some((machine, clock))
}

/// Commits something that the other machine never had.
pub fn commit(world: &World, (machine, role): (&Arc<Machine>, &'static str), clock: &Arc<WallClock>) -> bool {
    let process = Process::start(machine, "app", Arc::clone(clock));
    let vfs = Vfs::register(&process);
    let work = || -> rusqlite::Result<()> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags_and_vfs(DATABASE, flags, vfs.name().as_str())?;
        db.execute_batch("CREATE TABLE IF NOT EXISTS second(at, filler);")?;
        let at = world.context.timeline.millis() as i64;
        db.execute("INSERT INTO second VALUES (?, randomblob(3000))", [at])?;
        db.execute_batch("UPDATE t SET k = k + 1 WHERE id % 3 = 0;")?;
        db.close().map_err(|(_, error)| error)
    };
    let result = work();
    process.kill();
    let text = format!("a commit of its own: {result:?}");
    world.context.event(role, Mark::Note, text);
    result.is_ok()
}

fn start(world: &World, machine: &Arc<Machine>, clock: &Arc<WallClock>) -> Doomed {
    let process = Process::start(machine, ROLE, Arc::clone(clock));
    let settings = world.settings.borrow().clone();
    process.set_pace(settings.pace);
    let vfs = Vfs::register(&process);
    let host = simhost::host(&process, &vfs, usize::from(settings.slots), settings.watch, world.store.dial());
    let bucket = world.store.bucket(&process, &host, Client::Exposed);
    let handle = sync::start(host, options(&settings), bucket, sync::Turns::default());
    Doomed::new(Running { process, handle, _vfs: vfs })
}
