//! The main job from end to end in under a minute: write load, replication, a hard kill, restore, verdict.
//!
//! Everything is real: a database file, transactions, the replicator in a process of its own with its ordinary
//! command line and configuration, SIGKILL, and a store that is an S3 server in this process or a directory. The
//! verdict is the independent judge's. Owns the order of events; what is measured or tortured at length is elsewhere.

mod application;
mod cast;
mod telling;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use conformance::compare;
use conformance::process::{Process, wait_for};
use conformance::replica::Replica;
use conformance::workload::History;

use application::Application;
use cast::Cast;
use telling::Teller;

/// Shows the main job: load, replication, kill -9, restart, restore, and the judge's verdict.
///
/// Exit code 0: what was promised could be restored, exactly. 1: it could not; the files are kept.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Replicate into this directory, which must not exist or be empty, instead of an S3 server in this process.
    #[arg(long, value_name = "PATH")]
    pub dir: Option<PathBuf>,
    /// Seconds of write load.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Decides what the application writes.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Another replicator with Litestream's command line, instead of the one built in.
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
    /// Print one JSON object at the end instead of lines.
    #[arg(long)]
    pub json: bool,
}

/// For waits that end at once on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Plays the demonstration.
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut teller = Teller::new(arguments.json);
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => return teller.end(Err(format!("cannot create a temporary directory: {error}").into())),
    };
    let played = Demo::new(arguments, folder.path(), &mut teller).and_then(Demo::play);
    let played = played.map_err(|error| {
        let kept = folder.keep();
        format!("{error}\nThe database, the configuration and the logs are kept in {}", kept.display()).into()
    });
    teller.end(played)
}

struct Demo<'a> {
    teller: &'a mut Teller,
    cast: Cast,
    application: Application,
    /// Of the load as a whole.
    seconds: Duration,
    /// Whether the replicator has been started before.
    started: bool,
}

impl<'a> Demo<'a> {
    fn new(arguments: &Arguments, folder: &Path, teller: &'a mut Teller) -> Result<Self> {
        let cast = Cast::new(folder, arguments.dir.as_deref(), arguments.binary.as_deref())?;
        let application = Application::start(&cast.database(), &cast.history(), arguments.seed)?;
        teller.say(
            "application",
            format!("commits transaction after transaction to {}", cast.database().display()),
        );
        Ok(Self {
            teller,
            cast,
            application,
            seconds: Duration::from_secs(arguments.seconds),
            started: false,
        })
    }

    fn play(mut self) -> Result<()> {
        let replicator = self.start_replicator()?;
        self.watch_load(self.seconds.mul_f64(0.4))?;
        let promised = self.kill(replicator)?;
        let before = (self.application.committed(), self.application.checkpoints());
        std::thread::sleep(self.seconds.mul_f64(0.2));
        let alone = (self.application.committed() - before.0, self.application.checkpoints() - before.1);
        self.teller.say(
            "application",
            format!("went on without a replicator: {} commits, {} checkpoints of its own", alone.0, alone.1),
        );
        self.restore_and_judge("killed.db", promised)?;
        let replicator = self.start_replicator()?;
        self.watch_load(self.seconds.mul_f64(0.4))?;
        let committed = self.stop(replicator)?;
        self.restore_and_judge("final.db", committed)?;
        self.judge_every_state()?;
        self.tell_costs()
    }

    /// Starts it and waits until the store holds a state of the application.
    fn start_replicator(&mut self) -> Result<Process> {
        let before = self.application.committed();
        let replicator = self.cast.replicate()?;
        let what = match std::mem::replace(&mut self.started, true) {
            false => format!("started as process {}, to {}", replicator.id(), self.cast.place()),
            true => format!("started again as process {}", replicator.id()),
        };
        self.teller.say("replicator", what);
        let caught_up = wait_for("state of the running application in the store", PATIENCE, || {
            self.durable().filter(|durable| durable.seq >= before)
        });
        caught_up.map_err(|error| format!("{error}; the replicator said:\n{}", replicator.output()))?;
        Ok(replicator)
    }

    /// Lets the load go on, and tells how far the store has come.
    fn watch_load(&mut self, duration: Duration) -> Result<()> {
        const LOOKS: u32 = 3;
        for look in 0..LOOKS {
            if look > 0 {
                let committed = self.application.committed();
                let durable = self.durable().ok_or("the store no longer holds a restorable state")?;
                self.teller.say(
                    "replicator",
                    format!("{} of {committed} commits are durable, as {durable}", durable.seq),
                );
            }
            std::thread::sleep(duration / LOOKS);
        }
        Ok(())
    }

    /// Kills it in the middle of the load; returns the newest commit that the store had accepted.
    fn kill(&mut self, replicator: Process) -> Result<u64> {
        let id = replicator.id();
        replicator.kill()?;
        let committed = self.application.committed();
        let durable = self.durable().ok_or("the store holds no restorable state")?;
        self.teller.say(
            "kill -9",
            format!(
                "process {id}, at {committed} commits, {} of them acknowledged by the store as {durable}",
                durable.seq
            ),
        );
        self.teller.note("killed_at_commit", committed);
        self.teller.note("acknowledged_at_kill", durable.seq);
        Ok(durable.seq)
    }

    /// Ends the load, then the replicator in an orderly way: its exit code is its promise.
    fn stop(&mut self, replicator: Process) -> Result<u64> {
        let committed = self.application.stop()?;
        self.teller.say("application", format!("ends after {committed} commits"));
        self.teller.note("commits", committed);
        let log = self.cast.log();
        let status = replicator.terminate(PATIENCE)?;
        if !status.success() {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            return Err(format!("the replicator's final sync failed ({status}); it said:\n{said}").into());
        }
        self.teller
            .say("SIGTERM", "exit code 0: the replicator promises that everything is durable".to_owned());
        Ok(committed)
    }

    /// Restores the newest state with the replicator's own command and has it judged.
    fn restore_and_judge(&mut self, name: &str, promised: u64) -> Result<()> {
        let began = Instant::now();
        let output = self.cast.restore(name)?;
        let bytes = std::fs::metadata(&output)?.len();
        let millis = began.elapsed().as_millis();
        self.teller.say("restore", format!("{bytes} bytes in {millis} ms into {}", output.display()));
        let history = History::load(&self.cast.history())?;
        let state = compare::judge(&output, &history, promised)?;
        self.teller.say(
            "judge",
            format!("undamaged, and exactly the state after commit {}; {promised} was promised", state.seq),
        );
        Ok(())
    }

    /// Every point in time that the replica offers must be one committed state, and they must be in order.
    fn judge_every_state(&mut self) -> Result<()> {
        let replica = Replica::read(&*self.cast.site.store)?;
        let report = replica.report();
        if !report.whole {
            return Err(format!("the replica is not whole:\n{report}").into());
        }
        let history = History::load(&self.cast.history())?;
        let (mut newest, mut count) = (0, 0_u64);
        for (txid, _) in replica.restorable() {
            let image = replica.restore(txid)?;
            let state = compare::judge_image(&image.bytes, &history, newest);
            newest = state.map_err(|wrong| format!("transaction {txid:016x}: {wrong}"))?.seq;
            count += 1;
        }
        self.teller.say(
            "judge",
            format!("each of the {count} points in time in the replica is a committed state, in order"),
        );
        self.teller.note("points_in_time", count);
        Ok(())
    }

    fn tell_costs(&mut self) -> Result<()> {
        let objects = self.cast.site.store.list()?;
        let bytes: u64 = objects.iter().map(|object| object.size).sum();
        let mut text = format!("{} objects, {bytes} bytes", objects.len());
        self.teller.note("objects", objects.len() as u64);
        self.teller.note("bytes_stored", bytes);
        let requests = self.cast.requests();
        if !requests.is_empty() {
            let list: Vec<_> = requests.iter().map(|(verb, count)| format!("{count} {verb}")).collect();
            text = format!("{text}; requests: {}", list.join(", "));
            self.teller.note(
                "requests",
                serde_json::Map::from_iter(requests.into_iter().map(|(verb, count)| (verb, count.into()))),
            );
        }
        self.teller.say("store", text);
        Ok(())
    }

    fn durable(&self) -> Option<Durable> {
        let replica = Replica::read(&*self.cast.site.store).ok()?;
        Some(Durable { txid: replica.newest()?, seq: replica.newest_seq()? })
    }
}

/// The newest state that the store holds, as the naive decoders see it.
struct Durable {
    txid: u64,
    seq: u64,
}

impl std::fmt::Display for Durable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TXID {:016x}", self.txid)
    }
}
