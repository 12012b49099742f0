//! All databases being replicated: start, watch, stop.
//!
//! One that cannot be started is reported, tried again, and does not keep the others from running.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;

use super::identity::Identity;
use crate::bucket::settings::{Ownership, Settings};
use crate::bucket::{Bucket, Opener};
use crate::config::Database;
use crate::config::values::format_duration;
use crate::error::{Error, ErrorKind, Result};
use crate::host::{BoxFuture, Disk, Host};
use crate::observe::Board;
use crate::sync::{self, Handle, State, Status, Turns, Upkeep};

/// The databases of this process.
pub struct Fleet {
    host: Host,
    opener: Opener,
    board: Board,
    turns: Turns,
    members: BTreeMap<PathBuf, Member>,
    /// Those that could not be started, and why not the last time.
    broken: BTreeMap<PathBuf, (Database, String)>,
    /// Whether a database went away whose replica is behind.
    left_behind: bool,
}

/// A database being replicated.
struct Member {
    handle: Handle,
    stop_timeout: Duration,
    /// What its path stood for when it was started.
    identity: Identity,
    /// Where it is replicated to.
    location: String,
}

impl Fleet {
    /// No databases yet; their states will be shown on `board`.
    #[must_use]
    pub fn new(host: Host, opener: Opener, board: Board) -> Self {
        Self {
            host,
            opener,
            board,
            turns: Turns::default(),
            members: BTreeMap::new(),
            broken: BTreeMap::new(),
            left_behind: false,
        }
    }

    /// Whether a database is being replicated, or is to be as soon as it can be.
    #[must_use]
    pub fn contains(&self, path: &Path) -> bool {
        self.members.contains_key(path) || self.broken.contains_key(path)
    }

    /// Paths of the databases that are replicated, or are to be as soon as they can be: they may be opened at any time.
    #[must_use]
    pub fn paths(&self) -> BTreeSet<PathBuf> {
        self.members.keys().chain(self.broken.keys()).cloned().collect()
    }

    /// Starts one, unless it is there already; returns whether it was not. A failure is logged and remembered for
    /// [`Fleet::retry_broken`].
    pub async fn start(&mut self, database: Database) -> bool {
        let is_new = !self.contains(&database.options.db);
        if is_new {
            // It is not shown before it is started, which may hang. The caller knows when all are.
            self.board.set_complete(false);
            self.start_or_remember(database, None).await;
        }
        is_new
    }

    async fn start_or_remember(&mut self, database: Database, before: Option<&str>) {
        let path = database.options.db.clone();
        match self.try_start(&database).await {
            Ok(member) => {
                self.broken.remove(&path);
                self.members.insert(path, member);
            }
            Err(error) => {
                let why = error.to_string();
                // It is tried again and again, and a log is finite.
                if before != Some(why.as_str()) {
                    tracing::error!(path = %path.display(), %error, "cannot start replication");
                    self.board.add_broken(path.clone(), &error);
                }
                self.broken.insert(path, (database, why));
            }
        }
    }

    async fn try_start(&self, database: &Database) -> Result<Member> {
        let identity = self.identity(&database.options.db).await?;
        let bucket = self.open(database).await?;
        let location = bucket.location();
        self.check_place(&database.options.db, &location)?;
        let options = database.options.clone();
        tracing::info!(
            path = %options.db.display(), r#type = bucket.kind(), to = location,
            sync_interval = format_duration(options.sync_interval), "replicating to"
        );
        let stop_timeout = options.shutdown_timeout;
        let handle = sync::start(self.host.clone(), options, bucket, self.turns.clone());
        let upkeep = handle.upkeep();
        let level0 = Arc::new(move |now| upkeep.level0_files(now));
        self.board.add(database.options.db.clone(), handle.status(), level0);
        Ok(Member { handle, stop_timeout, identity, location })
    }

    /// A place for a replica must not be that of another: directories may share one, and hold files of the same name.
    fn check_place(&self, path: &Path, location: &str) -> Result<()> {
        match self.members.iter().find(|(_, member)| member.location == location) {
            None => Ok(()),
            Some((other, _)) => Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "{} would be replicated to {location}, as {} is; they would destroy each other's data: give one \
                     of the two another path in the store",
                    path.display(),
                    other.display()
                ),
            )),
        }
    }

    /// What a path stands for. It must not be a second name of a member's file.
    async fn identity(&self, path: &Path) -> Result<Identity> {
        let (disk, path) = (self.host.disk.clone(), path.to_owned());
        let seen: Vec<(PathBuf, Identity)> =
            self.members.iter().map(|(other, member)| (other.clone(), member.identity.clone())).collect();
        let look = move || {
            let identity = Identity::of(&*disk, &path)?;
            match seen.iter().find(|(other, seen)| seen.is_also(&identity, &*disk, other)) {
                None => Ok(identity),
                Some((other, _)) => Err(Error::new(
                    ErrorKind::Usage,
                    format!(
                        "{} is the same file as {}, which is replicated already; remove one of the two",
                        path.display(),
                        other.display()
                    ),
                )),
            }
        };
        self.host.blocking(look).await
    }

    async fn open(&self, database: &Database) -> Result<Arc<dyn Bucket>> {
        let mut settings = database.replica.settings.clone();
        if let Settings::Directory(directory) = &mut settings
            && directory.ownership.is_none()
        {
            let (disk, db) = (self.host.disk.clone(), database.options.db.clone());
            directory.ownership = self.host.blocking(move || ownership(&*disk, &db)).await;
        }
        self.opener.open(&settings).await
    }

    /// Tries again what could not be started.
    pub async fn retry_broken(&mut self) {
        // They stay where they are until they are started: a look can be broken off in between.
        for (database, why) in self.broken.values().cloned().collect::<Vec<_>>() {
            self.start_or_remember(database, Some(&why)).await;
        }
    }

    /// Whether anything could not be started so far.
    #[must_use]
    pub fn has_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// All databases: path, state, and maintenance on demand.
    #[must_use]
    pub fn members(&self) -> Vec<(PathBuf, watch::Receiver<Status>, Upkeep)> {
        let shown = |(path, Member { handle, .. }): (&PathBuf, &Member)| {
            (path.clone(), handle.status(), handle.upkeep())
        };
        self.members.iter().map(shown).collect()
    }

    /// Resolves once the replication of every database has ended for good, as it does if somebody else writes to its
    /// replica; never if there is none, or one is still to be started.
    pub fn all_ended(&self) -> BoxFuture<'static, ()> {
        if self.members.is_empty() || self.has_broken() {
            return Box::pin(std::future::pending());
        }
        let ends: Vec<_> = self
            .members
            .values()
            .map(|member| {
                let mut status = member.handle.status();
                // A channel that is closed means that it ended even without a word.
                async move { drop(status.wait_for(|status| status.state() == State::Stopped).await) }
            })
            .collect();
        Box::pin(async move { drop(join_all(ends).await) })
    }

    /// Stops one whose file is gone, once it has noticed that itself: until then it has the file open, and a stop would
    /// fail. Returns whether it was stopped. If its replica is behind, [`Fleet::stop`] will say so.
    pub async fn remove(&mut self, path: &Path) -> bool {
        if self.broken.remove(path).is_some() {
            self.board.remove(path);
        }
        let Some(member) = self.members.get(path) else { return true };
        let state = member.handle.status().borrow().state();
        if !matches!(state, State::WaitingForDatabase | State::Stopped) {
            return false;
        }
        self.board.remove(path);
        if let Some(Member { handle, stop_timeout, .. }) = self.members.remove(path) {
            // Until it is known better: a signal may come meanwhile.
            let before = std::mem::replace(&mut self.left_behind, true);
            match handle.stop(stop_timeout).await {
                Ok(()) => {
                    self.left_behind = before;
                    tracing::info!(path = %path.display(), "database is gone, replication stopped");
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "database is gone, its replica is behind");
                }
            }
        }
        true
    }

    /// Databases were to be started and will not be: nobody knows whether their replicas are equal to them.
    pub fn break_off_start(&mut self) {
        tracing::error!(
            "stopped before every database was opened: what was committed meanwhile may not be replicated"
        );
        self.leave_behind();
    }

    /// There may be databases that are not in the fleet: [`Fleet::stop`] will not say that every replica is up to date.
    pub fn leave_behind(&mut self) {
        self.left_behind = true;
    }

    /// Stops all, each with a final sync within its own time limit. Returns whether every replica is equal to its
    /// database, those included that went away before.
    pub async fn stop(self) -> bool {
        let all_started = self.broken.is_empty();
        let stops = self.members.into_iter().map(|(path, member)| async move {
            let result = stop_one(member.handle, member.stop_timeout).await;
            if let Err(error) = &result {
                tracing::error!(path = %path.display(), %error, "final sync failed, the replica is behind");
            }
            result.is_ok()
        });
        let in_sync = join_all(stops).await.into_iter().all(|ok| ok);
        in_sync && all_started && !self.left_behind
    }
}

/// Lets a start come to its end first, as far as the time allows: stopping in the middle of it would leave the
/// replica behind although the store may be fine.
async fn stop_one(handle: Handle, timeout: Duration) -> Result<()> {
    let begun = Instant::now();
    let mut status = handle.status();
    let started = status.wait_for(|status| status.state() != State::Starting);
    let _ = tokio::time::timeout(timeout, started).await;
    // None left is not the same as none wanted, which means one attempt.
    let left = timeout.saturating_sub(begun.elapsed()).max(timeout.min(Duration::from_millis(1)));
    handle.stop(left).await
}

/// Permissions and owner of a database and its directory, for a replica in a directory.
fn ownership(disk: &dyn Disk, db: &Path) -> Option<Ownership> {
    let file = disk.metadata(db).ok()?;
    let directory = disk.metadata(db.parent()?).ok()?;
    Some(Ownership { file_mode: file.mode, directory_mode: directory.mode, uid: file.uid, gid: file.gid })
}
