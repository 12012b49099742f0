//! `-once`: replicate what there is, then end.

use std::path::{Path, PathBuf};

use futures::future::join_all;
use tokio::sync::watch;

use super::fleet::Fleet;
use crate::error::{Error, ErrorKind, Result};
use crate::host::BoxFuture;
use crate::sync::{State, Status, Upkeep};

/// What to do besides replicating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Once {
    /// Write a snapshot of every database.
    pub force_snapshot: bool,
    /// Delete what the retention no longer keeps.
    pub enforce_retention: bool,
}

impl Once {
    /// Resolves when every database was in sync once and everything else is done, or something failed. (What is
    /// committed meanwhile is the final sync's.)
    #[must_use]
    pub fn run(self, fleet: &Fleet) -> BoxFuture<'static, Result<()>> {
        let members = fleet.members();
        Box::pin(async move {
            let all = members.into_iter().map(|(path, status, upkeep)| self.one(path, status, upkeep));
            join_all(all).await.into_iter().collect()
        })
    }

    async fn one(self, path: PathBuf, status: watch::Receiver<Status>, upkeep: Upkeep) -> Result<()> {
        in_sync(&path, status).await?;
        if self.force_snapshot {
            let taken = upkeep.snapshot().await;
            taken.map_err(|error| error.context(format!("snapshot {}", path.display())))?;
        }
        if self.enforce_retention {
            let done = upkeep.enforce_retention().await;
            done.map_err(|error| error.context(format!("enforce retention for {}", path.display())))?;
        }
        Ok(())
    }
}

async fn in_sync(path: &Path, mut status: watch::Receiver<Status>) -> Result<()> {
    let decided = |status: &Status| match status.state() {
        State::Starting => false,
        State::Replicating => status.local_txid.is_some() && status.local_txid == status.replicated_txid,
        State::WaitingForDatabase | State::Failing | State::Stopped => true,
    };
    let reached = status.wait_for(decided).await.map(|status| status.clone()).map_err(|_| {
        Error::new(ErrorKind::Internal, format!("replication of {} ended unexpectedly", path.display()))
    })?;
    match reached.state() {
        State::WaitingForDatabase => {
            Err(Error::new(ErrorKind::NotFound, format!("database does not exist: {}", path.display())))
        }
        State::Failing | State::Stopped => {
            let why = reached.error().unwrap_or("for an unknown reason");
            Err(Error::new(ErrorKind::Transient, format!("sync database {}: {why}", path.display())))
        }
        State::Starting | State::Replicating => Ok(()),
    }
}
