//! The application: ordinary SQLite code that writes, reads, checkpoints, migrates and restarts.
//!
//! Runs inside fibers, one per connection. It knows nothing of the replicator; what it may not tolerate (any error
//! but "busy", or a wrong answer) is written down as a complaint.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::choices::{Choices, mix};
use crate::disk::Process;
use crate::events::Mark;
use crate::fiber::{self, Pause};
use crate::history::History;
use crate::plan::{AppPlan, STEPS};
use crate::vfs::Vfs;

/// Where the database is.
pub const DATABASE: &str = "/data/app.db";

/// Kinds of steps; the discriminant indexes [`AppPlan::weights`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// One or a few rows.
    Insert,
    /// Changes existing rows.
    Update,
    /// Deletes rows.
    Delete,
    /// Many pages in one transaction.
    Bulk,
    /// A savepoint that is rolled back, rows that come and go, then a commit: the file may grow by pages that are
    /// free again and therefore never logged.
    Savepoint,
    /// A transaction that is rolled back, after spilling.
    Rollback,
    /// A table comes or goes.
    Schema,
    /// `VACUUM`, or an incremental one.
    Vacuum,
    /// A checkpoint in a random mode.
    Checkpoint,
    /// A read transaction that stays open.
    LongRead,
    /// Closes and opens the connection.
    Reopen,
    /// Checks that what it reads is what it wrote.
    Verify,
}

const KINDS: [Step; STEPS] = [
    Step::Insert,
    Step::Update,
    Step::Delete,
    Step::Bulk,
    Step::Savepoint,
    Step::Rollback,
    Step::Schema,
    Step::Vacuum,
    Step::Checkpoint,
    Step::LongRead,
    Step::Reopen,
    Step::Verify,
];

/// What the application found unacceptable, and how much it did.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Commits that SQLite acknowledged.
    pub commits: u64,
    /// Steps that were refused because of a lock.
    pub busy: u64,
    /// Everything that should not have happened.
    pub complaints: Vec<String>,
    /// The longest that one step took, in simulated milliseconds (long reads left out).
    pub slowest_millis: u64,
}

/// One run of the application (until it is stopped or killed).
pub struct App {
    /// Its process.
    pub process: Arc<Process>,
    /// SQLite's door.
    pub vfs: Vfs,
    /// Its settings.
    pub plan: AppPlan,
    /// What it did, over all its runs.
    pub ledger: Arc<Mutex<Ledger>>,
    /// History of its database.
    pub history: Arc<History>,
    /// Ask writers to finish.
    pub stop: std::sync::atomic::AtomicBool,
    /// Number of this run.
    pub incarnation: u64,
    /// Simulated millisecond after which no new step starts.
    pub until_millis: u64,
    /// Another process may be stopped inside SQLite, where it can hold what every reader needs for a moment.
    pub stopped_company: bool,
}

impl App {
    fn choices(&self) -> &Choices {
        &self.process.machine().context().choices
    }

    fn now(&self) -> u64 {
        self.process.machine().context().timeline.millis()
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("plain data")
    }

    /// Opens a connection that changes nothing by itself.
    pub fn look(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags_and_vfs(DATABASE, flags, self.vfs.name().as_str())
    }

    /// Opens a connection as this application does.
    fn open(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags_and_vfs(DATABASE, flags, self.vfs.name().as_str())?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        let synchronous = if self.plan.full_sync { "FULL" } else { "NORMAL" };
        connection.execute_batch(&format!(
            "PRAGMA page_size={}; PRAGMA auto_vacuum={}; PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous};
             PRAGMA wal_autocheckpoint={};
             CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, k INTEGER, sum INTEGER, v BLOB);
             CREATE INDEX IF NOT EXISTS i ON t(k);",
            self.plan.page_size,
            if self.plan.auto_vacuum { 2 } else { 0 },
            self.plan.autocheckpoint,
        ))?;
        Ok(connection)
    }

    /// One connection's work; to be run in a fiber.
    pub fn writer(&self, writer: u64) {
        let mut connection = match self.retry_open() {
            Some(connection) => connection,
            None => return,
        };
        for n in 0..u64::from(self.plan.steps) {
            let instance = mix(self.incarnation << 32 | writer << 24 | n);
            let think = self.choices().below("app.think", instance, u64::from(self.plan.think_millis) + 1);
            fiber::suspend(Pause::Sleep(think));
            if self.now() > self.until_millis || self.stop.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
            let step = self.kind(instance);
            let started = self.now();
            if step == Step::Reopen {
                drop(connection);
                connection = match self.retry_open() {
                    Some(connection) => connection,
                    None => return,
                };
                continue;
            }
            let result = self.step(&mut connection, step, instance);
            self.account(step, started, result);
        }
    }

    fn retry_open(&self) -> Option<Connection> {
        for _ in 0..50 {
            match self.open() {
                Ok(connection) => return Some(connection),
                Err(error) if self.is_busy(&error) => fiber::suspend(Pause::Sleep(100)),
                Err(error) => {
                    self.complain(format!("cannot open the database: {error}"));
                    return None;
                }
            }
        }
        self.complain("cannot open the database: busy fifty times".into());
        None
    }

    fn is_busy(&self, error: &rusqlite::Error) -> bool {
        // A schema change by another connection while a statement is prepared counts as contention too.
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::SchemaChanged) => true,
            Some(ErrorCode::FileLockingProtocolFailed) => self.stopped_company,
            _ => false,
        }
    }

    fn complain(&self, text: String) {
        self.process.machine().context().event("app", Mark::Violation, text.clone());
        self.ledger().complaints.push(text);
    }

    fn kind(&self, instance: u64) -> Step {
        let total: u64 = self.plan.weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut at = self.choices().below("app.step", instance, total.max(1));
        for (step, weight) in KINDS.into_iter().zip(self.plan.weights) {
            if at < u64::from(weight) {
                return step;
            }
            at -= u64::from(weight);
        }
        Step::Insert
    }

    fn account(&self, step: Step, started: u64, result: rusqlite::Result<bool>) {
        let took = self.now() - started;
        let mut ledger = self.ledger();
        if step != Step::LongRead {
            ledger.slowest_millis = ledger.slowest_millis.max(took);
        }
        match result {
            Ok(committed) => ledger.commits += u64::from(committed),
            Err(error) if self.is_busy(&error) => ledger.busy += 1,
            Err(error) => {
                drop(ledger);
                self.complain(format!("{step:?}: {error}"));
                return;
            }
        }
        drop(ledger);
        if let Some(head) = self.history.head() {
            let text = format!("{step:?} done, state {head}");
            self.process.machine().context().event("app", Mark::Commit, text);
        }
    }

    /// Returns whether something was committed.
    fn step(&self, db: &mut Connection, step: Step, instance: u64) -> rusqlite::Result<bool> {
        match step {
            Step::Insert => self.rows(db, instance, 1 + self.choices().below("app.rows", instance, 3)),
            Step::Bulk => self.rows(db, instance, 20 + self.choices().below("app.rows", instance, 60)),
            Step::Update => {
                let body = self.body(instance, 0);
                let sum = checksum(&body);
                let pick = self.choices().below("app.pick", instance, 1000) as i64;
                let changed = db.execute(
                    "UPDATE t SET v = ?, sum = ? WHERE id IN (SELECT id FROM t ORDER BY abs(id * 7919 - ?) % 1009 LIMIT 3)",
                    (&body, sum, pick),
                )?;
                Ok(changed > 0)
            }
            Step::Delete => {
                let pick = self.choices().below("app.pick", instance, 10) as i64;
                Ok(db.execute("DELETE FROM t WHERE id % 10 = ?", [pick])? > 0)
            }
            Step::Savepoint => {
                let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
                self.insert(&tx, instance, 0..1)?;
                tx.execute_batch("SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; RELEASE s;")?;
                let kept = tx.last_insert_rowid();
                self.insert(&tx, instance, 1..10)?;
                tx.execute("DELETE FROM t WHERE id > ?", [kept])?;
                tx.commit()?;
                Ok(true)
            }
            Step::Rollback => {
                let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
                tx.execute_batch("PRAGMA cache_size=10;")?;
                self.insert(&tx, instance, 0..30)?;
                tx.rollback()?;
                db.execute_batch("PRAGMA cache_size=-2000;")?;
                Ok(false)
            }
            Step::Schema => {
                let name = self.choices().below("app.table", instance, 3);
                let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
                tx.execute_batch(&format!(
                    "CREATE TABLE IF NOT EXISTS x{name}(a, b); INSERT INTO x{name} VALUES(1, hex(randomblob(40)));
                     DROP TABLE IF EXISTS x{};",
                    (name + 1) % 3
                ))?;
                tx.commit()?;
                Ok(true)
            }
            Step::Vacuum => {
                let regrow = self.choices().below("app.regrow", instance, 2) == 1;
                if regrow {
                    db.execute("DELETE FROM t WHERE id % 2 = 1", [])?;
                }
                if self.plan.auto_vacuum {
                    db.execute_batch("PRAGMA incremental_vacuum")?;
                } else if !self.is_large() {
                    db.execute_batch("VACUUM")?;
                }
                if regrow {
                    self.come_and_go(db, instance)?;
                }
                Ok(true)
            }
            Step::Checkpoint => {
                let modes = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"];
                let mode = modes[self.choices().below("app.checkpoint", instance, 4) as usize];
                db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(false))
            }
            Step::LongRead => {
                let tx = db.transaction()?;
                let before: i64 = tx.query_row("SELECT total(sum) FROM t", [], |row| {
                    row.get::<_, f64>(0).map(|s| s as i64)
                })?;
                fiber::suspend(Pause::Sleep(self.choices().below("app.read.millis", instance, 5_000)));
                let after: i64 = tx.query_row("SELECT total(sum) FROM t", [], |row| {
                    row.get::<_, f64>(0).map(|s| s as i64)
                })?;
                if before != after {
                    self.complain("a read transaction saw two different states".into());
                }
                Ok(false)
            }
            Step::Verify => self.verify(db).map(|()| false),
            Step::Reopen => Ok(false),
        }
    }

    /// Whether a `VACUUM` would write so much that a run of many of them does not fit in memory.
    fn is_large(&self) -> bool {
        let head = self.history.head().map(|head| self.history.state(head));
        head.is_some_and(|head| u64::from(head.pages) * u64::from(head.page_size) > 16 << 20)
    }

    /// Rows that come and go in one transaction: the file may be longer afterwards, by pages that are free again and
    /// so were never logged. Where it had been longer before, their old content shows again.
    fn come_and_go(&self, db: &mut Connection, instance: u64) -> rusqlite::Result<()> {
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.insert(&tx, instance, 100..101)?;
        let kept = tx.last_insert_rowid();
        self.insert(&tx, instance, 101..120)?;
        tx.execute("DELETE FROM t WHERE id > ?", [kept])?;
        tx.commit()
    }

    fn rows(&self, db: &mut Connection, instance: u64, rows: u64) -> rusqlite::Result<bool> {
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.insert(&tx, instance, 0..rows)?;
        tx.commit()?;
        Ok(true)
    }

    fn body(&self, instance: u64, part: u64) -> Vec<u8> {
        let key = mix(instance) ^ part;
        let mut body =
            vec![0; 1 + self.choices().below("app.bytes", key, u64::from(self.plan.value_bytes)) as usize];
        self.choices().stream("app.body", key).fill(&mut body);
        body
    }

    fn insert(&self, db: &Connection, instance: u64, parts: Range<u64>) -> rusqlite::Result<()> {
        let k = (instance % 1000) as i64;
        let mut statement = db.prepare("INSERT INTO t(k, sum, v) VALUES (?, ?, ?)")?;
        for part in parts {
            let body = self.body(instance, part);
            statement.execute((k, checksum(&body), &body))?;
        }
        Ok(())
    }

    /// Every row carries the checksum of its value.
    pub fn verify(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut statement = db.prepare("SELECT id, sum, v FROM t")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let body: Vec<u8> = row.get(2)?;
            if row.get::<_, i64>(1)? != checksum(&body) {
                self.complain(format!("row {} does not hold what was written", row.get::<_, i64>(0)?));
            }
        }
        Ok(())
    }
}

fn checksum(body: &[u8]) -> i64 {
    (crate::history::hash_bytes(body) >> 20) as i64
}
