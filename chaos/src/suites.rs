//! Deterministic runs with a theme: the simulator's world, but one family of trouble, and much of it.
//!
//! The simulator draws a bit of everything; here every run of a suite is full of one thing, so that trouble of one
//! kind upon itself (a power loss while recovering from a power loss) is common instead of rare. Must not judge:
//! promises are the simulator's.

use simulator::choices::Choices;
use simulator::plan::{Happening, Plan, Timed};
use simulator::store::Weather;

/// A family of trouble.
#[derive(Debug, Clone, Copy)]
pub struct Suite {
    /// What it is called.
    pub name: &'static str,
    trouble: fn(&Draw<'_>) -> Happening,
    weather: fn(&mut Weather),
}

/// Every suite.
pub const ALL: [Suite; 5] = [
    Suite { name: "killed-again-and-again", trouble: kills, weather: |_| () },
    Suite { name: "power-fails", trouble: power, weather: |_| () },
    Suite { name: "files-move", trouble: files, weather: |_| () },
    Suite { name: "clocks-lie", trouble: clocks, weather: |_| () },
    Suite { name: "the-store-is-ill", trouble: store, weather: storm },
];

/// Random numbers of one run, apart from the simulator's own.
struct Draw<'a> {
    choices: &'a Choices,
}

impl Draw<'_> {
    fn pick<T: Copy>(&self, name: &'static str, from: &[T]) -> T {
        from[self.choices.next_below(name, 1, from.len() as u64) as usize]
    }
}

impl Suite {
    /// The plan of a seed: the simulator's, with its faults replaced by three to eight of this family.
    #[must_use]
    pub fn plan(&self, seed: u64) -> Plan {
        let mut plan = Plan::draw(seed);
        let choices = Choices::new(seed);
        let draw = Draw { choices: &choices };
        let count = 3 + choices.next_below("suite.count", 1, 6);
        plan.faults = (0..count)
            .map(|_| Timed {
                at_millis: choices.next_below("suite.at", 1, plan.run_millis),
                what: (self.trouble)(&draw),
            })
            .collect();
        plan.faults.sort_by_key(|fault| fault.at_millis);
        plan.weather = Weather::default();
        (self.weather)(&mut plan.weather);
        plan
    }
}

fn kills(draw: &Draw<'_>) -> Happening {
    let after_calls = draw.pick("suite.calls", &[1, 7, 40, 200]);
    let down_millis = draw.pick("suite.down", &[1, 100, 3_000]);
    match draw.pick("suite.kind", &[0, 1, 2]) {
        0 => Happening::KillApp { after_calls, down_millis },
        1 => Happening::StopReplicator { down_millis },
        _ => Happening::KillReplicator { after_calls, down_millis },
    }
}

fn power(draw: &Draw<'_>) -> Happening {
    Happening::PowerLoss { down_millis: draw.pick("suite.down", &[1, 50, 2_000]) }
}

fn files(draw: &Draw<'_>) -> Happening {
    let (age_millis, down_millis) = (draw.pick("suite.age", &[200, 2_000]), 100);
    match draw.pick("suite.kind", &[0, 1, 2, 3, 4, 5]) {
        0 => Happening::ReplaceDatabase,
        1 => Happening::CopyOver,
        2 => Happening::OldMachine { age_millis },
        3 => Happening::OldLocalState { age_millis, down_millis },
        4 => Happening::HalfLocalState { down_millis },
        _ => Happening::LeaveWal {
            replicator_down: true,
            page_size: draw.pick("suite.page", &[512, 4096, 8192]),
        },
    }
}

fn clocks(draw: &Draw<'_>) -> Happening {
    match draw.pick("suite.kind", &[0, 1, 2]) {
        0 => Happening::ClockJump {
            millis: draw.pick("suite.jump", &[-86_400_000, -3_000, 3_000, 86_400_000]),
        },
        1 => Happening::ClockDrift { ppm: draw.pick("suite.drift", &[-100_000, 100_000]) },
        _ => Happening::ClockFreeze { millis: draw.pick("suite.freeze", &[500, 5_000]) },
    }
}

fn store(draw: &Draw<'_>) -> Happening {
    let millis = draw.pick("suite.millis", &[500, 4_000]);
    match draw.pick("suite.kind", &[0, 1]) {
        0 => Happening::Outage { millis },
        _ => Happening::ExpiredCredentials { millis },
    }
}

/// A third of all requests goes wrong.
fn storm(weather: &mut Weather) {
    *weather =
        Weather { refused: 100, unanswered: 100, late: 60, slow: 100, cut: 100, flipped: 0, undeleted: 100 };
}
