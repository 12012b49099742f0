//! Makes `conformance/golden`: small replicas written by real Litestream binaries, with what those binaries restore
//! from them. Run it to change the corpus: `cargo run -p conformance --example make_golden`.

#![expect(clippy::disallowed_methods, reason = "it waits for real processes")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use conformance::process::{Process, wait_for};
use conformance::replica::{Directory, Replica};
use conformance::site::Site;
use conformance::witness::{Replicator, Settings, V0_3_13, V0_5_15, V0_5_17};
use crc::{CRC_64_GO_ISO, Crc};
use rusqlite::Connection;
use serde_json::json;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> Result {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    for version in [V0_5_15, V0_5_17] {
        for page_size in [512, 4096, 65536] {
            Maker::new(&golden, version, page_size)?.ltx()?;
        }
    }
    Maker::new(&golden, V0_3_13, 4096)?.legacy()
}

/// The newest transaction in a level.
fn newest_of(replica: &Replica<'_>, level: u8) -> Option<u64> {
    let of_level = replica.entries().iter().filter(|entry| entry.level == level);
    of_level.map(|entry| entry.header.max_txid).max()
}

/// One replica in the making.
struct Maker {
    work: tempfile::TempDir,
    litestream: Replicator,
    page_size: u32,
    database: PathBuf,
    output: PathBuf,
}

impl Maker {
    fn new(golden: &Path, version: &str, page_size: u32) -> Result<Self> {
        let work = tempfile::tempdir()?;
        let output = golden.join(format!("{version}-{page_size}"));
        if output.exists() {
            std::fs::remove_dir_all(&output)?;
        }
        println!("{}", output.display());
        Ok(Self {
            litestream: Replicator::litestream(version, work.path())?,
            page_size,
            database: work.path().join("app.db"),
            work,
            output,
        })
    }

    fn ltx(&self) -> Result {
        let app = self.open()?;
        let mut settings = self.settings();
        settings.top_lines =
            ["levels: [{interval: 1s}]", "snapshot: {interval: 1s, retention: 1h}", "l0-retention: 1h"]
                .map(str::to_owned)
                .to_vec();
        let daemon = self.litestream.replicate(&settings)?;
        self.wait_until("first transaction", |replica| replica.newest() == Some(1))?;
        self.change(&app, "an insert", "INSERT INTO notes(body) SELECT body FROM notes LIMIT 5")?;
        self.change(
            &app,
            "growth",
            "INSERT INTO notes(body) SELECT hex(randomblob(24)) || hex(zeroblob(1500)) FROM notes a, notes b LIMIT 40",
        )?;
        self.wait_until("first compaction", |replica| replica.newest() == newest_of(replica, 1))?;
        self.change(&app, "an update", "UPDATE notes SET body = 'short' WHERE id % 7 = 0")?;
        self.change(&app, "a deletion", "DELETE FROM notes WHERE id > 12")?;
        self.change(&app, "a shrink", "VACUUM")?;
        self.wait_until("compaction and snapshot", |replica| {
            replica.newest() == newest_of(replica, 1) && replica.newest() == newest_of(replica, 9)
        })?;
        daemon.terminate(PATIENCE)?;
        self.keep_ltx()
    }

    /// A 0.3 generation with two WAL indexes.
    fn legacy(&self) -> Result {
        let app = self.open()?;
        let mut settings = self.settings();
        settings.database_lines = vec!["min-checkpoint-page-count: 8".to_owned()];
        let daemon = self.litestream.replicate(&settings)?;
        let named = |text: &'static str| move |keys: &[String]| keys.iter().any(|key| key.contains(text));
        self.wait_for_keys("snapshot", &daemon, named("/snapshots/"))?;
        for _ in 0..4 {
            app.execute_batch("INSERT INTO notes(body) SELECT hex(randomblob(400)) FROM notes LIMIT 8")?;
            std::thread::sleep(Duration::from_millis(400));
        }
        self.wait_for_keys("second WAL", &daemon, named("/wal/00000001_00000000"))?;
        app.execute_batch("UPDATE notes SET body = 'last' WHERE id = 1")?;
        std::thread::sleep(Duration::from_secs(1));
        daemon.terminate(PATIENCE)?;
        let restored = self.restore(&[])?;
        self.copy_tree(&self.replica().join("generations"), &self.output.join("generations"))?;
        self.write_expected(&json!({ "latest": restored }))
    }

    fn open(&self) -> Result<Connection> {
        let app = Connection::open(&self.database)?;
        app.pragma_update(None, "page_size", self.page_size)?;
        app.pragma_update(None, "journal_mode", "wal")?;
        app.execute_batch(
            "CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT);
             CREATE INDEX notes_by_body ON notes(body);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20)
             INSERT INTO notes(body) SELECT 'note ' || i FROM n;",
        )?;
        Ok(app)
    }

    fn settings(&self) -> Settings {
        Settings::new(&self.database, &Site::directory(&self.replica()))
    }

    fn replica(&self) -> PathBuf {
        self.work.path().join("replica")
    }

    fn change(&self, app: &Connection, what: &str, sql: &str) -> Result {
        let before = Replica::read(&Directory::new(&self.replica()))?.newest();
        app.execute_batch(sql)?;
        self.wait_until(what, |replica| replica.newest() > before)
    }

    fn wait_until(&self, what: &str, mut holds: impl FnMut(&Replica<'_>) -> bool) -> Result {
        let store = Directory::new(&self.replica());
        wait_for(what, PATIENCE, || Replica::read(&store).ok().filter(|replica| holds(replica)).map(drop))?;
        Ok(())
    }

    fn wait_for_keys(&self, what: &str, daemon: &Process, holds: impl Fn(&[String]) -> bool) -> Result {
        use conformance::replica::Store as _;
        let store = Directory::new(&self.replica());
        let keys =
            || store.list().ok().map(|all| all.into_iter().map(|object| object.key).collect::<Vec<_>>());
        wait_for(what, PATIENCE, || keys().filter(|keys| holds(keys)))
            .map_err(|error| format!("{error}\n{}", daemon.output()))?;
        Ok(())
    }

    /// Keeps the replica and what Litestream itself restores at each transaction.
    fn keep_ltx(&self) -> Result {
        let store = Directory::new(&self.replica());
        let mut states = BTreeMap::new();
        for (txid, _) in Replica::read(&store)?.restorable() {
            let txid = format!("{txid:016x}");
            states.insert(txid.clone(), self.restore(&["-txid", &txid])?);
        }
        self.copy_tree(&self.replica().join("ltx"), &self.output.join("ltx"))?;
        self.write_expected(&json!({ "states": states }))
    }

    /// Size and checksum of the file Litestream restores.
    fn restore(&self, flags: &[&str]) -> Result<serde_json::Value> {
        let output = self.work.path().join("restored.db");
        let said = self.litestream.restore(&Site::directory(&self.replica()), &output, flags)?;
        if said.code != Some(0) {
            return Err(said.output.into());
        }
        let bytes = std::fs::read(&output)?;
        std::fs::remove_file(&output)?;
        let checksum = Crc::<u64>::new(&CRC_64_GO_ISO).checksum(&bytes);
        Ok(json!({ "bytes": bytes.len(), "crc64": format!("{checksum:016x}") }))
    }

    fn write_expected(&self, expected: &serde_json::Value) -> Result {
        std::fs::write(self.output.join("expected.json"), format!("{expected:#}\n"))?;
        Ok(())
    }

    fn copy_tree(&self, from: &Path, to: &Path) -> Result {
        std::fs::create_dir_all(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.copy_tree(&entry.path(), &target)?;
            } else {
                std::fs::copy(entry.path(), target)?;
            }
        }
        Ok(())
    }
}
