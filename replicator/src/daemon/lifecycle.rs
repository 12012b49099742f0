//! When to stop and with which exit code. Pure.

use super::outside::{ChildExit, Signal};

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A signal arrived.
    Signal(Signal),
    /// The child process ended.
    ChildExited(ChildExit),
    /// There is nothing more to do (`-once`).
    Finished,
    /// The replication of every database has ended for good.
    AllEnded,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Go on.
    Continue,
    /// Pass the signal on to the child, and wait for its end, if that is what it does.
    Forward(Signal),
    /// Begin the final sync.
    Stop,
    /// End now, whatever is unfinished.
    Abort,
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lifecycle {
    child: Child,
    asked: Option<Signal>,
    /// The child was sent a hangup.
    hung_up: bool,
    stopping: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Child {
    #[default]
    None,
    Running,
    Exited(ChildExit),
}

impl Lifecycle {
    /// The child process was started.
    pub fn child_started(&mut self) {
        self.child = Child::Running;
    }

    /// Decides. The first signal stops gracefully, the second at once; the child's end is always followed by a
    /// final sync. What a hangup means is for a running child to say: it may end, or read its configuration again.
    pub fn on(&mut self, event: Event) -> Action {
        match event {
            Event::Signal(Signal::Hangup) if self.child == Child::Running => {
                self.hung_up = true;
                Action::Forward(Signal::Hangup)
            }
            Event::Signal(_) if self.asked.is_some() => Action::Abort,
            Event::Signal(signal) => {
                self.asked = Some(signal);
                match self.child {
                    Child::Running => Action::Forward(signal),
                    _ => self.stop(),
                }
            }
            Event::ChildExited(exit) => {
                self.child = Child::Exited(exit);
                self.stop()
            }
            Event::Finished => self.stop(),
            // Not at the application's expense: the exit code tells when it ends.
            Event::AllEnded if self.child == Child::Running => Action::Continue,
            Event::AllEnded => self.stop(),
        }
    }

    fn stop(&mut self) -> Action {
        if std::mem::replace(&mut self.stopping, true) { Action::Continue } else { Action::Stop }
    }

    /// Exit code of the process: the child's, if it failed; else whether the replicas are equal to the databases.
    /// A child that was ended by a signal that we passed on did not fail.
    #[must_use]
    pub fn exit_code(&self, in_sync: bool) -> u8 {
        let child = match self.child {
            Child::Exited(ChildExit::Code(code)) => code,
            Child::Exited(ChildExit::Signal(number)) if self.was_passed_on(number) => 0,
            Child::Exited(ChildExit::Signal(number)) => u8::try_from(number + 128).unwrap_or(1),
            Child::None | Child::Running => 0,
        };
        match (child, in_sync) {
            (0, true) => 0,
            (0, false) => 1,
            (code, _) => code,
        }
    }

    fn was_passed_on(&self, number: i32) -> bool {
        let hangup = self.hung_up.then_some(Signal::Hangup);
        [self.asked, hangup].into_iter().flatten().any(|signal| signal.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Event = Event::Signal(Signal::Terminate);

    fn with_child() -> Lifecycle {
        let mut lifecycle = Lifecycle::default();
        lifecycle.child_started();
        lifecycle
    }

    #[test]
    fn the_first_signal_stops_and_the_second_aborts() {
        let mut lifecycle = Lifecycle::default();
        assert_eq!(lifecycle.on(TERM), Action::Stop);
        assert_eq!(lifecycle.on(Event::Signal(Signal::Interrupt)), Action::Abort);
        assert_eq!((lifecycle.exit_code(true), lifecycle.exit_code(false)), (0, 1));
    }

    #[test]
    fn a_signal_goes_to_the_child_first() {
        let mut lifecycle = with_child();
        assert_eq!(lifecycle.on(TERM), Action::Forward(Signal::Terminate));
        assert_eq!(lifecycle.on(Event::ChildExited(ChildExit::Signal(15))), Action::Stop);
        assert_eq!((lifecycle.exit_code(true), lifecycle.exit_code(false)), (0, 1));
        assert_eq!(lifecycle.on(TERM), Action::Abort);
    }

    #[test]
    fn the_end_of_all_replication_ends_us_but_not_the_application() {
        assert_eq!(Lifecycle::default().on(Event::AllEnded), Action::Stop);
        let mut lifecycle = with_child();
        assert_eq!(lifecycle.on(Event::AllEnded), Action::Continue);
        assert_eq!(lifecycle.on(Event::ChildExited(ChildExit::Code(0))), Action::Stop);
        assert_eq!(lifecycle.exit_code(false), 1);
    }

    #[test]
    fn a_stubborn_child_does_not_keep_us() {
        let mut lifecycle = with_child();
        lifecycle.on(TERM);
        assert_eq!(lifecycle.on(TERM), Action::Abort);
    }

    #[test]
    fn the_childs_end_stops_and_its_code_is_ours() {
        for (exit, in_sync, code) in [
            (ChildExit::Code(0), true, 0),
            (ChildExit::Code(0), false, 1),
            (ChildExit::Code(7), true, 7),
            (ChildExit::Code(7), false, 7),
            (ChildExit::Signal(9), true, 137),
        ] {
            let mut lifecycle = with_child();
            assert_eq!(lifecycle.on(Event::ChildExited(exit)), Action::Stop);
            // One signal during the final sync does not cut it short.
            assert_eq!(lifecycle.on(TERM), Action::Continue);
            assert_eq!(lifecycle.on(TERM), Action::Abort);
            assert_eq!(lifecycle.exit_code(in_sync), code);
        }
    }

    /// To the application a hangup may mean that it is to read its configuration again.
    #[test]
    fn a_hangup_is_the_childs_affair() {
        let hangup = Event::Signal(Signal::Hangup);
        let mut lifecycle = with_child();
        for _ in 0..2 {
            assert_eq!(lifecycle.on(hangup), Action::Forward(Signal::Hangup));
        }
        assert_eq!(lifecycle.on(TERM), Action::Forward(Signal::Terminate));
        // As a service manager sends it, right after.
        assert_eq!(lifecycle.on(hangup), Action::Forward(Signal::Hangup));
        for number in [1, 15] {
            let mut lifecycle = lifecycle;
            assert_eq!(lifecycle.on(Event::ChildExited(ChildExit::Signal(number))), Action::Stop);
            assert_eq!(lifecycle.exit_code(true), 0);
        }
        assert_eq!(lifecycle.on(TERM), Action::Abort);
    }

    #[test]
    fn a_child_that_fails_after_our_signal_fails_us() {
        let mut lifecycle = with_child();
        lifecycle.on(TERM);
        lifecycle.on(Event::ChildExited(ChildExit::Code(3)));
        assert_eq!(lifecycle.exit_code(true), 3);
    }
}
