//! What must hold, one file per promise. Each is a pure function of the evidence, and each has a test that shows it
//! object.

mod alone;
mod budget;
mod catches_up;
mod damage;
mod durable;
mod honest;
mod hygiene;
mod idle;
mod leftovers;
mod maintained;
mod point_in_time;
mod survives;
mod unharmed;
mod valid;

use crate::evidence::{Evidence, Violation};

pub use catches_up::{CATCH_UP_MILLIS, STOP_MILLIS};
pub use idle::QUIET_MILLIS;

/// One promise, checked.
pub type Check = fn(&Evidence) -> Vec<Violation>;

/// Every oracle, by the name that reports and exit codes use.
pub const ALL: [(&str, Check); 14] = [
    (valid::NAME, valid::check),
    (durable::NAME, durable::check),
    (point_in_time::NAME, point_in_time::check),
    (unharmed::NAME, unharmed::check),
    (catches_up::NAME, catches_up::check),
    (honest::NAME, honest::check),
    (idle::NAME, idle::check),
    (damage::NAME, damage::check),
    (leftovers::NAME, leftovers::check),
    (hygiene::NAME, hygiene::check),
    (maintained::NAME, maintained::check),
    (budget::NAME, budget::check),
    (survives::NAME, survives::check),
    (alone::NAME, alone::check),
];

/// Asks every oracle.
#[must_use]
pub fn judge(evidence: &Evidence) -> Vec<Violation> {
    ALL.iter().flat_map(|(_, check)| check(evidence)).collect()
}

/// A small, sound world that tests spoil on purpose.
#[cfg(test)]
pub(crate) mod fixture {
    use std::path::Path;
    use std::sync::Arc;

    use rusqlite::{Connection, OpenFlags};

    use crate::app::{DATABASE, Ledger};
    use crate::clock::{EPOCH_MILLIS, Timeline, WallClock};
    use crate::context::{Context, exclusive};
    use crate::disk::{Hardware, Machine, Process, ProcessDisk};
    use crate::evidence::{Asked, AtRest, Evidence, RestoreRun};
    use crate::history::History;
    use crate::plan::Plan;
    use crate::store::Stored;
    use crate::vfs::Vfs;
    use replicator::host::{Disk as _, UnixMillis};

    /// Simulated millisecond of the last commit.
    pub const NEWEST_AT: u64 = 2_000;

    /// Two commits, one second apart: the evidence and the image after each of them.
    fn world() -> (Evidence, Vec<Vec<u8>>) {
        let _turn = exclusive();
        let context = Context::new(1, Timeline::manual());
        let machine = Machine::new(&context, 1, Hardware::default());
        let history = History::watch(&machine, Path::new(DATABASE));
        let process = Process::start(&machine, "app", WallClock::new(context.timeline.clone()));
        ProcessDisk(Arc::clone(&process)).create_dir_all(Path::new("/data"), 0o755).expect("empty disk");
        let vfs = Vfs::register(&process);
        let mut images = Vec::new();
        for sql in ["PRAGMA journal_mode=WAL; CREATE TABLE t(a);", "INSERT INTO t VALUES (randomblob(9000));"]
        {
            context.timeline.advance(1_000);
            let flags = OpenFlags::default();
            let db =
                Connection::open_with_flags_and_vfs(DATABASE, flags, vfs.name().as_str()).expect("opens");
            db.execute_batch(sql).expect("no faults");
            db.close().expect("nothing pending");
            images.push(machine.peek(Path::new(DATABASE)).expect("it exists"));
        }
        let evidence = Evidence {
            plan: Plan::draw(1),
            history,
            claims: Vec::new(),
            restores: Vec::new(),
            damaged: Vec::new(),
            caught_up_after: Some(10),
            caught_up_again: Some(10),
            stopped: Some((Ok(()), 10)),
            ledger: Ledger::default(),
            integrity: Ok("ok".into()),
            app_stopped: true,
            touched: Vec::new(),
            lost_locks: Vec::new(),
            crash_images: Vec::new(),
            others: Vec::new(),
            wrote: false,
            at_rest: AtRest { at_millis: 1_000_000, ..AtRest::default() },
            settings: Plan::draw(1).replicator,
            requests: std::collections::BTreeMap::new(),
            restores_made: 0,
            panics: Vec::new(),
            together: Vec::new(),
        };
        (evidence, images)
    }

    /// Sound evidence, and the newest image.
    pub fn evidence() -> (Evidence, Vec<u8>) {
        let (evidence, mut images) = world();
        (evidence, images.pop().expect("two images"))
    }

    /// The image before the newest.
    pub fn first_image() -> Vec<u8> {
        world().1.swap_remove(0)
    }

    /// Small objects, written when time began, by level and transactions.
    pub fn objects(names: &[(u8, u64, u64)]) -> Vec<Stored> {
        let key = |&(level, min, max): &(u8, u64, u64)| format!("{level:04x}/{min:016x}-{max:016x}.ltx");
        let modified = UnixMillis(EPOCH_MILLIS);
        names.iter().map(|name| Stored { key: key(name), size: 9, modified, misread: false }).collect()
    }

    /// A restore that gave `bytes`.
    pub fn restored(asked: Asked, bytes: Vec<u8>) -> RestoreRun {
        RestoreRun {
            started_millis: 3_000,
            ended_millis: 3_100,
            asked,
            exposed: false,
            claimed: Vec::new(),
            heads: (Some(2), Some(2)),
            outcome: Ok((crate::history::FileImage::of(&bytes), Some(replicator::ltx::Txid(1)))),
            beside: Vec::new(),
        }
    }
}
