//! How the service ends when something is in its way: a store that hangs, a second writer, a database that is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use conformance::process::{Process, Signal, wait_for};
use conformance::server::{Outcome, RequestFacts};
use conformance::site::Site;

use crate::scene::{PATIENCE, scrape};
use crate::service::{Desk, insert, wait_for_text};

/// Only a child used to be looked at by the test of this; the wait for the store is as long as a shutdown timeout.
#[test]
fn a_second_signal_ends_a_final_sync_that_hangs() {
    let (desk, site) = (Desk::new(), Site::embedded().unwrap());
    let db = desk.app("app.db");
    let mut command = desk.command(&["replicate", "app.db", &site.url]);
    command.envs(site.environment.iter().cloned());
    let mut process = Process::start(&mut command, &desk.path("log")).unwrap();
    wait_for_text(&process, "full copy complete");
    site.server().unwrap().set_faults(Arc::new(|_: &RequestFacts| Outcome::Silence.into()));
    insert(&db, 1);
    process.signal(Signal::Terminate).unwrap();
    wait_for_text(&process, "signal received, shutting down");
    std::thread::sleep(Duration::from_secs(1));
    assert!(process.is_running(), "the final sync has to hang: {}", process.output());
    process.signal(Signal::Terminate).unwrap();
    let status = process.wait(Duration::from_secs(5)).unwrap();
    assert_eq!(status.code(), Some(1), "{}", process.output());
    assert!(process.output().contains("final sync skipped"), "{}", process.output());
}

/// A replicator whose database was deleted before the store had its last commits, because a file is in the place of the
/// replica.
fn deleted_before_its_upload(desk: &Desk) -> Process {
    let db = desk.app("tenants/a.db");
    desk.write(
        "c.yml",
        "shutdown-sync-timeout: 1s\ndbs:\n- dir: tenants\n  pattern: '*.db'\n  watch: true\n  \
         replica: {path: backup}\n",
    );
    let process = desk.start(&["replicate", "-config", "c.yml"]);
    wait_for_text(&process, "full copy complete");
    std::fs::rename(desk.path("backup"), desk.path("away")).unwrap();
    desk.write("backup", "x");
    insert(&db, 1);
    let copied = desk.path("tenants/.a.db-litestream/replicator");
    let is_copied = || {
        let mut names = std::fs::read_dir(&copied).unwrap().map(|entry| entry.unwrap().file_name());
        names.any(|name| name.to_string_lossy().starts_with("0000000000000002")).then_some(())
    };
    wait_for("commit on the local disk", PATIENCE, is_copied).unwrap();
    drop(db);
    for name in ["a.db", "a.db-wal", "a.db-shm"] {
        let _ = std::fs::remove_file(desk.path("tenants").join(name));
    }
    wait_for_text(&process, "the rest is being sent");
    process
}

/// The exit code used to be 0, and the loss a warning.
#[test]
fn a_database_deleted_before_its_upload_is_told_by_the_exit_code() {
    let desk = Desk::new();
    let mut process = deleted_before_its_upload(&desk);
    process.signal(Signal::Terminate).unwrap();
    let status = process.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(1), "{}", process.output());
}

/// It stayed on the local disk for ever.
#[test]
fn what_a_deleted_database_owes_is_in_the_replica_once_that_is_back() {
    let desk = Desk::new();
    let mut process = deleted_before_its_upload(&desk);
    std::fs::remove_file(desk.path("backup")).unwrap();
    std::fs::rename(desk.path("away"), desk.path("backup")).unwrap();
    wait_for_text(&process, "database is gone, replication stopped");
    process.signal(Signal::Terminate).unwrap();
    let status = process.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0), "{}", process.output());
    assert_eq!(desk.rows_in_replica("backup/a.db"), 1);
}

/// It used to go on for ever, with one line in the log.
#[test]
fn a_process_whose_every_replica_somebody_else_writes_ends_by_itself() {
    let desk = Desk::new();
    let (mine, other) = (desk.app("mine.db"), desk.app("other.db"));
    let url = format!("file://{}", desk.path("backup").display());
    let mut loser = desk.start(&["replicate", "mine.db", &url]);
    wait_for_text(&loser, "full copy complete");
    let mut command = desk.command(&["replicate", "other.db", &url]);
    let mut winner = Process::start(&mut command, &desk.path("winner.log")).unwrap();
    wait_for_text(&winner, "full copy complete");
    insert(&mine, 1);
    let status = loser.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(1), "{}", loser.output());
    assert!(loser.output().contains("was written by somebody else"), "{}", loser.output());
    insert(&other, 5);
    winner.signal(Signal::Terminate).unwrap();
    assert_eq!(winner.wait(PATIENCE).unwrap().code(), Some(0), "{}", winner.output());
    assert_eq!(desk.rows_in_replica("backup"), 5);
}

#[test]
fn one_of_several_that_lost_its_replica_does_not_stop_the_others_and_is_not_forgotten() {
    let desk = Desk::new();
    let (lost, kept, _other) = (desk.app("lost.db"), desk.app("kept.db"), desk.app("other.db"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    desk.write(
        "c.yml",
        &format!(
            "addr: 127.0.0.1:{port}\ndbs:\n- {{path: lost.db, replica: {{path: backup}}}}\n\
             - {{path: kept.db, replica: {{path: own}}}}\n"
        ),
    );
    let mut process = desk.start(&["replicate", "-config", "c.yml"]);
    let copies = || process.output().matches("full copy complete").count();
    wait_for("two full copies", PATIENCE, || (copies() == 2).then_some(())).unwrap();
    let url = format!("file://{}", desk.path("backup").display());
    let mut once = desk.command(&["replicate", "-once", "other.db", &url]);
    assert!(once.output().unwrap().status.success());
    insert(&lost, 1);
    wait_for_text(&process, "replication stopped");
    insert(&kept, 2);
    wait_for("its rows", PATIENCE, || (desk.rows_in_replica("own") == 2).then_some(())).unwrap();
    let failing = |name: &str, value: u8| {
        let path = desk.path(name).canonicalize().unwrap();
        format!("litestream_replica_failing{{db=\"{}\"}} {value}", path.display())
    };
    let metrics = scrape(port).unwrap();
    assert!(
        metrics.contains(&failing("lost.db", 1)) && metrics.contains(&failing("kept.db", 0)),
        "{metrics}"
    );
    assert!(process.is_running());
    process.signal(Signal::Terminate).unwrap();
    let asked = Instant::now();
    assert_eq!(process.wait(PATIENCE).unwrap().code(), Some(1), "{}", process.output());
    assert!(asked.elapsed() < Duration::from_secs(10), "nothing is left to wait for");
    assert!(process.output().contains("final sync failed"), "{}", process.output());
}

/// Found on Garage, whose answers took long enough: a signal that came before the database was opened ended with 0.
#[test]
fn a_stop_at_any_moment_of_the_start_tells_the_truth() {
    let mut told = (0, 0);
    for millis in (0..40).step_by(2).chain([60, 100, 200]) {
        let desk = Desk::new();
        insert(&desk.app("app.db"), 1);
        let url = format!("file://{}", desk.path("backup").display());
        let mut process = desk.start(&["replicate", "app.db", &url]);
        std::thread::sleep(Duration::from_millis(millis));
        process.signal(Signal::Terminate).unwrap();
        if process.wait(PATIENCE).unwrap().success() {
            assert_eq!(desk.rows_in_replica("backup"), 1, "after {millis} ms");
            told.0 += 1;
        } else {
            told.1 += 1;
        }
    }
    assert!(told.0 > 0 && told.1 > 0, "the moments are not spread over the start: {told:?}");
}

/// No look at the directory came in between: it was never heard of, and the exit code was 0.
#[test]
fn a_database_that_appears_right_before_the_end_is_part_of_the_final_sync() {
    for child in [false, true] {
        let desk = Desk::new();
        let _first = desk.app("tenants/first.db");
        desk.write(
            "c.yml",
            "dbs:\n- dir: tenants\n  pattern: '*.db'\n  watch: true\n  replica: {path: backups}\n",
        );
        let exec = ["-exec", "sh -c 'while ! [ -e stop ]; do sleep 0.01; done'"];
        let arguments = ["replicate", "-config", "c.yml"];
        let arguments = [&arguments[..], if child { &exec } else { &[] }].concat();
        let mut process = desk.start(&arguments);
        wait_for_text(&process, "full copy complete");
        insert(&desk.app("tenants/late.db"), 3);
        if child {
            desk.write("stop", "");
        } else {
            process.signal(Signal::Terminate).unwrap();
        }
        let status = process.wait(PATIENCE).unwrap();
        assert_eq!(status.code(), Some(0), "{}", process.output());
        assert_eq!(desk.rows_in_replica("backups/late.db"), 3);
    }
}
