//! `replicate` as a service: signals, the child process, exit codes, directories, one-shot runs, metrics.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use conformance::process::{Process, Signal, wait_for};
use rusqlite::Connection;

use crate::scene::{PATIENCE, scrape};

/// A directory for databases, their replicas and a configuration.
pub struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The product with these arguments, in this directory and with nothing of the environment that matters.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_replicator"));
        command.args(arguments).current_dir(self.folder.path());
        for name in ["LITESTREAM_CONFIG", "LOG_LEVEL"] {
            command.env_remove(name);
        }
        hear_hangups(&mut command);
        command
    }

    /// Starts the product; its output goes to a file.
    pub fn start(&self, arguments: &[&str]) -> Process {
        Process::start(&mut self.command(arguments), &self.path("log")).unwrap()
    }

    /// Runs the product to its end. Returns its exit code and what it printed.
    pub fn run(&self, arguments: &[&str]) -> (i32, String) {
        let mut process = self.start(arguments);
        let status = process.wait(PATIENCE).unwrap();
        (code(status), process.output())
    }

    /// Opens a database as the application.
    pub fn app(&self, name: &str) -> Connection {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let db = Connection::open(path).unwrap();
        db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS t(x)").unwrap();
        db
    }

    /// Rows of a replica in a directory, after a restore.
    pub fn rows_in_replica(&self, replica: &str) -> i64 {
        let output = self.path("check.db");
        let _ = std::fs::remove_file(&output);
        let url = format!("file://{}", self.path(replica).display());
        let (code, text) = self.run(&["restore", "-o", "check.db", &url]);
        assert_eq!(code, 0, "{text}");
        rows(&output)
    }
}

pub fn rows(database: &Path) -> i64 {
    let db = Connection::open(database).unwrap();
    db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

pub fn insert(db: &Connection, count: i64) {
    for _ in 0..count {
        db.execute("INSERT INTO t VALUES (randomblob(100))", []).unwrap();
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
}

/// Whoever runs the tests may have them ignore hangups (`nohup`), and children inherit that.
fn hear_hangups(command: &mut Command) {
    let reset = || {
        // SAFETY: this is one system call, and has no effect on memory.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
        Ok(())
    };
    // SAFETY: between fork and exec nothing else is done.
    unsafe {
        command.pre_exec(reset);
    }
}

pub fn wait_for_text(process: &Process, text: &str) {
    wait_for(text, PATIENCE, || process.output().contains(text).then_some(())).unwrap();
}

#[test]
fn a_start_script_of_restore_then_replicate_exec_runs_unchanged() {
    let desk = Desk::new();
    desk.write("litestream.yml", "dbs:\n  - path: app.db\n    replicas:\n      - path: backup\n");
    desk.write("app.sh", "#!/bin/sh\nset -e\n\"$REPLICATOR\" version >/dev/null\nexit ${APP_CODE:-0}\n");
    let script = "set -e\n\"$REPLICATOR\" restore -if-replica-exists -if-db-not-exists -config litestream.yml app.db\n\
                  exec \"$REPLICATOR\" replicate -config litestream.yml -exec \"sh app.sh 'an argument'\"\n";
    let start = |app_code: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(desk.path("")).env("APP_CODE", app_code);
        command.env("REPLICATOR", env!("CARGO_BIN_EXE_replicator"));
        let mut process = Process::start(&mut command, &desk.path("log")).unwrap();
        let status = process.wait(PATIENCE).unwrap();
        (code(status), process.output())
    };
    // First start ever: no replica, no database; the child's code is ours.
    let (first, log) = start("0");
    assert_eq!(first, 0, "{log}");
    assert_eq!(start("7").0, 7);
    // Written while nothing ran, then a very short child: its end is followed by a final sync.
    let db = desk.app("app.db");
    insert(&db, 10);
    let (third, log) = start("0");
    assert_eq!(third, 0, "{log}");
    assert_eq!(desk.rows_in_replica("backup"), 10);
    // The machine is lost, the script brings the database back.
    drop(db);
    for name in ["app.db", "app.db-wal", "app.db-shm"] {
        let _ = std::fs::remove_file(desk.path(name));
    }
    std::fs::remove_dir_all(desk.path(".app.db-litestream")).unwrap();
    let (fourth, log) = start("0");
    assert_eq!(fourth, 0, "{log}");
    assert_eq!(rows(&desk.path("app.db")), 10);
}

#[test]
fn every_signal_ends_with_a_final_sync() {
    for signal in [Signal::Terminate, Signal::Interrupt, Signal::HangUp] {
        let desk = Desk::new();
        let db = desk.app("app.db");
        let url = format!("file://{}", desk.path("backup").display());
        let mut process = desk.start(&["replicate", "app.db", &url]);
        wait_for_text(&process, "full copy complete");
        insert(&db, 25);
        process.signal(signal).unwrap();
        let status = process.wait(PATIENCE).unwrap();
        assert_eq!(status.code(), Some(0), "{signal:?}: {}", process.output());
        assert_eq!(desk.rows_in_replica("backup"), 25, "{signal:?}");
    }
}

/// As under `nohup`, at the end of a terminal session.
#[test]
fn a_hangup_that_is_to_be_ignored_is_ignored() {
    let desk = Desk::new();
    let db = desk.app("app.db");
    let url = format!("file://{}", desk.path("backup").display());
    let program = env!("CARGO_BIN_EXE_replicator");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$@\"", "sh", program, "replicate", "app.db", &url]);
    let mut process = Process::start(command.current_dir(desk.path("")), &desk.path("log")).unwrap();
    wait_for_text(&process, "full copy complete");
    process.signal(Signal::HangUp).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(process.is_running(), "{}", process.output());
    insert(&db, 5);
    assert_eq!(process.terminate(PATIENCE).unwrap().code(), Some(0));
    assert_eq!(desk.rows_in_replica("backup"), 5);
}

#[test]
fn the_signal_reaches_the_child_and_its_death_by_it_is_no_failure() {
    let desk = Desk::new();
    let db = desk.app("app.db");
    let url = format!("file://{}", desk.path("backup").display());
    for (script, expected) in [("exec sleep 60", 0), ("trap 'exit 3' TERM; while :; do sleep 0.05; done", 3)]
    {
        desk.write("child.sh", &format!("echo child is up\n{script}\n"));
        let mut process = desk.start(&["replicate", "-exec", "sh child.sh", "app.db", &url]);
        wait_for_text(&process, "child is up");
        std::fs::write(desk.path("log"), "").unwrap();
        insert(&db, 5);
        process.signal(Signal::Terminate).unwrap();
        let status = process.wait(PATIENCE).unwrap();
        assert_eq!(status.code(), Some(expected), "{}", process.output());
    }
    assert_eq!(desk.rows_in_replica("backup"), 10);
}

#[test]
fn a_replica_that_stays_behind_is_told_by_the_exit_code() {
    let desk = Desk::new();
    let db = desk.app("app.db");
    insert(&db, 3);
    // The replica's directory cannot be made: a file is in its place.
    desk.write("blocked", "x");
    let config = format!(
        "shutdown-sync-timeout: 1s\ndbs:\n- path: app.db\n  replica: {{path: {}}}\n- path: good.db\n  replica: {{path: good}}\n",
        desk.path("blocked/backup").display()
    );
    desk.write("c.yml", &config);
    let good = desk.app("good.db");
    insert(&good, 4);
    let mut process = desk.start(&["replicate", "-config", "c.yml"]);
    wait_for_text(&process, "full copy complete");
    wait_for_text(&process, "level=ERROR");
    process.signal(Signal::Terminate).unwrap();
    let asked = std::time::Instant::now();
    let status = process.wait(PATIENCE).unwrap();
    assert!(asked.elapsed().as_secs() < 10, "the timeout of 1 s did not bound the stop");
    assert_eq!(status.code(), Some(1), "{}", process.output());
    assert!(process.output().contains("final sync failed"), "{}", process.output());
    // The broken one did not keep the other from being replicated.
    assert_eq!(desk.rows_in_replica("good"), 4);
}

#[test]
fn a_second_signal_ends_at_once() {
    let desk = Desk::new();
    let _db = desk.app("app.db");
    desk.write(
        "child.sh",
        "trap '' TERM\necho child is up\nwhile :; do sleep 0.05; kill -0 $PPID || exit; done\n",
    );
    let url = format!("file://{}", desk.path("backup").display());
    let mut process = desk.start(&["replicate", "-exec", "sh child.sh", "app.db", &url]);
    wait_for_text(&process, "child is up");
    process.signal(Signal::Terminate).unwrap();
    wait_for_text(&process, "sending signal");
    process.signal(Signal::Terminate).unwrap();
    let status = process.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(1), "{}", process.output());
    assert!(process.output().contains("second signal"), "{}", process.output());
}

/// A server reads its configuration again, and is stopped later.
#[test]
fn a_hangup_reloads_the_child_and_the_signal_after_it_still_stops_both() {
    let desk = Desk::new();
    let db = desk.app("app.db");
    let url = format!("file://{}", desk.path("backup").display());
    desk.write(
        "child.sh",
        "trap 'echo reloaded' HUP\ntrap 'echo told; exit 0' TERM\necho child is up\nwhile :; do sleep 0.05; done\n",
    );
    let mut process = desk.start(&["replicate", "-exec", "sh child.sh", "app.db", &url]);
    wait_for_text(&process, "child is up");
    process.signal(Signal::HangUp).unwrap();
    wait_for_text(&process, "reloaded");
    insert(&db, 5);
    process.signal(Signal::Terminate).unwrap();
    let status = process.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0), "{}", process.output());
    assert!(process.output().contains("told"), "{}", process.output());
    assert_eq!(desk.rows_in_replica("backup"), 5);
}

#[test]
fn the_second_signal_reaches_the_child_too() {
    let desk = Desk::new();
    let _db = desk.app("app.db");
    let url = format!("file://{}", desk.path("backup").display());
    desk.write(
        "child.sh",
        "trap 'echo one more' TERM\ntrap 'echo told at last; exit' INT\necho child is up\n\
         while :; do sleep 0.05; kill -0 $PPID || exit; done\n",
    );
    let mut process = desk.start(&["replicate", "-exec", "sh child.sh", "app.db", &url]);
    wait_for_text(&process, "child is up");
    process.signal(Signal::Terminate).unwrap();
    wait_for_text(&process, "one more");
    process.signal(Signal::Interrupt).unwrap();
    let status = process.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(1), "{}", process.output());
    wait_for_text(&process, "told at last");
}

#[test]
fn databases_of_a_watched_directory_come_and_go() {
    let desk = Desk::new();
    let first = desk.app("tenants/a.db");
    insert(&first, 1);
    desk.write(
        "c.yml",
        "dbs:\n- dir: tenants\n  pattern: '*.db'\n  recursive: true\n  watch: true\n  replica: {path: backup}\n",
    );
    let mut process = desk.start(&["replicate", "-config", "c.yml", "-log-level", "debug"]);
    wait_for_text(&process, "full copy complete");
    let second = desk.app("tenants/sub/b.db");
    insert(&second, 2);
    wait_for("a copy of b.db", PATIENCE, || desk.path("backup/sub/b.db/ltx/0").is_dir().then_some(()))
        .unwrap();
    drop(first);
    std::fs::remove_file(desk.path("tenants/a.db")).unwrap();
    wait_for_text(&process, "database is gone");
    insert(&second, 3);
    process.signal(Signal::Terminate).unwrap();
    let status = process.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0), "{}", process.output());
    assert_eq!(desk.rows_in_replica("backup/sub/b.db"), 5);
    assert_eq!(desk.rows_in_replica("backup/a.db"), 1);
}

#[test]
fn one_shot_replication_copies_what_there_is_and_fails_without_a_database() {
    let desk = Desk::new();
    let url = format!("file://{}", desk.path("backup").display());
    let (missing, log) = desk.run(&["replicate", "-once", "app.db", &url]);
    assert_eq!(missing, 1, "{log}");
    assert!(log.contains("Error: database does not exist"), "{log}");
    let db = desk.app("app.db");
    for expected in [4, 8] {
        insert(&db, 4);
        let (code, log) = desk.run(&["replicate", "-once", "app.db", &url]);
        assert_eq!(code, 0, "{log}");
        assert_eq!(desk.rows_in_replica("backup"), expected);
    }
}

#[test]
fn one_shot_replication_takes_a_snapshot_and_enforces_retention_when_told() {
    let desk = Desk::new();
    desk.write(
        "c.yml",
        "snapshot: {interval: 1ms, retention: 1ms}\ndbs:\n- path: app.db\n  replica: {path: backup}\n",
    );
    let db = desk.app("app.db");
    let once = |flags: &[&str]| {
        insert(&db, 2);
        let line: Vec<&str> =
            ["replicate", "-config", "c.yml", "-once"].iter().chain(flags).copied().collect();
        let (code, log) = desk.run(&line);
        assert_eq!(code, 0, "{log}");
        std::fs::write(desk.path("log"), "").unwrap();
    };
    let snapshots = || {
        let (code, text) = desk.run(&["ltx", "-config", "c.yml", "-level", "9", "app.db"]);
        assert_eq!(code, 0, "{text}");
        std::fs::write(desk.path("log"), "").unwrap();
        text.lines().filter(|line| line.starts_with("9 ")).map(str::to_owned).collect::<Vec<_>>()
    };
    once(&["-force-snapshot"]);
    let first = snapshots();
    assert_eq!(first.len(), 1);
    once(&["-force-snapshot"]);
    once(&["-force-snapshot", "-enforce-retention"]);
    // Everything before the newest snapshot that is past its time; the last one may be too young for that.
    let left = snapshots();
    assert!((1..=2).contains(&left.len()) && !left.contains(&first[0]), "{left:?}");
    assert_eq!(desk.rows_in_replica("backup"), 6);
}

/// With intervals of a day nothing of this is due by itself.
#[test]
fn the_flags_of_a_one_shot_run_take_snapshots_before_their_time_and_delete() {
    let desk = Desk::new();
    desk.write(
        "c.yml",
        "snapshot: {interval: 24h, retention: 24h}\ndbs:\n- path: app.db\n  replica: {path: backup}\n",
    );
    let db = desk.app("app.db");
    let snapshots_after = |flags: &[&str]| {
        insert(&db, 2);
        std::fs::write(desk.path("log"), "").unwrap();
        let line: Vec<&str> =
            ["replicate", "-config", "c.yml", "-once"].iter().chain(flags).copied().collect();
        let (code, log) = desk.run(&line);
        assert_eq!(code, 0, "{log}");
        let files = std::fs::read_dir(desk.path("backup/ltx/9"));
        // Beside the forced snapshot one may have become due by itself: the exit cut it off, and left its draft.
        let is_whole = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "ltx");
        let paths = files.into_iter().flatten().map(|file| file.unwrap().path());
        paths.filter(is_whole).collect::<Vec<_>>()
    };
    assert_eq!(snapshots_after(&[]).len(), 0);
    assert_eq!(snapshots_after(&["-force-snapshot"]).len(), 1);
    let first_two = snapshots_after(&["-force-snapshot"]);
    assert_eq!(first_two.len(), 2);
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3 * 24 * 3600);
    for file in &first_two {
        std::fs::File::options().write(true).open(file).unwrap().set_modified(long_ago).unwrap();
    }
    let left = snapshots_after(&["-force-snapshot", "-enforce-retention"]);
    // The second is what every promised moment before the third is restored from.
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(!left.contains(first_two.iter().min().unwrap()), "{left:?}");
    assert_eq!(desk.rows_in_replica("backup"), 8);
}

#[test]
fn an_absent_database_is_restored_before_the_child_starts() {
    let desk = Desk::new();
    let url = format!("file://{}", desk.path("backup").display());
    insert(&desk.app("app.db"), 6);
    assert_eq!(desk.run(&["replicate", "-once", "app.db", &url]).0, 0);
    let line = ["replicate", "-restore-if-db-not-exists", "-exec", "test -s copy.db", "copy.db", &url];
    let (code, log) = desk.run(&line);
    assert_eq!(code, 0, "{log}");
    assert_eq!(rows(&desk.path("copy.db")), 6);
    // A replica that cannot be restored is not one that is empty: the child must not start on an empty database.
    std::fs::remove_file(desk.path("copy.db")).unwrap();
    std::fs::remove_dir_all(desk.path(".copy.db-litestream")).unwrap();
    for level in std::fs::read_dir(desk.path("backup/ltx")).unwrap() {
        for file in std::fs::read_dir(level.unwrap().path()).unwrap() {
            std::fs::write(file.unwrap().path(), [0x55; 4096]).unwrap();
        }
    }
    let (code, log) =
        desk.run(&["replicate", "-restore-if-db-not-exists", "-exec", "touch started", "copy.db", &url]);
    assert_eq!(code, 1, "{log}");
    assert!(!desk.path("started").exists(), "{log}");
}

/// Deleted by a cleaner of temporary files, say. It used to fail for ever, until the next start.
#[test]
fn local_state_that_vanishes_while_running_is_made_anew() {
    let desk = Desk::new();
    let db = desk.app("app.db");
    let url = format!("file://{}", desk.path("backup").display());
    let mut process = desk.start(&["replicate", "app.db", &url]);
    wait_for_text(&process, "full copy complete");
    insert(&db, 3);
    // Else the upload may be who misses its file first, and a full copy heals that, too.
    wait_for("the rows", PATIENCE, || (desk.rows_in_replica("backup") == 3).then_some(())).unwrap();
    std::fs::remove_dir_all(desk.path(".app.db-litestream")).unwrap();
    insert(&db, 4);
    wait_for_text(&process, "opening the database anew");
    // A stop before the new full copy is complete fails, as it should.
    wait_for("the new full copy", PATIENCE, || (desk.rows_in_replica("backup") == 7).then_some(())).unwrap();
    insert(&db, 5);
    process.signal(Signal::Terminate).unwrap();
    let status = process.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0), "{}", process.output());
    assert_eq!(desk.rows_in_replica("backup"), 12);
}

#[test]
fn metrics_move_with_reality() {
    let desk = Desk::new();
    let db = desk.app("app.db");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    desk.write(
        "c.yml",
        &format!("addr: 127.0.0.1:{port}\ndbs:\n- path: app.db\n  replica: {{path: backup}}\n"),
    );
    let process = desk.start(&["replicate", "-config", "c.yml"]);
    let value = |name: &str| -> Option<f64> {
        let answer = scrape(port)?;
        let line = answer.lines().find(|line| line.starts_with(&format!("{name}{{")))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    let txid = wait_for("a first transaction", PATIENCE, || value("litestream_replica_txid")).unwrap();
    insert(&db, 1);
    wait_for("the next transaction", PATIENCE, || {
        (value("litestream_replica_txid")? > txid && value("litestream_replica_lag_seconds")? == 0.0)
            .then_some(())
    })
    .unwrap();
    assert!(value("litestream_db_size").unwrap() >= 8192.0);
    process.terminate(PATIENCE).unwrap();
}

#[test]
fn metrics_of_upkeep_agree_with_the_disk() {
    let desk = Desk::new();
    let db = desk.app("app.db");
    insert(&db, 20);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    desk.write(
        "c.yml",
        &format!(
            "addr: 127.0.0.1:{port}\nlevels: [{{interval: 1s}}, {{interval: 2s}}]\nl0-retention: 1h\ndbs:\n- path: app.db\n  \
             monitor-interval: 100ms\n  min-checkpoint-page-count: 5\n  replica: {{path: backup, sync-interval: 50ms}}\n"
        ),
    );
    let process = desk.start(&["replicate", "-config", "c.yml"]);
    let value = |sample: &str| -> Option<f64> {
        let answer = scrape(port)?;
        let line = answer.lines().find(|line| line.starts_with(sample))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    let level0 = || std::fs::read_dir(desk.path("backup/ltx/0")).map_or(0, Iterator::count);
    let name = desk.path("app.db").canonicalize().unwrap().display().to_string();
    // Before anything was committed under its eyes.
    let size = format!("litestream_db_size{{db=\"{name}\"}}");
    wait_for("the size", PATIENCE, || (value(&size)? >= 8192.0).then_some(())).unwrap();
    let passive = |family: &str| format!("litestream_checkpoint_{family}{{db=\"{name}\",mode=\"PASSIVE\"}}");
    let before = value(&passive("count")).unwrap();
    wait_for("checkpoints and a compaction", PATIENCE, || {
        insert(&db, 3);
        let done = value(&passive("count"))? > before + 2.0 && desk.path("backup/ltx/1").is_dir();
        done.then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{:?}\n{}", scrape(port), process.output()));
    let seconds = value(&passive("seconds")).unwrap();
    assert!(seconds > 0.0 && seconds < 60.0, "{seconds}");
    assert_eq!(value(&passive("error_count")), Some(0.0));
    assert!(value("litestream_sync_seconds{").unwrap() > 0.0);
    assert_eq!(value("litestream_compaction_verify_error_count{"), Some(0.0));
    // Nothing is committed any more: what is counted is what is there.
    let recent = "litestream_l0_retention_files_total{db=\"app.db\",status=\"too_recent\"}";
    wait_for("the count of level 0", PATIENCE, || (value(recent)? == level0() as f64).then_some(())).unwrap();
    // A file damaged behind its back is found by the next compaction that reads it, and counted. Level 1 is merged from
    // local files while they are there, so it is level 2 that reads.
    wait_for("the damage", PATIENCE, || {
        insert(&db, 1);
        let newest = std::fs::read_dir(desk.path("backup/ltx/1")).ok()?.map(|e| e.unwrap().path()).max()?;
        std::fs::write(newest, [0x55; 4096]).unwrap();
        (value("litestream_compaction_verify_error_count{")? >= 1.0).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", process.output()));
    process.terminate(PATIENCE).unwrap();
}

#[test]
fn the_log_goes_where_and_how_the_configuration_says() {
    let desk = Desk::new();
    let _db = desk.app("app.db");
    let run = |logging: &str, flags: &[&str], level: Option<&str>| {
        desk.write(
            "c.yml",
            &format!("{logging}\nunknown-key: 1\ndbs:\n- path: app.db\n  replica: {{path: backup}}\n"),
        );
        let mut command = desk.command(&["replicate", "-config", "c.yml", "-once"]);
        command.args(flags).envs(level.map(|level| ("LOG_LEVEL", level)));
        let output = command.output().unwrap();
        assert!(output.status.success());
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (out, err) = run("logging: {type: json}", &[], None);
    assert!(out.starts_with("{\"time\":\"") && err.is_empty(), "{out}{err}");
    assert!(out.contains("unknown-key: unknown key, ignored"), "{out}");
    let (out, err) = run("logging: {stderr: true, type: pretty}", &[], None);
    assert!(out.is_empty() && err.contains(" INF replicator version="), "{out}{err}");
    let (out, _) = run("logging: {level: error}", &[], None);
    assert_eq!(out, "");
    let (out, _) = run("logging: {level: error}", &[], Some("warn"));
    assert!(out.contains("level=WARN") && !out.contains("level=INFO"), "{out}");
    let (out, _) = run("logging: {level: error}", &["-log-level", "debug"], Some("warn"));
    assert!(out.contains("level=INFO"), "{out}");
}

#[test]
fn encryption_that_was_asked_for_is_not_left_out() {
    let desk = Desk::new();
    let _db = desk.app("app.db");
    desk.write(
        "c.yml",
        "dbs:\n- path: app.db\n  replicas:\n  - path: backup\n    age: {recipients: [age1x]}\n",
    );
    let (code, log) = desk.run(&["replicate", "-config", "c.yml", "-once"]);
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("line 5: age encryption") && !desk.path("backup").exists(), "{log}");
}
