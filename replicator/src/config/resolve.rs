//! Raw → resolved: defaults, inheritance, and the refusal of what contradicts itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use globset::GlobBuilder;

use super::environment::Environment;
use super::raw::{RawConfig, RawDatabase, RawLogging};
use super::raw_replica::RawReplica;
use super::replica;
use super::resolved::{
    Config, Database, Directory, DirectoryMeta, Entry, FilePattern, Heartbeat, Logging, Replica,
};
use super::section::{At, Report};
use super::values::format_duration;
use crate::bucket::settings::{DirectorySettings, Settings};
use crate::error::Result;
use crate::sync;

/// Time between heartbeats if only a URL is given.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Shortest time between heartbeats.
const SHORTEST_HEARTBEAT: Duration = Duration::from_secs(60);
/// Compaction levels below the snapshots.
const MOST_LEVELS: usize = 8;

/// Resolves a file. The result may only be used if `report` has no errors.
pub fn config(raw: RawConfig, environment: &Environment, report: &Report) -> Config {
    let logging = logging(&raw.logging, environment, report);
    let heartbeat = heartbeat(&raw, report);
    check_addr(raw.addr.as_ref(), report);
    check_levels(&raw, report);
    let entries: Vec<(u64, Entry)> = raw
        .databases
        .iter()
        .filter_map(|one| Some((one.line, entry(one, &raw, environment, report)?)))
        .collect();
    check_distinct(&entries, report);
    check_apart(entries.iter().map(|(line, entry)| (Some(*line), entry)), report);
    let databases = entries.into_iter().map(|(_, entry)| entry).collect();
    Config {
        source: None,
        warnings: Vec::new(),
        databases,
        metrics_addr: raw.addr.map(|at| at.value),
        exec: raw.exec.map(|at| at.value),
        logging,
        heartbeat,
    }
}

/// Resolves a database and a replica URL from the command line.
///
/// # Errors
/// As [`replica::from_url`].
pub fn from_arguments(db: &str, url: &str, environment: &Environment, report: &Report) -> Result<Config> {
    let options = sync::Options::new(environment.absolute(db)?);
    let replica = replica::from_url(url, environment, report)?;
    let logging = logging(&RawLogging::default(), environment, report);
    let database = Entry::Database(Database { options, replica, restore_if_absent: false });
    check_apart([(None, &database)].into_iter(), report);
    Ok(Config { databases: vec![database], logging, ..Config::default() })
}

/// How to log: the environment counts more than the file.
pub fn logging(raw: &RawLogging, environment: &Environment, report: &Report) -> Logging {
    let mut logging = Logging::default();
    if let Some(at) = &raw.level {
        match at.value.parse() {
            Ok(level) => logging.level = level,
            Err(reason) => report.error(Some(at.line), &at.key, reason),
        }
    }
    match environment.get("LOG_LEVEL").map(str::parse) {
        Some(Ok(level)) => logging.level = level,
        // The name is everybody's: it may well be meant for the application.
        Some(Err(reason)) => report.warn(None, "LOG_LEVEL", format!("{reason}; it is ignored")),
        None => {}
    }
    if let Some(at) = &raw.kind {
        match at.value.parse() {
            Ok(format) => logging.format = format,
            Err(reason) => report.error(Some(at.line), &at.key, reason),
        }
    }
    logging.stderr = raw.stderr.as_ref().is_some_and(|at| at.value);
    logging
}

fn heartbeat(raw: &RawConfig, report: &Report) -> Option<Heartbeat> {
    if let Some(at) = raw.heartbeat_interval.as_ref().filter(|at| at.value < SHORTEST_HEARTBEAT) {
        report.error(Some(at.line), &at.key, "must be at least 1m");
    }
    let Some(url) = &raw.heartbeat_url else {
        if let Some(at) = &raw.heartbeat_interval {
            report.warn(Some(at.line), &at.key, "has no effect without heartbeat-url");
        }
        return None;
    };
    if !url.value.starts_with("http://") && !url.value.starts_with("https://") {
        report.error(Some(url.line), &url.key, "must be a URL that starts with http:// or https://");
    }
    let interval = raw.heartbeat_interval.as_ref().map_or(HEARTBEAT_INTERVAL, |at| at.value);
    Some(Heartbeat { url: url.value.clone(), interval })
}

fn check_addr(addr: Option<&At<String>>, report: &Report) {
    let Some(at) = addr else { return };
    let port = at.value.rsplit_once(':').map(|(_, port)| port);
    if port.and_then(|port| port.parse::<u16>().ok()).is_none() {
        report.error(
            Some(at.line),
            &at.key,
            format!("{:?} has no port: write :9090 or 127.0.0.1:9090", at.value),
        );
    }
}

fn check_levels(raw: &RawConfig, report: &Report) {
    let Some(levels) = &raw.levels else { return };
    if let Some(at) = levels.get(MOST_LEVELS) {
        report.error(
            Some(at.line),
            &at.key,
            format!("there are at most {MOST_LEVELS} levels below the snapshots"),
        );
    }
    for pair in levels.windows(2) {
        if pair[1].value < pair[0].value {
            let message = format!(
                "{} is shorter than the interval of the level below, {}: order the levels from short to long",
                format_duration(pair[1].value),
                format_duration(pair[0].value)
            );
            report.error(Some(pair[1].line), &pair[1].key, message);
        }
    }
}

fn entry(raw: &RawDatabase, top: &RawConfig, environment: &Environment, report: &Report) -> Option<Entry> {
    check_path_or_dir(raw, report)?;
    let (raw_replica, replica) = the_replica(raw, top, environment, report)?;
    let mut options = options(raw, top, &raw_replica, report);
    let restore_if_absent = raw.restore_if_db_not_exists.as_ref().is_some_and(|at| at.value);
    let absolute = |at: &At<String>| {
        environment
            .absolute(&at.value)
            .inspect_err(|error| report.error(Some(at.line), &at.key, error.to_string()))
            .ok()
    };
    if let Some(path) = &raw.path {
        let db = absolute(path)?;
        options.meta_dir = match &raw.meta_path {
            Some(at) => absolute(at)?,
            None => sync::default_meta_dir(&db),
        };
        options.db = db;
        return Some(Entry::Database(Database { options, replica, restore_if_absent }));
    }
    let dir = absolute(raw.dir.as_ref().expect("checked: path or dir"))?;
    let pattern = raw.pattern.as_ref().expect("checked: dir has a pattern");
    let pattern = glob(pattern, report)?;
    if let Some(at) = raw.restore_if_db_not_exists.as_ref().filter(|at| at.value) {
        report.warn(Some(at.line), &at.key, "has no effect on a directory: absent databases have no name");
    }
    let meta = match (&raw.meta_path, &raw.meta_dir) {
        (Some(at), _) => DirectoryMeta::Hidden(absolute(at)?),
        (None, Some(at)) => DirectoryMeta::Plain(absolute(at)?),
        (None, None) => DirectoryMeta::Sibling,
    };
    let flag = |at: &Option<At<bool>>| at.as_ref().is_some_and(|at| at.value);
    Some(Entry::Directory(Directory {
        path: dir,
        pattern,
        recursive: flag(&raw.recursive),
        watch: flag(&raw.watch),
        meta,
        template: Database { options, replica, restore_if_absent: false },
    }))
}

/// `path` and `dir` exclude one another, and each brings its own keys.
fn check_path_or_dir(raw: &RawDatabase, report: &Report) -> Option<()> {
    match (&raw.path, &raw.dir) {
        (None, None) => {
            report.error(
                Some(raw.line),
                &raw.key,
                "must specify either path or dir; if it comes from an environment variable, is that set?",
            );
            None
        }
        (Some(_), Some(dir)) => {
            report.error(Some(dir.line), &dir.key, "cannot stand beside path: make it an entry of its own");
            None
        }
        (Some(_), None) => {
            check_keys_of_dir(raw, report);
            Some(())
        }
        (None, Some(dir)) => {
            if raw.pattern.is_none() {
                report.error(
                    Some(dir.line),
                    &dir.key,
                    "needs a pattern beside it, such as pattern: \"*.db\"",
                );
                return None;
            }
            if let (Some(_), Some(at)) = (&raw.meta_path, &raw.meta_dir) {
                report.error(Some(at.line), &at.key, "cannot stand beside meta-path: remove one of them");
            }
            Some(())
        }
    }
}

/// What only a directory has, beside a path. What would be missed is refused; the rest is harmless.
fn check_keys_of_dir(raw: &RawDatabase, report: &Report) {
    fn place<T>(at: Option<&At<T>>) -> Option<(u64, &str)> {
        at.map(|at| (at.line, at.key.as_str()))
    }
    let (watch, no_watch) = match raw.watch.as_ref() {
        Some(at) if at.value => (place(Some(at)), None),
        at => (None, place(at)),
    };
    for (line, key) in [place(raw.meta_dir.as_ref()), watch].into_iter().flatten() {
        report.error(Some(line), key, "can only be used with dir, not with path");
    }
    let harmless = [place(raw.pattern.as_ref()), place(raw.recursive.as_ref()), no_watch];
    for (line, key) in harmless.into_iter().flatten() {
        report.warn(Some(line), key, "has no effect beside path: it is for dir");
    }
}

/// The one replica of a database, with what it inherits.
fn the_replica(
    raw: &RawDatabase,
    top: &RawConfig,
    environment: &Environment,
    report: &Report,
) -> Option<(RawReplica, Replica)> {
    let all: Vec<&RawReplica> = raw.replica.iter().chain(&raw.replicas).collect();
    let found = match all[..] {
        [] => {
            report.error(Some(raw.line), &raw.key, "must have a replica: write replica: with a url below it");
            return None;
        }
        [one] => one,
        [_, second, ..] => {
            let message = format!(
                "a database has exactly one replica here, and this is another ({} in all): keep one, and copy to \
                 further places with the store's own replication or with a second run that has its own meta-path",
                all.len()
            );
            report.error(Some(second.line), &second.key, message);
            return None;
        }
    };
    let mut inherited = found.clone();
    inherited.inherit(&top.replica);
    let resolved = replica::resolve(&inherited, environment, report)?;
    Some((inherited, resolved))
}

/// Settings of a database's replication. Paths are filled in by the caller.
fn options(raw: &RawDatabase, top: &RawConfig, replica: &RawReplica, report: &Report) -> sync::Options {
    fn set<T: Copy>(target: &mut T, at: Option<&At<T>>) {
        if let Some(at) = at {
            *target = at.value;
        }
    }
    let mut options = sync::Options::new(PathBuf::new());
    set(&mut options.monitor_interval, raw.monitor_interval.as_ref());
    set(&mut options.sync_interval, replica.sync_interval.as_ref());
    set(&mut options.checkpoint_interval, raw.checkpoint_interval.as_ref());
    set(&mut options.min_checkpoint_pages, raw.min_checkpoint_page_count.as_ref());
    options.truncate_pages = raw.truncate_page_n.as_ref().map(|at| at.value).filter(|pages| *pages > 0);
    set(&mut options.busy_timeout, raw.busy_timeout.as_ref());
    set(&mut options.max_batch_bytes, raw.max_sync_wal_bytes.as_ref());
    if let Some(levels) = &top.levels {
        options.levels = levels.iter().map(|at| at.value).collect();
    }
    set(&mut options.l0_retention, top.l0_retention.as_ref());
    set(&mut options.l0_retention_check_interval, top.l0_retention_check_interval.as_ref());
    set(&mut options.retention_enabled, top.retention_enabled.as_ref());
    set(&mut options.shutdown_timeout, top.shutdown_sync_timeout.as_ref());
    snapshots(&mut options, raw, top, replica, report);
    options
}

/// Snapshot schedule: the database's own `snapshot:`, else the file's, else Litestream 0.3's keys of the replica, which
/// 0.5 ignores: a file that has been through both versions may still have them.
fn snapshots(
    options: &mut sync::Options,
    raw: &RawDatabase,
    top: &RawConfig,
    replica: &RawReplica,
    report: &Report,
) {
    let of_0_5 = raw.snapshot.interval.as_ref().or(top.snapshot.interval.as_ref());
    let interval = of_0_5_or_0_3(of_0_5, replica.snapshot_interval.as_ref(), report);
    let of_0_5 = raw.snapshot.retention.as_ref().or(top.snapshot.retention.as_ref());
    let retention = of_0_5_or_0_3(of_0_5, replica.retention.as_ref(), report);
    if let Some(at) = interval {
        options.snapshot_interval = at.value;
    }
    if let Some(at) = retention {
        options.snapshot_retention = at.value;
    }
    // What is not written gives way to what is. 0.3, too, took a snapshot whenever the retention was over.
    if interval.is_none() && options.snapshot_retention < options.snapshot_interval {
        options.snapshot_interval = options.snapshot_retention;
        if let Some(at) = of_0_5 {
            let every = format_duration(options.snapshot_interval);
            let message = format!("is also the interval of snapshots, each a full copy: one every {every}");
            report.warn(Some(at.line), &at.key, message);
        }
    }
    if retention.is_none() {
        options.snapshot_retention = options.snapshot_retention.max(options.snapshot_interval);
    }
    if let Some(at) = retention.filter(|_| options.snapshot_retention < options.snapshot_interval) {
        let message = format!(
            "the snapshot retention {} is shorter than the snapshot interval {}: no point in time would be \
             restorable for as long as that promises; make the retention at least as long as the interval",
            format_duration(options.snapshot_retention),
            format_duration(options.snapshot_interval)
        );
        report.error(Some(at.line), &at.key, message);
    }
}

/// What is written for 0.5, else what is written for 0.3; warns if both are.
fn of_0_5_or_0_3<'a>(
    of_0_5: Option<&'a At<Duration>>,
    of_0_3: Option<&'a At<Duration>>,
    report: &Report,
) -> Option<&'a At<Duration>> {
    if let (Some(counts), Some(at)) = (of_0_5, of_0_3) {
        let message = format!("has no effect: {} on line {} counts", counts.key, counts.line);
        report.warn(Some(at.line), &at.key, message);
    }
    of_0_5.or(of_0_3)
}

fn glob(at: &At<String>, report: &Report) -> Option<FilePattern> {
    // Go's patterns have no alternatives: braces stand for themselves.
    let pattern = at.value.replace('{', "[{]").replace('}', "[}]");
    match GlobBuilder::new(&pattern).literal_separator(true).backslash_escape(true).build() {
        Ok(glob) => Some(FilePattern(glob.compile_matcher())),
        Err(error) => {
            report.error(Some(at.line), &at.key, format!("is not a file name pattern: {}", error.kind()));
            None
        }
    }
}

/// No two entries may share a database, its local state, or a place in a store. (Directories may share a place: what
/// counts there is the name of each database, which is looked at when it is started.)
fn check_distinct(entries: &[(u64, Entry)], report: &Report) {
    let mut seen: BTreeMap<(&str, String), (u64, bool)> = BTreeMap::new();
    for (line, entry) in entries {
        let (claims, is_directory) = match entry {
            Entry::Database(database) => {
                let options = &database.options;
                let claims = vec![
                    ("database", options.db.display().to_string()),
                    ("meta-path", options.meta_dir.display().to_string()),
                    ("replica", location(&database.replica.settings)),
                ];
                (claims, false)
            }
            Entry::Directory(directory) => {
                (vec![("replica", location(&directory.template.replica.settings))], true)
            }
        };
        for (what, place) in claims {
            let before = seen.insert((what, place.clone()), (*line, is_directory));
            if let Some((other, _)) = before.filter(|(_, other)| !(is_directory && *other)) {
                let message = format!(
                    "uses the {what} {place}, as line {other} does; they would destroy each other's data"
                );
                report.error(Some(*line), "dbs", message);
                break;
            }
        }
    }
}

/// No replica in a directory may lie where local state is kept: both have a directory `ltx`, and what is there would be
/// taken for local state, which is removed when it is not needed any more.
fn check_apart<'a>(entries: impl Iterator<Item = (Option<u64>, &'a Entry)> + Clone, report: &Report) {
    let metas = entries.clone().filter_map(|(_, entry)| match entry {
        Entry::Database(database) => Some(&database.options.meta_dir),
        Entry::Directory(_) => None,
    });
    for (line, entry) in entries {
        let (replica, is_directory) = match entry {
            Entry::Database(database) => (&database.replica, false),
            Entry::Directory(directory) => (&directory.template.replica, true),
        };
        let Settings::Directory(DirectorySettings { path, .. }) = &replica.settings else { continue };
        let is_inside =
            |meta: &PathBuf| ["ltx", "replicator"].iter().any(|name| path.starts_with(meta.join(name)));
        let collides = |meta: &&PathBuf| is_inside(meta) || *meta == path && !is_directory;
        if let Some(meta) = metas.clone().find(collides) {
            let message = format!(
                "the replica in {} would lie among the local state in {}, and be removed with it: choose another \
                 directory for one of them (path or meta-path)",
                path.display(),
                meta.display()
            );
            report.error(line, if line.is_some() { "dbs" } else { "" }, message);
        }
    }
}

/// Where a replica is, so that two equal texts mean the same place.
fn location(settings: &Settings) -> String {
    match settings {
        Settings::Directory(directory) => format!("file://{}", directory.path.display()),
        Settings::S3(s3) => {
            // A user and password in it are refused later, and not shown before.
            let endpoint = s3.endpoint.as_deref().unwrap_or("aws");
            let endpoint = endpoint.rsplit_once('@').map_or(endpoint, |(_, host)| host);
            format!("s3://{}/{} at {endpoint}", s3.bucket, s3.path.trim_matches('/'))
        }
    }
}
