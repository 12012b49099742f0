//! What fails at the moment, by kind of work: a failure is overcome when the same work succeeds, and by nothing else.

use crate::error::{Error, ErrorKind};

/// Work that can fail, and be overcome, by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Opening the database and establishing the chain.
    Session,
    /// Copying new commits.
    Copy,
    /// Looking whether the files are still what was opened.
    Examine,
    /// Uploading.
    Upload,
    /// Getting the log back into the database file.
    Checkpoint,
    /// Removing staged files.
    Tidy,
    /// Taking stock of the replica for maintenance.
    List,
    /// Taking a snapshot.
    Snapshot,
    /// Merging files.
    Compact,
    /// Deleting what the retention no longer keeps.
    Retain,
}

impl Work {
    /// Whether commits do not reach the store while this fails. The rest is upkeep, without which they do.
    pub(super) fn is_replication(self) -> bool {
        matches!(self, Self::Session | Self::Copy | Self::Examine | Self::Upload)
    }

    /// Whether `error`, with which this has failed, says that the local disk is full. A store can be full as well.
    fn finds_disk_full(self, error: &Error) -> bool {
        let is_of_the_disk = match self {
            Self::Copy | Self::Checkpoint | Self::Tidy => true,
            // It meets both. What the system or SQLite says is the cause of an error of ours; a store's answer is the error.
            Self::Session => std::error::Error::source(error).is_some(),
            _ => false,
        };
        is_of_the_disk && error.kind() == ErrorKind::Exhausted
    }
}

/// The failures that have not been overcome, the newest last; at most one for each kind of work.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failures(Vec<Failure>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    work: Work,
    message: String,
    is_disk_full: bool,
}

impl Failures {
    /// `work` has failed with `error`, of which `message` tells.
    pub fn note(&mut self, work: Work, message: String, error: &Error) {
        self.overcome(&[work]);
        self.0.push(Failure { work, message, is_disk_full: work.finds_disk_full(error) });
    }

    /// All of `works` have succeeded; whether one of them had failed before.
    pub fn overcome(&mut self, works: &[Work]) -> bool {
        let before = self.0.len();
        self.0.retain(|failure| !works.contains(&failure.work));
        self.0.len() < before
    }

    /// What the newest one says that keeps commits from the store, or else the newest of all.
    #[must_use]
    pub fn decisive(&self) -> Option<&str> {
        let decisive = self.0.iter().rev().find(|failure| failure.work.is_replication());
        decisive.or(self.0.last()).map(|failure| failure.message.as_str())
    }

    /// Whether one of them is that the local disk is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.0.iter().any(|failure| failure.is_disk_full)
    }

    /// Whether one of them keeps commits from the store.
    #[must_use]
    pub fn stop_replication(&self) -> bool {
        self.0.iter().any(|failure| failure.work.is_replication())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_lasts_until_the_same_work_succeeds() {
        let mut failures = Failures::default();
        let (full, other) =
            (Error::new(ErrorKind::Exhausted, "full"), Error::new(ErrorKind::Transient, "odd"));
        failures.note(Work::Copy, "cannot copy".to_owned(), &full);
        failures.note(Work::Snapshot, "cannot take a snapshot".to_owned(), &other);
        assert_eq!(failures.decisive(), Some("cannot copy"));
        assert!(failures.is_disk_full() && failures.stop_replication());
        assert!(!failures.overcome(&[Work::Upload, Work::Session]), "neither had failed");
        assert!(failures.overcome(&[Work::Copy]));
        assert_eq!(failures.decisive(), Some("cannot take a snapshot"));
        assert!(!failures.is_disk_full());
        assert!(!failures.stop_replication(), "commits reach the store without a snapshot");
        assert!(failures.overcome(&[Work::Snapshot]));
        assert_eq!(failures, Failures::default());
    }

    /// A store that is full used to count as the local disk.
    #[test]
    fn only_the_local_disk_counts_as_one_that_is_full() {
        let is_disk_full = |work, error: &Error| {
            let mut failures = Failures::default();
            failures.note(work, String::new(), error);
            failures.is_disk_full()
        };
        let by_the_store = Error::new(ErrorKind::Exhausted, "PutObject: 507");
        let by_the_disk = Error::io("write", std::io::ErrorKind::StorageFull.into());
        for work in [Work::Copy, Work::Tidy, Work::Checkpoint] {
            assert!(is_disk_full(work, &by_the_disk), "{work:?}");
        }
        for work in [Work::Upload, Work::Snapshot, Work::Compact, Work::Session] {
            assert!(!is_disk_full(work, &by_the_store), "{work:?}");
        }
        assert!(is_disk_full(Work::Session, &by_the_disk), "it may be full at the start already");
        assert!(!is_disk_full(Work::Copy, &Error::new(ErrorKind::Transient, "odd")));
    }
}
