//! A process of a simulated machine: every call it makes may be paused, be hit by a fault, or be its last.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::{Call, Effect, Machine, raw};
use crate::clock::WallClock;
use crate::events::Mark;
use crate::fiber::{self, Pause};

/// How a process is scheduled inside its own disk calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pace {
    /// Calls per thousand before which another task may run.
    pub yields_per_mille: u16,
    /// Calls per thousand that take time.
    pub sleeps_per_mille: u16,
    /// The longest such time, in milliseconds.
    pub max_sleep_millis: u16,
}

/// One process. Once dead, every call it makes fails without effect, so destructors cannot repair anything.
pub struct Process {
    id: u64,
    role: &'static str,
    machine: Arc<Machine>,
    clock: Arc<WallClock>,
    alive: AtomicBool,
    calls: AtomicU64,
    /// Dies at this call; 0 means it does not.
    doomed_at: AtomicU64,
    pace: Mutex<Pace>,
    /// SIGSTOP until this simulated millisecond.
    stopped_until: AtomicU64,
    died: tokio::sync::Notify,
}

impl Process {
    /// Starts a process on `machine`.
    #[must_use]
    pub fn start(machine: &Arc<Machine>, role: &'static str, clock: Arc<WallClock>) -> Arc<Self> {
        let id = {
            let mut state = machine.lock();
            state.next_process += 1;
            state.next_process
        };
        Arc::new(Self {
            id,
            role,
            machine: Arc::clone(machine),
            clock,
            alive: AtomicBool::new(true),
            calls: AtomicU64::new(0),
            doomed_at: AtomicU64::new(0),
            pace: Mutex::default(),
            stopped_until: AtomicU64::new(0),
            died: tokio::sync::Notify::new(),
        })
    }

    /// Number that no other process of this machine ever has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// `app`, `replicator`, `operator`.
    #[must_use]
    pub fn role(&self) -> &'static str {
        self.role
    }

    /// The machine it runs on.
    #[must_use]
    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// Its host's wall clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<WallClock> {
        &self.clock
    }

    /// Sets how it is scheduled.
    pub fn set_pace(&self, pace: Pace) {
        *self.pace.lock().expect("plain data") = pace;
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Disk and SQLite calls made so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// The process dies before its `calls`-th call from now takes effect (1 is the next one).
    pub fn kill_after(&self, calls: u64) {
        self.doomed_at.store(self.calls() + calls.max(1), Ordering::Relaxed);
    }

    /// Takes back [`Process::kill_after`].
    pub fn spare(&self) {
        self.doomed_at.store(0, Ordering::Relaxed);
    }

    /// SIGSTOP now, SIGCONT at the simulated millisecond `until`: no call gets past its door before.
    pub fn stop_until(&self, until: u64) {
        self.stopped_until.store(until, Ordering::Relaxed);
        self.machine.context.event(
            self.role,
            Mark::Fault,
            format!("process {} stopped until {until} ms", self.id),
        );
    }

    /// Milliseconds until the process may continue; 0 if it is not stopped.
    #[must_use]
    pub fn stopped_millis(&self) -> u64 {
        let until = self.stopped_until.load(Ordering::Relaxed);
        if until == 0 { 0 } else { until.saturating_sub(self.machine.context.timeline.millis()) }
    }

    /// SIGKILL, now: the page cache stays, kernel locks go.
    pub fn kill(&self) {
        if self.alive.swap(false, Ordering::Relaxed) {
            self.machine.lock().exited(self.id);
            self.machine.context.event(self.role, Mark::Fault, format!("process {} killed", self.id));
            self.died.notify_waiters();
        }
    }

    /// Resolves when the process is dead.
    pub async fn death(&self) {
        let died = self.died.notified();
        if self.is_alive() {
            died.await;
        }
    }

    /// Passes the door of one call. `Ok(Some(_))` is an effect the call itself must bring about.
    pub(crate) fn enter(&self, call: Call, path: &Path) -> io::Result<Option<Effect>> {
        self.pass()?;
        let effect = self.machine.lock().faults.strike(self.role, path, call);
        if let Some(Effect::Slow(millis)) = effect {
            self.machine.context.timeline.advance(u64::from(millis));
            fiber::suspend(Pause::Sleep(u64::from(millis)));
            self.stay_if_alive()?;
            return Ok(None);
        }
        Ok(effect)
    }

    /// As [`Process::enter`], where no fault can hit: locks and memory.
    pub(crate) fn pass(&self) -> io::Result<()> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        self.pause();
        while fiber::inside() && self.is_alive() && self.stopped_millis() > 0 {
            fiber::suspend(Pause::Sleep(self.stopped_millis()));
        }
        if number == self.doomed_at.load(Ordering::Relaxed) {
            self.kill();
        }
        self.stay_if_alive()
    }

    /// Fails if the process is dead; inside a fiber it never returns then, as a killed thread does not.
    pub(crate) fn stay_if_alive(&self) -> io::Result<()> {
        if self.is_alive() {
            return Ok(());
        }
        fiber::suspend(Pause::Forever);
        Err(raw(libc::EIO))
    }

    /// Maybe lets others run.
    fn pause(&self) {
        if !fiber::inside() {
            return;
        }
        let pace = *self.pace.lock().expect("plain data");
        let (yields, sleeps) = (u64::from(pace.yields_per_mille), u64::from(pace.sleeps_per_mille));
        if yields + sleeps == 0 {
            return;
        }
        let choices = &self.machine.context.choices;
        let draw = choices.next_below("pause", self.id, 1000);
        if draw >= 1000 - sleeps.min(1000) {
            let millis =
                1 + choices.next_below("pause.millis", self.id, u64::from(pace.max_sleep_millis.max(1)));
            fiber::suspend(Pause::Sleep(millis));
        } else if draw >= 1000 - (sleeps + yields).min(1000) {
            fiber::suspend(Pause::Yield);
        }
    }
}
