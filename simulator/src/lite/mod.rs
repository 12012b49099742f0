//! The lane without HTTP: the real replicator and the real SQLite, on a simulated disk, with a simulated store behind
//! the bucket interface. Fast, so it carries the volume.

mod images;
mod meddle;
mod operator;
mod running;
mod second;
mod world;

use std::rc::Rc;
use std::time::Duration;

use tokio::task::LocalSet;

use crate::clock::Timeline;
use crate::context::exclusive;
use crate::events::{Event, Mark};
use crate::evidence::{Evidence, Violation};
use crate::oracles;
use crate::plan::{Happening, Plan, Timed};
use crate::store::Store;
pub(crate) use world::World;

/// Simulated milliseconds in which a process that was stopped ends the calls it was in.
const AFTER_A_PAUSE_MILLIS: u32 = 1_000;

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Promises that were not kept.
    pub violations: Vec<Violation>,
    /// Readable events, in order.
    pub events: Vec<Event>,
    /// Every step and event as text, if tracing was asked for.
    pub trace: Vec<String>,
    /// Fingerprint of everything that happened and was decided.
    pub digest: u64,
    /// Simulated milliseconds.
    pub sim_millis: u64,
    /// Disk and SQLite calls.
    pub steps: u64,
    /// Commits acknowledged to the application.
    pub commits: u64,
    /// Restores made.
    pub restores: usize,
    /// States in the history.
    pub states: usize,
}

/// Runs a plan.
#[must_use]
pub fn run(plan: &Plan, trace: bool) -> Outcome {
    let _turn = exclusive();
    let seed = tokio::runtime::RngSeed::from_bytes(&plan.seed.to_le_bytes());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(seed)
        .build()
        .expect("a runtime without I/O needs nothing from the system");
    let local = LocalSet::new();
    let (world, evidence) = local.block_on(&runtime, async {
        let world = World::new(plan, trace, Timeline::tokio(), |context| Box::new(Store::new(context)));
        let evidence = whole_run(&world).await;
        (world, evidence)
    });
    let violations = oracles::judge(&evidence);
    let outcome = world.outcome(violations, &evidence);
    // Everything in the runtime belongs to dead processes now: dropping it has no effect on the world.
    drop(local);
    drop(runtime);
    world.scrap();
    outcome
}

/// Work under faults, heal, catch up, be idle, stop, look at everything once more.
pub(crate) async fn whole_run(world: &Rc<World>) -> Evidence {
    world.create_directories();
    if world.plan.app.begins_large {
        meddle::begin_large(world);
    }
    world.start_app();
    world.start_replicator();
    let faults = tokio::task::spawn_local(happenings(Rc::clone(world)));
    let restores = tokio::task::spawn_local(operator::spot_restores(Rc::clone(world)));
    tokio::time::sleep(Duration::from_millis(world.plan.run_millis)).await;
    faults.abort();
    // A restore that is under way may end; it does not change the world.
    let _ = restores.await;
    world.end_audits().await;
    let _ = faults.await;
    world.heal().await;
    let app_stopped = world.stop_app().await;
    second::meet(world).await;
    let caught_up_after = operator::catch_up(world).await;
    let at_rest = world.idle().await;
    let caught_up_again = write_again(world).await;
    let stopped = world.stop_replicator_finally().await;
    operator::restore_moments(world).await;
    operator::restore_latest(Rc::clone(world)).await;
    let damaged = operator::restore_damaged(world).await;
    // Last: whoever opens a database that nobody has open recovers its log, and so may complete the commit of a killed
    // writer that nobody could see before.
    let integrity = world.examine_database(&world.machine);
    let caught_up = (caught_up_after, caught_up_again);
    let evidence = world.evidence(app_stopped, caught_up, at_rest, stopped, integrity);
    Evidence { damaged, ..evidence }
}

/// After a long silence somebody commits once; in half the runs once more, right before the stop. Returns how long the first
/// of these took to be in the store, or `None` past the bound.
async fn write_again(world: &Rc<World>) -> Option<u64> {
    if !world.commit_soon().await {
        // Nobody ever got so far as to create the tables.
        return Some(0);
    }
    if world.plan.may_meet_a_former_life() {
        // It gives up where it meets one, and a service manager starts it again (seed 90009532).
        world.restart_if_it_gives_up().await;
    }
    let caught_up = operator::catch_up(world).await;
    if world.context.choices.next_below("again.before.stop", 0, 2) == 1 {
        world.commit_soon().await;
    }
    caught_up
}

async fn happenings(world: Rc<World>) {
    for Timed { at_millis, what } in world.plan.faults.clone() {
        let now = world.context.timeline.millis();
        tokio::time::sleep(Duration::from_millis(at_millis.saturating_sub(now))).await;
        world.context.event("plan", Mark::Fault, format!("{what:?}"));
        happen(&world, what).await;
    }
}

async fn happen(world: &Rc<World>, what: Happening) {
    let down = |millis: u32| tokio::time::sleep(Duration::from_millis(u64::from(millis)));
    match what {
        Happening::KillReplicator { after_calls, down_millis } => {
            world.kill_replicator(u64::from(after_calls)).await;
            down(down_millis).await;
            world.start_replicator();
        }
        Happening::StopReplicator { down_millis } => {
            world.stop_replicator().await;
            down(down_millis).await;
            world.start_replicator();
        }
        Happening::KillApp { after_calls, down_millis } => {
            world.kill_app(u64::from(after_calls)).await;
            down(down_millis).await;
            world.start_app();
        }
        Happening::PowerLoss { down_millis } => {
            world.cut_power();
            images::judge(world).await;
            world.lose_power();
            down(down_millis).await;
            world.start_app();
            world.start_replicator();
        }
        Happening::ReplaceDatabase => {
            world.stop_app().await;
            meddle::replace_database(world).await;
            world.start_app();
        }
        Happening::OldDatabase { age_millis } => meddle::old_database(world, age_millis).await,
        Happening::WipeLocalState { down_millis } => {
            world.kill_replicator(1).await;
            meddle::lose_local_state(world, true);
            down(down_millis).await;
            world.start_replicator();
        }
        Happening::Outage { millis } => {
            world.store.set_outage(true);
            // Beside what comes next: processes are killed and databases replaced while a store is away.
            let world = Rc::clone(world);
            tokio::task::spawn_local(async move {
                down(millis).await;
                world.store.set_outage(false);
            });
        }
        Happening::Disk(fault) => world.machine.inject(fault),
        what => meddling(world, what).await,
    }
}

async fn meddling(world: &Rc<World>, what: Happening) {
    let wait = |millis: u32| tokio::time::sleep(Duration::from_millis(u64::from(millis)));
    match what {
        Happening::ClockJump { millis } => world.distrust_clock().jump(millis),
        Happening::ClockDrift { ppm } => world.distrust_clock().drift(ppm),
        Happening::ClockFreeze { millis } => {
            world.distrust_clock().freeze(true);
            wait(millis).await;
            world.clock.freeze(false);
        }
        Happening::Reconfigure { down_millis, settings } => {
            world.stop_replicator().await;
            world.settings.replace(*settings);
            wait(down_millis).await;
            world.start_replicator();
        }
        Happening::Pause { app, millis } => {
            world.pause(app, u64::from(millis));
            wait(millis).await;
            // Nobody replaces a database in the instant in which a process continues that was stopped while opening it:
            // SQLite itself can then rebuild the new file's WAL-index from the old log (seed 21070448).
            wait(AFTER_A_PAUSE_MILLIS).await;
        }
        Happening::LeaveWal { replicator_down, page_size } => {
            world.stop_app().await;
            if replicator_down {
                world.kill_replicator(1).await;
            }
            meddle::leave_wal(world, page_size);
            world.start_app();
            world.start_replicator();
        }
        Happening::CopyOver => {
            world.stop_app().await;
            world.kill_replicator(1).await;
            meddle::copy_over(world);
            world.start_app();
            world.start_replicator();
        }
        // A checkpoint of the replicator that is under way goes on with the old index, and writes old frames over what a new
        // application writes: no program could tell. It must have ended before, so that its calls may not take long
        // (seeds 52055212, 52057636 and 52060164).
        Happening::LoseWalIndex if world.plan.may_take_long() => {}
        Happening::LoseWalIndex => {
            world.stop_app().await;
            meddle::lose_wal_index(world);
            wait(AFTER_A_PAUSE_MILLIS).await;
            world.start_app();
        }
        Happening::OldLocalState { age_millis, down_millis } => {
            meddle::old_local_state(world, age_millis, down_millis).await;
        }
        Happening::OldMachine { age_millis } => meddle::old_machine(world, age_millis).await,
        Happening::HalfLocalState { down_millis } => {
            world.kill_replicator(1).await;
            meddle::lose_local_state(world, false);
            wait(down_millis).await;
            world.start_replicator();
        }
        Happening::RotLocalState => meddle::rot_local_state(world),
        Happening::ExpiredCredentials { millis } => {
            world.store.set_credentials(false);
            wait(millis).await;
            world.store.set_credentials(true);
        }
        Happening::StaleListings { millis, lag_millis } => {
            world.store.set_listing_lag(u64::from(lag_millis));
            wait(millis).await;
            world.store.set_listing_lag(0);
        }
        Happening::SecondReplicator { millis } => second::work_for(world, millis).await,
        Happening::Twice { millis, old_ends } => {
            let newer = world.launch_replicator();
            wait(millis).await;
            if old_ends {
                world.kill_replicator(1).await;
                world.adopt_replicator(newer);
            }
        }
        Happening::Decay { millis } => {
            world.store.decay();
            wait(millis).await;
            world.store.mend();
        }
        Happening::StopInOutage { patience_millis, down_millis } => {
            world.store.set_outage(true);
            wait(patience_millis).await;
            world.stop_replicator_within(u64::from(patience_millis)).await;
            world.store.set_outage(false);
            wait(down_millis).await;
            world.start_replicator();
        }
        other => unreachable!("{other:?} is handled by its caller"),
    }
}
