//! One database, one replica and one contender at work, with everything that is counted about them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use conformance::process::{Process, wait_for};
use conformance::replica::{Directory, Embedded, Replica};
use conformance::server::Verb;
use conformance::site::Site;
use conformance::workload::Digest;
use rusqlite::Connection;

use crate::Result;
use crate::arrivals::Arrivals;
use crate::contender::Contender;
use crate::content::Noise;
use crate::figures::Figures;
use crate::measure;

/// For anything a contender should do in the end.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Where the replica goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A directory.
    Directory,
    /// The S3 server in this process.
    S3,
}

impl Place {
    /// Name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::S3 => "s3",
        }
    }
}

/// Files and store of one measurement.
pub struct Stage {
    folder: tempfile::TempDir,
    /// Where the replica lies.
    pub site: Site,
}

impl Stage {
    /// An empty stage.
    ///
    /// # Errors
    /// If there is no temporary directory or no port.
    pub fn new(place: Place) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let site = match place {
            Place::Directory => Site::directory(&folder.path().join("replica")),
            Place::S3 => Site::embedded()?,
        };
        Ok(Self { folder, site })
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }

    /// Opens the database as the application, in WAL mode, with the tables every workload uses.
    ///
    /// # Errors
    /// As SQLite's.
    pub fn open(&self) -> Result<Connection> {
        let db = Connection::open(self.database())?;
        db.busy_timeout(Duration::from_secs(10))?;
        db.pragma_update(None, "journal_mode", "wal")?;
        db.pragma_update(None, "synchronous", "normal")?;
        db.execute_batch("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, number INTEGER, body BLOB)")?;
        Ok(db)
    }

    /// Starts the contender on this database.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn replicate(&self, contender: &Contender) -> io::Result<Process> {
        contender.replicate(self.folder(), &[(self.database(), self.site.lines.clone())], &self.site)
    }

    /// Watches for objects, with `pause` between two looks.
    ///
    /// # Errors
    /// If no thread can be had.
    pub fn arrivals(&self, pause: Duration) -> io::Result<Arrivals> {
        match self.site.server() {
            Some(server) => Arrivals::watch(Box::new(Embedded::new(server, "backups", "some/app")), pause),
            None => Arrivals::watch(Box::new(Directory::new(&self.folder().join("replica"))), pause),
        }
    }

    /// Waits until the newest state in the replica has this count and sum of `number`: cheap enough to be timed with.
    /// Once nothing more is timed, [`Self::check_replica`] says whether it is the database in everything else, too.
    ///
    /// # Errors
    /// If it does not come.
    pub fn wait_for_state(&self, db: &Connection) -> Result<()> {
        let expected = fingerprint(db)?;
        let store = &*self.site.store;
        let mut last = None;
        wait_for("replica in the database's state", PATIENCE, || {
            // Reading a replica is dear, and the naive reader shares the processors with the contender.
            let listed = store.list().ok()?;
            if last.as_ref() == Some(&listed) {
                return None;
            }
            let newest = self.newest()?;
            last = Some(listed);
            (fingerprint(&newest).ok()? == expected).then_some(())
        })?;
        Ok(())
    }

    /// The newest state in the replica, unless it cannot be read at this moment.
    fn newest(&self) -> Option<Connection> {
        let replica = Replica::read(&*self.site.store).ok()?;
        let image = replica.restore(replica.newest()?).ok()?;
        conformance::compare::open_image(&image.bytes).ok()
    }

    /// Whether the newest state in the replica is the database, row by row. Takes its time.
    ///
    /// # Errors
    /// If it is not, or cannot be read.
    pub fn check_replica(&self, db: &Connection) -> Result<()> {
        let newest = wait_for("replica that can be read", PATIENCE, || self.newest())?;
        same_content("the replica", &newest, db)
    }

    /// Counts so far.
    ///
    /// # Errors
    /// If the contender is no longer there.
    pub fn meter(&self, contender: &Process) -> io::Result<Meter> {
        let requests = self.requests();
        let cpu = measure::cpu_time(contender.id())?;
        Ok(Meter { began: Instant::now(), cpu, requests, bytes: self.bytes_stored() })
    }

    /// Counts that include everything since the contender's start.
    #[must_use]
    pub fn meter_from_start(&self) -> Meter {
        Meter { began: Instant::now(), cpu: Duration::ZERO, requests: BTreeMap::new(), bytes: 0 }
    }

    fn requests(&self) -> BTreeMap<Verb, u64> {
        self.site.server().map(|server| server.traffic().requests).unwrap_or_default()
    }

    fn bytes_stored(&self) -> u64 {
        self.site.store.list().unwrap_or_default().iter().map(|object| object.size).sum()
    }

    /// What was used since `meter`.
    ///
    /// # Errors
    /// If the contender is no longer there.
    pub fn since(&self, meter: &Meter, contender: &Process) -> io::Result<Figures> {
        let mut figures = Figures::default();
        figures.set("wall s", meter.began.elapsed().as_secs_f64());
        figures.set("cpu s", (measure::cpu_time(contender.id())? - meter.cpu).as_secs_f64());
        figures.set("peak memory MB", measure::peak_memory(contender.id())? as f64 / 1e6);
        figures.set("stored MB", self.bytes_stored().saturating_sub(meter.bytes) as f64 / 1e6);
        let requests = self.requests();
        if self.site.server().is_some() {
            let total = |requests: &BTreeMap<Verb, u64>| requests.values().sum::<u64>();
            figures.set("requests", (total(&requests) - total(&meter.requests)) as f64);
        }
        for (verb, count) in requests {
            let new = count - meter.requests.get(&verb).copied().unwrap_or(0);
            if new > 0 {
                figures.set(format!("requests {verb:?}"), new as f64);
            }
        }
        Ok(figures)
    }
}

/// Counts at a moment.
pub struct Meter {
    began: Instant,
    cpu: Duration,
    requests: BTreeMap<Verb, u64>,
    bytes: u64,
}

/// Rows and the sum of their numbers: which state of these workloads a copy is, if it is one.
fn fingerprint(db: &Connection) -> rusqlite::Result<(i64, i64)> {
    db.query_row("SELECT count(*), coalesce(sum(number), 0) FROM t", [], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Whether a restored file is the application's database, row by row.
///
/// # Errors
/// If it is not, or cannot be read.
pub fn check_restored(path: &Path, db: &Connection) -> Result<()> {
    same_content(&path.display().to_string(), &Connection::open(path)?, db)
}

/// Compares every row and the schema.
fn same_content(name: &str, copy: &Connection, db: &Connection) -> Result<()> {
    if Digest::of(copy)? == Digest::of(db)? {
        return Ok(());
    }
    let (found, expected) = (fingerprint(copy)?, fingerprint(db)?);
    Err(format!("{name} is not the database: rows and sum are {found:?}, and {expected:?} there").into())
}

/// Adds rows that fill about a page each, `per_commit` in each transaction.
///
/// # Errors
/// As SQLite's.
pub fn fill(db: &Connection, rows: u64, per_commit: u64) -> Result<()> {
    let mut noise = Noise::new(7);
    let mut row = 0;
    while row < rows {
        db.execute_batch("BEGIN IMMEDIATE")?;
        let mut insert = db.prepare("INSERT INTO t(number, body) VALUES (?1, ?2)")?;
        for _ in 0..per_commit.min(rows - row) {
            insert.execute((row.cast_signed(), format!("{:016x}{}", row, noise.text(3300)).into_bytes()))?;
            row += 1;
        }
        drop(insert);
        db.execute_batch("COMMIT")?;
    }
    Ok(())
}

/// Changes `count` rows, scattered over the table, in one transaction, whose number goes into the database header.
///
/// # Errors
/// As SQLite's.
pub fn update(db: &Connection, noise: &mut Noise, rows: u64, count: u64, number: u64) -> Result<()> {
    db.execute_batch("BEGIN IMMEDIATE")?;
    db.pragma_update(None, "user_version", number.cast_signed())?;
    let mut update = db.prepare("UPDATE t SET number = number + 1 WHERE id = ?1")?;
    for _ in 0..count {
        update.execute([1 + noise.below(rows).cast_signed()])?;
    }
    drop(update);
    db.execute_batch("COMMIT")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_with_one_other_body_is_not_the_database() {
        let stage = Stage::new(Place::Directory).unwrap();
        let db = stage.open().unwrap();
        fill(&db, 20, 10).unwrap();
        let copy = stage.folder().join("copy.db");
        db.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        check_restored(&copy, &db).unwrap();
        let changed = Connection::open(&copy).unwrap();
        changed.execute("UPDATE t SET body = zeroblob(length(body)) WHERE id = 7", []).unwrap();
        drop(changed);
        let told = check_restored(&copy, &db).unwrap_err().to_string();
        assert!(told.contains("copy.db is not the database"), "{told}");
    }
}
