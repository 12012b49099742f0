//! The tortured application: a process of its own, so that it can be killed like one.
//!
//! It writes its history beside the database before and after every commit, and ends in an orderly way when a file
//! named `stop` appears beside the history.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use conformance::workload::{Failure, History, Random, Settings, Workload};
use rusqlite::Connection;

/// Exit code of an application whose database failed it.
pub(super) const HARMED: i32 = 3;

/// An application on a database (started by `real`).
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Database file.
    #[arg(long)]
    pub(super) database: PathBuf,
    /// History file.
    #[arg(long)]
    pub(super) history: PathBuf,
    /// Decides what it does.
    #[arg(long)]
    pub(super) seed: u64,
    /// Decides what kind of application it is.
    #[arg(long)]
    pub(super) character: u64,
    /// Longest pause between two actions in milliseconds.
    #[arg(long)]
    pub(super) pause_ms: u64,
    /// Ends by itself after so many actions; 0 goes on until it is stopped.
    #[arg(long, default_value_t = 0)]
    pub(super) actions: u64,
}

/// Runs until it is stopped or killed.
pub fn run(arguments: &Arguments) -> ExitCode {
    match work(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("the application failed: {failure}");
            ExitCode::from(u8::try_from(HARMED).expect("a small number"))
        }
    }
}

fn work(arguments: &Arguments) -> Result<(), Failure> {
    let mut history = History::open(&arguments.history)?;
    let mut random = Random::new(arguments.seed, "pauses");
    let db = Connection::open(&arguments.database)?;
    // The start must succeed even while a replicator checkpoints.
    db.busy_timeout(Duration::from_secs(10))?;
    let settings = Settings::from_seed(arguments.character);
    let next = history.intended() + 1;
    let mut app = Workload::start(db, settings, arguments.seed, next, &mut history)?;
    app.db().busy_timeout(Duration::from_millis(500))?;
    let stop = stop_file(&arguments.history);
    let mut actions = 0;
    while !stop.exists() && (arguments.actions == 0 || actions < arguments.actions) {
        app.step(&mut history)?;
        actions += 1;
        std::thread::sleep(Duration::from_millis(random.below(arguments.pause_ms + 1)));
    }
    app.close()
}

/// The file that asks the application with this history to end.
pub(super) fn stop_file(history: &Path) -> PathBuf {
    history.with_file_name("stop")
}
