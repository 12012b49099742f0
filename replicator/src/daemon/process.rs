//! The real outside: signals of this process, and child processes. No decisions.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;

use tokio::signal::unix;

use super::outside::{Child, ChildExit, Launch, Signal, Signals};
use crate::host::{BoxFuture, descriptors};

/// Signals sent to this process. From its creation on they do not end the process any more.
pub struct ProcessSignals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    /// Not under `nohup`, which is there to keep it from ending us.
    hangup: Option<unix::Signal>,
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
            hangup: if is_ignored(libc::SIGHUP) {
                None
            } else {
                Some(unix::signal(unix::SignalKind::hangup())?)
            },
        })
    }
}

impl Signals for ProcessSignals {
    fn next(&mut self) -> BoxFuture<'_, Signal> {
        Box::pin(async {
            let hangup = async {
                match &mut self.hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(()) = self.interrupt.recv() => Signal::Interrupt,
                Some(()) = self.terminate.recv() => Signal::Terminate,
                Some(()) = hangup => Signal::Hangup,
                else => std::future::pending().await,
            }
        })
    }
}

/// Whether whoever started this process had it ignore a signal.
fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action only the current one is written, to a place of its type; all zeros is a value of it.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Under these names a child finds the keys that we were given under our own, as it does with Litestream.
const AWS_NAMES: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "LITESTREAM_ACCESS_KEY_ID"),
    ("AWS_SECRET_ACCESS_KEY", "LITESTREAM_SECRET_ACCESS_KEY"),
];

fn aws_variables(of: impl Fn(&str) -> Option<OsString>) -> Vec<(&'static str, OsString)> {
    let missing = AWS_NAMES.iter().filter(|(name, _)| of(name).is_none());
    missing.filter_map(|(name, ours)| Some((*name, of(ours)?))).collect()
}

/// Starts real processes.
pub struct ProcessLaunch;

impl Launch for ProcessLaunch {
    fn launch(&self, words: &[String]) -> io::Result<Box<dyn Child>> {
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = tokio::process::Command::new(program);
        command.envs(aws_variables(|name| std::env::var_os(name)));
        descriptors::give_back_limit(command.args(arguments));
        Ok(Box::new(ProcessChild(command.spawn()?)))
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
