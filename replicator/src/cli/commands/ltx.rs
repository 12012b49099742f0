//! `ltx`: the files of a replica.

use serde::Serialize;

use super::super::Outcome;
use super::super::args::Ltx;
use super::super::table::{json, row, table};
use super::{Context, layout_warning, warning_lines};
use crate::bucket::ObjectInfo;
use crate::error::{Error, ErrorKind, Result};
use crate::ltx::MIN_FILE_LEN;
use crate::observe::time::rfc3339;
use crate::replica::{Level, LtxName, list_either_layout};

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
    let (layout, objects) = list_either_layout(&*bucket).await?;
    let named = objects.iter().filter_map(|object| Some((LtxName::parse_key(layout, &object.key)?, object)));
    let mut files: Vec<(LtxName, &ObjectInfo)> =
        named.filter(|(name, _)| levels.contains(&name.level)).collect();
    files.sort_unstable_by_key(|(name, _)| *name);

    let mut warnings = source.warnings;
    warnings.extend(layout_warning(&*bucket, layout));
    let cut = files.iter().filter(|(_, object)| object.size < MIN_FILE_LEN);
    warnings.extend(cut.map(|(_, object)| cut_warning(&object.key, object.size)));
    let rows: Vec<Row> = files.into_iter().map(listed).collect();
    let stdout = if args.json { json(&rows) } else { text(&rows) };
    Ok(Outcome { stdout, stderr: warning_lines(&warnings), ..Outcome::default() })
}

fn listed((LtxName { level, min, max }, object): (LtxName, &ObjectInfo)) -> Row {
    Row {
        level: level.number(),
        min_txid: min.to_string(),
        max_txid: max.to_string(),
        size: object.size,
        timestamp: object.modified.map(rfc3339).unwrap_or_default(),
    }
}

fn cut_warning(key: &str, size: u64) -> String {
    format!("{key} has {size} bytes, too few for an LTX file: a restore does without it, or fails")
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
