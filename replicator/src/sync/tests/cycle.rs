//! What the application commits in the middle of a checkpoint cycle of ours.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::host::{Clock, Host, UnixMillis};
use crate::sqlite::CheckpointMode;

/// The real clock; once, when it is looked at, the application commits. Copying looks at it between reading the
/// WAL-index and reading the pages.
struct Meddling {
    clock: Arc<dyn Clock>,
    app: Mutex<Connection>,
    armed: AtomicBool,
}

impl Clock for Meddling {
    fn now(&self) -> UnixMillis {
        if self.armed.swap(false, Ordering::SeqCst) {
            insert(&self.app.lock().unwrap(), 1);
        }
        self.clock.now()
    }
}

/// A replicated world whose replicator is down, and a host whose clock can meddle.
async fn stopped(world: &World) -> (Host, Arc<Meddling>) {
    let app = world.app();
    insert(&app, 10);
    let handle = world.start();
    settle(&handle).await;
    stop(handle).await;
    let mut host = os::host();
    let app = Mutex::new(open_app(world.db()));
    let clock = Arc::new(Meddling { clock: Arc::clone(&host.clock), app, armed: AtomicBool::new(false) });
    host.clock = Arc::clone(&clock) as Arc<dyn Clock>;
    (host, clock)
}

/// Opens the database as a session that goes on where the last one stood.
fn resumed(world: &World, host: &Host) -> Box<session::Session> {
    match session::start(host, &world.options, None, &mut None).unwrap() {
        session::Start::Ready { session, how: "the log continues", .. } => session,
        _ => panic!("nothing was lost"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_between_the_copy_and_the_cycle_is_copied_before_the_log_may_restart() {
    let world = World::new();
    let (host, clock) = stopped(&world).await;
    let app = world.app();
    insert(&app, 5);
    let mut session = resumed(&world, &host);
    let mut is_first = true;
    let mut on_staged = |_, _| {
        if std::mem::take(&mut is_first) {
            insert(&app, 1);
            // And once more when that commit is being copied: if it is copied back by then, this restarts the log.
            clock.armed.store(true, Ordering::SeqCst);
        }
    };
    session.checkpoint(CheckpointMode::Passive, &mut on_staged).unwrap();
    assert!(!clock.armed.load(Ordering::SeqCst), "the application committed meanwhile");
    session.capture(&mut |_, _| {}).unwrap();
    assert!(!session.has_news());
}

/// Found by simulation (seed 2000459): all that the old pin saw was copied back already, so that the new one kept nobody
/// from restarting the log.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_pin_saw_is_copied_before_the_pin_moves() {
    let world = World::new();
    let (host, clock) = stopped(&world).await;
    let app = world.app();
    insert(&app, 5);
    let mut session = resumed(&world, &host);
    checkpoint(&app, "PASSIVE");
    assert!(session.holds_up_a_restart(), "all of the log is copied back, and nothing of it copied");
    clock.armed.store(true, Ordering::SeqCst);
    session.checkpoint(CheckpointMode::Passive, &mut |_, _| {}).unwrap();
    assert!(!clock.armed.load(Ordering::SeqCst), "the application committed meanwhile");
    session.capture(&mut |_, _| {}).unwrap();
    assert!(!session.has_news());
}

/// The whole log used to be copied back, and both files synced, while writers waited.
#[tokio::test(flavor = "multi_thread")]
async fn writers_wait_only_for_what_a_passive_checkpoint_leaves() {
    let world = World::new();
    let (host, _clock) = stopped(&world).await;
    let start = session::start(&host, &world.options, None, &mut None).unwrap();
    let session::Start::Ready { mut session, .. } = start else { panic!("the chain is known") };
    let app = open_app(world.db());
    insert(&app, 10);
    app.execute_batch("BEGIN IMMEDIATE").unwrap();
    let outcome = session.checkpoint(CheckpointMode::Blocking, &mut |_, _| {}).unwrap();
    assert_eq!(outcome, crate::sqlite::CheckpointOutcome::Complete, "nothing is left to wait for");
    assert_eq!(session.log_frames(), 0);
}
