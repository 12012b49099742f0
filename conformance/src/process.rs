//! A child process that cannot outlive its test.
//!
//! Its output goes to a file, its end is bounded in time, and dropping it ends it by its own id. Knows nothing about
//! what the program is.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(10);

/// A signal this project sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ends at once, nothing is cleaned up.
    Kill,
    /// Asks for an orderly end.
    Terminate,
    /// As Ctrl-C.
    Interrupt,
    /// As a closed terminal.
    HangUp,
    /// Freezes the process.
    Stop,
    /// Thaws it.
    Continue,
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, its output appended to `log`.
    ///
    /// # Errors
    /// If the log cannot be opened or the program cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> io::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        end_with_parent(command);
        let child = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("cannot start {name}: {error}")))?;
        Ok(Self { child, name, log: log.to_owned() })
    }

    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has printed.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends a signal; a process that has already ended is left alone.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let number = match signal {
            Signal::Kill => libc::SIGKILL,
            Signal::Terminate => libc::SIGTERM,
            Signal::Interrupt => libc::SIGINT,
            Signal::HangUp => libc::SIGHUP,
            Signal::Stop => libc::SIGSTOP,
            Signal::Continue => libc::SIGCONT,
        };
        let id = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        // SAFETY: the child has not been waited for, so its id still names it; `kill` touches no memory of ours.
        if unsafe { libc::kill(id, number) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Kills it hard and waits until it is gone.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(mut self) -> io::Result<()> {
        self.signal(Signal::Kill)?;
        self.child.wait().map(drop)
    }

    /// Asks it to end and waits.
    ///
    /// # Errors
    /// If it has not ended after `bound`; it is killed then, and the message carries what it printed.
    pub fn terminate(mut self, bound: Duration) -> io::Result<ExitStatus> {
        self.signal(Signal::Terminate)?;
        self.wait(bound)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// As [`Process::terminate`].
    #[expect(clippy::disallowed_methods, reason = "a real process is waited for in real time")]
    pub fn wait(&mut self, bound: Duration) -> io::Result<ExitStatus> {
        let end = Instant::now() + bound;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                self.child.kill()?;
                self.child.wait()?;
                let message =
                    format!("{} did not end within {bound:?}; it printed:\n{}", self.name, self.output());
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            // Nothing can be done about a failure here, and the child ends with this process anyway.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What a finished program said.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output and standard error, as they came.
    pub output: String,
}

/// Runs a program to its end.
///
/// # Errors
/// If it cannot be started, or has not ended after `bound`.
pub fn run<I, S>(program: &Path, arguments: I, log: &Path, bound: Duration) -> io::Result<Finished>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    File::create(log)?;
    let mut process = Process::start(Command::new(program).args(arguments), log)?;
    let status = process.wait(bound)?;
    Ok(Finished { code: status.code(), output: process.output() })
}

/// Looks again and again until `look` gives something.
///
/// # Errors
/// `TimedOut` with `what` after `bound`.
#[expect(clippy::disallowed_methods, reason = "a real process is waited for in real time")]
pub fn wait_for<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Option<T>) -> io::Result<T> {
    let end = Instant::now() + bound;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= end {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no {what} within {bound:?}")));
        }
        std::thread::sleep(POLL);
    }
}

/// Even if this process is killed, its children end.
#[cfg(target_os = "linux")]
fn end_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: the closure runs between fork and exec and makes one system call, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent(_command: &mut Command) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_ended_and_reported() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        let mut process = Process::start(command.arg("60"), &folder.path().join("log")).unwrap();
        let error = process.wait(Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(!process.is_running());
    }

    #[test]
    fn dropping_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        let process = Process::start(command.arg("60"), &folder.path().join("log")).unwrap();
        let id = process.id();
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }
}
