//! Litestream's own binaries as witnesses: where they are, how they are configured, how they are run.
//!
//! A binary that is not there is fetched; if that fails, the caller fails too. Nothing is ever skipped.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use crate::process::{self, Finished, Process};
use crate::site::Site;

/// Writes and restores the 0.3 format.
pub const V0_3_13: &str = "0.3.13";
/// The last version that writes pages as LZ4 frames, and reads nothing else.
pub const V0_5_15: &str = "0.5.15";
/// The version the product is a drop-in for; it writes pages as LZ4 blocks.
pub const V0_5_17: &str = "0.5.17";

/// One fetch at a time in this process.
static FETCHING: Mutex<()> = Mutex::new(());

/// The path of a Litestream binary, fetched by `scripts/fetch-litestream` if it is not in the cache yet.
///
/// # Errors
/// If it is absent and cannot be fetched. A test must fail on it.
pub fn litestream(version: &str) -> io::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is inside the workspace");
    let binary = root.join(".cache/litestream").join(version).join("litestream");
    let _one_at_a_time = FETCHING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !binary.is_file() {
        let script = Command::new(root.join("scripts/fetch-litestream")).arg(version).output()?;
        if !script.status.success() || !binary.is_file() {
            let said = String::from_utf8_lossy(&script.stderr).into_owned();
            return Err(io::Error::other(format!("cannot fetch Litestream {version}: {said}")));
        }
    }
    Ok(binary)
}

/// The dialect of `litestream.yml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// 0.3: a list of replicas, each with its own snapshot and retention settings.
    V3,
    /// 0.5, and the product.
    V5,
}

/// One replicated database, with intervals short enough for tests.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Database file.
    pub database: PathBuf,
    /// Lines of the replica entry, `key: value`, without `sync-interval`.
    pub replica: Vec<String>,
    /// Environment variables needed to reach the replica.
    pub environment: Vec<(String, String)>,
    /// Further lines of the database entry.
    pub database_lines: Vec<String>,
    /// Further top-level lines.
    pub top_lines: Vec<String>,
}

impl Settings {
    /// A database replicated to a site.
    #[must_use]
    pub fn new(database: &Path, site: &Site) -> Self {
        Self {
            database: database.to_owned(),
            replica: site.lines.clone(),
            environment: site.environment.clone(),
            database_lines: Vec::new(),
            top_lines: Vec::new(),
        }
    }

    /// The configuration file's text.
    #[must_use]
    pub fn text(&self, dialect: Dialect) -> String {
        let mut text = String::new();
        for line in &self.top_lines {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(text, "dbs:\n  - path: {}\n    monitor-interval: 50ms", self.database.display());
        for line in &self.database_lines {
            let _ = writeln!(text, "    {line}");
        }
        let (head, first, rest) = match dialect {
            Dialect::V3 => ("replicas", "      - ", "        "),
            Dialect::V5 => ("replica", "      ", "      "),
        };
        let _ = writeln!(text, "    {head}:\n{first}sync-interval: 50ms");
        for line in &self.replica {
            let _ = writeln!(text, "{rest}{line}");
        }
        text
    }
}

/// A replicator's binary, Litestream's or the product's, with a folder for its configuration and output.
#[derive(Debug, Clone)]
pub struct Replicator {
    /// The program.
    pub binary: PathBuf,
    /// What it expects in its configuration.
    pub dialect: Dialect,
    /// Where its configuration and logs are written.
    pub folder: PathBuf,
}

impl Replicator {
    /// A Litestream of this version.
    ///
    /// # Errors
    /// As [`litestream`].
    pub fn litestream(version: &str, folder: &Path) -> io::Result<Self> {
        let dialect = if version.starts_with("0.3.") { Dialect::V3 } else { Dialect::V5 };
        Ok(Self::new(litestream(version)?, dialect, folder))
    }

    /// Any binary with Litestream's command line.
    #[must_use]
    pub fn new(binary: PathBuf, dialect: Dialect, folder: &Path) -> Self {
        Self { binary, dialect, folder: folder.to_owned() }
    }

    /// Writes the configuration and starts `replicate`.
    ///
    /// # Errors
    /// If the file cannot be written or the program not be started.
    pub fn replicate(&self, settings: &Settings) -> io::Result<Process> {
        let config = self.folder.join("litestream.yml");
        std::fs::write(&config, settings.text(self.dialect))?;
        let mut command = self.command(&settings.environment);
        command.args(["replicate", "-config"]).arg(config);
        Process::start(&mut command, &self.folder.join("replicate.log"))
    }

    /// Runs `restore` from a site into `output`, with further flags.
    ///
    /// # Errors
    /// If the program cannot be started or does not end in time; a refusal is in the answer's exit code.
    pub fn restore(&self, site: &Site, output: &Path, flags: &[&str]) -> io::Result<Finished> {
        let url = if self.dialect == Dialect::V3 { &site.legacy_url } else { &site.url };
        let mut command = self.command(&site.environment);
        command.arg("restore").args(flags).arg("-o").arg(output).arg(url);
        self.finish(&mut command, "restore.log")
    }

    /// Runs the product's `doctor` on a site; its verdict is the answer's exit code.
    ///
    /// # Errors
    /// If the program cannot be started or does not end in time.
    pub fn doctor(&self, site: &Site) -> io::Result<Finished> {
        self.finish(self.command(&site.environment).args(["doctor", &site.url]), "doctor.log")
    }

    fn finish(&self, command: &mut Command, log: &str) -> io::Result<Finished> {
        let log = self.folder.join(log);
        std::fs::write(&log, "")?;
        let mut process = Process::start(command, &log)?;
        let status = process.wait(Duration::from_secs(60))?;
        Ok(Finished { code: status.code(), output: process.output() })
    }

    fn command(&self, environment: &[(String, String)]) -> Command {
        let mut command = Command::new(&self.binary);
        for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
            if is_of_the_caller(&name) {
                command.env_remove(name);
            }
        }
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Whether a variable of the caller's would send the replicator elsewhere, or with other keys, than the site says.
/// (A custom bundle, besides, makes Litestream's S3 client refuse to start, whatever the endpoint.)
fn is_of_the_caller(name: &str) -> bool {
    name.starts_with("AWS_") || name.starts_with("LITESTREAM_")
}

/// Runs a Litestream command that is neither `replicate` nor `restore`.
///
/// # Errors
/// If it cannot be started or does not end in time.
pub fn run(version: &str, arguments: &[&str], folder: &Path) -> io::Result<Finished> {
    process::run(&litestream(version)?, arguments, &folder.join("command.log"), Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_witnesses_are_there_and_say_who_they_are() {
        let folder = tempfile::tempdir().unwrap();
        for version in [V0_3_13, V0_5_15, V0_5_17] {
            let said = run(version, &["version"], folder.path()).unwrap();
            assert_eq!(said.output.trim().trim_start_matches('v'), version);
        }
    }

    #[test]
    fn nothing_of_the_callers_leads_a_replicator_elsewhere() {
        for name in ["AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_CA_BUNDLE"]
        {
            assert!(is_of_the_caller(name), "{name}");
        }
        assert!(is_of_the_caller("LITESTREAM_ACCESS_KEY_ID"));
        for name in ["PATH", "HOME", "HTTPS_PROXY"] {
            assert!(!is_of_the_caller(name), "{name}");
        }
    }

    #[test]
    fn an_unknown_version_is_an_error_and_not_a_skip() {
        let error = litestream("0.0.0").unwrap_err();
        assert!(error.to_string().contains("no digest is pinned for Litestream 0.0.0"), "{error}");
    }
}
