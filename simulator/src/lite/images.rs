//! Other legal disk images of a power loss, judged before the run goes on with one of its own.
//!
//! Each image is a machine that boots: SQLite recovers and is asked whether all is sound; what was acknowledged under
//! `synchronous=FULL` must be there; and a replicator that finds the image's local state must catch up with a store
//! of its own, a copy of the real one.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use replicator::host::UnixMillis;
use replicator::sync;

use super::operator;
use super::running::{Doomed, KilledAtEnd, Running};
use super::world::{World, options, stop};
use crate::clock::{EPOCH_MILLIS, WallClock};
use crate::disk::{Call, Machine, Process};
use crate::events::Mark;
use crate::history::StateId;
use crate::oracles::STOP_MILLIS;
use crate::plan::Happening;
use crate::simhost;
use crate::store::Client;
use crate::vfs::Vfs;

/// Simulated milliseconds within which a replicator must have caught up on an image, in fair weather.
const CATCH_UP_MILLIS: u64 = 60_000;

/// Judges as many images as the plan asks for. All processes are dead.
pub async fn judge(world: &Rc<World>) {
    let acknowledged = world.history.head();
    for image in 1..=u64::from(world.plan.crash_images) {
        let machine = world.machine.crash_image(image);
        machine.heal();
        let verdict = match boots(world, &machine, acknowledged) {
            Ok(true) => resumes(world, &machine).await,
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        machine.scrap();
        let text = format!("image {image} of this power loss: {verdict:?}");
        world.context.event("disk", Mark::Note, text.clone());
        if verdict.is_err() {
            world.crash_images.borrow_mut().push(text);
        }
    }
}

/// Whether there is a database on the image; an error if it is not what it must be.
fn boots(world: &World, machine: &Arc<Machine>, acknowledged: Option<StateId>) -> Result<bool, String> {
    let keeps_all = keeps_all(world);
    let Some(copy) = world.rolled_back(machine) else {
        return is_sound(world, machine, acknowledged, keeps_all);
    };
    // The removal of a journal is durable only with synchronous=EXTRA: one that comes back undoes its transaction.
    let verdict = is_sound(world, &copy, acknowledged, false);
    copy.scrap();
    verdict
}

fn is_sound(
    world: &World,
    machine: &Arc<Machine>,
    acknowledged: Option<StateId>,
    keeps_all: bool,
) -> Result<bool, String> {
    let images = world.history.recoverable(machine);
    if images.is_empty() {
        // SQLite does not make the name of a new database durable before its first journal.
        return match acknowledged {
            Some(head) if keeps_all => Err(format!("nothing is left of state {head}")),
            _ => Ok(false),
        };
    }
    let known: Vec<StateId> = images.iter().flat_map(|image| world.history.find(*image)).collect();
    // Then no fingerprint fits, and only SQLite can judge.
    let is_unknowable = known.is_empty() && world.history.lacks_free_pages(machine);
    if known.is_empty() && acknowledged.is_some() && !is_unknowable {
        return Err("the database is in a state that was never committed".into());
    }
    if let Some(head) = acknowledged
        && !is_unknowable
        && keeps_all
        && !known.iter().any(|state| world.history.is_ancestor(head, *state))
    {
        return Err(format!("state {head} was acknowledged, but the database is in state {known:?}"));
    }
    match world.examine_database(machine) {
        Ok(verdict) if verdict == "ok" => Ok(true),
        Ok(verdict) => Err(format!("integrity_check: {verdict}")),
        Err(error) => Err(format!("the database cannot be read: {error}")),
    }
}

/// Whether nothing acknowledged may be lost: the application asks for it, and no sync of the replicator's checkpoints
/// was made to fail (the kernel may then call pages clean that never reached the platter).
fn keeps_all(world: &World) -> bool {
    let spoils_sync = |what: &Happening| matches!(what, Happening::Disk(fault) if fault.call == Call::Sync);
    world.plan.app.full_sync && !world.plan.faults.iter().any(|fault| spoils_sync(&fault.what))
}

async fn resumes(world: &Rc<World>, machine: &Arc<Machine>) -> Result<(), String> {
    let Some(fork) = world.store.fork() else { return Ok(()) };
    let clock = WallClock::new(world.context.timeline.clone());
    let process = Process::start(machine, "replicator", clock);
    let vfs = Vfs::register(&process);
    let settings = world.settings.borrow().clone();
    let host = simhost::host(&process, &vfs, usize::from(settings.slots), settings.watch, fork.dial());
    let bucket = fork.bucket(&process, &host, Client::Exposed);
    let handle = sync::start(host, options(&settings), bucket, sync::Turns::default());
    let mut status = handle.status();
    let running = Doomed::new(Running { process, handle, _vfs: vfs });
    let began = UnixMillis(EPOCH_MILLIS + world.context.timeline.millis() as i64);
    let caught_up = status.wait_for(|status| {
        status.local_txid == status.replicated_txid && status.last_sync.is_some_and(|at| at > began)
    });
    let in_time = tokio::time::timeout(Duration::from_millis(CATCH_UP_MILLIS), caught_up).await;
    let in_time = in_time.is_ok_and(|status| status.is_ok());
    if !in_time {
        return Err(format!(
            "after {CATCH_UP_MILLIS} ms the replicator has not caught up: {:?}",
            status.borrow().error()
        ));
    }
    let Running { process, handle, _vfs } = running.into_inner();
    let killed = KilledAtEnd(process);
    let stopped = stop(handle, STOP_MILLIS).await;
    drop(killed);
    stopped.map_err(|error| format!("the replicator's stop: {error}"))?;
    let restored = operator::fetch(world, &*fork).await?;
    let image = restored.image;
    match world.history.recoverable(machine).first() {
        Some(newest) if Some(*newest) == image => Ok(()),
        _ => {
            Err("a restore of what the replicator published on the image is not the image's database".into())
        }
    }
}
