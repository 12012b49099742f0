//! Power losses in the middle of real SQLite work, without the replicator: is the disk's crash model right?
//!
//! SQLite's manual says what must come out. `synchronous=FULL` loses no acknowledged commit; `NORMAL` may lose some
//! but never corrupts; `OFF`, or a disk whose fsync lies, corrupts. A model that cannot tell these four apart would
//! prove nothing about the product.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use replicator::host::Disk as _;
use rusqlite::{Connection, OpenFlags};

use crate::choices::mix;
use crate::clock::{Timeline, WallClock};
use crate::context::{Context, exclusive};
use crate::disk::{Call, Effect, Fault, Hardware, Machine, Pace, Persistence, Process, ProcessDisk};
use crate::fiber::Fiber;
use crate::history::{History, StateId};
use crate::vfs::Vfs;

/// How the application and the disk treat durability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `PRAGMA synchronous=FULL`.
    Full,
    /// `PRAGMA synchronous=NORMAL`.
    Normal,
    /// `PRAGMA synchronous=OFF`.
    Off,
    /// `FULL` on a disk that reports every fsync as done and does none.
    LyingDisk,
}

/// What power losses did, over many of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Power losses.
    pub crashes: u64,
    /// Recovered, with every acknowledged commit.
    pub intact: u64,
    /// Recovered to an older committed state: an acknowledged commit is gone.
    pub lost: u64,
    /// SQLite could not open it, found it corrupt, or rows of different moments are mixed.
    pub corrupt: u64,
    /// Fingerprint of everything that happened.
    pub digest: u64,
}

const DATABASE: &str = "/data/app.db";

struct World {
    context: Context,
    machine: Arc<Machine>,
    history: Arc<History>,
    durability: Durability,
    clock: Arc<WallClock>,
}

/// Runs `seed`: one database, `crashes` power losses one after the other.
#[must_use]
pub fn run(seed: u64, durability: Durability, crashes: u64) -> Tally {
    let _turn = exclusive();
    let world = World::new(seed, durability);
    world.create_database();
    let mut tally = Tally::default();
    for round in 0..crashes {
        let acknowledged = world.work_until_killed(round);
        world.machine.power_loss();
        tally.crashes += 1;
        match world.recover(acknowledged) {
            Verdict::Intact => tally.intact += 1,
            Verdict::Lost => tally.lost += 1,
            Verdict::Corrupt => {
                tally.corrupt += 1;
                break;
            }
        }
    }
    tally.digest = mix(world.context.log.digest() ^ world.context.choices.digest());
    // Abandoned fibers keep the machine alive; its content need not stay.
    world.machine.scrap();
    tally
}

enum Verdict {
    Intact,
    Lost,
    Corrupt,
}

impl World {
    fn new(seed: u64, durability: Durability) -> Self {
        let context = Context::new(seed, Timeline::manual());
        let choose = |name, n| context.choices.below(name, 0, n);
        let hardware = Hardware {
            sector: [512, 4096][choose("hardware.sector", 2) as usize],
            powersafe_overwrite: choose("hardware.exposed", 4) == 0,
            persistence: [Persistence::Posix, Persistence::Posix, Persistence::Ordered, Persistence::Prefix]
                [choose("hardware.persistence", 4) as usize],
        };
        let machine = Machine::new(&context, 7, hardware);
        let history = History::watch(&machine, Path::new(DATABASE));
        let clock = WallClock::new(context.timeline.clone());
        Self { context, machine, history, durability, clock }
    }

    /// SQLite makes the names of new journals durable, but not that of a new database: an application that wants
    /// it must sync the directory itself, as here.
    fn create_database(&self) {
        let process = Process::start(&self.machine, "setup", self.clock.clone());
        let disk = ProcessDisk(process.clone());
        disk.create_dir_all(Path::new("/data"), 0o755).expect("an empty disk has room");
        disk.sync_dir(Path::new("/")).expect("no faults yet");
        let vfs = Vfs::register(&process);
        let page_size = [512, 1024, 4096][self.context.choices.below("page_size", 0, 3) as usize];
        let connection = open(&vfs, self.durability).expect("a new database opens");
        connection
            .execute_batch(&format!(
                "PRAGMA page_size={page_size}; PRAGMA journal_mode=WAL;
                 CREATE TABLE t(txn INTEGER, part INTEGER, parts INTEGER, body BLOB);
                 CREATE INDEX i ON t(txn);"
            ))
            .expect("no faults yet");
        connection.close().expect("nothing is pending");
        disk.sync_dir(Path::new("/data")).expect("no faults yet");
        let file = disk.open(Path::new(DATABASE), replicator::host::OpenMode::ReadWrite).expect("it exists");
        file.sync().expect("no faults yet");
        drop(file);
        process.kill();
        if self.durability == Durability::LyingDisk {
            self.machine.inject(Fault {
                role: None,
                path_contains: String::new(),
                call: Call::Sync,
                effect: Effect::Lie,
                skip: 0,
                times: u32::MAX,
            });
        }
    }

    /// Two writers on one connection each, paused at random inside their calls, until the power goes. Returns the
    /// last state that was acknowledged.
    fn work_until_killed(&self, round: u64) -> Option<StateId> {
        let process = Process::start(&self.machine, "app", self.clock.clone());
        process.set_pace(Pace { yields_per_mille: 300, sleeps_per_mille: 0, max_sleep_millis: 0 });
        let vfs = Rc::new(Vfs::register(&process));
        let acknowledged = Rc::new(std::cell::Cell::new(self.history.head()));
        let mut fibers: Vec<Fiber> = (0..2)
            .map(|writer| {
                let (vfs, history) = (Rc::clone(&vfs), Arc::clone(&self.history));
                let (durability, acknowledged) = (self.durability, Rc::clone(&acknowledged));
                let choices = self.context.choices.clone();
                Fiber::new(move || {
                    let Ok(mut connection) = open(&vfs, durability) else { return };
                    for n in 0..200 {
                        let instance = mix(round << 20 | writer << 16 | n);
                        if transaction(&mut connection, &choices, instance).is_ok() {
                            acknowledged.set(history.head());
                        }
                    }
                })
            })
            .collect();
        process.kill_after(20 + self.context.choices.below("crash.at", round, 600));
        while process.is_alive() && !fibers.is_empty() {
            let turn = self.context.choices.next_below("turn", round, fibers.len() as u64) as usize;
            if fibers[turn].resume().is_none() {
                fibers.remove(turn);
            }
        }
        process.kill();
        acknowledged.get()
    }

    fn recover(&self, acknowledged: Option<StateId>) -> Verdict {
        let resumed = self.history.resume(&self.machine);
        let process = Process::start(&self.machine, "check", self.clock.clone());
        let vfs = Vfs::register(&process);
        let checked = open(&vfs, Durability::Normal).and_then(|connection| check(&connection));
        process.kill();
        match (checked, resumed) {
            (Ok(true), Some(resumed)) => {
                let kept = acknowledged.is_none_or(|state| self.history.is_ancestor(state, resumed));
                if kept { Verdict::Intact } else { Verdict::Lost }
            }
            _ => Verdict::Corrupt,
        }
    }
}

fn open(vfs: &Vfs, durability: Durability) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(DATABASE, flags, vfs.name().as_str())?;
    let synchronous = match durability {
        Durability::Full | Durability::LyingDisk => "FULL",
        Durability::Normal => "NORMAL",
        Durability::Off => "OFF",
    };
    connection.execute_batch(&format!(
        "PRAGMA busy_timeout=1000; PRAGMA synchronous={synchronous}; PRAGMA wal_autocheckpoint=20;"
    ))?;
    Ok(connection)
}

fn transaction(
    connection: &mut Connection,
    choices: &crate::choices::Choices,
    instance: u64,
) -> rusqlite::Result<()> {
    if choices.below("app.checkpoint", instance, 10) == 9 {
        let mode = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"]
            [choices.below("app.checkpoint.mode", instance, 4) as usize];
        // Busy is a normal outcome.
        return connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
    }
    let parts = 1 + choices.below("app.parts", instance, 4);
    let mut body = vec![0; 1 + choices.below("app.bytes", instance, 1500) as usize];
    choices.stream("app.body", instance).fill(&mut body);
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let next: i64 = transaction.query_row("SELECT coalesce(max(txn), 0) + 1 FROM t", [], |row| row.get(0))?;
    for part in 0..parts as i64 {
        transaction.execute("INSERT INTO t VALUES (?, ?, ?, ?)", (next, part, parts as i64, &body))?;
    }
    if choices.below("app.rollback", instance, 10) == 9 {
        return transaction.rollback();
    }
    transaction.commit()
}

/// Whether the database is sound and holds whole transactions 1..=n.
fn check(connection: &Connection) -> rusqlite::Result<bool> {
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    let (whole, highest): (i64, i64) = connection.query_row(
        "SELECT count(*), coalesce(max(txn), 0) FROM
           (SELECT txn FROM t GROUP BY txn HAVING count(*) = max(parts) AND count(DISTINCT part) = max(parts))",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let newest: i64 = connection.query_row("SELECT coalesce(max(txn), 0) FROM t", [], |row| row.get(0))?;
    Ok(verdict == "ok" && whole == highest && highest == newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(durability: Durability, seeds: u64) -> Tally {
        let mut total = Tally::default();
        for seed in 0..seeds {
            let one = run(seed, durability, 3);
            total.crashes += one.crashes;
            total.intact += one.intact;
            total.lost += one.lost;
            total.corrupt += one.corrupt;
        }
        total
    }

    /// <https://sqlite.org/pragma.html#pragma_synchronous>: "FULL ... ensure that an operating system crash or power
    /// failure will not corrupt the database" and, in WAL mode, each commit is durable.
    #[test]
    fn full_loses_no_acknowledged_commit() {
        let tally = many(Durability::Full, 100);
        assert_eq!((tally.intact, tally.crashes), (300, 300), "{tally:?}");
    }

    /// "WAL mode is always consistent with synchronous=NORMAL, but WAL mode does lose durability."
    #[test]
    fn normal_loses_commits_and_never_corrupts() {
        let tally = many(Durability::Normal, 100);
        assert_eq!(tally.corrupt, 0, "{tally:?}");
        assert!(tally.lost > 30, "{tally:?}");
    }

    /// "With synchronous OFF ... the database might become corrupted."
    #[test]
    fn off_and_a_lying_disk_are_caught_as_corrupt() {
        for durability in [Durability::Off, Durability::LyingDisk] {
            let tally = many(durability, 60);
            assert!(tally.corrupt > 10, "{durability:?} {tally:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        for seed in 0..20 {
            assert_eq!(run(seed, Durability::Normal, 2), run(seed, Durability::Normal, 2), "seed {seed}");
        }
    }
}
