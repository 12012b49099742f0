//! The workloads: each plays once with one contender and returns its figures.

mod first_copy;
mod idle;
mod restore;
mod writes;

use crate::Result;
use crate::contender::Contender;
use crate::figures::Figures;
use crate::stage::Place;

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Rows, about one page each, in the largest databases.
    pub rows: u64,
    /// Seconds of steady load or idling.
    pub seconds: u64,
    /// Idle databases.
    pub databases: usize,
}

impl Scale {
    /// The sizes the targets are about: 100 MB, 400 MB, 500 databases.
    pub const FULL: Self = Self { rows: 25_000, seconds: 30, databases: 500 };
    /// A tenth or so: shows that everything works.
    pub const QUICK: Self = Self { rows: 2_500, seconds: 5, databases: 50 };
}

/// A workload.
pub struct Workload {
    /// Name in reports and for `--only`.
    pub name: &'static str,
    /// Plays it.
    pub play: fn(&Contender, Place, Scale) -> Result<Figures>,
}

/// All of them.
pub const ALL: [Workload; 6] = [
    Workload { name: "bulk", play: writes::bulk },
    Workload { name: "updates", play: writes::updates },
    Workload { name: "after-idle", play: writes::after_idle },
    Workload { name: "first-copy", play: first_copy::play },
    Workload { name: "restore", play: restore::play },
    Workload { name: "idle", play: idle::play },
];
