//! Who takes part: the replicator as a process of its own, the place of the replica, and where their files are.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::process::Process;
use conformance::site::Site;

use super::{PATIENCE, Result};

/// Short enough to see many objects in a few seconds; the default is one second.
const SYNC_INTERVAL: &str = "250ms";

/// Files, store and replicator of one demonstration.
pub struct Cast {
    folder: PathBuf,
    /// Where the replica lies.
    pub site: Site,
    program: PathBuf,
    /// What comes before the replicator's own arguments.
    prefix: &'static [&'static str],
}

impl Cast {
    /// Sets the scene in `folder` and writes the configuration.
    pub fn new(folder: &Path, dir: Option<&Path>, binary: Option<&Path>) -> Result<Self> {
        let site = match dir {
            Some(dir) => Site::directory(&empty_directory(dir)?),
            None => Site::embedded()?,
        };
        let (program, prefix): (_, &[&str]) = match binary {
            Some(binary) => (binary.to_owned(), &[]),
            None => (std::env::current_exe()?, &["replicator"]),
        };
        let cast = Self { folder: folder.to_owned(), site, program, prefix };
        std::fs::write(cast.config(), cast.config_text())?;
        Ok(cast)
    }

    fn config_text(&self) -> String {
        let replica: String = self.site.lines.iter().map(|line| format!("      {line}\n")).collect();
        let database = self.database();
        format!(
            "dbs:\n  - path: {}\n    replica:\n      sync-interval: {SYNC_INTERVAL}\n{replica}",
            database.display()
        )
    }

    fn config(&self) -> PathBuf {
        self.folder.join("litestream.yml")
    }

    /// The live database.
    pub fn database(&self) -> PathBuf {
        self.folder.join("app.db")
    }

    /// What the application committed.
    pub fn history(&self) -> PathBuf {
        self.folder.join("history.txt")
    }

    /// What the replicator prints.
    pub fn log(&self) -> PathBuf {
        self.folder.join("replicator.log")
    }

    /// Where the replica lies, for a person.
    pub fn place(&self) -> String {
        match self.site.server() {
            Some(_) => format!("an S3 server in this process, {}", self.site.url),
            None => self.site.url.clone(),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.prefix).envs(self.site.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the replicator with the configuration.
    pub fn replicate(&self) -> io::Result<Process> {
        Process::start(self.command().args(["replicate", "-config"]).arg(self.config()), &self.log())
    }

    /// Restores the newest state into a new file.
    pub fn restore(&self, name: &str) -> Result<PathBuf> {
        let (output, log) = (self.folder.join(name), self.folder.join(format!("{name}.log")));
        let mut command = self.command();
        command.arg("restore").arg("-o").arg(&output).arg(&self.site.url);
        let mut process = Process::start(&mut command, &log)?;
        let status = process.wait(PATIENCE)?;
        if status.success() {
            return Ok(output);
        }
        Err(format!("restore failed ({status}):\n{}", process.output()).into())
    }

    /// Requests to the S3 server by kind; empty for a directory.
    pub fn requests(&self) -> Vec<(String, u64)> {
        let traffic = self.site.server().map(|server| server.traffic()).unwrap_or_default();
        traffic.requests.iter().map(|(verb, count)| (format!("{verb:?}"), *count)).collect()
    }
}

/// A replica of something else must neither be overwritten nor be judged by this history.
fn empty_directory(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let used = match std::fs::read_dir(&path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(format!("cannot use {}: {error}", path.display()).into()),
    };
    if used {
        return Err(format!("{} is not empty: name a new directory for the replica", path.display()).into());
    }
    Ok(path)
}
