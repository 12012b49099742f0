//! The verdict on a replica, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::Replica;

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a look; everything can be restored.
    Suspicious,
    /// Something that was stored cannot be restored, or would be restored wrongly.
    Broken,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// The object.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
}

impl Problem {
    pub(super) fn broken(key: &str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Broken, key: key.to_owned(), what: what.into() }
    }

    pub(super) fn suspicious(key: &str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Suspicious, key: key.to_owned(), what: what.into() }
    }
}

/// What a level holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LevelReport {
    /// Level.
    pub level: u8,
    /// Readable objects.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Lowest transaction id, 16 hexadecimal digits.
    pub min_txid: String,
    /// Highest transaction id.
    pub max_txid: String,
}

/// A state that can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestorePoint {
    /// Transaction id, 16 hexadecimal digits.
    pub txid: String,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Database size in pages.
    pub pages: u32,
}

/// A snapshot of Litestream 0.3 and what follows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LegacyReport {
    /// Generation.
    pub generation: String,
    /// Index of the snapshot, 8 hexadecimal digits.
    pub snapshot: String,
    /// Size in bytes of the database it leads to; absent if it leads to none.
    pub bytes: Option<u64>,
}

/// The verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Where the replica is.
    pub location: String,
    /// Something can be restored, and nothing is broken.
    pub whole: bool,
    /// Levels that hold anything.
    pub levels: Vec<LevelReport>,
    /// What can be restored, oldest first.
    pub restorable: Vec<RestorePoint>,
    /// Backups of Litestream 0.3.
    pub legacy: Vec<LegacyReport>,
    /// What was found, worst first.
    pub problems: Vec<Problem>,
}

pub(super) fn build(replica: &Replica<'_>) -> Report {
    let mut levels: BTreeMap<u8, LevelReport> = BTreeMap::new();
    for entry in &replica.entries {
        let (min, max) =
            (format!("{:016x}", entry.header.min_txid), format!("{:016x}", entry.header.max_txid));
        let level = levels.entry(entry.level).or_insert_with(|| LevelReport {
            level: entry.level,
            files: 0,
            bytes: 0,
            min_txid: min.clone(),
            max_txid: max.clone(),
        });
        level.files += 1;
        level.bytes += entry.object.size;
        level.min_txid = level.min_txid.clone().min(min);
        level.max_txid = level.max_txid.clone().max(max);
    }
    let mut problems = replica.problems.clone();
    let legacy = replica.generations.reports.clone();
    problems.extend(replica.generations.problems.iter().cloned());
    problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    let restorable: Vec<_> = replica
        .states
        .chain()
        .map(|index| &replica.entries[index].header)
        .map(|header| RestorePoint {
            txid: format!("{:016x}", header.max_txid),
            timestamp: header.timestamp,
            pages: header.commit,
        })
        .collect();
    let something = !restorable.is_empty() || legacy.iter().any(|snapshot| snapshot.bytes.is_some());
    Report {
        location: replica.store.location(),
        whole: something && problems.iter().all(|problem| problem.severity < Severity::Broken),
        levels: levels.into_values().collect(),
        restorable,
        legacy,
        problems,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.location, if self.whole { "whole" } else { "NOT whole" })?;
        if !self.levels.is_empty() {
            writeln!(f, "level  files  bytes         min_txid          max_txid")?;
        }
        for level in &self.levels {
            let LevelReport { level, files, bytes, min_txid, max_txid } = level;
            writeln!(f, "{level:<5}  {files:<5}  {bytes:<12}  {min_txid}  {max_txid}")?;
        }
        match (self.restorable.first(), self.restorable.last()) {
            (Some(first), Some(last)) => writeln!(
                f,
                "restorable: {} states, {} to {}; the newest has {} pages",
                self.restorable.len(),
                first.txid,
                last.txid,
                last.pages
            )?,
            _ if self.legacy.is_empty() => writeln!(f, "restorable: nothing")?,
            _ => {}
        }
        for LegacyReport { generation, snapshot, bytes } in &self.legacy {
            let outcome = bytes.map_or("broken".to_owned(), |bytes| format!("{bytes} bytes restored"));
            writeln!(f, "0.3 generation {generation} snapshot {snapshot}: {outcome}")?;
        }
        for Problem { severity, key, what } in &self.problems {
            let severity = if *severity == Severity::Broken { "broken" } else { "suspicious" };
            writeln!(f, "{severity}: {key}: {what}")?;
        }
        Ok(())
    }
}
