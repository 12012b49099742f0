//! The real outside: signals of this process, and child processes. No decisions.

use std::io;
use std::os::unix::process::ExitStatusExt as _;

use tokio::signal::unix;

use super::outside::{Child, ChildExit, Launch, Signal, Signals};
use crate::host::BoxFuture;

/// Signals sent to this process. From its creation on they do not end the process any more.
pub struct ProcessSignals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
}

impl ProcessSignals {
    /// Begins to listen. Needs a running tokio runtime.
    ///
    /// # Errors
    /// If the system does not let us.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(unix::SignalKind::interrupt())?,
            terminate: unix::signal(unix::SignalKind::terminate())?,
            hangup: unix::signal(unix::SignalKind::hangup())?,
        })
    }
}

impl Signals for ProcessSignals {
    fn next(&mut self) -> BoxFuture<'_, Signal> {
        Box::pin(async {
            tokio::select! {
                Some(()) = self.interrupt.recv() => Signal::Interrupt,
                Some(()) = self.terminate.recv() => Signal::Terminate,
                Some(()) = self.hangup.recv() => Signal::Hangup,
                else => std::future::pending().await,
            }
        })
    }
}

/// Starts real processes.
pub struct ProcessLaunch;

impl Launch for ProcessLaunch {
    fn launch(&self, words: &[String]) -> io::Result<Box<dyn Child>> {
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let child = tokio::process::Command::new(program).args(arguments).spawn()?;
        Ok(Box::new(ProcessChild(child)))
    }
}

struct ProcessChild(tokio::process::Child);

impl Child for ProcessChild {
    fn wait(&mut self) -> BoxFuture<'_, io::Result<ChildExit>> {
        Box::pin(async {
            let status = self.0.wait().await?;
            Ok(match (status.code(), status.signal()) {
                (Some(code), _) => ChildExit::Code(u8::try_from(code).unwrap_or(1)),
                (None, Some(signal)) => ChildExit::Signal(signal),
                (None, None) => ChildExit::Code(1),
            })
        })
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = self.0.id().and_then(|pid| i32::try_from(pid).ok()).ok_or(io::ErrorKind::NotFound)?;
        // SAFETY: `kill` has no memory effects. The child has not been waited for, so the id is still its own.
        match unsafe { libc::kill(pid, signal.number()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
