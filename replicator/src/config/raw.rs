//! What the user typed: every key of `litestream.yml`, of both its generations, with its line.
//!
//! `None` means not given; defaults and judgement are [`super::resolve`]'s.

use std::time::Duration;

use super::node::Node;
use super::raw_replica::RawReplica;
use super::section::{At, Report, Section};

/// The whole file.
#[derive(Debug, Default)]
pub struct RawConfig {
    /// Bind address of the metrics server.
    pub addr: Option<At<String>>,
    /// Command to run as a child.
    pub exec: Option<At<String>>,
    /// `logging:`
    pub logging: RawLogging,
    /// `levels:`, each entry's interval.
    pub levels: Option<Vec<At<Duration>>>,
    /// `snapshot:`
    pub snapshot: RawSnapshot,
    /// How long level-0 files are kept after compaction.
    pub l0_retention: Option<At<Duration>>,
    /// How often that is looked at.
    pub l0_retention_check_interval: Option<At<Duration>>,
    /// `retention.enabled`
    pub retention_enabled: Option<At<bool>>,
    /// URL to call while all is well.
    pub heartbeat_url: Option<At<String>>,
    /// Time between those calls.
    pub heartbeat_interval: Option<At<Duration>>,
    /// Bound for the final sync.
    pub shutdown_sync_timeout: Option<At<Duration>>,
    /// Settings inherited by every replica.
    pub replica: RawReplica,
    /// `dbs:`
    pub databases: Vec<RawDatabase>,
}

/// `logging:`
#[derive(Debug, Default)]
pub struct RawLogging {
    /// Least severity shown.
    pub level: Option<At<String>>,
    /// Line format.
    pub kind: Option<At<String>>,
    /// Standard error instead of standard output.
    pub stderr: Option<At<bool>>,
}

/// `snapshot:`
#[derive(Debug, Default)]
pub struct RawSnapshot {
    /// Time between snapshots.
    pub interval: Option<At<Duration>>,
    /// How long they are kept.
    pub retention: Option<At<Duration>>,
}

/// One entry of `dbs:`.
#[derive(Debug, Default)]
pub struct RawDatabase {
    /// Line of the entry.
    pub line: u64,
    /// Its full key, `dbs[0]`.
    pub key: String,
    /// A database file.
    pub path: Option<At<String>>,
    /// Or a directory of them.
    pub dir: Option<At<String>>,
    /// Which file names in the directory.
    pub pattern: Option<At<String>>,
    /// Subdirectories too.
    pub recursive: Option<At<bool>>,
    /// Files that appear or vanish later too.
    pub watch: Option<At<bool>>,
    /// Place of local state.
    pub meta_path: Option<At<String>>,
    /// Place of local state of a directory's databases, without leading dots.
    pub meta_dir: Option<At<String>>,
    /// Time between looks at the database.
    pub monitor_interval: Option<At<Duration>>,
    /// Longest time to the next checkpoint.
    pub checkpoint_interval: Option<At<Duration>>,
    /// How long our connections wait for locks.
    pub busy_timeout: Option<At<Duration>>,
    /// WAL pages from which a checkpoint is tried.
    pub min_checkpoint_page_count: Option<At<u32>>,
    /// WAL pages from which writers are blocked for a checkpoint.
    pub truncate_page_n: Option<At<u32>>,
    /// Bound for WAL bytes per file.
    pub max_sync_wal_bytes: Option<At<u64>>,
    /// Restore first if the file is absent.
    pub restore_if_db_not_exists: Option<At<bool>>,
    /// `snapshot:` of this database.
    pub snapshot: RawSnapshot,
    /// `replica:`
    pub replica: Option<RawReplica>,
    /// `replicas:`, the older form.
    pub replicas: Vec<RawReplica>,
}

impl RawConfig {
    /// Reads the tree of a file. Problems go to `report`; what could be read is returned.
    #[must_use]
    pub fn read(tree: &Node, report: &Report) -> Self {
        let mut file = Section::new(tree, "", report);
        let mut config = Self {
            addr: file.text("addr"),
            exec: file.text("exec"),
            logging: read_logging(&mut file),
            levels: read_levels(&mut file, report),
            snapshot: read_snapshot(&mut file),
            l0_retention: file.duration("l0-retention"),
            l0_retention_check_interval: file.positive_duration("l0-retention-check-interval"),
            retention_enabled: read_retention(&mut file),
            heartbeat_url: file.text("heartbeat-url"),
            heartbeat_interval: file.duration("heartbeat-interval"),
            shutdown_sync_timeout: file.duration("shutdown-sync-timeout"),
            replica: RawReplica::read_settings(&mut file),
            databases: Vec::new(),
        };
        for (key, node) in file.list("dbs") {
            config.databases.push(RawDatabase::read(node, &key, report));
        }
        keys_without_effect(&mut file, report);
        file.finish();
        config
    }
}

/// Keys of Litestream that this program knows and does not need, or does not have.
fn keys_without_effect(file: &mut Section<'_>, report: &Report) {
    file.without_effect("verify-compaction", "files that do not join without a gap are never merged");
    file.without_effect(
        "shutdown-sync-interval",
        "the final sync is repeated with growing pauses until the timeout",
    );
    file.without_effect("mcp-addr", "there is no MCP server in this program");
    if let Some((_, mut validation)) = file.section("validation") {
        validation.without_effect("interval", "there is no periodic validation in this program yet");
        validation.finish();
    }
    if let Some((_, mut socket)) = file.section("socket") {
        if let Some(at) = socket.boolean("enabled").filter(|at| at.value) {
            report.warn(
                Some(at.line),
                &at.key,
                "has no effect: there is no control socket in this program yet",
            );
        }
        // Without a socket these have nothing to act on, and a disabled one needs no warning.
        socket.text("path");
        socket.text("permissions");
        socket.finish();
    }
}

fn read_logging(file: &mut Section<'_>) -> RawLogging {
    let Some((_, mut section)) = file.section("logging") else { return RawLogging::default() };
    let logging = RawLogging {
        level: section.text("level"),
        kind: section.text("type"),
        stderr: section.boolean("stderr"),
    };
    section.without_effect("source", "log lines carry no source position");
    section.finish();
    logging
}

fn read_snapshot(parent: &mut Section<'_>) -> RawSnapshot {
    let Some((_, mut section)) = parent.section("snapshot") else { return RawSnapshot::default() };
    let snapshot = RawSnapshot {
        interval: section.positive_duration("interval"),
        retention: section.positive_duration("retention"),
    };
    section.finish();
    snapshot
}

fn read_retention(file: &mut Section<'_>) -> Option<At<bool>> {
    let (_, mut section) = file.section("retention")?;
    let enabled = section.boolean("enabled");
    section.finish();
    enabled
}

fn read_levels(file: &mut Section<'_>, report: &Report) -> Option<Vec<At<Duration>>> {
    if !file.has("levels") {
        return None;
    }
    let mut levels = Vec::new();
    for (key, node) in file.list("levels") {
        let mut section = Section::new(node, &key, report);
        match section.positive_duration("interval") {
            Some(interval) => levels.push(interval),
            None => report.error(Some(node.line), &key, "needs an interval greater than 0, such as 5m"),
        }
        section.without_effect(
            "retention",
            "history is kept as long as snapshot.retention says, at every level",
        );
        section.finish();
    }
    Some(levels)
}

impl RawDatabase {
    fn read(node: &Node, key: &str, report: &Report) -> Self {
        let mut section = Section::new(node, key, report);
        let database = Self {
            line: node.line,
            key: key.to_owned(),
            path: section.text("path"),
            dir: section.text("dir"),
            pattern: section.text("pattern"),
            recursive: section.boolean("recursive"),
            watch: section.boolean("watch"),
            meta_path: section.text("meta-path"),
            meta_dir: section.text("meta-dir"),
            monitor_interval: section.positive_duration("monitor-interval"),
            checkpoint_interval: section.duration("checkpoint-interval"),
            busy_timeout: section.duration("busy-timeout"),
            min_checkpoint_page_count: section.number("min-checkpoint-page-count", 1),
            truncate_page_n: section.number("truncate-page-n", 0),
            max_sync_wal_bytes: section.size("max-sync-wal-bytes"),
            restore_if_db_not_exists: section.boolean("restore-if-db-not-exists"),
            snapshot: read_snapshot(&mut section),
            replica: section
                .section("replica")
                .map(|(line, replica)| RawReplica::read(replica, &format!("{key}.replica"), line)),
            replicas: section
                .list("replicas")
                .into_iter()
                .map(|(key, node)| RawReplica::read(Section::new(node, &key, report), &key, node.line))
                .collect(),
        };
        section.without_effect(
            "max-checkpoint-page-count",
            "writers are only blocked for a checkpoint if truncate-page-n is set",
        );
        section.without_effect("shadow-retention", "it belongs to Litestream before 0.3.10");
        section.finish();
        database
    }
}
