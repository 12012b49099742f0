//! The operator: restores on another machine.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use replicator::host::{Disk as _, UnixMillis, with_suffix};
use replicator::restore::{self, NoProgress, Options, Report, Target};

use super::world::World;
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
