//! Many databases that nobody writes to.

use std::path::PathBuf;
use std::time::Duration;

use conformance::process::wait_for;
use rusqlite::Connection;

use super::Scale;
use crate::Result;
use crate::contender::Contender;
use crate::figures::Figures;
use crate::stage::{PATIENCE, Place, Stage};

/// Until the first copies are over and everything has calmed down.
const SETTLE: Duration = Duration::from_secs(5);

pub fn play(contender: &Contender, place: Place, scale: Scale) -> Result<Figures> {
    let stage = Stage::new(place)?;
    let mut databases: Vec<(PathBuf, Vec<String>)> = Vec::new();
    for index in 0..scale.databases {
        let path = stage.folder().join(format!("{index}.db"));
        let db = Connection::open(&path)?;
        db.pragma_update(None, "journal_mode", "wal")?;
        db.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)")?;
        let lines = stage.site.lines.iter().map(|line| match line.strip_prefix("path: ") {
            Some(prefix) => format!("path: {prefix}/{index}"),
            None => line.clone(),
        });
        databases.push((path, lines.collect()));
    }
    let process = contender.replicate(stage.folder(), &databases, &stage.site)?;
    wait_for("first copy of every database", PATIENCE, || {
        let objects = stage.site.store.list().ok()?;
        (objects.len() >= scale.databases).then_some(())
    })?;
    std::thread::sleep(SETTLE);
    let meter = stage.meter(&process)?;
    std::thread::sleep(Duration::from_secs(scale.seconds));
    let mut figures = stage.since(&meter, &process)?;
    figures.0.remove("wall s");
    Ok(figures)
}
