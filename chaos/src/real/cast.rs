//! The processes of a run and the files between them. Starts and stops, decides nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use conformance::process::{Process, Signal};
use conformance::site::Site;
use conformance::witness::{self, Dialect, Replicator};
use conformance::workload::History;

use super::app::stop_file;
use super::{Arguments, BUILT_IN, Destination};

/// Longest time a process may take for an orderly end.
const ORDERLY: Duration = Duration::from_secs(40);

/// Everything that runs.
pub(super) struct Cast {
    pub(super) folder: PathBuf,
    pub(super) site: Site,
    pub(super) replicator: Replicator,
    settings: witness::Settings,
    /// `None` while it is down.
    pub(super) daemon: Option<Process>,
    /// `None` while it is down.
    pub(super) app: Option<Process>,
    apps_started: u64,
    seed: u64,
    /// Seed of the application's settings.
    pub(super) character: u64,
}

impl Cast {
    pub(super) fn new(arguments: &Arguments, folder: &Path, seed: u64) -> io::Result<Self> {
        let site = match arguments.destination {
            Destination::S3 => Site::embedded()?,
            Destination::Directory => Site::directory(&folder.join("replica")),
        };
        let binary = match &arguments.binary {
            Some(binary) => binary.clone(),
            None => {
                let link = folder.join(BUILT_IN);
                std::os::unix::fs::symlink(std::env::current_exe()?, &link)?;
                link
            }
        };
        let dialect = dialect_of(&binary, folder)?;
        let mut settings = witness::Settings::new(&folder.join("app.db"), &site);
        settings.database_lines.clone_from(&arguments.database_line);
        if dialect == Dialect::V5 {
            let short = "levels: [{interval: 1s}, {interval: 3s}]\nsnapshot: {interval: 4s, retention: 9s}\nl0-retention: 2s";
            settings.top_lines.extend(short.lines().map(str::to_owned));
            settings.top_lines.push("l0-retention-check-interval: 1s".to_owned());
        }
        Ok(Self {
            folder: folder.to_owned(),
            replicator: Replicator::new(binary, dialect, folder),
            settings,
            site,
            daemon: None,
            app: None,
            apps_started: 0,
            seed,
            character: seed,
        })
    }

    pub(super) fn database(&self) -> PathBuf {
        self.folder.join("app.db")
    }

    fn history_path(&self) -> PathBuf {
        self.folder.join("history")
    }

    /// What the application has written down so far.
    pub(super) fn history(&self) -> io::Result<History> {
        History::load(&self.history_path())
    }

    pub(super) fn start_daemon(&mut self) -> io::Result<()> {
        self.daemon = Some(self.replicator.replicate(&self.settings)?);
        Ok(())
    }

    /// An orderly end; the exit code, `None` after a signal.
    pub(super) fn terminate_daemon(&mut self) -> io::Result<Option<i32>> {
        match self.daemon.take() {
            Some(daemon) => Ok(daemon.terminate(ORDERLY)?.code()),
            None => Ok(Some(0)),
        }
    }

    pub(super) fn kill_daemon(&mut self) -> io::Result<()> {
        self.daemon.take().map_or(Ok(()), Process::kill)
    }

    pub(super) fn start_app(&mut self) -> io::Result<()> {
        let database = self.database();
        self.app = Some(self.spawn_app(&database, 0)?);
        Ok(())
    }

    fn spawn_app(&mut self, database: &Path, actions: u64) -> io::Result<Process> {
        self.apps_started += 1;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("app").arg("--database").arg(database).arg("--history").arg(self.history_path());
        let seed = self.seed.wrapping_add(self.apps_started * 7919);
        for (flag, number) in
            [("--seed", seed), ("--character", self.character), ("--pause-ms", 20), ("--actions", actions)]
        {
            command.arg(flag).arg(number.to_string());
        }
        Process::start(&mut command, &self.folder.join("app.log"))
    }

    /// An orderly end of the application; its exit code.
    pub(super) fn stop_app(&mut self) -> io::Result<Option<i32>> {
        let Some(mut app) = self.app.take() else { return Ok(Some(0)) };
        let stop = stop_file(&self.history_path());
        std::fs::write(&stop, "")?;
        let ended = app.wait(ORDERLY);
        std::fs::remove_file(stop)?;
        Ok(ended?.code())
    }

    pub(super) fn kill_app(&mut self) -> io::Result<()> {
        self.app.take().map_or(Ok(()), Process::kill)
    }

    /// Puts another application's database in the place of the file of a stopped one.
    pub(super) fn replace_database(&mut self, actions: u64) -> io::Result<Option<i32>> {
        let other = self.folder.join("other.db");
        let code = self.spawn_app(&other, actions)?.wait(ORDERLY)?.code();
        for suffix in ["-wal", "-shm"] {
            match std::fs::remove_file(self.folder.join(format!("app.db{suffix}"))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(other, self.database())?;
        Ok(code)
    }

    /// Freezes a process for a while.
    pub(super) fn freeze(process: Option<&mut Process>, time: Duration) -> io::Result<()> {
        if let Some(process) = process {
            process.signal(Signal::Stop)?;
            std::thread::sleep(time);
            process.signal(Signal::Continue)?;
        }
        Ok(())
    }

    /// The end of a log, for a message.
    pub(super) fn tail(&self, log: &str) -> String {
        let text = std::fs::read_to_string(self.folder.join(log)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(6)..].join("\n")
    }
}

/// 0.3 has another configuration; everything else speaks 0.5's.
fn dialect_of(binary: &Path, folder: &Path) -> io::Result<Dialect> {
    let said =
        conformance::process::run(binary, ["version"], &folder.join("version.log"), Duration::from_secs(20))?;
    if said.code != Some(0) {
        return Err(io::Error::other(format!("{} version failed: {}", binary.display(), said.output)));
    }
    Ok(if said.output.trim().trim_start_matches('v').starts_with("0.3.") { Dialect::V3 } else { Dialect::V5 })
}
