//! The torturer: draws events, keeps the promises' books, calls the judge.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conformance::compare::{self, Wrong};
use conformance::process::Process;
use conformance::replica::{Replica, Store};
use conformance::server::{ErrorAnswer, Fault, FaultPlan, NoFaults, Outcome, RequestFacts};
use conformance::workload::{History, Random};

use super::cast::Cast;
use super::event::{EVENTS, Event};
use super::report::{Report, Violation};
use super::{Arguments, BUILT_IN, app};

/// A run with more broken promises than this has nothing more to tell.
const ENOUGH: usize = 8;

/// One run.
pub(super) struct Torture {
    arguments: Arguments,
    folder: tempfile::TempDir,
    cast: Cast,
    random: Random,
    events: Vec<(Event, u64)>,
    started: Instant,
    report: Report,
    /// The newest state ever restored or seen in the replica while the application was quiet.
    restored: u64,
}

impl Torture {
    pub(super) fn new(mut arguments: Arguments) -> io::Result<Self> {
        if arguments.seed == 0 {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            arguments.seed = now.map_or(1, |time| time.as_millis() as u64 % 1_000_000);
        }
        for name in &arguments.without {
            if !EVENTS.iter().any(|(event, _)| event.name() == name) {
                let names: Vec<_> = EVENTS.iter().map(|(event, _)| event.name()).collect();
                return Err(io::Error::other(format!(
                    "no event is called {name}; there are {}",
                    names.join(", ")
                )));
            }
        }
        let folder = tempfile::Builder::new().prefix("chaos-").tempdir()?;
        let cast = Cast::new(&arguments, folder.path(), arguments.seed)?;
        let possible = |event: &Event| {
            !arguments.without.iter().any(|name| name == event.name())
                && (*event != Event::StoreFails || cast.site.server().is_some())
        };
        Ok(Self {
            events: EVENTS.into_iter().filter(|(event, _)| possible(event)).collect(),
            random: Random::new(arguments.seed, "torture"),
            report: Report {
                binary: arguments
                    .binary
                    .as_ref()
                    .map_or_else(|| BUILT_IN.to_owned(), |path| path.display().to_string()),
                seed: arguments.seed,
                ..Report::default()
            },
            started: Instant::now(),
            restored: 0,
            arguments,
            folder,
            cast,
        })
    }

    pub(super) fn run(mut self) -> io::Result<Report> {
        self.cast.start_app()?;
        self.cast.start_daemon()?;
        self.quiet()?;
        let end = self.started + Duration::from_secs(self.arguments.seconds);
        while Instant::now() < end && self.report.violations.len() < ENOUGH {
            self.sleep(200);
            let event = self.random.weighted(&self.events);
            let begun = self.now_ms();
            self.perform(event)?;
            let took = self.now_ms() - begun;
            self.report.events.entry(event.name()).or_default().add(took);
            self.check_alive()?;
        }
        self.finish()?;
        self.report.run_ms = self.now_ms();
        self.report.commits = self.cast.history()?.committed();
        if !self.report.violations.is_empty() {
            self.report.evidence = Some(self.folder.keep().display().to_string());
        }
        Ok(self.report)
    }

    fn perform(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::KillReplicator => {
                self.cast.kill_daemon()?;
                self.sleep(1500);
                self.cast.start_daemon()
            }
            Event::TerminateReplicator => self.terminate_replicator(),
            Event::FreezeReplicator => {
                let time = Duration::from_millis(self.random.below(1500));
                Cast::freeze(self.cast.daemon.as_mut(), time)
            }
            Event::KillApp => {
                self.cast.kill_app()?;
                self.sleep(500);
                self.cast.start_app()
            }
            Event::FreezeApp => {
                let time = Duration::from_millis(self.random.below(1000));
                Cast::freeze(self.cast.app.as_mut(), time)
            }
            Event::RestartApp => {
                self.stop_app()?;
                self.sleep(300);
                self.cast.start_app()
            }
            Event::KillBoth => self.kill_both(),
            Event::ReplaceFile => self.replace_file(),
            Event::StoreFails => {
                self.break_store();
                self.sleep(2500);
                self.heal_store();
                Ok(())
            }
            Event::Restore => self.restore(0).map(drop),
            Event::KillRestore => self.kill_restore(),
            Event::Quiet => self.quiet(),
        }
    }

    /// A graceful end; half of the time of a quiet application, where exit code 0 is a promise.
    fn terminate_replicator(&mut self) -> io::Result<()> {
        let quiet = self.random.one_in(2);
        if quiet {
            self.stop_app()?;
        }
        match self.cast.terminate_daemon() {
            Ok(Some(0)) if quiet => {
                let committed = self.cast.history()?.committed();
                let newest =
                    Replica::read(&*self.cast.site.store).ok().and_then(|replica| replica.newest_seq());
                if newest < Some(committed) {
                    let what = format!("it ended with 0, the replica has state {newest:?} of {committed}");
                    self.violation("honest exit", what);
                }
            }
            Ok(_) => {}
            Err(error) => self.violation("honest exit", format!("no end after SIGTERM: {error}")),
        }
        self.sleep(1000);
        self.cast.start_daemon()?;
        if quiet { self.cast.start_app() } else { Ok(()) }
    }

    fn kill_both(&mut self) -> io::Result<()> {
        if self.random.one_in(2) {
            self.cast.kill_app()?;
            self.cast.kill_daemon()?;
        } else {
            self.cast.kill_daemon()?;
            self.cast.kill_app()?;
        }
        self.sleep(300);
        if self.random.one_in(2) {
            self.cast.start_app()?;
            self.sleep(500);
            self.cast.start_daemon()
        } else {
            self.cast.start_daemon()?;
            self.sleep(500);
            self.cast.start_app()
        }
    }

    /// Another database takes the place of the file, with the replicator up or down.
    fn replace_file(&mut self) -> io::Result<()> {
        let down = self.random.one_in(2);
        if down {
            self.cast.kill_daemon()?;
        }
        self.stop_app()?;
        if self.random.one_in(3) {
            // Another kind of application, often with another page size.
            self.cast.character = self.random.below(u64::MAX);
        }
        let actions = 1 + self.random.below(80);
        if self.cast.replace_database(actions)? != Some(0) {
            return Err(io::Error::other(format!(
                "the other application failed: {}",
                self.cast.tail("app.log")
            )));
        }
        self.sleep(800);
        if down {
            self.cast.start_daemon()?;
        }
        self.cast.start_app()
    }

    fn break_store(&mut self) {
        let Some(server) = self.cast.site.server() else { return };
        let kind = self.random.below(4);
        let share = 1 + self.random.below(3);
        let plan = move |request: &RequestFacts| {
            if !request.ordinal.is_multiple_of(share) {
                return Fault::default();
            }
            Fault::from(match kind {
                0 => Outcome::Refuse(ErrorAnswer::new(503, "SlowDown")),
                1 => Outcome::ApplyThenHangup,
                2 => Outcome::Hangup,
                _ => Outcome::ApplyThenError(ErrorAnswer::new(500, "InternalError")),
            })
        };
        server.set_faults(Arc::new(plan) as Arc<dyn FaultPlan>);
    }

    fn heal_store(&self) {
        if let Some(server) = self.cast.site.server() {
            server.set_faults(Arc::new(NoFaults));
        }
    }

    /// Restores and judges; the state, if it was acceptable.
    fn restore(&mut self, at_least: u64) -> io::Result<Option<u64>> {
        let output = self.output();
        let said = self.cast.replicator.restore(&self.cast.site, &output, &[])?;
        let history = self.cast.history()?;
        if said.code != Some(0) {
            let what = format!("exit code {:?}: {}", said.code, last_lines(&said.output));
            self.violation("restorable", what);
            return Ok(None);
        }
        self.report.restores += 1;
        let judged = compare::judge(&output, &history, at_least.max(self.restored));
        match judged {
            Ok(state) => {
                self.restored = state.seq;
                std::fs::remove_file(output)?;
                Ok(Some(state.seq))
            }
            Err(wrong) => {
                let promise = match wrong {
                    Wrong::Old { .. } => "monotone",
                    _ => "prefix",
                };
                self.violation(promise, format!("{} {wrong}", output.display()));
                Ok(None)
            }
        }
    }

    /// A restore that is killed leaves no file that looks finished and is not.
    fn kill_restore(&mut self) -> io::Result<()> {
        let output = self.output();
        let mut command = std::process::Command::new(&self.cast.replicator.binary);
        command.envs(self.cast.site.environment.iter().map(|(name, value)| (name, value)));
        command.arg("restore").arg("-o").arg(&output).arg(&self.cast.site.url);
        let mut process = Process::start(&mut command, &self.cast.folder.join("killed-restore.log"))?;
        let time = Duration::from_millis(self.random.below(60));
        // Either it was quicker, or it has been killed.
        let _ = process.wait(time);
        if output.exists() {
            let history = self.cast.history()?;
            if let Err(wrong) = compare::judge(&output, &history, self.restored) {
                self.violation("prefix", format!("a killed restore left {}: {wrong}", output.display()));
            }
        }
        Ok(())
    }

    /// The application ends, the replica must catch up, and is then examined.
    fn quiet(&mut self) -> io::Result<()> {
        self.stop_app()?;
        self.catch_up()?;
        self.cast.start_app()
    }

    fn catch_up(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        let committed = self.cast.history()?.committed();
        let patience = Duration::from_secs(self.arguments.patience);
        let caught_up = conformance::process::wait_for("equal replica", patience, || {
            let newest = Replica::read(&*self.cast.site.store).ok()?.newest_seq()?;
            (newest >= committed).then_some(())
        });
        if caught_up.is_err() {
            let newest = Replica::read(&*self.cast.site.store).ok().and_then(|replica| replica.newest_seq());
            let tail = self.cast.tail("replicate.log");
            let what = format!(
                "the replica has state {newest:?} of {committed} after {patience:?}; its log ends\n{tail}"
            );
            self.violation("fresh", what);
            return Ok(());
        }
        self.report.quiets += 1;
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.report.slowest_quiet_ms = self.report.slowest_quiet_ms.max(took);
        self.restore(committed)?;
        self.examine();
        Ok(())
    }

    /// Whole by the independent decoders. Compaction and retention go on meanwhile, so a few looks are allowed.
    fn examine(&mut self) {
        let mut last = String::new();
        for _ in 0..5 {
            match Replica::read(&*self.cast.site.store).map(|replica| replica.report()) {
                Ok(report) if report.whole => return,
                Ok(report) => last = report.to_string(),
                Err(defect) => last = defect.to_string(),
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        self.violation("whole", last);
    }

    fn stop_app(&mut self) -> io::Result<()> {
        match self.cast.stop_app() {
            Ok(Some(0)) => Ok(()),
            Ok(code) => {
                let what = format!("the application ended with {code:?}: {}", self.cast.tail("app.log"));
                self.violation("source", what);
                Ok(())
            }
            Err(error) => {
                self.violation("source", format!("the application hangs: {error}"));
                Ok(())
            }
        }
    }

    /// Neither process may have ended by itself.
    fn check_alive(&mut self) -> io::Result<()> {
        if self.cast.app.as_mut().is_some_and(|app| !app.is_running()) {
            let what = format!(
                "the application ended by itself (code {} means an error of SQLite): {}",
                app::HARMED,
                self.cast.tail("app.log")
            );
            self.violation("source", what);
            self.cast.start_app()?;
        }
        if self.cast.daemon.as_mut().is_some_and(|daemon| !daemon.is_running()) {
            let what = format!("the replicator ended by itself: {}", self.cast.tail("replicate.log"));
            self.violation("running", what);
            self.cast.start_daemon()?;
        }
        Ok(())
    }

    /// The last quiet moment: the source, the newest state, and every older one.
    fn finish(&mut self) -> io::Result<()> {
        self.heal_store();
        self.stop_app()?;
        self.catch_up()?;
        if let Err(error) = self.cast.terminate_daemon() {
            self.violation("honest exit", format!("no end after SIGTERM: {error}"));
        }
        let history = self.cast.history()?;
        if let Err(wrong) = compare::judge_opened(&self.cast.database(), &history, history.committed()) {
            self.violation("source", format!("the application's own file: {wrong}"));
        }
        let (states, broken) = judge_every_state(&*self.cast.site.store, &history)?;
        self.report.states = states;
        for what in broken {
            self.violation("prefix", what);
        }
        Ok(())
    }

    fn output(&self) -> PathBuf {
        self.cast.folder.join(format!("restored-{}.db", self.now_ms()))
    }

    fn violation(&mut self, promise: &'static str, what: String) {
        let at_ms = self.now_ms();
        self.report.violations.push(Violation { at_ms, promise, what });
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep(&mut self, longest_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.random.below(longest_ms)));
    }
}

/// How many states a replica holds, and what is wrong with which.
fn judge_every_state(store: &dyn Store, history: &History) -> io::Result<(u64, Vec<String>)> {
    let replica = Replica::read(store).map_err(io::Error::other)?;
    let (mut count, mut newest, mut broken) = (0, 0, Vec::new());
    for (txid, image) in replica.images() {
        count += 1;
        let image = image.map_err(io::Error::other)?;
        match compare::judge_image(&image.bytes, history, newest) {
            Ok(state) => newest = state.seq,
            // The first copy of a database may be from before the application's first commit.
            Err(Wrong::NoMark) if newest == 0 => {}
            Err(wrong) => broken.push(format!("state {txid:016x}: {wrong}")),
        }
    }
    Ok((count, broken))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(4)..].join("\n")
}
