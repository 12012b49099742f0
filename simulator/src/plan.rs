//! What a run will do, as plain data: the application, the replicator's settings, the faults and the operator.
//!
//! Drawn from the seed (swarm: whole kinds are off in most runs, so that the rest has room), edited by the shrinker,
//! kept in regression cases. Must not act.

mod company;
mod meddling;

use serde::{Deserialize, Serialize};

use crate::choices::Choices;
use crate::disk::{Call, Effect, Fault, Hardware, Pace, Persistence};
use crate::store::Weather;

/// Everything a run does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Seed of every choice not written down here.
    pub seed: u64,
    /// The store is an S3 server across a network, reached through the real SDK.
    #[serde(default)]
    pub full: bool,
    /// Choices whose name starts so come out as zero.
    #[serde(default)]
    pub muted: Vec<String>,
    /// How long the application works, in simulated milliseconds.
    pub run_millis: u64,
    /// The disk.
    pub hardware: Hardware,
    /// The application.
    pub app: AppPlan,
    /// The replicator.
    pub replicator: ReplicatorPlan,
    /// The store's weather until everything is healed.
    pub weather: Weather,
    /// Single events, in order of time.
    pub faults: Vec<Timed>,
    /// When somebody restores, in simulated milliseconds: the latest state, and a point in time.
    pub restores: Vec<u64>,
    /// Legal disk images of each power loss that are judged beside the one that the run goes on with.
    #[serde(default)]
    pub crash_images: u8,
}

/// What the application does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppPlan {
    /// Connections that write.
    pub writers: u8,
    /// Bytes per page.
    pub page_size: u32,
    /// `PRAGMA synchronous=FULL`, else `NORMAL`.
    pub full_sync: bool,
    /// `PRAGMA wal_autocheckpoint`.
    pub autocheckpoint: u32,
    /// `PRAGMA auto_vacuum=INCREMENTAL`, else none.
    pub auto_vacuum: bool,
    /// Longest pause between two steps of a writer, in milliseconds.
    pub think_millis: u32,
    /// Largest value stored, in bytes.
    pub value_bytes: u32,
    /// Steps each writer takes at most.
    pub steps: u32,
    /// Weight of each kind of step, as in [`crate::app::Step`].
    pub weights: [u8; STEPS],
    /// It begins with a database that ends a few pages before SQLite's lock page, at 1 GiB.
    #[serde(default)]
    pub begins_large: bool,
    /// Scheduling inside its calls.
    pub pace: Pace,
}

/// Number of kinds of application steps.
pub const STEPS: usize = 12;

/// How the replicator is set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicatorPlan {
    /// Interval between looks, in milliseconds.
    pub monitor_millis: u32,
    /// Interval between uploads, in milliseconds.
    pub sync_millis: u32,
    /// Frames before a checkpoint is tried.
    pub checkpoint_pages: u32,
    /// Milliseconds before a checkpoint is tried.
    pub checkpoint_millis: u32,
    /// Frames before writers are made to wait; 0 means never.
    pub truncate_pages: u32,
    /// Snapshot interval in milliseconds.
    pub snapshot_millis: u32,
    /// Snapshot retention in milliseconds.
    pub retention_millis: u32,
    /// Level-1 interval in milliseconds; level 2 takes five times as long.
    pub level_millis: u32,
    /// Change notification works.
    pub watch: bool,
    /// Blocking calls at a time.
    pub slots: u8,
    /// Bytes of the log that become one file at most; 0 means the product's default.
    #[serde(default)]
    pub batch_bytes: u32,
    /// Scheduling inside its calls.
    pub pace: Pace,
}

/// Something that happens once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    /// Simulated milliseconds.
    pub at_millis: u64,
    /// What.
    pub what: Happening,
}

/// Kinds of single events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happening {
    /// SIGKILL of the replicator after some more calls; it starts again later.
    KillReplicator {
        /// Calls it still makes.
        after_calls: u32,
        /// Milliseconds until it starts again.
        down_millis: u32,
    },
    /// A clean stop of the replicator with a final sync.
    StopReplicator {
        /// Milliseconds until it starts again.
        down_millis: u32,
    },
    /// SIGKILL of the application after some more calls.
    KillApp {
        /// Calls it still makes.
        after_calls: u32,
        /// Milliseconds until it starts again.
        down_millis: u32,
    },
    /// The machine loses power.
    PowerLoss {
        /// Milliseconds until it is back.
        down_millis: u32,
    },
    /// The application is stopped in order, its database moved away and a new one put in place.
    ReplaceDatabase,
    /// The application is stopped in order, and a backup of its database from some time ago put in place; the replicator's
    /// local state stays.
    OldDatabase {
        /// How old the backup is, in milliseconds.
        age_millis: u32,
    },
    /// The replicator's local state is deleted while it is down.
    WipeLocalState {
        /// Milliseconds until it starts again.
        down_millis: u32,
    },
    /// The store answers nothing.
    Outage {
        /// For so long.
        millis: u32,
    },
    /// A disk fault.
    Disk(Fault),
    /// The machine's clock is set wrong.
    ClockJump {
        /// By so many milliseconds.
        millis: i64,
    },
    /// The machine's clock runs fast, or slow.
    ClockDrift {
        /// By so many parts per million.
        ppm: i64,
    },
    /// The machine's clock stands still.
    ClockFreeze {
        /// For so long.
        millis: u32,
    },
    /// The replicator is stopped and starts again with other settings.
    Reconfigure {
        /// Milliseconds until it starts again.
        down_millis: u32,
        /// The new settings.
        settings: Box<ReplicatorPlan>,
    },
    /// SIGSTOP, and SIGCONT later.
    Pause {
        /// The application, else the replicator.
        app: bool,
        /// For so long.
        millis: u32,
    },
    /// The application leaves WAL mode, commits, gets another page size by `VACUUM`, and comes back. While the
    /// replicator is connected SQLite refuses the first step, and nothing changes.
    LeaveWal {
        /// The replicator is down meanwhile.
        replicator_down: bool,
        /// Bytes per page from then on.
        page_size: u32,
    },
    /// Both processes are down, and another database is copied over the application's: same inode, other content.
    CopyOver,
    /// The application is stopped in order, and somebody deletes its WAL-index, which only the replicator still uses.
    LoseWalIndex,
    /// The replicator's local state is replaced by a copy of itself from some time ago.
    OldLocalState {
        /// How old the copy is, in milliseconds.
        age_millis: u32,
        /// Milliseconds until it starts again.
        down_millis: u32,
    },
    /// The machine is restored from a backup of all its files.
    OldMachine {
        /// How old the backup is, in milliseconds.
        age_millis: u32,
    },
    /// Some files of the replicator's local state disappear while it is down.
    HalfLocalState {
        /// Milliseconds until it starts again.
        down_millis: u32,
    },
    /// A bit flips in a file of the replicator's local state.
    RotLocalState,
    /// The replicator's credentials are refused.
    ExpiredCredentials {
        /// For so long.
        millis: u32,
    },
    /// The replicator's listings show the store as it was some time ago.
    StaleListings {
        /// For so long.
        millis: u32,
        /// How long ago.
        lag_millis: u32,
    },
    /// A copy of the machine runs elsewhere, with an application and a replicator of its own, on the same replica.
    SecondReplicator {
        /// For so long.
        millis: u32,
    },
    /// One more replicator is started with the same database and the same local state, as by a restart that does not
    /// wait; later one of the two is killed.
    Twice {
        /// For so long.
        millis: u32,
        /// The older one is killed, else the newer.
        old_ends: bool,
    },
    /// A bit of a stored object is wrong, until somebody puts a sound copy back.
    Decay {
        /// For so long.
        millis: u32,
    },
    /// The store stops answering; some commits later the replicator is stopped by somebody who does not wait long.
    StopInOutage {
        /// How long the outage lasts before the stop, and how long the stop may take.
        patience_millis: u32,
        /// Milliseconds until it starts again.
        down_millis: u32,
    },
}

impl Happening {
    /// Whether it neither kills or holds up a replicator nor comes between it and the store.
    #[must_use]
    pub fn leaves_requests_alone(&self) -> bool {
        matches!(
            self,
            Self::StopReplicator { .. }
                | Self::KillApp { .. }
                | Self::ReplaceDatabase
                | Self::OldDatabase { .. }
                | Self::Disk(_)
                | Self::Reconfigure { .. }
                | Self::Pause { app: true, .. }
                | Self::LeaveWal { replicator_down: false, .. }
                | Self::LoseWalIndex
                | Self::RotLocalState
                | Self::Decay { .. }
        )
    }
}

impl Plan {
    /// The plan of `seed`.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let choices = Choices::new(seed);
        let draw = Draw(&choices);
        // Long runs on large databases find what needs time; short ones find the rest, many times as fast.
        let long = draw.on("run.long", 8);
        let lengths: &[u64] = if long { &[30_000, 90_000] } else { &[10_000, 3_000, 3_000, 30_000] };
        let run_millis = draw.pick("run.millis", lengths);
        let (mut faults, restores) = (draw.faults(run_millis), draw.times("restore", run_millis, 4));
        faults.extend(draw.meddling(run_millis));
        faults.extend(draw.company(run_millis));
        faults.sort_by_key(|fault| fault.at_millis);
        let mut plan = Self {
            seed,
            full: false,
            muted: Vec::new(),
            run_millis,
            hardware: draw.hardware(),
            app: draw.app(long),
            replicator: draw.replicator(),
            weather: draw.weather(),
            faults,
            restores,
            crash_images: draw.pick("power.images", &[0, 0, 2, 3]),
        };
        // Where a torn write spoils a whole sector, SQLite pads the log to sectors only with FULL. Without it a power loss can
        // take the end of a transaction with it that a checkpoint has already copied back, and the database is damaged, with
        // or without a replicator (seeds 21098515 and 31006427).
        plan.hardware.powersafe_overwrite |= !plan.app.full_sync;
        draw.rush(&mut plan);
        draw.away(&mut plan);
        draw.large(&mut plan);
        plan
    }
}

impl Plan {
    /// The plan of `seed` with a real S3 server and the real SDK.
    #[must_use]
    pub fn draw_full(seed: u64) -> Self {
        Self { full: true, ..Self::draw(seed) }
    }

    /// Whether what a machine had sent before it was put back can be stored after that: of a future that it knows nothing of,
    /// so that it looks like somebody else's.
    #[must_use]
    pub fn may_meet_a_former_life(&self) -> bool {
        let is_put_back = |fault: &Timed| matches!(fault.what, Happening::OldMachine { .. });
        self.weather.late > 0 && self.faults.iter().any(is_put_back)
    }

    /// Whether single calls of the replicator may take seconds.
    #[must_use]
    pub fn may_take_long(&self) -> bool {
        let is_slow =
            |fault: &Timed| matches!(fault.what, Happening::Disk(_) | Happening::Pause { app: false, .. });
        self.settings().any(|settings| settings.pace.sleeps_per_mille > 0) || self.faults.iter().any(is_slow)
    }

    /// Every set of settings that the replicator may run with.
    pub fn settings(&self) -> impl Iterator<Item = &ReplicatorPlan> {
        let later = self.faults.iter().filter_map(|fault| match &fault.what {
            Happening::Reconfigure { settings, .. } => Some(&**settings),
            _ => None,
        });
        std::iter::once(&self.replicator).chain(later)
    }
}

struct Draw<'a>(&'a Choices);

impl Draw<'_> {
    fn below(&self, name: &'static str, bound: u64) -> u64 {
        self.0.next_below(name, 0, bound)
    }

    fn pick<T: Copy>(&self, name: &'static str, from: &[T]) -> T {
        from[self.below(name, from.len() as u64) as usize]
    }

    /// Swarm: true in `share` of 100 runs.
    fn on(&self, name: &'static str, share: u64) -> bool {
        self.below(name, 100) >= 100 - share
    }

    fn hardware(&self) -> Hardware {
        Hardware {
            sector: self.pick("hw.sector", &[512, 4096]),
            powersafe_overwrite: !self.on("hw.exposed", 25),
            persistence: self.pick(
                "hw.persistence",
                &[Persistence::Posix, Persistence::Posix, Persistence::Ordered, Persistence::Prefix],
            ),
        }
    }

    fn pace(&self, name: &'static str) -> Pace {
        Pace {
            yields_per_mille: self.pick(name, &[0, 50, 300, 700]),
            sleeps_per_mille: self.pick(name, &[0, 0, 5, 30]),
            max_sleep_millis: self.pick(name, &[1, 5, 50, 400]),
        }
    }

    fn app(&self, long: bool) -> AppPlan {
        let page_size = self.pick("app.page", &[4096, 4096, 1024, 512, 8192]);
        let (most_steps, most_bytes) = if long { (u32::MAX, u32::MAX) } else { (60, 4 * page_size) };
        let mut weights = [0; STEPS];
        weights[0] = 20; // inserts are always on: without commits there is nothing to see
        for weight in &mut weights[1..] {
            if self.on("app.step.on", 50) {
                *weight = 1 + self.below("app.step.weight", 15) as u8;
            }
        }
        AppPlan {
            writers: 1 + self.below("app.writers", 3) as u8,
            page_size,
            full_sync: self.on("app.full", 60),
            autocheckpoint: self.pick("app.autocheckpoint", &[1000, 0, 5, 50]),
            auto_vacuum: self.on("app.auto_vacuum", 20),
            think_millis: self.pick("app.think", &[200, 20, 1000, 3000]),
            value_bytes: self.pick("app.value", &[100, 3_000, 40_000]).min(most_bytes),
            steps: self.pick("app.steps", &[30, 60, 120]).min(most_steps),
            weights,
            begins_large: false,
            pace: self.pace("app.pace"),
        }
    }

    fn replicator(&self) -> ReplicatorPlan {
        ReplicatorPlan {
            monitor_millis: self.pick("repl.monitor", &[1000, 100, 500]),
            sync_millis: self.pick("repl.sync", &[1000, 100, 200]),
            checkpoint_pages: self.pick("repl.checkpoint", &[1000, 10, 50, 200]),
            checkpoint_millis: self.pick("repl.checkpoint.millis", &[60_000, 2_000, 10_000]),
            truncate_pages: self.pick("repl.truncate", &[0, 0, 0, 300]),
            snapshot_millis: self.pick("repl.snapshot", &[86_400_000, 5_000, 20_000]),
            retention_millis: self.pick("repl.retention", &[86_400_000, 86_400_000, 10_000, 30_000]),
            level_millis: self.pick("repl.level", &[10_000, 1_000, 5_000]),
            watch: self.on("repl.watch", 70),
            slots: self.pick("repl.slots", &[4, 1, 2]),
            batch_bytes: self.pick("repl.batch", &[0, 0, 20_000, 200_000]),
            pace: self.pace("repl.pace"),
        }
    }

    fn weather(&self) -> Weather {
        let some = |name| if self.on(name, 30) { 5 + self.below(name, 150) as u16 } else { 0 };
        Weather {
            refused: some("weather.refused"),
            unanswered: some("weather.unanswered"),
            late: some("weather.late"),
            slow: some("weather.slow"),
            cut: some("weather.cut"),
            flipped: if self.on("weather.flipped", 10) { 20 } else { 0 },
            // Rare requests, so that a share of few would hit none.
            undeleted: some("weather.undeleted") * 3,
        }
    }

    fn times(&self, name: &'static str, run_millis: u64, most: u64) -> Vec<u64> {
        let mut times: Vec<u64> =
            (0..self.below(name, most + 1)).map(|_| self.below(name, run_millis)).collect();
        times.sort_unstable();
        times
    }

    fn faults(&self, run_millis: u64) -> Vec<Timed> {
        let kinds: Vec<u64> = (0..9).filter(|_| self.on("fault.kind.on", 40)).collect();
        if kinds.is_empty() {
            return Vec::new();
        }
        self.times("fault.at", run_millis, 6)
            .into_iter()
            .map(|at_millis| Timed { at_millis, what: self.happening(self.pick("fault.kind", &kinds)) })
            .collect()
    }

    fn happening(&self, kind: u64) -> Happening {
        let after_calls = 1 + self.below("fault.calls", 400) as u32;
        let down_millis = self.pick("fault.down", &[1, 100, 2_000, 8_000]);
        match kind {
            0 => Happening::KillReplicator { after_calls, down_millis },
            1 => Happening::StopReplicator { down_millis },
            2 => Happening::KillApp { after_calls, down_millis },
            3 => Happening::PowerLoss { down_millis },
            4 => Happening::WipeLocalState { down_millis },
            5 => Happening::Outage { millis: self.pick("fault.outage", &[500, 5_000, 20_000]) },
            6 => Happening::Disk(self.disk_fault()),
            7 => Happening::ClockJump {
                millis: self.pick("fault.jump", &[-3_600_000, -5_000, 5_000, 3_600_000]),
            },
            _ => Happening::ReplaceDatabase,
        }
    }

    fn disk_fault(&self) -> Fault {
        let effects = [
            (Call::Write, Effect::Eio),
            (Call::Write, Effect::NoSpace),
            (Call::Sync, Effect::Eio),
            (Call::Sync, Effect::Forget),
            (Call::SyncDir, Effect::Eio),
            (Call::Names, Effect::Eio),
            (Call::Open, Effect::Eio),
            (Call::Read, Effect::Eio),
            (Call::Read, Effect::Short),
            (Call::Sync, Effect::Slow(1500)),
            (Call::Look, Effect::Eio),
            (Call::SetLen, Effect::Eio),
            // A file system that the kernel has remounted after an error, and rights that somebody took away for a while.
            (Call::Write, Effect::ReadOnly),
            (Call::Names, Effect::ReadOnly),
            (Call::Names, Effect::Denied),
            (Call::Open, Effect::Denied),
        ];
        let (call, effect) = self.pick("fault.disk.effect", &effects);
        let path = self.pick("fault.disk.path", &["", "-litestream"]);
        // Whoever's sync of the database is forgotten by the kernel, what SQLite believes durable is not.
        let path = if effect == Effect::Forget { "-litestream" } else { path };
        Fault {
            role: Some("replicator".into()),
            path_contains: path.into(),
            call,
            effect,
            skip: self.below("fault.disk.skip", 30) as u32,
            times: self.pick("fault.disk.times", &[1, 3, 20]),
        }
    }
}
