//! What users see, as snapshots, and that no flag is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::CommandFactory as _;

use super::args::Cli;
use super::*;
use crate::daemon::outside::Signal;
use crate::host::{BoxFuture, Disk, OpenMode, UnixMillis, os};

fn environment(variables: &[(&str, &str)], working_dir: &Path) -> Environment {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Environment {
        variables: variables.iter().map(owned).collect(),
        working_dir: working_dir.to_owned(),
        ..Environment::default()
    }
}

fn run_in(dir: &Path, line: &[&str]) -> Outcome {
    run(line.iter().map(OsString::from).collect(), &environment(&[], dir))
}

fn show(outcome: &Outcome, dir: &Path) -> String {
    let text =
        format!("exit code {}\n-- stdout\n{}-- stderr\n{}", outcome.code, outcome.stdout, outcome.stderr);
    normal(&text, dir)
}

/// Makes the text independent of the directory's name, in tables too.
fn normal(text: &str, dir: &Path) -> String {
    let text = text.replace(&dir.display().to_string(), "DIR");
    let lines = text.lines().map(|line| match line.trim_start() {
        indented if indented.len() < line.len() => line.to_owned(),
        line => {
            line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join("  ")
        }
    });
    lines.map(|line| line + "\n").collect()
}

fn write(disk: &dyn Disk, path: &Path, content: &[u8]) {
    disk.create_dir_all(path.parent().unwrap(), 0o700).unwrap();
    disk.open(path, OpenMode::Truncate).unwrap().write_all_at(content, 0).unwrap();
}

/// A directory with a configuration, three databases in different states and a replica.
fn scene() -> tempfile::TempDir {
    let disk = os::host().disk;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let config = "dbs:\n  - path: app.db\n    replica:\n      path: backup/app\n  - path: fresh.db\n    replica:\n      url: s3://bucket/fresh\n  \
                  - path: absent.db\n    replica: {path: backup/absent}\n  - dir: tenants\n    pattern: '*.db'\n    replica: {path: backup/tenants}\n";
    write(&*disk, &at("litestream.yml"), config.as_bytes());
    write(
        &*disk,
        &at("odd.yml"),
        b"definitely-not-a-setting: true\ndbs:\n- path: app.db\n  replica: {path: r, retension: 72h}\n",
    );
    for name in ["app.db", "fresh.db", "tenants/a.db", "tenants/b.db"] {
        write(&*disk, &at(name), b"SQLite format 3\0");
    }
    write(&*disk, &at("app.db-wal"), &[0; 45_352]);
    let state = at(".app.db-litestream");
    write(
        &*disk,
        &state.join("replicator/000000000000000b-0011223344556677-00000003-8899aabbccddeeff.ltx"),
        b"x",
    );
    write(&*disk, &state.join("ltx/0/0000000000000002-0000000000000002.ltx"), b"x");
    write(&*disk, &state.join("ltx/0/garbage"), b"x");
    for (index, (level, name)) in [
        (0, "000000000000000a-000000000000000a"),
        (0, "000000000000000b-000000000000000b"),
        (1, "0000000000000001-000000000000000a"),
        (9, "0000000000000001-0000000000000009"),
    ]
    .iter()
    .enumerate()
    {
        let path = at(&format!("backup/app/ltx/{level}/{name}.ltx"));
        write(&*disk, &path, &vec![0; 200 + index]);
        disk.set_modified(&path, UnixMillis(1_700_000_000_000 + index as i64 * 1000)).unwrap();
    }
    dir
}

#[test]
fn help_of_every_command() {
    let dir = Path::new("/");
    let mut all = show(&run_in(dir, &["-help"]), dir);
    for command in ["databases", "doctor", "ltx", "replicate", "reset", "restore", "status", "version"] {
        let help = run_in(dir, &[command, "-h"]);
        assert_eq!((help.code, help.stderr.as_str()), (0, ""), "{command}");
        assert_eq!(run_in(dir, &[command, "-help"]), run_in(dir, &[command, "--help"]));
        all.push_str(&format!("\n==== {command}\n{}", help.stdout));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn usage_goes_where_litestream_puts_it() {
    let dir = Path::new("/");
    let nothing = run_in(dir, &[]);
    assert_eq!(nothing.code, 1);
    assert!(nothing.stdout.contains("Usage:") && nothing.stderr.is_empty());
    let help = run_in(dir, &["help"]);
    assert_eq!(help.code, 0);
    assert!(help.stdout.contains("Usage:") && help.stderr.is_empty());
}

#[test]
fn errors_say_what_to_do_and_exit_with_one() {
    let scene = scene();
    let dir = scene.path();
    let mut all = String::new();
    for line in [
        &["nonsense"][..],
        &["generations", "x.db"],
        &["snapshots", "x.db"],
        &["register", "x.db"],
        &["-config", "x"],
        &["databases", "extra"],
        &["databases", "-config", "absent.yml"],
        &["ltx"],
        &["ltx", "a", "b"],
        &["ltx", "-level", "10", "app.db"],
        &["ltx", "-config", "litestream.yml", "other.db"],
        &["ltx", "-config", "litestream.yml", "s3://b/p"],
        &["ltx", "gcs://b/p"],
        &["wal", "-generation", "x", "app.db"],
        &["reset"],
        &["reset", "missing.db"],
        &["restore"],
        &["restore", "s3://b/p"],
        &["restore", "-bogus", "x"],
        &["restore", "-f", "x"],
        &["restore", "-json=maybe", "x"],
        &["restore", "-config", "litestream.yml", "-txid", "5", "app.db"],
        &["restore", "-config", "litestream.yml", "-timestamp", "yesterday", "app.db"],
        &["restore", "-txid", "5", "-timestamp", "2000-01-01T00:00:00Z", "app.db"],
        &["restore", "-config", "litestream.yml", "-integrity-check", "some", "app.db"],
        &["restore", "-config", "litestream.yml", "-replica", "other", "app.db"],
        &["restore", "-config", "litestream.yml", "-index", "xyz", "app.db"],
        &["restore", "-parallelism", "many", "app.db"],
        &["replicate", "app.db"],
        &["replicate", "app.db", "s3://b/p", "s3://b/q"],
        &["replicate", "s3://b/p", "app.db"],
        &["replicate", "-config", "x.yml", "app.db", "s3://b/p"],
        &["replicate", "-once", "-exec", "x", "app.db", "s3://b/p"],
        &["replicate", "-force-snapshot", "app.db", "s3://b/p"],
        &["replicate", "-enforce-retention", "app.db", "s3://b/p"],
        &["replicate", "-log-level", "loud", "app.db", "s3://b/p"],
        &["replicate", "-config"],
        &["status", "-config", "litestream.yml", "other.db"],
    ] {
        let outcome = run_in(dir, line);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""), "{line:?}");
        assert!(outcome.stderr.contains("Error: "), "{line:?}: {}", outcome.stderr);
        all.push_str(&format!("$ replicator {}\n{}\n", line.join(" "), outcome.stderr));
    }
    insta::assert_snapshot!(normal(&all, dir));
}

#[test]
fn outputs_have_litestreams_shapes() {
    let scene = scene();
    let dir = scene.path();
    let mut all = String::new();
    for line in [
        &["databases", "-config", "litestream.yml"][..],
        &["databases", "-json", "-config=litestream.yml"],
        &["databases", "-config", "odd.yml"],
        &["ltx", "-config", "litestream.yml", "app.db"],
        &["ltx", "-config", "litestream.yml", "-level", "9", "-json", "app.db"],
        &["ltx", "-config", "litestream.yml", "tenants/a.db"],
        &["wal", "-level", "all", "file://DIR/backup/app"],
        &["status", "-config", "litestream.yml"],
        &["status", "-config", "litestream.yml", "-json", "app.db"],
        &["status", "-config", "litestream.yml", "-remote", "app.db"],
        &["reset", "-dry-run", "app.db"],
        &["reset", "-dry-run", "fresh.db"],
        &["reset", "-config", "litestream.yml", "app.db"],
        &["reset", "app.db"],
        &["version"],
    ] {
        let line: Vec<String> =
            line.iter().map(|word| word.replace("DIR", &dir.display().to_string())).collect();
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        let outcome = run_in(dir, &words);
        all.push_str(&format!("$ replicator {}\n{}\n", words.join(" "), show(&outcome, dir)));
    }
    insta::assert_snapshot!(normal(&all, dir));
}

/// Whoever looks here before a restore must not learn of it only from the restore.
#[test]
fn what_a_restore_would_stumble_over_is_told() {
    let scene = scene();
    let dir = scene.path();
    let disk = os::host().disk;
    let file = |level: &str, txid: u64, len: usize| {
        let name = format!("backup/{level}/{txid:016x}-{txid:016x}.ltx");
        write(&*disk, &dir.join(name), &vec![0; len]);
    };
    // Transaction 12 is cut off; of the other replica, 2 is lost; a third one came from a bucket.
    file("app/ltx/0", 12, 50);
    file("absent/ltx/0", 1, 300);
    file("absent/ltx/0", 3, 300);
    file("tenants/a.db/0000", 1, 300);
    let mut all = String::new();
    for database in ["app.db", "absent.db", "tenants/a.db", "tenants/b.db"] {
        for command in [&["status", "-remote"][..], &["ltx"]] {
            let words = [command, &["-config", "litestream.yml", database]].concat();
            let mut outcome = run_in(dir, &words);
            // The times of files are those of this run.
            let lines =
                outcome.stdout.lines().map(|line| line.split("  20").next().unwrap().to_owned() + "\n");
            outcome.stdout = lines.collect();
            all.push_str(&format!("$ replicator {}\n{}\n", words.join(" "), show(&outcome, dir)));
        }
    }
    insta::assert_snapshot!(normal(&all, dir));
}

/// A replica that somebody has put where local state is.
#[test]
fn reset_leaves_the_levels_of_a_replica_alone() {
    let scene = scene();
    let (dir, disk) = (scene.path(), os::host().disk);
    let snapshot = dir.join(".app.db-litestream/ltx/9/0000000000000001-0000000000000009.ltx");
    write(&*disk, &snapshot, &[0; 200]);
    let outcome = run_in(dir, &["reset", "app.db"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert!(outcome.stdout.contains("Removed 3 files"), "{}", outcome.stdout);
    assert_eq!(disk.metadata(&snapshot).unwrap().len, 200);
    assert!(disk.metadata(&dir.join(".app.db-litestream/ltx/0")).is_err());
}

#[test]
fn the_configuration_file_comes_from_the_environment_too() {
    let scene = scene();
    let environment = environment(&[("LITESTREAM_CONFIG", "litestream.yml")], scene.path());
    let line = |words: &[&str]| run(words.iter().map(OsString::from).collect(), &environment);
    assert!(line(&["databases"]).stdout.contains("app.db"));
    // The meta-path of the file is used by reset, too.
    let moved = "dbs:\n- path: app.db\n  meta-path: elsewhere\n  replica: {path: r}\n";
    write(&*os::host().disk, &scene.path().join("litestream.yml"), moved.as_bytes());
    assert!(line(&["reset", "app.db"]).stdout.contains("elsewhere"));
}

/// As in Litestream: a start script passes on variables that may be empty.
#[test]
fn an_empty_value_means_that_the_flag_is_not_given() {
    let scene = scene();
    let dir = scene.path();
    let restore = ["restore", "-config", "litestream.yml", "-dry-run", "app.db"];
    let all =
        [&restore[..4], &["-o", "", "-timestamp", "", "-replica=", "--generation", "", "app.db"]].concat();
    assert_eq!(run_in(dir, &all), run_in(dir, &restore));
    let overridden = [&restore[..4], &["-replica", "other", "-replica", "", "app.db"]].concat();
    assert_eq!(run_in(dir, &overridden), run_in(dir, &restore));

    let environment = environment(&[("LITESTREAM_CONFIG", "litestream.yml")], dir);
    let line = |words: &[&str]| run(words.iter().map(OsString::from).collect(), &environment);
    assert_eq!(line(&["databases", "-config", ""]), line(&["databases"]));
    assert_eq!(line(&["status", ""]), line(&["status"]));
    assert!(line(&["databases"]).stdout.contains("app.db") && line(&["status"]).stdout.contains("app.db"));
    let url = format!("file://{}", dir.join("backup/app").display());
    assert_eq!(line(&["ltx", "-config", "", &url]), line(&["ltx", &url]));

    for strict in ["-txid", "-integrity-check", "-index", "-parallelism"] {
        let outcome = run_in(dir, &[&restore[..4], &[strict, "", "app.db"]].concat());
        assert!(outcome.stderr.contains("Error: "), "{strict}: {}", outcome.stderr);
        assert_ne!(outcome, run_in(dir, &restore), "{strict}");
    }
}

/// All flags there are. That each acts is shown by the tests above, and by `tests/it/service.rs` and
/// `tests/it/restore_command.rs` for those of `replicate` and `restore`.
const FLAGS: &[(&str, &[&str])] = &[
    ("databases", &["config", "no-expand-env", "json"]),
    ("ltx", &["config", "no-expand-env", "level", "json"]),
    (
        "replicate",
        &[
            "config",
            "no-expand-env",
            "exec",
            "log-level",
            "restore-if-db-not-exists",
            "once",
            "force-snapshot",
            "enforce-retention",
        ],
    ),
    ("reset", &["config", "no-expand-env", "dry-run"]),
    (
        "restore",
        &[
            "config",
            "no-expand-env",
            "o",
            "txid",
            "timestamp",
            "parallelism",
            "if-db-not-exists",
            "if-replica-exists",
            "dry-run",
            "force",
            "json",
            "integrity-check",
            "replica",
            "generation",
            "index",
            "v",
        ],
    ),
    ("doctor", &["config", "no-expand-env", "json"]),
    ("status", &["config", "no-expand-env", "json", "remote"]),
    ("version", &["verbose"]),
];

#[test]
fn every_flag_of_the_help_parses_in_every_spelling() {
    let root = Cli::command();
    let listed: BTreeMap<_, BTreeSet<_>> =
        FLAGS.iter().map(|(command, flags)| (*command, flags.iter().copied().collect())).collect();
    for command in root.get_subcommands() {
        let flags: Vec<_> = command.get_arguments().filter(|arg| !arg.is_positional()).collect();
        let names: BTreeSet<String> = flags
            .iter()
            .map(|arg| arg.get_long().map_or_else(|| arg.get_short().unwrap().to_string(), str::to_owned))
            .collect();
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(names, listed[command.get_name()], "{}", command.get_name());
        for arg in flags {
            let name = arg.get_long().map_or_else(|| arg.get_short().unwrap().to_string(), str::to_owned);
            let value = if name == "parallelism" { "3" } else { "x" };
            let spellings = if arg.get_action().takes_values() {
                vec![format!("-{name} {value}"), format!("--{name} {value}"), format!("-{name}={value}")]
            } else {
                vec![
                    format!("-{name}"),
                    format!("--{name}"),
                    format!("-{name}=true"),
                    format!("-{name} -{name}"),
                ]
            };
            for spelling in spellings {
                let line = format!("{} {spelling}", command.get_name());
                let words = line.split(' ').map(OsString::from).collect();
                assert!(parse(words).is_ok(), "{line}");
            }
        }
    }
}

#[test]
fn environment_expansion_is_turned_off_by_its_flag() {
    let dir = tempfile::tempdir().unwrap();
    let config = b"dbs:\n- path: /data/$NAME.db\n  replica: {path: /r}\n";
    write(&*os::host().disk, &dir.path().join("c.yml"), config);
    let environment = environment(&[("NAME", "app")], dir.path());
    let line = |words: &[&str]| run(words.iter().map(OsString::from).collect(), &environment).stdout;
    assert!(line(&["databases", "-config", "c.yml"]).contains("/data/app.db"));
    assert!(line(&["databases", "-config", "c.yml", "-no-expand-env"]).contains("/data/$NAME.db"));
    assert!(line(&["status", "-config", "c.yml", "-no-expand-env"]).contains("/data/$NAME.db"));
}

/// Start scripts compute it.
#[test]
fn any_number_of_pieces_will_do() {
    for (text, expected) in [("3", 3), ("0", 1), ("-2", 1)] {
        let arguments = ["restore", "-parallelism", text, "app.db"].map(Into::into);
        let Ok(args::Command::Restore(restore)) = parse(arguments.into()) else { panic!("{text}") };
        assert_eq!(restore.parallelism.get(), expected);
    }
}

#[tokio::test]
async fn a_signal_ends_what_does_not_end() {
    struct After(Option<Signal>);
    impl Signals for After {
        fn next(&mut self) -> BoxFuture<'_, Signal> {
            let signal = self.0.take();
            Box::pin(async move {
                match signal {
                    Some(signal) => signal,
                    None => std::future::pending().await,
                }
            })
        }
    }
    let hangs = std::future::pending::<Result<()>>();
    let error = until_signal(&mut After(Some(Signal::Terminate)), hangs).await.unwrap_err();
    assert_eq!(error.to_string(), "stopped by signal 15");
    assert_eq!(until_signal(&mut After(None), async { Ok(7) }).await.unwrap(), 7);
}
