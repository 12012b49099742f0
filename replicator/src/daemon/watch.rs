//! Directories whose databases come and go.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::discover::{self, Found};
use super::fleet::Fleet;
use crate::config::Directory;
use crate::error::{Error, ErrorKind, Result};
use crate::host::{BoxFuture, Host};

/// Time between two looks at the watched directories.
pub const LOOK: Duration = Duration::from_secs(2);

/// Time for a look, after which the directory counts as one that cannot be read.
const SLOWEST_LOOK: Duration = Duration::from_secs(30);

/// Time for the last look at all of the directories, before the final sync.
const LAST_LOOK: Duration = Duration::from_secs(15);

/// A directory, and what was found in it at the last look.
pub struct Watched {
    directory: Directory,
    /// Databases (absolute paths) that were started because they were found here. Others below the same directory have an
    /// entry of their own and are not ours to stop.
    own: BTreeSet<PathBuf>,
    /// Databases (absolute paths) that were missing at the last look; gone if they are missing again.
    missing: BTreeSet<PathBuf>,
    /// Whether the last look failed, so that a lasting failure is logged once.
    failed: bool,
    /// Second names of databases, so that each is logged once.
    aliases: BTreeSet<PathBuf>,
    /// Subdirectories that could not be read at the last look.
    unreadable: BTreeSet<PathBuf>,
    /// A look that has not ended.
    under_way: Option<BoxFuture<'static, Result<Found>>>,
}

impl Watched {
    /// Begins with a directory in which nothing has been found yet.
    #[must_use]
    pub fn new(directory: Directory) -> Self {
        Self {
            directory,
            own: BTreeSet::new(),
            missing: BTreeSet::new(),
            failed: false,
            aliases: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            under_way: None,
        }
    }

    /// Whether the last look saw everything.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.failed && self.unreadable.is_empty()
    }

    /// Starts what is new and stops what is gone. A directory that cannot be read changes nothing.
    pub async fn look(&mut self, host: &Host, fleet: &mut Fleet) {
        match self.found(host, fleet).await {
            Ok(found) => {
                self.failed = false;
                self.apply(found, fleet).await;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::error!(dir = %self.directory.path.display(), %error, "cannot look for databases");
                }
            }
        }
    }

    /// What there is. A look that hangs, or was broken off by a signal, is waited for again: another one would hang as
    /// well, and each keeps a thread.
    async fn found(&mut self, host: &Host, fleet: &Fleet) -> Result<Found> {
        let look = self.under_way.get_or_insert_with(|| found(host, &self.directory, fleet));
        let Ok(found) = tokio::time::timeout(SLOWEST_LOOK, look).await else {
            let path = self.directory.path.display();
            let message = format!("reading directory {path} takes too long; does its file system hang?");
            return Err(Error::new(ErrorKind::Transient, message));
        };
        self.under_way = None;
        found
    }

    /// Starts what was found first. That it is there is nothing to tell of each.
    pub async fn begin(&mut self, found: Found, fleet: &mut Fleet) {
        self.tell_what_is_left_out(found.aliases, found.unreadable);
        for relative in found.databases {
            let database = self.directory.database(&relative);
            let path = database.options.db.clone();
            if fleet.start(database).await {
                self.own.insert(path);
            }
        }
    }

    async fn apply(&mut self, found: Found, fleet: &mut Fleet) {
        self.tell_what_is_left_out(found.aliases, found.unreadable);
        self.stop_absent(&found.databases, fleet).await;
        self.start_new(found.databases, fleet).await;
    }

    /// Each thing once, as long as it stays.
    fn tell_what_is_left_out(&mut self, aliases: Vec<PathBuf>, unreadable: Vec<(PathBuf, Error)>) {
        let aliases: BTreeSet<PathBuf> = aliases.into_iter().collect();
        for alias in aliases.difference(&self.aliases) {
            tracing::warn!(
                path = %self.directory.path.join(alias).display(),
                "is another name of a database that is replicated already, and is left alone"
            );
        }
        self.aliases = aliases;
        for (_, error) in unreadable.iter().filter(|(below, _)| !self.unreadable.contains(below)) {
            tracing::error!(
                dir = %self.directory.path.display(), %error,
                "databases in this subdirectory are not replicated; let this user read it, or move it elsewhere"
            );
        }
        self.unreadable = unreadable.into_iter().map(|(below, _)| below).collect();
    }

    async fn stop_absent(&mut self, present: &[PathBuf], fleet: &mut Fleet) {
        let root = &self.directory.path;
        let present: BTreeSet<PathBuf> = present.iter().map(|relative| root.join(relative)).collect();
        let is_hidden =
            |path: &&PathBuf| self.unreadable.iter().any(|below| path.starts_with(root.join(below)));
        let mut absent: BTreeSet<PathBuf> =
            self.own.difference(&present).filter(|path| !is_hidden(path)).cloned().collect();
        for gone in absent.intersection(&self.missing).cloned().collect::<Vec<_>>() {
            if fleet.remove(&gone).await {
                absent.remove(&gone);
                self.own.remove(&gone);
            }
        }
        self.missing = absent;
    }

    async fn start_new(&mut self, databases: Vec<PathBuf>, fleet: &mut Fleet) {
        for relative in databases {
            let database = self.directory.database(&relative);
            let path = database.options.db.clone();
            if !fleet.contains(&path) {
                tracing::info!(path = %path.display(), "found a new database");
                self.own.insert(path);
                fleet.start(database).await;
            }
        }
    }

    /// One that begins now, whatever is under way: that may have been past what came meanwhile.
    async fn last_look(&mut self, host: &Host, fleet: &mut Fleet) -> Result<()> {
        if let Some(look) = self.under_way.take() {
            // What it says will be said again.
            let _ = look.await;
        }
        let Found { databases, unreadable, .. } = found(host, &self.directory, fleet).await?;
        self.start_new(databases, fleet).await;
        unreadable.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }
}

/// Starts what came since the last look at any of the directories: the final sync is for all of their databases. If that
/// cannot be told, the end of the fleet will not be one in sync.
pub async fn last_look(watched: &mut [Watched], host: &Host, fleet: &mut Fleet) {
    let mut all_seen = true;
    let looks = async {
        for watched in watched {
            if let Err(error) = watched.last_look(host, fleet).await {
                tracing::error!(%error, "there may be databases that are not replicated");
                all_seen = false;
            }
        }
    };
    if tokio::time::timeout(LAST_LOOK, looks).await.is_err() {
        tracing::error!(limit = ?LAST_LOOK, "the last look for databases takes too long, some may not be replicated");
        all_seen = false;
    }
    if !all_seen {
        fleet.leave_behind();
    }
}

/// The databases of a directory; those of the fleet are not opened. The errors are those of [`discover::scan`].
pub fn found(host: &Host, directory: &Directory, fleet: &Fleet) -> BoxFuture<'static, Result<Found>> {
    let members = fleet.paths();
    let (host, directory) = (host.clone(), directory.clone());
    Box::pin(async move {
        let disk = host.disk.clone();
        host.blocking(move || discover::scan(&*disk, &directory, &members)).await
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Arc, Condvar, Mutex};

    use super::*;
    use crate::bucket::{Environment, Opener};
    use crate::config::{self, Entry};
    use crate::host::{DirEntry, Disk, DiskFile, FileMetadata, OpenMode, UnixMillis, os};
    use crate::observe::Board;

    /// The real disk, except that directories named `x` may be another user's, or hang.
    struct Odd {
        inner: Arc<dyn Disk>,
        denied: AtomicBool,
        hanging: Mutex<bool>,
        released: Condvar,
        looks: AtomicUsize,
    }

    impl Odd {
        fn set_hanging(&self, hanging: bool) {
            *self.hanging.lock().unwrap() = hanging;
            self.released.notify_all();
        }
    }

    impl Disk for Odd {
        fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
            self.inner.open(path, mode)
        }
        fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
            self.inner.metadata(path)
        }
        fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
            if path.ends_with("x") {
                self.looks.fetch_add(1, Ordering::SeqCst);
                let hanging = self.hanging.lock().unwrap();
                drop(self.released.wait_while(hanging, |hanging| *hanging).unwrap());
                if self.denied.load(Ordering::SeqCst) {
                    return Err(io::ErrorKind::PermissionDenied.into());
                }
            }
            self.inner.read_dir(path)
        }
        fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<()> {
            self.inner.create_dir_all(path, mode)
        }
        fn remove_file(&self, path: &Path) -> io::Result<()> {
            self.inner.remove_file(path)
        }
        fn remove_dir(&self, path: &Path) -> io::Result<()> {
            self.inner.remove_dir(path)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.inner.rename(from, to)
        }
        fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.inner.hard_link(from, to)
        }
        fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            self.inner.lock(path)
        }
        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            self.inner.sync_dir(path)
        }
        fn set_modified(&self, path: &Path, time: UnixMillis) -> io::Result<()> {
            self.inner.set_modified(path, time)
        }
        fn available(&self, path: &Path) -> io::Result<u64> {
            self.inner.available(path)
        }
        fn set_permissions(&self, path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
            self.inner.set_permissions(path, mode, uid, gid)
        }
    }

    /// A watched directory with the subdirectories `x` and `y`.
    struct Scene {
        root: tempfile::TempDir,
        disk: Arc<Odd>,
        host: Host,
        board: Board,
        fleet: Fleet,
        watched: Watched,
    }

    impl Scene {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let real = os::host();
            for name in ["tenants/x", "tenants/y"] {
                real.disk.create_dir_all(&root.path().join(name), 0o700).unwrap();
            }
            let disk = Arc::new(Odd {
                inner: Arc::clone(&real.disk),
                denied: AtomicBool::new(false),
                hanging: Mutex::new(false),
                released: Condvar::new(),
                looks: AtomicUsize::new(0),
            });
            let host = Host { disk: Arc::clone(&disk) as Arc<dyn Disk>, ..real };
            let board = Board::default();
            let opener = Opener::new(host.clone(), Environment::default());
            let fleet = Fleet::new(host.clone(), opener, board.clone());
            let watched = Watched::new(directory(root.path()));
            Self { root, disk, host, board, fleet, watched }
        }

        fn database(&self, name: &str) -> PathBuf {
            let path = self.root.path().join("tenants").join(name);
            let db = rusqlite::Connection::open(&path).unwrap();
            db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(x)").unwrap();
            path
        }

        async fn look(&mut self) {
            self.watched.look(&self.host, &mut self.fleet).await;
        }
    }

    fn directory(root: &Path) -> Directory {
        let text = format!(
            "dbs:\n- dir: {0}/tenants\n  pattern: '*.db'\n  recursive: true\n  watch: true\n  \
             replica: {{path: {0}/backups}}\n",
            root.display()
        );
        let config = config::parse(&text, false, &config::Environment::default()).unwrap();
        match config.databases.into_iter().next() {
            Some(Entry::Directory(directory)) => directory,
            other => panic!("{other:?}"),
        }
    }

    /// One line in the log, and no new database was ever found in any of them; in the end the exit code was 0.
    #[tokio::test]
    async fn a_subdirectory_that_cannot_be_read_hides_what_is_in_it_and_nothing_else() {
        let mut scene = Scene::new();
        let (hidden, new) = (scene.database("x/hidden.db"), scene.database("y/new.db"));
        scene.disk.denied.store(true, Ordering::SeqCst);
        scene.look().await;
        assert!(scene.fleet.contains(&new) && !scene.fleet.contains(&hidden));
        assert!(!scene.watched.is_complete());
        scene.disk.denied.store(false, Ordering::SeqCst);
        scene.look().await;
        assert!(scene.fleet.contains(&hidden) && scene.watched.is_complete());
        assert!(!scene.board.is_complete(), "whoever starts databases says when all are started");

        scene.disk.denied.store(true, Ordering::SeqCst);
        let last = scene.database("y/last.db");
        last_look(std::slice::from_mut(&mut scene.watched), &scene.host, &mut scene.fleet).await;
        assert!(scene.fleet.contains(&last));
        assert!(!scene.fleet.stop().await, "nobody knows what came into the one that cannot be read");
    }

    /// Each signal for the child began another one, and each of them kept a thread.
    #[tokio::test]
    async fn a_look_that_hangs_is_waited_for_and_not_followed_by_another() {
        let mut scene = Scene::new();
        let early = scene.database("y/early.db");
        scene.disk.set_hanging(true);
        let mut has_ended = false;
        // A few more once it has begun, which a busy machine may put off.
        for _ in 0..100 {
            let look = tokio::time::timeout(Duration::from_millis(50), scene.look());
            has_ended |= look.await.is_ok();
            if scene.disk.looks.load(Ordering::SeqCst) > 0 {
                let again = tokio::time::timeout(Duration::from_millis(50), scene.look());
                has_ended |= again.await.is_ok();
                break;
            }
        }
        // It may have been past what comes only now.
        let late = scene.database("y/late.db");
        let begun = scene.disk.looks.load(Ordering::SeqCst);
        // Before anything can fail: the end of the test waits for the threads.
        scene.disk.set_hanging(false);
        assert!(!has_ended, "a signal breaks it off");
        assert_eq!(begun, 1);
        last_look(std::slice::from_mut(&mut scene.watched), &scene.host, &mut scene.fleet).await;
        assert!(scene.fleet.contains(&early) && scene.fleet.contains(&late));
        assert_eq!(scene.disk.looks.load(Ordering::SeqCst), 2);
        assert!(scene.fleet.stop().await, "their first copies belong to the final sync");
    }
}
