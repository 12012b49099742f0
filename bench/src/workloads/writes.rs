//! Write load: bulk inserts, small transactions at a steady rate, single commits after idling.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Scale;
use crate::Result;
use crate::contender::Contender;
use crate::content::Noise;
use crate::figures::Figures;
use crate::lag;
use crate::stage::{Place, Stage, fill, update};

/// Long enough for both to be idle again: Litestream looks once a second.
const IDLE: Duration = Duration::from_millis(2500);

/// Between two looks for new objects, where lags are a few milliseconds.
const CLOSE_LOOK: Duration = Duration::from_millis(1);

/// Between two looks under load: seldom enough not to disturb it.
const LOOSE_LOOK: Duration = Duration::from_millis(10);

/// As many rows as fast as SQLite takes them, 200 to a transaction.
pub fn bulk(contender: &Contender, place: Place, scale: Scale) -> Result<Figures> {
    let stage = Stage::new(place)?;
    let db = stage.open()?;
    fill(&db, 10, 10)?;
    let process = stage.replicate(contender)?;
    stage.wait_for_state(&db)?;
    let meter = stage.meter(&process)?;
    fill(&db, scale.rows, 200)?;
    stage.wait_for_state(&db)?;
    let figures = stage.since(&meter, &process)?;
    stage.check_replica(&db)?;
    Ok(figures)
}

/// Fifty transactions a second, each changing twenty scattered rows, about twenty pages.
pub fn updates(contender: &Contender, place: Place, scale: Scale) -> Result<Figures> {
    let stage = Stage::new(place)?;
    let db = stage.open()?;
    let rows = scale.rows / 2;
    fill(&db, rows, 1000)?;
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    let process = stage.replicate(contender)?;
    stage.wait_for_state(&db)?;
    let mut noise = Noise::new(11);
    let arrivals = stage.arrivals(LOOSE_LOOK)?;
    let meter = stage.meter(&process)?;
    let began = Instant::now();
    let mut commits = Vec::new();
    for tick in 0..scale.seconds * 50 {
        update(&db, &mut noise, rows, 20, tick + 1)?;
        commits.push(Instant::now());
        let next = began + Duration::from_millis(20 * (tick + 1).min(u64::MAX / 20));
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    stage.wait_for_state(&db)?;
    let mut figures = stage.since(&meter, &process)?;
    figures.set_lags(&mut lag::of_commits(&*stage.site.store, &arrivals.seen(), &commits)?);
    stage.check_replica(&db)?;
    Ok(figures)
}

/// One commit at a time, with a pause: how long until an object holds it.
pub fn after_idle(contender: &Contender, place: Place, scale: Scale) -> Result<Figures> {
    let stage = Stage::new(place)?;
    let db = stage.open()?;
    fill(&db, 100, 100)?;
    let process = stage.replicate(contender)?;
    stage.wait_for_state(&db)?;
    let arrivals = stage.arrivals(CLOSE_LOOK)?;
    let mut noise = Noise::new(13);
    let mut lags = Vec::new();
    for number in 1..=scale.seconds {
        std::thread::sleep(IDLE);
        let before = arrivals.seen();
        update(&db, &mut noise, 100, 1, number)?;
        let committed = Instant::now();
        let arrived = conformance::process::wait_for("object", Duration::from_secs(10), || {
            let new: BTreeMap<_, _> =
                arrivals.seen().into_iter().filter(|(key, _)| !before.contains_key(key)).collect();
            new.into_values().min()
        })?;
        lags.push(arrived.saturating_duration_since(committed).as_secs_f64() * 1000.0);
    }
    drop(arrivals);
    if !process_is_alive(process.id()) {
        return Err(format!("{} has ended", contender.name).into());
    }
    let mut figures = Figures::default();
    figures.set_lags(&mut lags);
    Ok(figures)
}

fn process_is_alive(pid: u32) -> bool {
    crate::measure::cpu_time(pid).is_ok()
}
