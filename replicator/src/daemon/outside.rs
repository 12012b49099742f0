//! What reaches the daemon from outside: signals, and the life of the child process. Traits, so that tests and
//! simulations can be the outside.

use std::io;

use crate::host::BoxFuture;

/// A signal that asks for a stop, or, while a child runs, is for the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, from a terminal.
    Interrupt,
    /// SIGTERM, from a service manager.
    Terminate,
    /// SIGHUP, from a terminal that went away; or from somebody who wants the child to read its settings again.
    Hangup,
}

impl Signal {
    /// Its number on every Unix.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::Hangup => 1,
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }
}

/// Signals as they come.
pub trait Signals: Send {
    /// The next signal; waits for ever if there is none.
    fn next(&mut self) -> BoxFuture<'_, Signal>;
}

/// How a child process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildExit {
    /// It exited with this code.
    Code(u8),
    /// This signal ended it.
    Signal(i32),
}

/// A running child process.
pub trait Child: Send {
    /// Resolves when it ends. May be called again after being dropped unfinished.
    fn wait(&mut self) -> BoxFuture<'_, io::Result<ChildExit>>;

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it is not running any more.
    fn signal(&self, signal: Signal) -> io::Result<()>;
}

/// Starts child processes.
pub trait Launch: Send + Sync {
    /// Starts `words[0]` with the other words as arguments. It inherits environment and standard streams.
    ///
    /// # Errors
    /// If the program cannot be started.
    fn launch(&self, words: &[String]) -> io::Result<Box<dyn Child>>;
}
