//! What can happen in a run.

/// What can happen, by the name `--without` takes, with its weight.
pub(super) const EVENTS: [(Event, u64); 12] = [
    (Event::KillReplicator, 6),
    (Event::TerminateReplicator, 3),
    (Event::FreezeReplicator, 3),
    (Event::KillApp, 4),
    (Event::FreezeApp, 2),
    (Event::RestartApp, 3),
    (Event::KillBoth, 2),
    (Event::ReplaceFile, 2),
    (Event::StoreFails, 3),
    (Event::Restore, 10),
    (Event::KillRestore, 2),
    (Event::Quiet, 4),
];

/// Something that happens to the processes, the file or the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// SIGKILL, some time down, restart.
    KillReplicator,
    /// SIGTERM, half of the time after the application has ended.
    TerminateReplicator,
    /// SIGSTOP for a while.
    FreezeReplicator,
    /// SIGKILL, perhaps in the middle of a commit.
    KillApp,
    /// SIGSTOP, perhaps inside a transaction.
    FreezeApp,
    /// An orderly end: the last connection deletes the WAL, unless the replicator prevents it.
    RestartApp,
    /// Both at once, restarted in either order.
    KillBoth,
    /// Another database is renamed over the file.
    ReplaceFile,
    /// The S3 server refuses, hangs up, or applies without saying so.
    StoreFails,
    /// A restore, judged.
    Restore,
    /// A restore that is killed.
    KillRestore,
    /// The application ends, and the replica must catch up.
    Quiet,
}

impl Event {
    /// The name in reports and for `--without`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KillReplicator => "kill-replicator",
            Self::TerminateReplicator => "terminate-replicator",
            Self::FreezeReplicator => "freeze-replicator",
            Self::KillApp => "kill-app",
            Self::FreezeApp => "freeze-app",
            Self::RestartApp => "restart-app",
            Self::KillBoth => "kill-both",
            Self::ReplaceFile => "replace-file",
            Self::StoreFails => "store-fails",
            Self::Restore => "restore",
            Self::KillRestore => "kill-restore",
            Self::Quiet => "quiet",
        }
    }
}
