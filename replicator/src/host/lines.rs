//! Lines for an output that may block, such as a pipe whose reader was stopped: a thread of their own writes them, and who
//! has a line to write never waits. Lines that find no room are counted and left out.
//!
//! Not `tracing-appender`: it bounds the number of lines instead of their bytes, tells nobody in the log that some are
//! missing, and at the end prints to standard output, which may be the pipe that blocks.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of lines that may wait to be written.
const MOST: usize = 1 << 20;

/// Lines on their way to an output. Dropping it ends its thread once they are written.
pub struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<String>,
    /// Length of these.
    bytes: usize,
    /// Lines that were left out behind these.
    lost: u64,
    /// Some that were taken are not written yet.
    is_writing: bool,
    is_closed: bool,
}

impl Lines {
    /// Writes to `output`, each line by one write. `about_lost` makes the line that says how many were left out. A line
    /// that cannot be written is lost.
    pub fn to(output: Box<dyn Write + Send>, about_lost: impl Fn(u64) -> String + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let writing = Arc::clone(&shared);
        // A system that gives no thread gives the rest of the program none either, and that says so.
        let _ = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writing.write_to(output, &about_lost));
        Self(shared)
    }

    /// Has a line written. Never waits.
    pub fn push(&self, line: String) {
        let mut state = self.0.lock();
        // Once one was left out all that follow are, until there is room for the line that says so.
        if state.lost > 0 || state.bytes + line.len() > MOST {
            state.lost += 1;
            // It may be waiting: a line can be too long for an empty list.
            self.0.changed.notify_all();
            return;
        }
        state.bytes += line.len();
        state.waiting.push_back(line);
        self.0.changed.notify_all();
    }

    /// Waits until everything is written, but not for longer than this.
    pub fn flush(&self, limit: Duration) {
        let is_busy = |state: &mut State| state.is_writing || !state.waiting.is_empty() || state.lost > 0;
        drop(self.0.changed.wait_timeout_while(self.0.lock(), limit, is_busy));
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that happens under the lock can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut output: Box<dyn Write + Send>, about_lost: &dyn Fn(u64) -> String) {
        while let Some((lines, lost)) = self.take() {
            let about_lost = (lost > 0).then(|| about_lost(lost));
            for line in lines.iter().chain(&about_lost) {
                let _ = output.write_all(line.as_bytes()).and_then(|()| output.flush());
            }
        }
    }

    /// What waits to be written, and how many lines were left out behind it; `None` at the end.
    fn take(&self) -> Option<(VecDeque<String>, u64)> {
        let mut state = self.lock();
        state.is_writing = false;
        self.changed.notify_all();
        let is_idle = |state: &mut State| state.waiting.is_empty() && state.lost == 0 && !state.is_closed;
        let mut state = self.changed.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() && state.lost == 0 {
            return None;
        }
        (state.is_writing, state.bytes) = (true, 0);
        Some((std::mem::take(&mut state.waiting), std::mem::take(&mut state.lost)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A pipe: what was written, once somebody read it.
    struct Pipe {
        written: mpsc::SyncSender<String>,
    }

    impl Write for Pipe {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            let line = String::from_utf8_lossy(data).into_owned();
            self.written.send(line).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
            Ok(data.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_finds_no_room_is_left_out_and_told_where_it_is_missing() {
        const LEN: usize = 1000;
        let (written, reader) = mpsc::sync_channel(1);
        let lines = Lines::to(Box::new(Pipe { written }), |lost| format!("lost {lost}\n"));
        let count = 3 * MOST / LEN;
        for number in 0..count {
            lines.push(format!("{number:>LEN$}"));
        }
        lines.flush(Duration::from_millis(10));
        let patience = Duration::from_secs(10);
        let mut whole = Vec::new();
        let lost: u64 = loop {
            let line = reader.recv_timeout(patience).unwrap();
            match line.strip_prefix("lost ") {
                Some(lost) => break lost.trim().parse().unwrap(),
                None => whole.push(line.trim().parse::<usize>().unwrap()),
            }
        };
        assert!(whole.iter().copied().eq(0..whole.len()), "the first ones, in their order");
        assert_eq!(whole.len() + usize::try_from(lost).unwrap(), count);
        assert!((MOST / LEN..2 * MOST / LEN + 2).contains(&whole.len()), "{}", whole.len());
        lines.push("on".to_owned());
        assert_eq!(reader.recv_timeout(patience).unwrap(), "on");
        drop(lines);
        assert_eq!(
            reader.recv_timeout(patience),
            Err(mpsc::RecvTimeoutError::Disconnected),
            "its thread ends"
        );
    }

    /// It used to end the log: the thread was not woken, and nothing else was taken.
    #[test]
    fn a_line_that_is_too_long_for_an_empty_list_is_told() {
        let (written, reader) = mpsc::sync_channel(1);
        let lines = Lines::to(Box::new(Pipe { written }), |lost| format!("lost {lost}"));
        let patience = Duration::from_secs(10);
        lines.push("first".to_owned());
        assert_eq!(reader.recv_timeout(patience).unwrap(), "first");
        lines.flush(patience);
        lines.push("x".repeat(MOST + 1));
        assert_eq!(reader.recv_timeout(patience).unwrap(), "lost 1");
        lines.flush(patience);
        lines.push("on".to_owned());
        assert_eq!(reader.recv_timeout(patience).unwrap(), "on");
    }
}
