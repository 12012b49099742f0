//! When something is sent: at once after a pause, never while nothing happens.

use std::time::{Duration, Instant};

use conformance::process::{Process, wait_for};
use conformance::server::{Server, Verb};
use conformance::site::Site;

use crate::scene::PATIENCE;
use crate::service::{Desk, insert, wait_for_text};

/// Replication with the default intervals (one second), and no merge that could fall into a test.
fn replicate(desk: &Desk, site: &Site) -> Process {
    let replica: String = site.lines.iter().map(|line| format!("      {line}\n")).collect();
    // Nor a checkpoint, which copies the rest of the log first.
    let text = format!(
        "levels:\n  - interval: 24h\ndbs:\n  - path: app.db\n    min-checkpoint-page-count: 1000000\n    replica:\n{replica}"
    );
    desk.write("c.yml", &text);
    let mut command = desk.command(&["replicate", "-config", "c.yml"]);
    command.envs(site.environment.iter().map(|(name, value)| (name, value)));
    let process = Process::start(&mut command, &desk.path("log")).unwrap();
    wait_for_text(&process, "full copy complete");
    // The interval after the full copy passes.
    std::thread::sleep(Duration::from_millis(1500));
    process
}

fn wait_for_puts(server: &Server, count: u64) {
    let what = format!("{count} uploads");
    wait_for(&what, PATIENCE, || (server.traffic().of(Verb::PutObject) >= count).then_some(())).unwrap();
}

#[test]
fn the_first_commit_after_a_pause_goes_out_at_once() {
    let (desk, site) = (Desk::new(), Site::embedded().unwrap());
    let db = desk.app("app.db");
    let server = site.server().unwrap();
    let daemon = replicate(&desk, &site);
    // The fastest of a few: a busy machine must not decide.
    let delays = (0..5).map(|_| {
        let _ = server.take_traffic();
        let committed = Instant::now();
        insert(&db, 1);
        wait_for_puts(server, 1);
        let delay = committed.elapsed();
        std::thread::sleep(Duration::from_millis(1200));
        delay
    });
    let fastest = delays.min().unwrap();
    assert!(fastest < Duration::from_millis(300), "a lone commit waits {fastest:?}");
    assert!(daemon.terminate(PATIENCE).unwrap().success());
}

#[test]
fn a_writer_without_a_pause_costs_one_upload_per_interval() {
    let (desk, site) = (Desk::new(), Site::embedded().unwrap());
    let db = desk.app("app.db");
    let server = site.server().unwrap();
    let daemon = replicate(&desk, &site);
    let _ = server.take_traffic();
    let begun = Instant::now();
    db.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0").unwrap();
    while begun.elapsed() < Duration::from_secs(4) {
        insert(&db, 1);
        // Often enough to meet every copy, and not so much that an interval's commits fill several files.
        std::thread::sleep(Duration::from_millis(2));
    }
    let seconds = begun.elapsed().as_secs();
    let puts = server.traffic().of(Verb::PutObject);
    assert!((2..=seconds + 2).contains(&puts), "{puts} uploads in {seconds} s");
    assert!(daemon.terminate(PATIENCE).unwrap().success());
}

#[test]
fn an_idle_database_makes_no_requests() {
    let (desk, site) = (Desk::new(), Site::embedded().unwrap());
    let db = desk.app("app.db");
    insert(&db, 10);
    let daemon = replicate(&desk, &site);
    let server = site.server().unwrap();
    let _ = server.take_traffic();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(server.traffic().total(), 0, "{:?}", server.traffic());
    insert(&db, 1);
    wait_for_puts(server, 1);
    std::thread::sleep(Duration::from_millis(1500));
    let _ = server.take_traffic();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(server.traffic().total(), 0, "{:?}", server.traffic());
    assert!(daemon.terminate(PATIENCE).unwrap().success());
}
