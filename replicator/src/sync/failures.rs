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
    fn is_replication(self) -> bool {
        matches!(self, Self::Session | Self::Copy | Self::Examine | Self::Upload)
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
        self.0.push(Failure { work, message, is_disk_full: error.kind() == ErrorKind::Exhausted });
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
}
