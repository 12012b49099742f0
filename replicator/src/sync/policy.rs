//! When to look and when to checkpoint: pure decisions.

use std::time::Duration;

use super::Options;
use crate::host::UnixMillis;
use crate::sqlite::CheckpointMode;

/// What the decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointFacts {
    /// Frames in the log, 0 if all are in the database file.
    pub frames: u32,
    /// How long the log has had frames.
    pub age: Duration,
    /// Whether the pause after an incomplete attempt is over.
    pub may_try: bool,
}

/// Whether, and how, to checkpoint now.
#[must_use]
pub fn checkpoint_due(facts: &CheckpointFacts, options: &Options) -> Option<CheckpointMode> {
    if facts.frames == 0 || !facts.may_try {
        return None;
    }
    if options.truncate_pages.is_some_and(|limit| facts.frames >= limit) {
        return Some(CheckpointMode::Blocking);
    }
    let by_size = facts.frames >= options.min_checkpoint_pages;
    let by_age = !options.checkpoint_interval.is_zero() && facts.age >= options.checkpoint_interval;
    (by_size || by_age).then_some(CheckpointMode::Passive)
}

/// Ticks at most between two examinations of files that are watched: so much later is a change of the files noticed
/// whose notification was lost.
const EXAMINATION_TICKS: u32 = 5;

/// Longest time between two examinations of a database that nothing happens to, with one tick to spare.
#[must_use]
pub fn idle_pause(interval: Duration) -> Duration {
    interval.saturating_mul(EXAMINATION_TICKS + 1)
}

/// What the decision to examine the files depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExaminationFacts {
    /// The system tells of every change of the files, as far as it does not lose any.
    pub watched: bool,
    /// It told of one since the last examination.
    pub touched: bool,
    /// SQLite has done nothing since the last examination that calls for another.
    pub quiet: bool,
    /// Ticks since the last examination.
    pub ticks: u32,
}

/// Whether to examine the files at this tick: whether they are still the ones that their names stand for, and nobody
/// changed them past SQLite. Commits are looked for at every tick regardless.
#[must_use]
pub fn examination_due(facts: &ExaminationFacts) -> bool {
    !facts.watched || facts.touched || !facts.quiet || facts.ticks >= EXAMINATION_TICKS
}

/// Time to the next multiple of `interval` by the wall clock: the databases of a process, and processes of a machine,
/// then wake the processor together instead of one by one.
#[must_use]
pub fn until_tick(now: UnixMillis, interval: Duration) -> Duration {
    let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    Duration::from_millis((interval - now.0.rem_euclid(interval)).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_age_and_patience_decide() {
        let mut options = Options::new("a.db".into());
        let facts =
            |frames, secs, may_try| CheckpointFacts { frames, age: Duration::from_secs(secs), may_try };
        let passive = Some(CheckpointMode::Passive);
        assert_eq!(checkpoint_due(&facts(0, 999, true), &options), None);
        assert_eq!(checkpoint_due(&facts(1, 1, true), &options), None);
        assert_eq!(checkpoint_due(&facts(1, 60, true), &options), passive);
        assert_eq!(checkpoint_due(&facts(1000, 0, true), &options), passive);
        assert_eq!(checkpoint_due(&facts(1000, 99, false), &options), None);
        assert_eq!(checkpoint_due(&facts(9_999_999, 0, true), &options), passive, "never blocks unasked");
        options.truncate_pages = Some(5000);
        assert_eq!(checkpoint_due(&facts(5000, 0, true), &options), Some(CheckpointMode::Blocking));
        options.checkpoint_interval = Duration::ZERO;
        assert_eq!(checkpoint_due(&facts(1, 9999, true), &options), None);
    }

    #[test]
    fn files_that_nothing_happens_to_are_examined_seldom_and_never_less_than_that() {
        let calm = ExaminationFacts { watched: true, touched: false, quiet: true, ticks: 1 };
        assert!(!examination_due(&calm));
        assert!(!examination_due(&ExaminationFacts { ticks: EXAMINATION_TICKS - 1, ..calm }));
        assert!(examination_due(&ExaminationFacts { ticks: EXAMINATION_TICKS, ..calm }));
        assert!(examination_due(&ExaminationFacts { watched: false, ..calm }), "nobody would tell");
        assert!(examination_due(&ExaminationFacts { touched: true, ..calm }));
        assert!(examination_due(&ExaminationFacts { quiet: false, ..calm }));
    }

    #[test]
    fn ticks_of_all_databases_fall_together_and_never_later_than_the_interval() {
        let second = Duration::from_secs(1);
        for (now, millis) in [(0, 1000), (1, 999), (999, 1), (1000, 1000), (-1, 1), (-1000, 1000)] {
            assert_eq!(until_tick(UnixMillis(now), second), Duration::from_millis(millis), "at {now}");
        }
        assert_eq!(until_tick(UnixMillis(7), Duration::from_micros(10)), Duration::from_millis(1));
    }
}
