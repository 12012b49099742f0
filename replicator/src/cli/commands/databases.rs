//! `databases`: what the configuration file lists.

use serde::Serialize;

use super::super::Outcome;
use super::super::args::Databases;
use super::super::table::{json, row, table};
use super::{Context, warning_lines};
use crate::error::Result;

#[derive(Serialize)]
struct Row {
    path: String,
    replica: &'static str,
}

pub(super) fn run(context: &Context<'_>, args: &Databases) -> Result<Outcome> {
    let config = context.config(&args.config)?;
    let rows: Vec<Row> = context
        .databases(&config)?
        .iter()
        .map(|database| Row {
            path: database.options.db.display().to_string(),
            replica: database.replica.kind(),
        })
        .collect();
    let stdout = if args.json {
        json(&rows)
    } else {
        let mut lines = vec![row(["path", "replica"])];
        lines.extend(rows.iter().map(|one| row([&one.path, one.replica])));
        table(&lines)
    };
    Ok(Outcome { stdout, stderr: warning_lines(&config.warnings), ..Outcome::default() })
}
