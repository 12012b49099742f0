//! Restoring a large database from one replica, which both read, without and with what each checks by default; the CPU
//! time is that of the whole process.

use std::time::Instant;

use super::Scale;
use crate::Result;
use crate::contender::Contender;
use crate::figures::Figures;
use crate::measure::ended_children_cpu_time;
use crate::stage::{PATIENCE, Place, Stage, check_restored, fill};

pub fn play(contender: &Contender, place: Place, scale: Scale) -> Result<Figures> {
    let stage = Stage::new(place)?;
    let db = stage.open()?;
    fill(&db, scale.rows * 4, 1000)?;
    // Litestream takes nine times as long for this copy; either's replica is the same to a reader.
    let writer =
        Contender { name: "ours", binary: contender.writer.clone(), writer: contender.writer.clone() };
    let process = stage.replicate(&writer)?;
    stage.wait_for_state(&db)?;
    process.terminate(PATIENCE)?;
    let mut figures = Figures::default();
    for (name, arguments) in [("", &["-integrity-check", "none"][..]), (" by default", &[])] {
        let output = stage.folder().join(format!("restored{name}.db"));
        let before = ended_children_cpu_time()?;
        let began = Instant::now();
        let mut process = contender.restore(stage.folder(), &stage.site, arguments, &output)?;
        let status = process.wait(PATIENCE)?;
        let wall = began.elapsed();
        if !status.success() {
            return Err(format!("{} restore failed: {}", contender.name, process.output()).into());
        }
        let cpu = ended_children_cpu_time()? - before;
        check_restored(&output, &db)?;
        figures.set(format!("wall{name} s"), wall.as_secs_f64());
        figures.set(format!("cpu{name} s"), cpu.as_secs_f64());
    }
    Ok(figures)
}
