//! `replicate`: the service.

use super::super::args::Replicate;
use super::super::{Outcome, block_on};
use super::Context;
use crate::bucket::url;
use crate::config::{self, Config, Entry};
use crate::daemon::process::{ProcessLaunch, ProcessSignals};
use crate::daemon::{self, Once, Options, Outside};
use crate::error::{Error, ErrorKind, Result};
use crate::host::descriptors;
use crate::observe::log;

pub(super) fn run(context: &Context<'_>, args: &Replicate) -> Result<Outcome> {
    let mut config = config(context, args)?;
    if let Some(level) = &args.log_level {
        config.logging.level = level.parse().map_err(usage)?;
    }
    if let Some(exec) = &args.exec {
        config.exec = Some(exec.clone());
    }
    if args.restore_if_db_not_exists {
        for entry in &mut config.databases {
            if let Entry::Database(database) = entry {
                database.restore_if_absent = true;
            }
        }
    }
    let once = once(args)?;
    if once.is_some() && config.exec.is_some() {
        return Err(usage("cannot specify -once flag with -exec"));
    }
    let logging = config.logging;
    let output: log::Output =
        if logging.stderr { Box::new(std::io::stderr()) } else { Box::new(std::io::stdout()) };
    let _last_lines = log::install(logging.level, logging.format, context.host.clock.clone(), output);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "replicator");
    for warning in &config.warnings {
        tracing::warn!(config = config.source.as_ref().map(|path| path.display().to_string()), "{warning}");
    }
    descriptors::raise_limit();

    let code = block_on(async {
        let mut signals =
            ProcessSignals::listen().map_err(|error| Error::io("cannot listen for signals", error))?;
        let outside = Outside { signals: &mut signals, launch: &ProcessLaunch };
        daemon::run(context.host.clone(), context.opener(), Options { config, once }, outside).await
    })?;
    Ok(Outcome { code, ..Outcome::default() })
}

fn config(context: &Context<'_>, args: &Replicate) -> Result<Config> {
    match &args.arguments[..] {
        [] => context.config(&args.config),
        [db] => Err(usage(format!("must specify a replica URL for {db}"))),
        [db, replica] => {
            if args.config.config.is_some() {
                return Err(usage("cannot specify a replica URL and the -config flag"));
            }
            if url::is_url(db) && !db.starts_with("sqlite") {
                return Err(usage(format!(
                    "the database path comes first, then the replica URL; {db} is a URL"
                )));
            }
            config::from_arguments(db, replica, context.environment)
        }
        [db, _, _, ..] => Err(usage(format!(
            "multiple replicas on a single database are not supported: {db} can have one replica URL"
        ))),
    }
}

fn once(args: &Replicate) -> Result<Option<Once>> {
    if args.force_snapshot && !args.once {
        return Err(usage("cannot specify -force-snapshot flag without -once"));
    }
    if args.enforce_retention && !args.once {
        return Err(usage("cannot specify -enforce-retention flag without -once"));
    }
    let once = Once { force_snapshot: args.force_snapshot, enforce_retention: args.enforce_retention };
    Ok(args.once.then_some(once))
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}
