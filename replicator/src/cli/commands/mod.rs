//! One file per command: from its arguments to its [`Outcome`](super::Outcome).

mod databases;
mod doctor;
mod ltx;
mod replicate;
mod reset;
mod restore;
mod status;
mod version;

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::args::{Command, ConfigFlags};
use super::{Outcome, block_on_until_stopped};
use crate::bucket::{self, Bucket, KeyLayout, url};
use crate::config::{self, Config, Database, Entry, Environment, Logging, Replica};
use crate::daemon::discover;
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Host, os};

/// Runs a command.
///
/// # Errors
/// Whatever made it fail; the caller prints it.
pub fn run(command: Command, environment: &Environment) -> Result<Outcome> {
    let context = Context { host: os::host(), environment };
    match command {
        Command::Databases(args) => databases::run(&context, &args),
        Command::Doctor(args) => block_on_until_stopped(doctor::run(&context, &args)),
        Command::Ltx(args) => block_on_until_stopped(ltx::run(&context, &args)),
        Command::Replicate(args) => replicate::run(&context, &args),
        Command::Reset(args) => reset::run(&context, &args),
        Command::Restore(args) => restore::run(&context, args),
        Command::Status(args) => block_on_until_stopped(status::run(&context, &args)),
        Command::Version(args) => Ok(version::run(&args)),
    }
}

/// What every command works with.
struct Context<'a> {
    host: Host,
    environment: &'a Environment,
}

impl Context<'_> {
    /// Loads the configuration file that the flags name.
    fn config(&self, flags: &ConfigFlags) -> Result<Config> {
        let file = config::path(flags.config.as_deref(), self.environment)?;
        config::load(&*self.host.disk, &file, !flags.no_expand_env, self.environment)
    }

    /// An opener of buckets that sees this process's environment.
    fn opener(&self) -> bucket::Opener {
        bucket::Opener::new(self.host.clone(), bucket::Environment::process())
    }

    /// All databases of a configuration, directories scanned; each once, as [`Config::find`] finds it.
    fn databases(&self, config: &Config) -> Result<Vec<Database>> {
        let mut paths = Vec::new();
        for entry in &config.databases {
            match entry {
                Entry::Database(database) => paths.push(database.options.db.clone()),
                Entry::Directory(directory) => {
                    let found = discover::scan(&*self.host.disk, directory, &BTreeSet::new())?;
                    if let Some((_, error)) = found.unreadable.into_iter().next() {
                        return Err(error);
                    }
                    paths.extend(found.databases.iter().map(|relative| directory.path.join(relative)));
                }
            }
        }
        let mut seen = BTreeSet::new();
        paths.retain(|path| seen.insert(path.clone()));
        Ok(paths.iter().filter_map(|path| config.find(path)).collect())
    }

    /// The replica that a positional argument names: by URL, or as a database of the configuration.
    fn source(&self, source: &[String], flags: &ConfigFlags, example: &str) -> Result<Source> {
        let source = match source {
            [one] if !one.is_empty() => one,
            [] | [_] => return Err(super::usage("database path or replica URL required", example)),
            _ => return Err(Error::new(ErrorKind::Usage, "too many arguments")),
        };
        if url::is_url(source) && !source.starts_with("sqlite") {
            if flags.config.is_some() {
                let message = "cannot specify a replica URL and the -config flag";
                return Err(Error::new(ErrorKind::Usage, message));
            }
            let (replica, logging, warnings) = config::replica_from_url(source, self.environment)?;
            let warnings = warnings.iter().map(ToString::to_string).collect();
            return Ok(Source { replica, database: None, logging, warnings });
        }
        let config = self.config(flags)?;
        let path = self.environment.absolute(source)?;
        let database = config.find(&path).ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                format!("database not found in config: {}{}", path.display(), listed(&config)),
            )
        })?;
        Ok(Source {
            replica: database.replica.clone(),
            database: Some(path),
            logging: config.logging,
            warnings: config.warnings.iter().map(ToString::to_string).collect(),
        })
    }
}

/// The databases of a configuration, for a message.
fn listed(config: &Config) -> String {
    let paths: Vec<String> = config
        .databases
        .iter()
        .map(|entry| match entry {
            Entry::Database(database) => database.options.db.display().to_string(),
            Entry::Directory(directory) => format!("{}/{:?}", directory.path.display(), directory.pattern),
        })
        .take(8)
        .collect();
    if paths.is_empty() { " (it lists none)".to_owned() } else { format!(" (it has {})", paths.join(", ")) }
}

/// A replica to read from.
struct Source {
    replica: Replica,
    /// Path of the database, if it was named by the configuration.
    database: Option<PathBuf>,
    logging: Logging,
    warnings: Vec<String>,
}

/// What is to be said about keys in the layout of another kind of store.
fn layout_warning(bucket: &dyn Bucket, layout: KeyLayout) -> Option<String> {
    (layout != bucket.layout()).then(|| {
        format!(
            "the keys in {} have the layout of another kind of store: restore reads them, and replicate begins anew",
            bucket.location()
        )
    })
}

/// Warnings about a configuration, for standard error.
fn warning_lines<T: ToString>(warnings: &[T]) -> String {
    warnings.iter().map(|warning| format!("Warning: {}\n", warning.to_string())).collect()
}
