//! What a replicated database reports about itself. Every claim here is true when it is made.

use std::time::Duration;

use crate::host::UnixMillis;
use crate::ltx::Txid;

use super::capture::Chain;
use super::failures::Failures;

/// What replication of one database is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Opening the database, or proving continuity with earlier local state.
    #[default]
    Starting,
    /// The database file does not exist yet, or is empty.
    WaitingForDatabase,
    /// Commits are copied and uploaded as they come.
    Replicating,
    /// Commits do not reach the store, and what failed is being repeated; see [`Status::error`].
    Failing,
    /// Ended: by request, or for good because somebody else writes to the same replica.
    Stopped,
}

/// How far replication of one database has got, whether or not something fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// From the opening of the database until it is known what the store has of it.
    #[default]
    Starting,
    /// The database file does not exist yet, or is empty.
    WaitingForDatabase,
    /// Commits are copied and uploaded as they come.
    Replicating,
    /// Ended.
    Stopped,
}

/// How often something was tried, and how it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attempts {
    /// All of them.
    pub count: u64,
    /// Those that failed.
    pub errors: u64,
    /// Time they took.
    pub time: Duration,
}

impl Attempts {
    /// Counts one.
    pub fn add(&mut self, time: Duration, failed: bool) {
        self.count += 1;
        self.errors += u64::from(failed);
        self.time += time;
    }
}

/// A snapshot of the state of one replicated database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// How far it has got.
    pub phase: Phase,
    /// Newest file durable on the local disk.
    pub local_txid: Option<Txid>,
    /// Newest file durable in the store with everything below it.
    pub replicated_txid: Option<Txid>,
    /// Size of the database in bytes, as of the last copied commit.
    pub db_size: u64,
    /// Bytes of the WAL up to the last copied commit.
    pub wal_size: u64,
    /// When everything committed at that moment was durable in the store.
    pub last_sync: Option<UnixMillis>,
    /// How old `last_sync` may become although all is well, because nothing happens to the database.
    pub idle_pause: Duration,
    /// What has failed and has not been overcome.
    pub failures: Failures,
    /// Bytes of WAL frames copied since start.
    pub wal_bytes_total: u64,
    /// Copies of new commits since start.
    pub sync_count: u64,
    /// Time spent looking for new commits and copying them since start.
    pub sync_time: Duration,
    /// Failed attempts to get commits into the store, since start; upkeep that failed is not among them.
    pub sync_error_count: u64,
    /// Checkpoints that waited for nobody, since start.
    pub passive_checkpoints: Attempts,
    /// Checkpoints that made writers wait, since start; only if the user asked for them.
    pub blocking_checkpoints: Attempts,
    /// Compactions since start that found missing or damaged files.
    pub compaction_verify_error_count: u64,
}

impl Status {
    /// What is going on.
    #[must_use]
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Stopped => State::Stopped,
            _ if self.failures.stop_replication() => State::Failing,
            Phase::Starting => State::Starting,
            Phase::WaitingForDatabase => State::WaitingForDatabase,
            Phase::Replicating => State::Replicating,
        }
    }

    /// Whether everything that was committed up to `within` before `now` is in the store. That nothing is known to be
    /// missing is not enough: the disk may have been hanging since. Nor does a time that is yet to come say anything about
    /// now, for the clock was set back; a little may lie between two looks at the clock.
    #[must_use]
    pub fn is_level(&self, now: UnixMillis, within: Duration) -> bool {
        let within = within.max(self.idle_pause).as_millis();
        let is_recent = self.last_sync.is_some_and(|last| u128::from(now.0.abs_diff(last.0)) <= within);
        self.state() == State::Replicating && is_recent
    }

    /// The failure that matters most of those that have not been overcome.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.failures.decisive()
    }

    /// Takes over how large database and log were at the last copied commit.
    pub(super) fn note_size(&mut self, chain: &Chain) {
        let page_size = u64::from(chain.page_size.get());
        self.db_size = u64::from(chain.commit) * page_size;
        self.wal_size = u64::from(chain.newest.position.frame) * (page_size + 24) + 32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::sync::Work;

    /// Such a database used to look as if it failed until its next commit, and kept the heartbeat silent.
    #[test]
    fn an_idle_database_is_well_again_when_what_failed_succeeds() {
        let mut status = Status { phase: Phase::Replicating, ..Status::default() };
        let odd = Error::new(ErrorKind::Transient, "odd");
        status.failures.note(Work::Snapshot, "no snapshot".to_owned(), &odd);
        assert_eq!((status.state(), status.error()), (State::Replicating, Some("no snapshot")));
        status.failures.note(Work::Copy, "no copy".to_owned(), &odd);
        assert_eq!((status.state(), status.error()), (State::Failing, Some("no copy")));
        status.failures.overcome(&[Work::Copy, Work::Snapshot]);
        assert_eq!((status.state(), status.error()), (State::Replicating, None));
        (status.last_sync, status.idle_pause) = (Some(UnixMillis(1_000)), Duration::from_millis(500));
        let is_level =
            |status: &Status, now, within| status.is_level(UnixMillis(now), Duration::from_millis(within));
        assert!(
            is_level(&status, 1_500, 0) && !is_level(&status, 1_501, 0) && is_level(&status, 3_000, 2_000)
        );
        assert!(is_level(&status, 500, 0) && !is_level(&status, 499, 0), "the clock was set back");
        status.failures.note(Work::Upload, "away".to_owned(), &odd);
        assert!(!is_level(&status, 1_000, 2_000));
        status.failures.note(Work::Session, "over".to_owned(), &odd);
        status.phase = Phase::Stopped;
        assert_eq!((status.state(), status.error()), (State::Stopped, Some("over")));
    }
}
