//! A database under a seeded application, a place for its replica, and the judge.
//!
//! A scene ends everything it started. Nothing here opens the live database file itself: closing any descriptor of it
//! would drop the locks SQLite holds for the application in this same process.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use conformance::compare::{self, State, Wrong};
use conformance::process::wait_for;
use conformance::replica::Replica;
use conformance::site::Site;
use conformance::witness::{Dialect, Replicator, Settings as Replication};
use conformance::workload::{self, History, Workload};
use rusqlite::Connection;

/// How long anything that should happen at once may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

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
        // The start must succeed even on a busy machine.
        db.busy_timeout(PATIENCE).unwrap();
        let settings = self.settings.clone();
        let next = self.history.intended() + 1;
        let app = Workload::start(db, settings, self.seed, next, &mut self.history).unwrap();
        // Long enough for a writer to wait for a replicator's checkpoint, short enough for checkpoints that cannot win.
        app.db().busy_timeout(Duration::from_millis(300)).unwrap();
        self.app = Some(app);
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

    /// Adds rows that fill a page each, so that every update of one is a frame of its own page.
    pub fn insert_large_rows(&mut self, count: i64) {
        let sql = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {count})
             INSERT INTO t0(id, name, number, body) SELECT i, 'first', i, randomblob(2500) FROM n"
        );
        self.execute(&sql, 1..=count);
    }

    /// Updates the first rows, each in a commit of its own: one frame for the row, one for the mark.
    pub fn update_rows(&mut self, count: i64) {
        for id in 1..=count {
            let sql = format!("UPDATE t0 SET number = number + 1, body = randomblob(2500) WHERE id = {id}");
            self.execute(&sql, id..=id);
        }
    }

    /// Asks for a checkpoint, which may not get far while somebody reads.
    pub fn checkpoint(&self, mode: &str) {
        let db = self.app.as_ref().unwrap().db();
        db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())).unwrap();
    }

    pub fn vacuum(&self) {
        self.app.as_ref().unwrap().db().execute_batch("VACUUM").unwrap();
    }

    pub fn database(&self) -> PathBuf {
        self.path("app.db")
    }

    /// A place for the replica in a directory of the scene.
    pub fn directory(&self) -> Site {
        Site::directory(&self.path("replica"))
    }

    /// Replication of this database to a site.
    pub fn replication(&self, site: &Site) -> Replication {
        Replication::new(&self.database(), site)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A Litestream with its own folder inside the scene.
    pub fn litestream(&self, version: &str) -> Replicator {
        let folder = self.path(&format!("litestream-{version}"));
        std::fs::create_dir_all(&folder).unwrap();
        Replicator::litestream(version, &folder).unwrap()
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
            Replica::read(store).ok()?.newest_seq().filter(|newest| *newest >= seq)
        });
        replicated.unwrap_or_else(|error| panic!("{error}\n{}", self.logs()));
        self.history.acknowledge(seq).unwrap();
    }

    /// The end of what each replicator printed.
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for folder in std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path()) {
            let log = folder.join("replicate.log");
            if let Ok(text) = std::fs::read_to_string(&log) {
                let lines: Vec<&str> = text.lines().collect();
                all +=
                    &format!("{}:\n{}\n", log.display(), lines[lines.len().saturating_sub(25)..].join("\n"));
            }
        }
        all
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
        let said = with.restore(site, &output, flags).unwrap();
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
        for (txid, image) in replica.images() {
            let image = image.unwrap();
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

/// The answer of a metrics server.
pub fn scrape(port: u16) -> Option<String> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// The product, with its own folder inside the scene.
pub fn product(scene: &Scene) -> Replicator {
    let folder = scene.path("product");
    std::fs::create_dir_all(&folder).unwrap();
    Replicator::new(env!("CARGO_BIN_EXE_replicator").into(), Dialect::V5, &folder)
}
