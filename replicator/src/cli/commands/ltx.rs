//! `ltx`: the files of a replica.

use serde::Serialize;

use super::super::Outcome;
use super::super::args::Ltx;
use super::super::table::{json, row, table};
use super::{Context, warning_lines};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::time::rfc3339;
use crate::replica::{Inventory, Level, LtxName};

#[derive(Serialize)]
struct Row {
    level: u8,
    min_txid: String,
    max_txid: String,
    size: u64,
    timestamp: String,
}

pub(super) async fn run(context: &Context<'_>, args: &Ltx) -> Result<Outcome> {
    let levels = levels(&args.level)?;
    let source = context.source(&args.source, &args.config, "replicator ltx /path/to/db")?;
    let bucket = context.opener().open(&source.replica.settings).await?;
    let mut rows = Vec::new();
    for level in levels {
        let objects = bucket.list(&level.prefix(bucket.layout()), None).await?;
        let inventory = Inventory::from_objects(bucket.layout(), &objects);
        rows.extend(inventory.iter().map(|entry| {
            let LtxName { min, max, .. } = entry.name;
            Row {
                level: level.number(),
                min_txid: min.to_string(),
                max_txid: max.to_string(),
                size: entry.size,
                timestamp: entry.modified.map(rfc3339).unwrap_or_default(),
            }
        }));
    }
    let stdout = if args.json { json(&rows) } else { text(&rows) };
    Ok(Outcome { stdout, stderr: warning_lines(&source.warnings), ..Outcome::default() })
}

fn levels(text: &str) -> Result<Vec<Level>> {
    if text == "all" {
        return Ok(Level::all().collect());
    }
    let level = text.parse().ok().and_then(Level::new);
    level.map(|level| vec![level]).ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("invalid -level {text:?}: must be 0 to 9 or \"all\""))
    })
}

fn text(rows: &[Row]) -> String {
    let mut lines = vec![row(["level", "min_txid", "max_txid", "size", "created"])];
    lines.extend(rows.iter().map(|one| {
        row([
            &one.level.to_string(),
            &one.min_txid,
            &one.max_txid,
            &one.size.to_string(),
            if one.timestamp.is_empty() { "-" } else { &one.timestamp },
        ])
    }));
    table(&lines)
}
