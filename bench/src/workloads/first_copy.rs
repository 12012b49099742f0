//! The first copy of a database that lies in its WAL.

use crate::Result;
use crate::contender::Contender;
use crate::figures::Figures;
use crate::stage::{Place, Stage, fill};

use super::Scale;

pub fn play(contender: &Contender, place: Place, scale: Scale) -> Result<Figures> {
    let stage = Stage::new(place)?;
    let db = stage.open()?;
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    fill(&db, scale.rows, 1000)?;
    let process = stage.replicate(contender)?;
    let meter = stage.meter_from_start();
    stage.wait_for_state(&db)?;
    let figures = stage.since(&meter, &process)?;
    stage.check_replica(&db)?;
    Ok(figures)
}
