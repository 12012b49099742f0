//! The command line: what was typed → a run, and what it prints.
//!
//! Types ([`args`]), spelling ([`dashes`]), rendering ([`table`]) and running ([`commands`]) are apart. Owns exit
//! codes and the process-wide things: the async runtime, logging, standard output. Must not decide how anything is
//! replicated or restored.

pub mod args;
mod commands;
pub mod dashes;
mod hints;
mod progress;
pub mod table;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::config::Environment;
use crate::daemon::outside::Signals;
use crate::daemon::process::ProcessSignals;
use crate::error::{Error, ErrorKind, Result};

/// Threads that run async tasks.
const WORKERS: usize = 2;
/// Threads for blocking work (SQLite, files, name resolution), whatever the number of databases.
const BLOCKING_THREADS: usize = 16;

/// What a run leaves: everything that is printed at its end, and the exit code.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Exit code of the process.
    pub code: u8,
    /// For standard output.
    pub stdout: String,
    /// For standard error.
    pub stderr: String,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    crate::host::heap::keep_small();
    let arguments = std::env::args_os().skip(1).collect();
    let outcome = run(arguments, &Environment::of_process());
    print(&mut std::io::stdout(), &outcome.stdout);
    print(&mut std::io::stderr(), &outcome.stderr);
    ExitCode::from(outcome.code)
}

/// Nothing is not printed: the thread of the log may hold the output, and wait for a reader that was stopped.
fn print(output: &mut dyn Write, text: &str) {
    if !text.is_empty() {
        // A reader that went away (`| head`) is no failure.
        let _ = output.write_all(text.as_bytes());
    }
}

/// Runs the program with these arguments (without its name) in these surroundings.
#[must_use]
pub fn run(arguments: Vec<OsString>, environment: &Environment) -> Outcome {
    let is_wal = arguments.first().is_some_and(|name| name == "wal");
    let mut outcome = match parse(arguments) {
        Ok(command) => commands::run(command, environment).unwrap_or_else(|error| failure(&error)),
        Err(outcome) => outcome,
    };
    if is_wal {
        outcome.stderr.insert_str(0, "Warning: 'wal' command is deprecated, please use 'ltx' instead\n");
    }
    outcome
}

fn parse(arguments: Vec<OsString>) -> std::result::Result<args::Command, Outcome> {
    let root = args::Cli::command();
    let name = arguments.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let hint = |text: &str| format!("Hint: {text}\n");
    let arguments = dashes::normalise(arguments, &root).map_err(|message| Outcome {
        code: 1,
        stderr: format!("Error: {message}\n"),
        ..Outcome::default()
    })?;
    let matches = root.try_get_matches_from(std::iter::once(OsString::from("replicator")).chain(arguments));
    let parsed = matches.and_then(|matches| args::Cli::from_arg_matches(&matches));
    parsed.map(|cli| cli.command).map_err(|mut error| {
        use clap::error::ErrorKind as Kind;
        // "To pass it as a value, use --" is never what was meant here.
        error.remove(clap::error::ContextKind::Suggested);
        let text = error.render().to_string();
        match error.kind() {
            Kind::DisplayHelp | Kind::DisplayVersion => Outcome { stdout: text, ..Outcome::default() },
            Kind::DisplayHelpOnMissingArgumentOrSubcommand | Kind::MissingSubcommand => {
                Outcome { code: 1, stdout: text, ..Outcome::default() }
            }
            kind => {
                let advice = match kind {
                    Kind::InvalidSubcommand => hints::command(&name),
                    Kind::UnknownArgument => unknown_flag(&error).and_then(|flag| hints::flag(&name, &flag)),
                    _ => None,
                };
                let mut stderr = text.replacen("error: ", "Error: ", 1);
                stderr.extend(advice.map(hint));
                Outcome { code: 1, stderr, ..Outcome::default() }
            }
        }
    })
}

/// Name of the flag that clap does not know, without dashes.
fn unknown_flag(error: &clap::Error) -> Option<String> {
    let flag = error.get(clap::error::ContextKind::InvalidArg)?.to_string();
    let name = flag.trim_start_matches('-');
    Some(name.split_once('=').map_or(name, |(name, _)| name).to_owned())
}

fn failure(error: &Error) -> Outcome {
    Outcome { code: 1, stderr: format!("Error: {error}\n"), ..Outcome::default() }
}

/// A usage error with a line that shows how it is done.
fn usage(message: &str, example: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("{message}\nTry: {example}"))
}

/// As [`block_on`], for what has no use for signals of its own. As process 1 of a container we are the one that a signal
/// does not end unless somebody listens; as any other, the signal does it without us.
fn block_on_until_stopped<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    if std::process::id() != 1 {
        return block_on(future);
    }
    block_on(async {
        let mut signals =
            ProcessSignals::listen().map_err(|error| Error::io("cannot listen for signals", error))?;
        until_signal(&mut signals, future).await
    })
}

async fn until_signal<T>(signals: &mut dyn Signals, future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        result = future => result,
        signal = signals.next() => {
            Err(Error::new(ErrorKind::Cancelled, format!("stopped by signal {}", signal.number())))
        }
    }
}

/// Runs a future on a runtime of bounded size.
///
/// # Errors
/// `Exhausted` or `Denied` if the system gives no threads, else what the future returns.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .map_err(|error| Error::io("cannot start the async runtime", error))?;
    let result = runtime.block_on(future);
    // Blocking work that cannot be stopped (a hanging file system) must not keep the process alive.
    runtime.shutdown_background();
    result
}
