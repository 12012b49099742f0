//! `restore`: a replica → a database file.

use std::path::PathBuf;

use serde::Serialize;

use super::super::args::Restore;
use super::super::progress::Bar;
use super::super::table::{json, row, table};
use super::super::{Outcome, block_on_until_stopped, usage};
use super::{Context, Source};
use crate::config::Logging;
use crate::error::{Error, ErrorKind, Result};
use crate::host::UnixMillis;
use crate::observe::time::rfc3339;
use crate::observe::{LogLevel, log};
use crate::restore::{self, Identities, LegacyOptions, Options, Plan, Report, Restored, Target};

#[derive(Serialize)]
struct PlanJson<'a> {
    source: &'a str,
    target_path: String,
    replica: &'a str,
    min_txid: String,
    max_txid: String,
    files: Vec<FileJson>,
}

#[derive(Serialize)]
struct FileJson {
    level: Option<u8>,
    name: String,
    min_txid: String,
    max_txid: String,
    size: u64,
    timestamp: String,
}

#[derive(Serialize)]
struct ResultJson<'a> {
    db_path: String,
    replica: &'a str,
    txid: String,
    duration_ms: u128,
    integrity_check: &'a str,
}

pub(super) fn run(context: &Context<'_>, args: Restore) -> Result<Outcome> {
    let example = "replicator restore -o /path/to/db s3://bucket/prefix";
    let source = context.source(&args.source, &args.config, example)?;
    if let Some(name) = args.replica.as_ref().filter(|name| **name != source.replica.name) {
        let message = format!("the database has no replica {name:?}, only {:?}", source.replica.name);
        return Err(Error::new(ErrorKind::Usage, message));
    }
    let options = options(context, &args, &source)?;
    let Logging { level, format, stderr } = source.logging;
    let level = if args.verbose { LogLevel::Debug } else { level };
    let output: log::Output =
        if args.json || stderr { Box::new(std::io::stderr()) } else { Box::new(std::io::stdout()) };
    let _last_lines = log::install(level, format, context.host.clock.clone(), output);
    for warning in &source.warnings {
        tracing::warn!("{warning}");
    }

    let path = options.output.clone();
    let report = block_on_until_stopped(async {
        let bucket = context.opener().open(&source.replica.settings).await?;
        let bar = Bar::new();
        let report = restore::run(&context.host, bucket, options, &bar).await;
        bar.finish();
        // Litestream's sentence, which scripts wait for: only if it is the replica that lacks something.
        report.map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.context("no matching backup files available"),
            _ => error,
        })
    })?;
    let kind = source.replica.kind();
    let stdout = match report {
        Report::OutputExists => {
            tracing::info!(path = %path.display(), "database already exists, skipping");
            String::new()
        }
        Report::NoReplica => {
            tracing::info!("no matching backups found");
            String::new()
        }
        Report::Planned(plan) => {
            let plan = plan_json(&plan, &args.source[0], path, kind);
            if args.json { json(&plan) } else { plan_text(&plan) }
        }
        Report::Restored(restored) => {
            let result = result_json(&restored, path, kind);
            tracing::info!(
                path = result.db_path, txid = result.txid, bytes = restored.database_bytes,
                duration_ms = %result.duration_ms, integrity_check = result.integrity_check, "restore complete"
            );
            if args.json { json(&result) } else { String::new() }
        }
    };
    Ok(Outcome { stdout, ..Outcome::default() })
}

fn options(context: &Context<'_>, args: &Restore, source: &Source) -> Result<Options> {
    let output = match (&args.output, &source.database) {
        (Some(path), _) => context.environment.absolute(path)?,
        (None, Some(database)) => database.clone(),
        (None, None) => {
            let example = format!("replicator restore -o /path/to/db {}", args.source[0]);
            return Err(usage("-o is required when restoring from a replica URL", &example));
        }
    };
    let target = match (&args.txid, &args.timestamp) {
        (Some(txid), _) => Target::Txid(txid.parse()?),
        (None, Some(time)) => Target::Timestamp(timestamp(time)?),
        (None, None) => Target::Latest,
    };
    let identities: Vec<&str> = source.replica.age_identities.iter().map(|key| key.expose()).collect();
    Ok(Options {
        target,
        parallelism: args.parallelism,
        if_db_not_exists: args.if_db_not_exists,
        if_replica_exists: args.if_replica_exists,
        force: args.force,
        dry_run: args.dry_run,
        integrity_check: args.integrity_check.parse()?,
        legacy: LegacyOptions {
            generation: args.generation.clone(),
            index: args.index.as_deref().map(index).transpose()?,
            identities: Identities::parse(&identities)?,
        },
        ..Options::new(output)
    })
}

fn timestamp(text: &str) -> Result<UnixMillis> {
    let parsed: std::result::Result<jiff::Timestamp, _> = text.parse();
    parsed.map(|time| UnixMillis(time.as_millisecond())).map_err(|_| {
        let message = format!(
            "invalid -timestamp {text:?}, must be in ISO 8601 format with a time zone (e.g. 2000-01-01T00:00:00Z)"
        );
        Error::new(ErrorKind::Usage, message)
    })
}

/// A WAL index of Litestream 0.3.
fn index(text: &str) -> Result<u64> {
    let valid = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = if valid { u64::from_str_radix(text, 16).ok() } else { None };
    number.ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("invalid -index {text:?}, must be hexadecimal (e.g. 0000001f)"))
    })
}

fn plan_json<'a>(plan: &Plan, source: &'a str, target: PathBuf, replica: &'a str) -> PlanJson<'a> {
    let text = |txid: Option<crate::ltx::Txid>| txid.map(|txid| txid.to_string()).unwrap_or_default();
    let files: Vec<FileJson> = plan
        .files
        .iter()
        .map(|file| FileJson {
            level: file.level,
            name: file.name.clone(),
            min_txid: text(file.min_txid),
            max_txid: text(file.max_txid),
            size: file.size,
            timestamp: file.created.map(rfc3339).unwrap_or_default(),
        })
        .collect();
    PlanJson {
        source,
        target_path: target.display().to_string(),
        replica,
        min_txid: files.first().map(|file| file.min_txid.clone()).unwrap_or_default(),
        max_txid: text(plan.txid),
        files,
    }
}

fn plan_text(plan: &PlanJson<'_>) -> String {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let mut lines = vec![row(["level", "file", "min_txid", "max_txid", "size", "timestamp"])];
    lines.extend(plan.files.iter().map(|file| {
        row([
            &file.level.map_or_else(|| "-".to_owned(), |level| level.to_string()),
            &file.name,
            &or_dash(&file.min_txid),
            &or_dash(&file.max_txid),
            &file.size.to_string(),
            &or_dash(&file.timestamp),
        ])
    }));
    format!(
        "Restore plan:\n  source: {}\n  target: {}\n  replica: {}\n  txid range: {} - {}\n\nFiles to fetch:\n{}",
        plan.source,
        plan.target_path,
        plan.replica,
        or_dash(&plan.min_txid),
        or_dash(&plan.max_txid),
        table(&lines)
    )
}

fn result_json<'a>(restored: &Restored, path: PathBuf, replica: &'a str) -> ResultJson<'a> {
    ResultJson {
        db_path: path.display().to_string(),
        replica,
        txid: restored.plan.txid.map(|txid| txid.to_string()).unwrap_or_default(),
        duration_ms: restored.duration.as_millis(),
        integrity_check: restored.integrity_check.as_str(),
    }
}
