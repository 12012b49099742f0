//! A database under a seeded application, a place for its replica, and the judge.
//!
//! A scene ends everything it started. Nothing here opens the live database file itself: closing any descriptor of it
//! would drop the locks SQLite holds for the application in this same process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use conformance::compare::{self, State, Wrong};
use conformance::process::wait_for;
use conformance::replica::{Directory, Embedded, Replica, Store};
use conformance::server::{Loopback, Server, Settings as ServerSettings, system_clock};
use conformance::witness::{Replicator, Settings as Replication};
use conformance::workload::{self, History, Workload};
use rusqlite::Connection;
use tokio::runtime::Runtime;

/// How long anything that should happen at once may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One application and one replica of its database.
pub struct Scene {
    /// Holds everything; removed at the end.
    pub folder: tempfile::TempDir,
    /// The application; `None` while it is stopped.
    pub app: Option<Workload>,
    /// What it committed.
    pub history: History,
    /// How it behaves.
    pub settings: workload::Settings,
    seed: u64,
}

impl Scene {
    /// Starts the application of this seed on an empty database.
    pub fn new(seed: u64, settings: workload::Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut scene = Self { folder, app: None, history: History::new(), settings, seed };
        scene.start_app();
        scene
    }

    /// An application that never checkpoints blockingly or vacuums, for scenes where a replicator is down for a while.
    pub fn calm(seed: u64) -> Self {
        let mut settings = workload::Settings::ordinary();
        settings.weights.retain(|(action, _)| *action <= workload::Action::Shrink);
        Self::new(seed, settings)
    }

    /// Opens the database, creating it if need be.
    pub fn start_app(&mut self) {
        self.start_app_on(&self.database());
    }

    fn start_app_on(&mut self, path: &Path) {
        self.seed += 1000;
        let db = Connection::open(path).unwrap();
        // Long enough for a writer to wait for a replicator's checkpoint, short enough for checkpoints that cannot win.
        db.busy_timeout(Duration::from_millis(300)).unwrap();
        let settings = self.settings.clone();
        let next = self.history.intended() + 1;
        self.app = Some(Workload::start(db, settings, self.seed, next, &mut self.history).unwrap());
    }

    /// Closes the database in an orderly way.
    pub fn stop_app(&mut self) {
        self.app.take().unwrap().close().unwrap();
    }

    /// Lets the application do this many things.
    pub fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.app.as_mut().unwrap().step(&mut self.history).unwrap();
        }
    }

    /// Commits a statement that changes these rows of `t0`.
    pub fn execute(&mut self, sql: &str, ids: std::ops::RangeInclusive<i64>) {
        self.app.as_mut().unwrap().execute(&mut self.history, sql, "t0", ids).unwrap();
    }

    pub fn database(&self) -> PathBuf {
        self.path("app.db")
    }

    /// Replication of this database to a site.
    pub fn replication(&self, site: &Site) -> Replication {
        Replication {
            replica: site.lines.clone(),
            ..Replication::to_directory(&self.database(), Path::new(""))
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A Litestream with its own folder inside the scene.
    pub fn litestream(&self, version: &str) -> Replicator {
        let folder = self.path(&format!("litestream-{version}"));
        std::fs::create_dir_all(&folder).unwrap();
        let mut litestream = Replicator::litestream(version, &folder).unwrap();
        litestream.environment = credentials();
        litestream
    }

    /// Stops the application and puts another database in the place of its file. The other one is made by `fill`, is
    /// fully checkpointed, and continues the sequence numbers.
    pub fn replace_database(&mut self, fill: impl FnOnce(&mut Self)) {
        self.stop_app();
        let (live, other) = (self.database(), self.path("other.db"));
        self.start_app_on(&other);
        fill(self);
        self.stop_app();
        for suffix in ["-wal", "-shm"] {
            let side_file = self.path(&format!("app.db{suffix}"));
            if side_file.exists() {
                std::fs::remove_file(side_file).unwrap();
            }
        }
        std::fs::rename(other, live).unwrap();
    }

    /// Waits until the newest state in the replica is the application's, as the naive decoders see it, and notes that
    /// from now on it must be restorable.
    pub fn wait_replicated(&mut self, site: &Site) {
        let store = &*site.store;
        let seq = self.history.committed();
        let replicated = wait_for(&format!("state {seq} in {}", store.location()), PATIENCE, || {
            newest_seq(store).filter(|newest| *newest >= seq)
        });
        replicated.unwrap();
        self.history.acknowledge(seq).unwrap();
    }

    /// Restores with a binary and judges the result: a state no older than what was acknowledged.
    pub fn restore_and_judge(&self, with: &Replicator, site: &Site, flags: &[&str]) -> Result<State, Wrong> {
        let output = self.restore(with, site, flags);
        let judged = compare::judge(&output, &self.history, self.history.acknowledged());
        std::fs::remove_file(output).unwrap();
        judged
    }

    /// Restores with a binary; the caller removes the result.
    pub fn restore(&self, with: &Replicator, site: &Site, flags: &[&str]) -> PathBuf {
        let output = with.folder.join("restored.db");
        let said = with.restore(&site.url, &output, flags).unwrap();
        assert_eq!(
            said.code,
            Some(0),
            "{} restore {flags:?} {}:\n{}",
            with.binary.display(),
            site.url,
            said.output
        );
        output
    }

    /// Restores every state of an LTX replica with a binary, and compares page by page with the naive restore.
    /// Returns how many there were. Each must be a committed state, and they must not go backwards.
    pub fn compare_every_state(&self, with: &Replicator, site: &Site) -> usize {
        let replica = Replica::read(&*site.store).unwrap();
        let report = replica.report();
        assert!(report.whole, "{report}");
        let mut newest = 0;
        let mut count = 0;
        for (txid, _) in replica.restorable() {
            let image = replica.restore(txid).unwrap();
            let output = self.restore(with, site, &["-txid", &format!("{txid:016x}")]);
            let restored = std::fs::read(&output).unwrap();
            std::fs::remove_file(output).unwrap();
            compare::same_pages(image.page_size, &image.bytes, &restored)
                .unwrap_or_else(|difference| panic!("transaction {txid:016x}: {difference}"));
            // Before the application's first commit there is no mark yet.
            match compare::judge_image(&restored, &self.history, newest) {
                Ok(state) => newest = state.seq,
                Err(Wrong::NoMark) if newest == 0 => {}
                Err(wrong) => panic!("transaction {txid:016x}: {wrong}"),
            }
            count += 1;
        }
        assert!(newest >= self.history.acknowledged(), "only state {newest} can be restored");
        count
    }
}

/// Where a replica lies.
pub struct Site {
    /// The judge's way to read it.
    pub store: Box<dyn Store>,
    /// The replica entry of a configuration.
    pub lines: Vec<String>,
    /// Its URL for `restore`.
    pub url: String,
    /// The embedded server, if that is where it lies; it stops with the site.
    _server: Option<(Runtime, Loopback)>,
}

impl Site {
    /// A directory of the scene.
    pub fn directory(scene: &Scene) -> Self {
        let path = scene.path("replica");
        Self {
            lines: vec!["type: file".to_owned(), format!("path: {}", path.display())],
            url: format!("file://{}", path.display()),
            store: Box::new(Directory::new(&path)),
            _server: None,
        }
    }

    /// A path in a bucket of an S3 server in this process.
    pub fn s3() -> Self {
        let runtime = Runtime::new().unwrap();
        let server = Server::new(ServerSettings::new(system_clock()));
        server.create_bucket("backups");
        let loopback = runtime.block_on(server.clone().start_loopback()).unwrap();
        let endpoint = loopback.endpoint();
        let lines =
            ["type: s3", "bucket: backups", "path: some/app", "region: us-east-1", "force-path-style: true"];
        let mut lines: Vec<_> = lines.map(str::to_owned).into();
        lines.push(format!("endpoint: {endpoint}"));
        Self {
            lines,
            url: format!("s3://backups/some/app?endpoint={endpoint}&region=us-east-1&forcePathStyle=true"),
            store: Box::new(Embedded::new(&server, "backups", "some/app")),
            _server: Some((runtime, loopback)),
        }
    }
}

/// What the embedded server accepts.
fn credentials() -> Vec<(String, String)> {
    [("AWS_ACCESS_KEY_ID", "access"), ("AWS_SECRET_ACCESS_KEY", "secret")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// The sequence number in the newest state of a replica of any kind.
fn newest_seq(store: &dyn Store) -> Option<u64> {
    let replica = Replica::read(store).ok()?;
    let image = match replica.newest() {
        Some(txid) => replica.restore(txid).ok()?.bytes,
        None => {
            let (generation, snapshot) = replica.legacy_snapshots().last()?;
            replica.restore_legacy(generation, snapshot).ok()?
        }
    };
    workload::seq_of(&compare::open_image(&image).ok()?).ok()?
}
