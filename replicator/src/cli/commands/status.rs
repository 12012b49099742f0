//! `status`: what the local files, and if asked the replicas, say.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::super::Outcome;
use super::super::args::Status;
use super::super::table::{json, table};
use super::{Context, layout_warning, warning_lines};
use crate::bucket::{KeyLayout, Opener};
use crate::config::Database;
use crate::config::values::format_size;
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Disk, with_suffix};
use crate::ltx::Txid;
use crate::replica::{Gap, Inventory, list_either_layout};

#[derive(Serialize)]
struct Row {
    database: String,
    status: &'static str,
    local_txid: String,
    wal_size: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_txid: Option<String>,
}

pub(super) async fn run(context: &Context<'_>, args: &Status) -> Result<Outcome> {
    let config = context.config(&args.config)?;
    let databases = match args.database.as_ref().filter(|path| !path.is_empty()) {
        None => context.databases(&config)?,
        Some(path) => {
            let path = context.environment.absolute(path)?;
            let found = config.find(&path).ok_or_else(|| {
                let message = format!("database not found in config: {}", path.display());
                Error::new(ErrorKind::Usage, message)
            })?;
            vec![found]
        }
    };
    let mut outcome = Outcome { stderr: warning_lines(&config.warnings), ..Outcome::default() };
    let opener = context.opener();
    let mut rows = Vec::new();
    for database in &databases {
        let mut row = local(&*context.host.disk, database);
        if args.remote {
            let (txid, problem) = match remote(&opener, database).await {
                Ok(remote) => {
                    outcome.stderr.push_str(&warning_lines(remote.warning.as_slice()));
                    (remote.txid.map_or_else(|| "-".to_owned(), |txid| txid.to_string()), remote.problem)
                }
                Err(error) => ("error".to_owned(), Some(error.to_string())),
            };
            row.remote_txid = Some(txid);
            if let Some(problem) = problem {
                outcome.code = 1;
                outcome.stderr.push_str(&format!("Error: {}: {problem}\n", row.database));
            }
        }
        rows.push(row);
    }
    outcome.stdout = if args.json { json(&rows) } else { text(&rows, args.remote) };
    Ok(outcome)
}

/// What a listing tells about a replica.
struct Remote {
    /// The last transaction to which the files lead without a gap.
    txid: Option<Txid>,
    /// Why a restore of the newest state fails.
    problem: Option<String>,
    warning: Option<String>,
}

async fn remote(opener: &Opener, database: &Database) -> Result<Remote> {
    let bucket = opener.open(&database.replica.settings).await?;
    let (layout, objects) = list_either_layout(&*bucket).await?;
    let inventory = Inventory::from_objects(layout, &objects);
    let txid = inventory.restorable_max();
    let problem = problem(&inventory, layout, txid).map(|what| format!("{}: {what}", bucket.location()));
    Ok(Remote { txid, problem, warning: layout_warning(&*bucket, layout) })
}

/// What keeps a restore from the newest state, although files lead to `reached`.
fn problem(inventory: &Inventory, layout: KeyLayout, reached: Option<Txid>) -> Option<String> {
    let advice = match reached {
        Some(txid) => format!("restore -txid {txid} gives the newest state before that"),
        None => "nothing can be restored".to_owned(),
    };
    if let Some(Gap { after, next }) = inventory.gap() {
        let (from, to) = (after.next(), Txid(next.0 - 1));
        return Some(format!("transactions {from} to {to} are in no LTX file, but later ones are; {advice}"));
    }
    let cut = inventory.undersized().iter().find(|name| Some(name.max) > reached)?;
    Some(format!("{} is too small for an LTX file; {advice}", cut.key(layout)))
}

fn local(disk: &dyn Disk, database: &Database) -> Row {
    let path = &database.options.db;
    let mut row = Row {
        database: path.display().to_string(),
        status: "unknown",
        local_txid: "-".to_owned(),
        wal_size: "-".to_owned(),
        remote_txid: None,
    };
    match disk.metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            row.status = "no database";
            return row;
        }
        Err(_) => {
            row.status = "error";
            return row;
        }
    }
    match disk.metadata(&with_suffix(path, "-wal")) {
        Ok(wal) => row.wal_size = format_size(wal.len),
        Err(error) if error.kind() == io::ErrorKind::NotFound => row.wal_size = format_size(0),
        Err(_) => {}
    }
    match local_txid(disk, &database.options.meta_dir) {
        Ok(Some(txid)) => {
            row.local_txid = txid.to_string();
            row.status = "ok";
        }
        Ok(None) => row.status = "not initialized",
        Err(_) => row.status = "error",
    }
    row
}

/// The newest transaction among our staged files and those that Litestream left. Both begin their names with it: ours
/// with `<txid>-`, Litestream's level 0 with `<txid>-<txid>.ltx`.
fn local_txid(disk: &dyn Disk, meta: &Path) -> io::Result<Option<Txid>> {
    let mut newest = None;
    for directory in [meta.join("replicator"), meta.join("ltx/0")] {
        match disk.read_dir(&directory) {
            Ok(entries) => {
                let txids = entries.iter().filter_map(|entry| entry.name.split('-').next()?.parse().ok());
                newest = newest.max(txids.max());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(newest)
}

fn text(rows: &[Row], remote: bool) -> String {
    let line = |cells: [&str; 4], more: Option<&str>| {
        cells.into_iter().chain(more).map(str::to_owned).collect::<Vec<_>>()
    };
    let header = ["database", "status", "local txid", "wal size"];
    let mut lines = vec![line(header, remote.then_some("remote txid"))];
    lines.extend(rows.iter().map(|row| {
        line([&row.database, row.status, &row.local_txid, &row.wal_size], row.remote_txid.as_deref())
    }));
    table(&lines)
}
