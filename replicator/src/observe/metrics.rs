//! Prometheus text, with Litestream's names and labels, so that dashboards go on working. Pure.
//!
//! Names are written as they are: counters get no `_total` that Litestream's do not have. What Litestream has not,
//! the distance between database and replica, is named `litestream_replica_…` beside its like.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::host::UnixMillis;
use crate::replica::Level0Files;
use crate::sync::{Attempts, State, Status};

use super::board::Shown;

/// The text of `/metrics`.
#[must_use]
pub fn render(databases: &[Shown], started: UnixMillis, now: UnixMillis) -> String {
    let mut text = Text::default();
    for family in FAMILIES {
        text.family(family.name, family.kind, family.help);
        for Shown { path, status, .. } in databases {
            if let Some(value) = (family.value)(status, now) {
                text.sample(family.name, &labels(path, ""), &value);
            }
        }
    }
    checkpoints(&mut text, databases);
    level0_files(&mut text, databases);
    text.family("replicator_build_info", "gauge", "Version of this program");
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    text.sample("replicator_build_info", &version, "1");
    text.family("process_start_time_seconds", "gauge", "Start of the process, in seconds since the epoch");
    text.sample("process_start_time_seconds", "", &seconds(started.0));
    text.0
}

struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&Status, UnixMillis) -> Option<String>,
}

const FAMILIES: &[Family] = &[
    Family {
        name: "litestream_db_size",
        kind: "gauge",
        help: "Size of the database in bytes, as of the last copied commit",
        value: |status, _| Some(status.db_size.to_string()),
    },
    Family {
        name: "litestream_wal_size",
        kind: "gauge",
        help: "Bytes of the WAL up to the last copied commit",
        value: |status, _| Some(status.wal_size.to_string()),
    },
    Family {
        name: "litestream_txid",
        kind: "gauge",
        help: "Newest transaction id durable on the local disk",
        value: |status, _| status.local_txid.map(|txid| txid.0.to_string()),
    },
    Family {
        name: "litestream_disk_full",
        kind: "gauge",
        help: "1 while the local disk is full",
        value: |status, _| Some(u8::from(status.failures.is_disk_full()).to_string()),
    },
    Family {
        name: "litestream_total_wal_bytes",
        kind: "counter",
        help: "Bytes of WAL frames copied",
        value: |status, _| Some(status.wal_bytes_total.to_string()),
    },
    Family {
        name: "litestream_sync_count",
        kind: "counter",
        help: "Copies of new commits",
        value: |status, _| Some(status.sync_count.to_string()),
    },
    Family {
        name: "litestream_sync_error_count",
        kind: "counter",
        help: "Failed attempts to copy or upload",
        value: |status, _| Some(status.sync_error_count.to_string()),
    },
    Family {
        name: "litestream_sync_seconds",
        kind: "counter",
        help: "Time spent looking for new commits and copying them",
        value: |status, _| Some(fine_seconds(status.sync_time)),
    },
    Family {
        name: "litestream_compaction_verify_error_count",
        kind: "counter",
        help: "Compactions that found missing or damaged files",
        value: |status, _| Some(status.compaction_verify_error_count.to_string()),
    },
    Family {
        name: "litestream_replica_txid",
        kind: "gauge",
        help: "Newest transaction id durable in the replica, with everything below it",
        value: |status, _| status.replicated_txid.map(|txid| txid.0.to_string()),
    },
    Family {
        name: "litestream_replica_lag_txids",
        kind: "gauge",
        help: "Transaction ids that are durable locally and not yet in the replica",
        value: |status, _| Some(lag_txids(status)?.to_string()),
    },
    Family {
        name: "litestream_replica_lag_seconds",
        kind: "gauge",
        help: "Age of the state in the replica while it is behind the local one; 0 if it is not",
        value: lag_seconds,
    },
    Family {
        name: "litestream_replica_last_sync_timestamp_seconds",
        kind: "gauge",
        help: "When everything committed at that moment was durable in the replica",
        value: |status, _| Some(seconds(status.last_sync?.0)),
    },
    Family {
        name: "litestream_replica_failing",
        kind: "gauge",
        help: "1 while replication fails or has ended",
        value: |status, _| {
            let failing = matches!(status.state(), State::Failing | State::Stopped);
            Some(u8::from(failing).to_string())
        },
    },
];

/// Checkpoints by mode. The blocking ones are called as Litestream calls its own, and shown once there is one.
fn checkpoints(text: &mut Text, databases: &[Shown]) {
    type Value = fn(&Attempts) -> String;
    let families: [(&str, &str, Value); 3] = [
        ("litestream_checkpoint_count", "Checkpoints", |attempts| attempts.count.to_string()),
        ("litestream_checkpoint_error_count", "Failed checkpoints", |attempts| attempts.errors.to_string()),
        ("litestream_checkpoint_seconds", "Time spent in checkpoints", |attempts| {
            fine_seconds(attempts.time)
        }),
    ];
    for (name, help, value) in families {
        text.family(name, "counter", help);
        for Shown { path, status, .. } in databases {
            text.sample(name, &labels(path, ",mode=\"PASSIVE\""), &value(&status.passive_checkpoints));
            if status.blocking_checkpoints.count > 0 {
                text.sample(name, &labels(path, ",mode=\"TRUNCATE\""), &value(&status.blocking_checkpoints));
            }
        }
    }
}

/// Level-0 files by what keeps them. As with Litestream, the database goes by its base name here; those of several
/// databases of one name are added up, since a scrape in which a series comes twice is refused as a whole.
fn level0_files(text: &mut Text, databases: &[Shown]) {
    let name = "litestream_l0_retention_files_total";
    text.family(name, "gauge", "Files of level 0 in the replica, by whether and why not they can be deleted");
    let mut by_name: BTreeMap<&OsStr, Level0Files> = BTreeMap::new();
    for Shown { path, level0, .. } in databases {
        let Some(level0) = level0 else { continue };
        let sum = by_name.entry(path.file_name().unwrap_or(path.as_os_str())).or_default();
        sum.eligible += level0.eligible;
        sum.not_compacted += level0.not_compacted;
        sum.too_recent += level0.too_recent;
    }
    for (path, Level0Files { eligible, not_compacted, too_recent }) in by_name {
        let path = Path::new(path);
        for (status, count) in
            [("eligible", eligible), ("not_compacted", not_compacted), ("too_recent", too_recent)]
        {
            text.sample(name, &labels(path, &format!(",status=\"{status}\"")), &count.to_string());
        }
    }
}

fn lag_txids(status: &Status) -> Option<u64> {
    let local = status.local_txid?;
    Some(local.0.saturating_sub(status.replicated_txid.map_or(0, |txid| txid.0)))
}

fn lag_seconds(status: &Status, now: UnixMillis) -> Option<String> {
    if lag_txids(status)? == 0 && status.is_level(now, Duration::ZERO) {
        return Some("0".to_owned());
    }
    Some(seconds((now.0 - status.last_sync?.0).max(0)))
}

fn fine_seconds(time: Duration) -> String {
    format!("{}.{:06}", time.as_secs(), time.subsec_micros())
}

/// Milliseconds as seconds with three decimals.
fn seconds(millis: i64) -> String {
    format!("{}.{:03}", millis / 1000, millis.rem_euclid(1000))
}

fn labels(path: &Path, more: &str) -> String {
    let path = path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{{db=\"{path}\"{more}}}")
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: &str) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::ltx::Txid;
    use crate::sync::{Failures, Phase, Work};

    #[test]
    fn names_and_labels_are_litestreams() {
        let mut failures = Failures::default();
        failures.note(Work::Copy, "full".to_owned(), &Error::new(ErrorKind::Exhausted, "full"));
        let behind = Status {
            local_txid: Some(Txid(12)),
            replicated_txid: Some(Txid(10)),
            db_size: 8192,
            wal_size: 4152,
            last_sync: Some(UnixMillis(1_000_250)),
            sync_error_count: 3,
            failures,
            sync_time: Duration::from_micros(1_500_001),
            passive_checkpoints: Attempts { count: 5, errors: 1, time: Duration::from_millis(20) },
            blocking_checkpoints: Attempts { count: 1, errors: 0, time: Duration::from_secs(2) },
            compaction_verify_error_count: 1,
            ..Status::default()
        };
        let even = Status {
            phase: Phase::Replicating,
            local_txid: Some(Txid(3)),
            replicated_txid: Some(Txid(3)),
            last_sync: Some(UnixMillis(1_006_000)),
            idle_pause: Duration::from_secs(6),
            ..Status::default()
        };
        let level0 = Level0Files { eligible: 2, not_compacted: 3, too_recent: 4 };
        let databases = [
            Shown { path: "/data/a \"b\".db".into(), status: behind, level0: Some(level0) },
            Shown { path: "/data/c.db".into(), status: even, level0: None },
            Shown { path: "/data/new.db".into(), status: Status::default(), level0: None },
        ];
        insta::assert_snapshot!(render(&databases, UnixMillis(500_000), UnixMillis(1_010_000)));
    }

    /// Prometheus refuses a scrape in which a series comes twice.
    #[test]
    fn no_series_comes_twice() {
        let shown = |path: &str| Shown {
            path: path.into(),
            status: Status::default(),
            level0: Some(Level0Files { eligible: 1, not_compacted: 2, too_recent: 3 }),
        };
        let databases = [shown("/a/app.db"), shown("/b/app.db"), shown("/b/other.db")];
        let text = render(&databases, UnixMillis(0), UnixMillis(0));
        let series: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| Some(line.rsplit_once(' ')?.0))
            .collect();
        let distinct: std::collections::BTreeSet<&str> = series.iter().copied().collect();
        assert_eq!(series.len(), distinct.len(), "{text}");
        let name = "litestream_l0_retention_files_total";
        assert!(text.contains(&format!("{name}{{db=\"app.db\",status=\"too_recent\"}} 6\n")), "{text}");
    }
}
