//! The operator: restores on another machine.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use replicator::bucket::KeyLayout;
use replicator::host::{Disk as _, OpenMode, UnixMillis, with_suffix};
use replicator::replica::LtxName;
use replicator::restore::{self, NoProgress, Options, Report, Target};

use super::world::World;
use crate::app::DATABASE;
use crate::clock::{EPOCH_MILLIS, WallClock};
use crate::disk::{Process, ProcessDisk};
use crate::events::Mark;
use crate::evidence::{Asked, Damaged, NO_REPLICA, RestoreError, RestoreRun};
use crate::history::FileImage;
use crate::oracles::CATCH_UP_MILLIS;
use crate::simhost;
use crate::store::{Client, Cloud};
use crate::vfs::Vfs;

/// A restore may take so long, in simulated milliseconds.
const RESTORE_LIMIT_MILLIS: u64 = 600_000;

/// Moments restored at the end of a run.
const MOMENTS: u64 = 3;

/// A log that lies beside an output has up to so many bytes.
const STALE_LOG_BYTES: usize = 256 << 10;

/// Objects spoiled at the end of a run, one at a time.
const SPOILED: u64 = 4;

/// Restores at the planned times: the latest state, and a moment before.
pub async fn spot_restores(world: Rc<World>) {
    for (n, at) in world.plan.restores.clone().into_iter().enumerate() {
        let now = world.context.timeline.millis();
        tokio::time::sleep(Duration::from_millis(at.saturating_sub(now))).await;
        let choices = &world.context.choices;
        let exposed = choices.next_below("restore.exposed", 0, 2) == 1;
        let slow = choices.next_below("restore.slow", 0, 2) == 1;
        let client = match (exposed, slow) {
            (true, _) => Client::Exposed,
            (false, true) => Client::Slow,
            (false, false) => Client::Sheltered,
        };
        restore(&world, Asked::Latest, client).await;
        if !world.clock_was_wrong.get() {
            let millis = 1 + world.context.choices.below("restore.moment", n as u64, at.max(1));
            restore(&world, Asked::Before(millis), Client::Sheltered).await;
        }
    }
}

/// Restores until the newest state comes out; returns how long after healing, or `None` past the bound.
pub async fn catch_up(world: &Rc<World>) -> Option<u64> {
    let started = world.context.timeline.millis();
    let head = world.history.head()?;
    let image = world.history.state(head).image;
    loop {
        restore(world, Asked::Latest, Client::Sheltered).await;
        let last = world.restores.borrow().last().cloned().expect("just pushed");
        if let Ok((restored, _)) = &last.outcome
            && restored.image == Some(image)
        {
            return Some(last.ended_millis - started);
        }
        if last.ended_millis - started > CATCH_UP_MILLIS {
            return None;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// One more restore of the latest state.
pub async fn restore_latest(world: Rc<World>) {
    restore(&world, Asked::Latest, Client::Sheltered).await;
}

/// Restores of moments of the whole run, now that compaction and retention have done what they do.
pub async fn restore_moments(world: &Rc<World>) {
    if world.clock_was_wrong.get() {
        return;
    }
    for n in 0..MOMENTS {
        let millis = 1 + world.context.choices.below("restore.late", n, world.plan.run_millis);
        restore(world, Asked::Before(millis), Client::Sheltered).await;
    }
}

/// Spoils one object or another, and restores each time.
pub async fn restore_damaged(world: &Rc<World>) -> Vec<Damaged> {
    let mut damaged = Vec::new();
    for round in 0..SPOILED {
        let Some((what, newest_gone)) = world.store.spoil(round) else { break };
        restore(world, Asked::Latest, Client::Sheltered).await;
        let restore = world.restores.borrow_mut().pop().expect("just pushed");
        let names = world.store.objects().into_iter();
        let left = names.filter_map(|object| LtxName::parse_key(KeyLayout::HexLevel, &object.key)).collect();
        damaged.push(Damaged { what, newest_gone, left, restore });
    }
    damaged
}

async fn restore(world: &Rc<World>, asked: Asked, client: Client) {
    world.restores_made.set(world.restores_made.get() + 1);
    let exposed = client == Client::Exposed;
    let decayed_before = world.store.decayed();
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
    options.if_replica_exists = exposed;
    leave_a_stale_log(world, &process, &output, &mut options);
    let bucket = world.store.bucket(&process, &host, client);
    let lag_before = world.store.listing_lag();
    let head = world.history.head();
    let started_millis = world.context.timeline.millis();
    let work = restore::run(&host, bucket, options, &NoProgress);
    let limit = Duration::from_millis(RESTORE_LIMIT_MILLIS);
    let outcome = match tokio::time::timeout(limit, work).await {
        Ok(Ok(Report::Restored(restored))) => {
            // Success means durable: what counts is what a power loss right now would leave.
            Ok((world.scratch.crash_image(0).image(&output, None), restored.plan.txid))
        }
        Ok(Ok(Report::NoReplica)) => Err(RestoreError { kind: None, message: NO_REPLICA.into() }),
        Ok(Ok(other)) => Err(RestoreError { kind: None, message: format!("{other:?}") }),
        Ok(Err(error)) => Err(RestoreError { kind: Some(error.kind()), message: error.to_string() }),
        Err(_) => Err(RestoreError { kind: None, message: "it did not end within ten minutes".into() }),
    };
    // Its listing may have been made before a change of the lag, or after it; and a file that it shows may be gone, while
    // it does not show yet what took its place.
    let lag = if exposed { lag_before.max(world.store.listing_lag()) } else { 0 };
    let lag = if lag > 0 { lag + 2 * u64::from(world.settings.borrow().level_millis) + 1_000 } else { 0 };
    let claimed = world.claimed_by(started_millis.saturating_sub(lag));
    let text = match &outcome {
        Ok((restored, txid)) => {
            let states = restored.image.map(|image| world.history.find(image)).unwrap_or_default();
            format!("restore {n} of {asked:?}: TXID {}, state {:?}", txid.map_or(0, |t| t.0), states.first())
        }
        Err(error) => format!("restore {n} of {asked:?}: {}", error.message),
    };
    world.context.event("operator", Mark::Promise, text);
    let beside = beside(world, &output, outcome.is_ok());
    // The scratch disk holds one database at a time.
    for suffix in ["", "-wal", "-shm"] {
        let _ = ProcessDisk(Arc::clone(&process)).remove_file(&with_suffix(&output, suffix));
    }
    process.kill();
    // It may have met an object that had decayed: then it may fail, but not lie.
    let troubled = decayed_before.1 || world.store.decayed().0 != decayed_before.0;
    world.restores.borrow_mut().push(RestoreRun {
        started_millis,
        ended_millis: world.context.timeline.millis(),
        asked,
        exposed: exposed || troubled,
        claimed,
        heads: (head, world.history.head()),
        outcome,
        beside,
    });
}

/// The newest state in `store`, restored in fair weather; or why there is none.
pub async fn fetch(world: &Rc<World>, store: &dyn Cloud) -> Result<FileImage, String> {
    let process = Process::start(&world.scratch, "operator", WallClock::new(world.context.timeline.clone()));
    let vfs = Vfs::register(&process);
    let output = PathBuf::from(format!("/tmp/fetched-{}.db", process.id()));
    let host = simhost::host(&process, &vfs, 4, false, store.dial());
    let bucket = store.bucket(&process, &host, Client::Sheltered);
    let report = restore::run(&host, bucket, Options::new(&output), &NoProgress).await;
    let restored = world.scratch.image(&output, None);
    let _ = ProcessDisk(Arc::clone(&process)).remove_file(&output);
    process.kill();
    match report {
        Ok(Report::Restored(_)) => Ok(restored),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Sometimes a log lies beside the output, of a database that was deleted: it must not get into the restored one.
fn leave_a_stale_log(world: &World, process: &Arc<Process>, output: &Path, options: &mut Options) {
    if world.context.choices.next_below("restore.stale", 0, 4) != 3 {
        return;
    }
    let log = with_suffix(Path::new(DATABASE), "-wal");
    let Some(log) = world.machine.peek_at(&log, 0, STALE_LOG_BYTES) else { return };
    let disk = ProcessDisk(Arc::clone(process));
    let stale = with_suffix(output, "-wal");
    let file = disk.open(&stale, OpenMode::Truncate).expect("the operator's disk has no faults");
    file.write_all_at(&log, 0).expect("the operator's disk has no faults");
    options.force = true;
}

/// What a restore left beside `output`: logs and unfinished files if it succeeded, else only the latter.
fn beside(world: &World, output: &Path, succeeded: bool) -> Vec<PathBuf> {
    let prefix = output.to_string_lossy().into_owned();
    let names = world.scratch.peek_names().into_iter().filter(|path| path != output);
    names
        .filter(|path| {
            path.to_string_lossy()
                .strip_prefix(&prefix)
                .is_some_and(|rest| succeeded || rest.starts_with(".tmp"))
        })
        .collect()
}
