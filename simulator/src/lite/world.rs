//! The machine, its two processes, the store, and what is written down about them.

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use replicator::host::{Clock as _, Disk as _, with_suffix};
use replicator::sync::{self, Handle, Options, State, Status, default_meta_dir};

use super::running::{Doomed, KilledAtEnd, Running, Watched};
use super::{Outcome, operator, second};
use crate::app::{App, DATABASE, Ledger};
use crate::choices::{Choices, mix};
use crate::clock::{EPOCH_MILLIS, Timeline, WallClock};
use crate::context::Context;
use crate::disk::{Machine, Pace, Process, ProcessDisk};
use crate::events::Mark;
use crate::evidence::{AtRest, Claim, Evidence, RestoreRun, Violation};
use crate::fiber;
use crate::history::{History, StateId};
use crate::oracles::{QUIET_MILLIS, STOP_MILLIS};
use crate::plan::{Happening, Plan, ReplicatorPlan};
use crate::simhost;
use crate::store::{Client, Cloud, Stored, Weather};
use crate::vfs::Vfs;

/// Claims that a restore tests at once.
const AUDITED_PER_MILLE: u64 = 70;

/// Bytes that are merged in a simulated millisecond at least, by the store's pace.
const MERGED_PER_MILLI: u64 = 4_000;

struct RunningApp {
    app: Arc<App>,
    writers: Vec<tokio::task::JoinHandle<()>>,
}

/// The world of one run.
pub struct World {
    pub plan: Plan,
    pub context: Context,
    pub machine: Arc<Machine>,
    pub scratch: Arc<Machine>,
    pub store: Box<dyn Cloud>,
    pub history: Arc<History>,
    pub clock: Arc<WallClock>,
    pub claims: RefCell<Vec<Claim>>,
    pub restores: RefCell<Vec<RestoreRun>>,
    pub restores_made: Cell<u64>,
    /// Copies of the database that another replicator put into the same replica.
    pub others: RefCell<Vec<(Arc<Machine>, Arc<History>)>>,
    /// What was wrong with other legal images of a power loss.
    pub crash_images: RefCell<Vec<String>>,
    /// Replicators that worked at the same time.
    together: RefCell<Vec<(u64, String)>>,
    watched: RefCell<Watched>,
    /// Processes of the replicator so far.
    replicators: RefCell<Vec<u64>>,
    /// Restores under way that test a claim.
    audits: RefCell<Vec<tokio::task::JoinHandle<()>>>,
    ledger: Arc<Mutex<Ledger>>,
    app: RefCell<Option<RunningApp>>,
    replicator: RefCell<Option<Running>>,
    /// What the replicator is started with next time.
    pub settings: RefCell<ReplicatorPlan>,
    incarnations: Cell<u64>,
    /// Clocks were wrong at some time: claims that name a time say nothing any more.
    pub clock_was_wrong: Cell<bool>,
    /// VFSs of dead processes stay registered: their connections were never closed.
    graveyard: RefCell<Vec<Arc<App>>>,
    panics: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// A world at its beginning.
    pub fn new(
        plan: &Plan,
        trace: bool,
        timeline: Timeline,
        store: impl FnOnce(&Context) -> Box<dyn Cloud>,
    ) -> Rc<Self> {
        let mut context = Context::new(plan.seed, timeline);
        context.choices = Choices::muting(plan.seed, plan.muted.clone());
        if trace {
            context.log.trace_steps();
        }
        let machine = Machine::new(&context, 11, plan.hardware);
        let scratch = Machine::new(&context, 12, plan.hardware);
        let history = History::watch(&machine, Path::new(DATABASE));
        let store = store(&context);
        store.set_weather(plan.weather);
        let clock = WallClock::new(context.timeline.clone());
        Rc::new(Self {
            plan: plan.clone(),
            machine,
            scratch,
            store,
            history,
            clock,
            claims: RefCell::default(),
            restores: RefCell::default(),
            restores_made: Cell::new(0),
            others: RefCell::default(),
            crash_images: RefCell::default(),
            together: RefCell::default(),
            watched: RefCell::default(),
            replicators: RefCell::default(),
            audits: RefCell::default(),
            ledger: Arc::default(),
            app: RefCell::default(),
            replicator: RefCell::default(),
            settings: RefCell::new(plan.replicator.clone()),
            incarnations: Cell::new(0),
            clock_was_wrong: Cell::new(false),
            graveyard: RefCell::default(),
            panics: crate::panics::collect(),
            context,
        })
    }

    /// The application's directory, made durable by whoever set the machine up.
    pub fn create_directories(&self) {
        let process = Process::start(&self.machine, "setup", Arc::clone(&self.clock));
        let disk = ProcessDisk(Arc::clone(&process));
        disk.create_dir_all(Path::new("/data"), 0o755).expect("an empty disk has room");
        disk.sync_dir(Path::new("/")).expect("no faults yet");
        process.kill();
    }

    fn next_incarnation(&self) -> u64 {
        self.incarnations.set(self.incarnations.get() + 1);
        self.incarnations.get()
    }

    /// Starts the application, unless it runs.
    pub fn start_app(&self) {
        if self.app.borrow().as_ref().is_some_and(|running| running.app.process.is_alive()) {
            return;
        }
        let process = Process::start(&self.machine, "app", Arc::clone(&self.clock));
        process.set_pace(self.plan.app.pace);
        let app = Arc::new(App {
            vfs: Vfs::register(&process),
            process: Arc::clone(&process),
            plan: self.plan.app.clone(),
            ledger: Arc::clone(&self.ledger),
            history: Arc::clone(&self.history),
            stop: std::sync::atomic::AtomicBool::new(false),
            incarnation: self.next_incarnation(),
            until_millis: self.plan.run_millis,
            stopped_company: self
                .plan
                .faults
                .iter()
                .any(|fault| matches!(fault.what, Happening::Pause { app: false, .. })),
        });
        self.context.event("app", Mark::Note, format!("starts, process {}", process.id()));
        let writers = (0..u64::from(self.plan.app.writers))
            .map(|writer| {
                let app = Arc::clone(&app);
                tokio::task::spawn_local(fiber::run(Arc::clone(&process), move || app.writer(writer)))
            })
            .collect();
        self.graveyard.borrow_mut().push(Arc::clone(&app));
        *self.app.borrow_mut() = Some(RunningApp { app, writers });
    }

    /// Asks the writers to end and waits; `false` if they do not in time, which is two minutes, or five if they sleep inside
    /// their own calls (seed 52016095: a VACUUM took 94 seconds by itself). If healing interrupts the wait, they are killed:
    /// nobody would wait for them before the next application starts.
    pub async fn stop_app(&self) -> bool {
        let Some(running) = self.app.borrow_mut().take() else { return true };
        let _killed = KilledAtEnd(Arc::clone(&running.app.process));
        running.app.stop.store(true, Ordering::Relaxed);
        let ended = async {
            for writer in running.writers {
                writer.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            }
        };
        let minutes = if self.plan.app.pace.sleeps_per_mille > 0 { 5 } else { 2 };
        tokio::time::timeout(Duration::from_secs(minutes * 60), ended).await.is_ok()
    }

    /// Lets the application make some more calls, then kills it inside one.
    pub async fn kill_app(&self, after_calls: u64) {
        let process = self.app.borrow().as_ref().map(|running| Arc::clone(&running.app.process));
        if let Some(process) = process {
            kill_within(&process, after_calls).await;
        }
        self.app.borrow_mut().take();
    }

    /// Starts the replicator, unless it runs.
    pub fn start_replicator(self: &Rc<Self>) {
        if self.replicator.borrow().is_none() {
            let running = self.new_replicator();
            *self.replicator.borrow_mut() = Some(running);
        }
    }

    /// Starts one more replicator, whether one runs or not.
    pub fn launch_replicator(self: &Rc<Self>) -> Doomed {
        Doomed::new(self.new_replicator())
    }

    /// Takes one in place of the world's own, which is gone.
    pub fn adopt_replicator(&self, other: Doomed) {
        *self.replicator.borrow_mut() = Some(other.into_inner());
    }

    fn new_replicator(self: &Rc<Self>) -> Running {
        let process = Process::start(&self.machine, "replicator", Arc::clone(&self.clock));
        // A slow disk is one of the faults that healing ends.
        let healthy = self.context.timeline.millis() >= self.plan.run_millis;
        let settings = self.settings.borrow().clone();
        process.set_pace(if healthy { Pace::default() } else { settings.pace });
        let vfs = Vfs::register(&process);
        let host =
            simhost::host(&process, &vfs, usize::from(settings.slots), settings.watch, self.store.dial());
        let bucket = self.store.bucket(&process, &host, Client::Exposed);
        self.replicators.borrow_mut().push(process.id());
        self.context.event("replicator", Mark::Note, format!("starts, process {}", process.id()));
        let handle = sync::start(host, options(&settings), bucket, sync::Turns::default());
        let (world, mut status, alive) = (Rc::clone(self), handle.status(), Arc::clone(&process));
        self.watched.borrow_mut().add(&process, handle.status());
        tokio::task::spawn_local(async move {
            while status.changed().await.is_ok() && alive.is_alive() {
                world.note_company();
                let now = status.borrow_and_update().clone();
                world.note_status(&now);
            }
        });
        Running { process, handle, _vfs: vfs }
    }

    fn note_company(&self) {
        if let Some(working) = self.watched.borrow().together() {
            let text = format!("processes {working:?} replicate with the same local state");
            if self.together.borrow().last().is_none_or(|(_, last)| *last != text) {
                self.context.event("replicator", Mark::Violation, text.clone());
                self.together.borrow_mut().push((self.context.timeline.millis(), text));
            }
        }
    }

    fn note_status(self: &Rc<Self>, status: &Status) {
        let Some(txid) = status.replicated_txid else { return };
        let synced = status.last_sync.map_or(0, |time| u64::try_from(time.0 - EPOCH_MILLIS).unwrap_or(0));
        let trusted = !self.clock_was_wrong.get() && status.last_sync.is_some();
        let state = trusted.then(|| self.history.head_before(synced)).flatten();
        let last = self.claims.borrow().last().copied();
        if last.is_some_and(|last| last.txid == Some(txid) && last.state == state) {
            return;
        }
        let at_millis = self.context.timeline.millis();
        let claim = Claim { at_millis, state, txid: Some(txid), synced_millis: synced };
        let named = state.map_or(String::new(), |state| format!(", state {state}"));
        let text = format!("replicated up to TXID {}{named}", txid.0);
        self.context.event("replicator", Mark::Promise, text);
        self.claims.borrow_mut().push(claim);
        // Some claims are put to the test at once, before what comes next can make them true after all.
        let working = at_millis < self.plan.run_millis;
        if working && self.context.choices.chance("audit", 0, AUDITED_PER_MILLE) {
            let audit = tokio::task::spawn_local(operator::restore_latest(Rc::clone(self)));
            self.audits.borrow_mut().push(audit);
        }
    }

    /// Waits for restores that test a claim.
    pub async fn end_audits(&self) {
        let audits = std::mem::take(&mut *self.audits.borrow_mut());
        for audit in audits {
            audit.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        }
    }

    /// A stop that reports success claims everything that was committed before it.
    fn note_stop(&self, state: Option<StateId>) {
        let at_millis = self.context.timeline.millis();
        let last = self.claims.borrow().last().copied();
        let txid = last.and_then(|last| last.txid);
        self.claims.borrow_mut().push(Claim { at_millis, state, txid, synced_millis: at_millis });
    }

    /// Stops the replicator in order.
    pub async fn stop_replicator(&self) {
        self.stop_replicator_within(STOP_MILLIS).await;
    }

    /// As [`World::stop_replicator`], by somebody who waits so long for everything to be replicated.
    pub async fn stop_replicator_within(&self, millis: u64) {
        let Some(running) = self.replicator.borrow_mut().take() else { return };
        let head = self.history.head();
        // Also if healing interrupts the wait: what is left of it would hold its locks for ever.
        let _killed = KilledAtEnd(Arc::clone(&running.process));
        let result = stop(running.handle, millis).await;
        if result.is_ok() {
            self.note_stop(head);
        }
        let text =
            result.map_or_else(|error| format!("stopped: {error}"), |()| "stopped, all replicated".into());
        self.context.event("replicator", Mark::Note, text);
    }

    /// The last stop of a run: its result counts, and it must end.
    pub async fn stop_replicator_finally(&self) -> Option<(Result<(), String>, u64)> {
        let running = self.replicator.borrow_mut().take().expect("it runs after healing");
        let started = self.context.timeline.millis();
        let stop = stop(running.handle, STOP_MILLIS);
        let result = tokio::time::timeout(Duration::from_millis(4 * STOP_MILLIS), stop).await;
        running.process.kill();
        let took = self.context.timeline.millis() - started;
        let result = result.ok()?;
        self.context.event("replicator", Mark::Promise, format!("final stop: {result:?} after {took} ms"));
        Some((result, took))
    }

    /// Lets the replicator make some more calls, then kills it inside one.
    pub async fn kill_replicator(&self, after_calls: u64) {
        let process = self.replicator.borrow().as_ref().map(|running| Arc::clone(&running.process));
        if let Some(process) = process {
            kill_within(&process, after_calls).await;
        }
        self.bury_replicator();
    }

    /// Nothing of a killed process is dropped: its destructors must not run.
    fn bury_replicator(&self) {
        std::mem::forget(self.replicator.borrow_mut().take());
    }

    /// Both processes die in the same instant.
    pub fn cut_power(&self) {
        if let Some(running) = self.app.borrow_mut().take() {
            running.app.process.kill();
        }
        if let Some(running) = &*self.replicator.borrow() {
            running.process.kill();
        }
        self.bury_replicator();
    }

    /// The disk keeps what it must.
    pub fn lose_power(&self) {
        self.machine.power_loss();
        let state = match self.rolled_back(&self.machine) {
            Some(copy) => {
                let state = self.history.resume(&copy);
                copy.scrap();
                state
            }
            None => self.history.resume(&self.machine),
        };
        self.context.event("app", Mark::Note, format!("the disk now holds state {state:?}"));
    }

    /// A copy of a disk after the rollback journal that is left on it has been played back; `None` if there is none.
    ///
    /// Whoever opens the database first plays it back, and what counts is what then is there. Seen on a copy, so that it
    /// stays for the one who comes first here.
    pub fn rolled_back(&self, machine: &Arc<Machine>) -> Option<Arc<Machine>> {
        let journal = with_suffix(Path::new(DATABASE), "-journal");
        machine.peek_len(&journal).filter(|&len| len > 0)?;
        let copy = machine.crash_image(0);
        let _ = self.examine_database(&copy);
        Some(copy)
    }

    /// The machine's clock, about to be set wrong.
    pub fn distrust_clock(&self) -> &WallClock {
        self.clock_was_wrong.set(true);
        &self.clock
    }

    /// SIGSTOP of a process, if it runs, with SIGCONT after `millis`.
    pub fn pause(&self, app: bool, millis: u64) {
        let until = self.context.timeline.millis() + millis;
        let (running, replicator) = (self.app.borrow(), self.replicator.borrow());
        let process = if app {
            running.as_ref().map(|running| &running.app.process)
        } else {
            replicator.as_ref().map(|running| &running.process)
        };
        if let Some(process) = process {
            process.stop_until(until);
        }
    }

    /// All faults are over, and both processes run.
    pub async fn heal(self: &Rc<Self>) {
        self.store.set_weather(Weather::default());
        self.store.set_outage(false);
        self.store.set_credentials(true);
        self.store.set_listing_lag(0);
        self.store.mend();
        self.machine.heal();
        self.clock.heal();
        self.context.event("plan", Mark::Note, "healed");
        self.bury_if_it_gave_up().await;
        // A happening may have been interrupted while a process was doomed, dying or down.
        if self.replicator.borrow().as_ref().is_some_and(|running| !running.process.is_alive()) {
            self.bury_replicator();
        }
        if let Some(running) = &*self.replicator.borrow() {
            running.process.spare();
            running.process.set_pace(Pace::default());
        }
        if let Some(running) = &*self.app.borrow() {
            running.app.process.spare();
        }
        self.start_app();
        self.start_replicator();
    }

    /// A service manager starts again what gave up, and said so; here it makes room for that.
    async fn bury_if_it_gave_up(&self) -> bool {
        let gave_up = |running: &Running| running.handle.status().borrow().state() == State::Stopped;
        let gave_up = self.replicator.borrow().as_ref().is_some_and(gave_up);
        if gave_up {
            self.context.event("replicator", Mark::Note, "it had stopped by itself");
            self.stop_replicator().await;
        }
        gave_up
    }

    /// Waits until the replicator gives up and starts it again, if it gives up within a minute.
    pub async fn restart_if_it_gives_up(self: &Rc<Self>) {
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.bury_if_it_gave_up().await {
                self.start_replicator();
                return;
            }
        }
    }

    /// Bytes that may wait to be merged, because no merge succeeded in bad weather (seed 300006075: a gigabyte).
    fn backlog(&self) -> u64 {
        let waits = |object: &Stored| object.key.starts_with("0000/");
        self.store.objects().iter().filter(|object| waits(object)).map(|object| object.size).sum()
    }

    /// Nothing is written: how many requests does that cost, and what is there then?
    pub async fn idle(&self) -> AtRest {
        // What the last commits scheduled (compaction of each level) may run first, also after the pauses that
        // earlier failures of it have earned.
        let slowest = self.plan.settings().map(|settings| settings.level_millis).max().unwrap_or(0);
        let settle = u64::from(slowest) * 11 + 120_000 + self.backlog() / MERGED_PER_MILLI;
        tokio::time::sleep(Duration::from_millis(settle)).await;
        let before = self.store.requests();
        tokio::time::sleep(Duration::from_millis(QUIET_MILLIS)).await;
        let mut after = self.store.requests();
        for (verb, count) in &mut after {
            *count -= before.get(verb).copied().unwrap_or_default();
        }
        let machine = &self.machine;
        let local = default_meta_dir(Path::new(DATABASE));
        let local = machine.peek_names().into_iter().filter(|path| path.starts_with(&local));
        let mut local: Vec<_> = local.map(|path| (machine.peek_len(&path).unwrap_or(0), path)).collect();
        local.sort_unstable_by_key(|(len, _)| std::cmp::Reverse(*len));
        AtRest {
            requests: after,
            objects: self.store.objects(),
            at_millis: self.context.timeline.millis(),
            complaint: self.complaint_at_rest(),
            local,
            database_bytes: machine.peek_len(Path::new(DATABASE)).unwrap_or(0),
            unfinished_uploads: self.store.unfinished_uploads(),
        }
    }

    /// Opens the live database like an administrator and checks it.
    pub fn examine_database(&self, machine: &Arc<Machine>) -> Result<String, String> {
        let process = Process::start(machine, "admin", Arc::clone(&self.clock));
        let app = App {
            vfs: Vfs::register(&process),
            process: Arc::clone(&process),
            plan: self.plan.app.clone(),
            ledger: Arc::clone(&self.ledger),
            history: Arc::clone(&self.history),
            stop: std::sync::atomic::AtomicBool::new(true),
            incarnation: 0,
            until_millis: 0,
            stopped_company: false,
        };
        let check = || {
            let db = app.look()?;
            // On some images of a power loss nothing was created yet.
            let rows = "SELECT count(*) FROM sqlite_master WHERE name = 't'";
            if db.query_row(rows, [], |row| row.get::<_, i64>(0))? > 0 {
                app.verify(&db)?;
            }
            db.query_row("PRAGMA integrity_check", [], |row| row.get(0))
        };
        let verdict = check().map_err(|error: rusqlite::Error| error.to_string());
        process.kill();
        verdict
    }

    /// Collects what the oracles need.
    pub fn evidence(
        &self,
        app_stopped: bool,
        (caught_up_after, caught_up_again): (Option<u64>, Option<u64>),
        at_rest: AtRest,
        stopped: Option<(Result<(), String>, u64)>,
        integrity: Result<String, String>,
    ) -> Evidence {
        let database = Path::new(DATABASE);
        let own = [database.to_path_buf(), with_suffix(database, "-wal"), with_suffix(database, "-shm")];
        let touched = self.machine.touched_by("replicator");
        let lost = self.machine.lost_locks();
        Evidence {
            plan: self.plan.clone(),
            history: Arc::clone(&self.history),
            claims: self.claims.borrow().clone(),
            restores: self.restores.borrow().clone(),
            damaged: Vec::new(),
            caught_up_after,
            caught_up_again,
            stopped,
            ledger: self.ledger.lock().expect("plain data").clone(),
            integrity,
            app_stopped,
            touched: touched.into_iter().filter(|path| own.contains(path)).collect(),
            lost_locks: lost
                .into_iter()
                .filter(|(role, _)| *role == "replicator")
                .map(|(_, path)| path)
                .collect(),
            crash_images: self.crash_images.borrow().clone(),
            others: self.others.borrow().iter().map(|(_, history)| Arc::clone(history)).collect(),
            wrote: self.replicators.borrow().iter().any(|process| self.machine.held_write_lock(*process)),
            at_rest,
            settings: self.settings.borrow().clone(),
            requests: self.store.requests(),
            restores_made: self.restores_made.get(),
            panics: std::mem::take(&mut *self.panics.lock().expect("plain data")),
            together: self.together.take(),
        }
    }

    /// Sums the run up.
    pub fn outcome(&self, violations: Vec<Violation>, evidence: &Evidence) -> Outcome {
        for violation in &violations {
            let text = format!("{}: {}", violation.oracle, violation.happened);
            self.context.log.event(violation.at_millis, "oracle", Mark::Violation, text);
        }
        Outcome {
            violations,
            events: self.context.log.events(),
            trace: self.context.log.trace(),
            digest: mix(self.context.log.digest() ^ self.context.choices.digest()),
            sim_millis: evidence.restores.last().map_or(0, |restore| restore.ended_millis),
            steps: self.context.log.steps(),
            commits: evidence.ledger.commits,
            restores: evidence.restores.len(),
            states: self.history.len(),
        }
    }

    /// Frees what the run's disks held; nothing may run any more.
    pub fn scrap(&self) {
        self.machine.scrap();
        self.scratch.scrap();
        for (machine, _) in self.others.borrow().iter() {
            machine.scrap();
        }
    }

    /// The newest claim that was made at `millis` or before, and the newest of those that name a state: a process that has
    /// just started names none for a moment, and what was claimed before it stays claimed.
    pub fn claimed_by(&self, millis: u64) -> Vec<Claim> {
        let claims = self.claims.borrow();
        let made = || claims.iter().rev().filter(|claim| claim.at_millis <= millis);
        let mut standing: Vec<Claim> = made().next().into_iter().copied().collect();
        standing.extend(made().find(|claim| claim.state.is_some()).filter(|claim| !standing.contains(claim)));
        standing
    }

    /// What the replicator says of itself when nothing has happened for long, if it is not that all is well.
    pub fn complaint_at_rest(&self) -> Option<String> {
        let running = self.replicator.borrow();
        let status = running.as_ref()?.handle.status().borrow().clone();
        let is_level = status.is_level(self.clock.now(), Duration::from_secs(10));
        let is_well = is_level && status.error().is_none();
        (!is_well).then(|| {
            let (state, last) = (status.state(), status.last_sync);
            format!("{state:?}, level: {is_level}, last sync {last:?}, error {:?}", status.error())
        })
    }

    /// Commits once, by an application that comes and goes. A checkpoint for which the plan lets writers wait may hold the
    /// write lock for a moment.
    pub async fn commit_soon(&self) -> bool {
        for _ in 0..100 {
            if second::commit(self, (&self.machine, "app"), &self.clock) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }
}

/// The product's options.
pub fn options(settings: &ReplicatorPlan) -> Options {
    let millis = |n: u32| Duration::from_millis(u64::from(n));
    let mut options = Options::new(DATABASE.into());
    options.monitor_interval = millis(settings.monitor_millis);
    options.sync_interval = millis(settings.sync_millis);
    options.checkpoint_interval = millis(settings.checkpoint_millis);
    options.min_checkpoint_pages = settings.checkpoint_pages;
    options.truncate_pages = (settings.truncate_pages > 0).then_some(settings.truncate_pages);
    options.snapshot_interval = millis(settings.snapshot_millis);
    options.snapshot_retention = millis(settings.retention_millis);
    options.levels = vec![millis(settings.level_millis), millis(settings.level_millis) * 5];
    options.l0_retention = millis(settings.level_millis) * 2;
    options.l0_retention_check_interval = millis(settings.level_millis);
    if settings.batch_bytes > 0 {
        options.max_batch_bytes = settings.batch_bytes.into();
    }
    options
}

/// Stops a replicator in order. A panic of its own tasks comes out here; it is written down where it happened.
pub async fn stop(handle: Handle, millis: u64) -> Result<(), String> {
    let stop = AssertUnwindSafe(handle.stop(Duration::from_millis(millis)));
    match stop.catch_unwind().await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("it panicked".into()),
    }
}

/// Kills a process inside the call that comes `after_calls` from now, or after five seconds.
async fn kill_within(process: &Process, after_calls: u64) {
    process.kill_after(after_calls);
    let _ = tokio::time::timeout(Duration::from_secs(5), process.death()).await;
    process.kill();
}
