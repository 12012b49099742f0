//! Configuration: what the user typed → what the program does.
//!
//! Two types: [`raw::RawConfig`] holds exactly what was typed, with lines; [`Config`] is complete and checked, and
//! holds everything the daemon and the commands need. The only module that knows Litestream's file format and the
//! defaults beyond those of [`crate::sync::Options`]. Must not open databases or buckets.
//!
//! Every key either works, or is refused, or is warned about by name and line. Nothing is dropped silently.

pub mod environment;
pub mod node;
pub mod raw;
pub mod raw_replica;
mod replica;
mod resolve;
mod resolved;
pub mod section;
#[cfg(test)]
mod tests;
pub mod values;

use std::path::{Path, PathBuf};

pub use environment::Environment;
pub use resolved::{
    Config, Database, Directory, DirectoryMeta, Entry, FilePattern, Heartbeat, Logging, Replica,
};
pub use section::{Problem, Severity};

use crate::error::{Error, ErrorKind, Result};
use crate::host::Disk;

/// Where the configuration is if nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/litestream.yml";

/// Largest configuration file that is read, in bytes.
const LARGEST_FILE: usize = 16 << 20;

/// The configuration file to use: the flag, else `LITESTREAM_CONFIG`, else [`DEFAULT_PATH`].
///
/// # Errors
/// `Usage` if it starts with `~` and no home directory is known.
pub fn path(flag: Option<&str>, environment: &Environment) -> Result<PathBuf> {
    let chosen = flag.or_else(|| environment.get("LITESTREAM_CONFIG")).unwrap_or(DEFAULT_PATH);
    environment.absolute(chosen)
}

/// Reads and checks a configuration file. What is odd but usable is in [`Config::warnings`].
///
/// # Errors
/// `NotFound` if there is no such file; `Usage` with every problem in it, each with its line.
pub fn load(disk: &dyn Disk, file: &Path, expand_env: bool, environment: &Environment) -> Result<Config> {
    let text = read_text(disk, file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::new(
            ErrorKind::NotFound,
            format!("config file not found: {} (name another with -config)", file.display()),
        ),
        _ => Error::io(format!("cannot read config file {}", file.display()), error),
    })?;
    let mut config = parse(&text, expand_env, environment)
        .map_err(|error| error.context(format!("config file {}", file.display())))?;
    config.source = Some(file.to_owned());
    Ok(config)
}

/// Checks the text of a configuration file.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, expand_env: bool, environment: &Environment) -> Result<Config> {
    let expanded = if expand_env { environment.expand(text) } else { text.to_owned() };
    let tree = node::parse(&expanded)?;
    let report = section::Report::default();
    let raw = raw::RawConfig::read(&tree, &report);
    let config = resolve::config(raw, environment, &report);
    finish(config, report)
}

/// The configuration for one database and one replica URL from the command line.
///
/// # Errors
/// `Usage` or `Unsupported` if the URL cannot be used.
pub fn from_arguments(db: &str, url: &str, environment: &Environment) -> Result<Config> {
    let report = section::Report::default();
    let config = resolve::from_arguments(db, url, environment, &report)?;
    finish(config, report)
}

/// The replica that a URL from the command line names, how to log, and what about both is odd.
///
/// # Errors
/// `Usage` or `Unsupported` if the URL cannot be used.
pub fn replica_from_url(url: &str, environment: &Environment) -> Result<(Replica, Logging, Vec<Problem>)> {
    let report = section::Report::default();
    let replica = replica::from_url(url, environment, &report)?;
    let logging = resolve::logging(&raw::RawLogging::default(), environment, &report);
    Ok((replica, logging, report.into_problems()))
}

fn finish(mut config: Config, report: section::Report) -> Result<Config> {
    let problems = report.into_problems();
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
        let lines: Vec<String> = errors.map(Problem::to_string).collect();
        return Err(Error::new(ErrorKind::Usage, lines.join("\n")));
    }
    config.warnings = problems;
    Ok(config)
}

fn read_text(disk: &dyn Disk, file: &Path) -> std::io::Result<String> {
    let read = disk.read_whole(file, LARGEST_FILE).map_err(|error| match error.kind() {
        std::io::ErrorKind::FileTooLarge => std::io::Error::new(
            error.kind(),
            format!("it has over {LARGEST_FILE} bytes, more than a configuration needs"),
        ),
        _ => error,
    });
    String::from_utf8(read?)
        .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}
