//! What is wrong around the replicator is told, and costs nothing that it need not cost.

use std::os::unix::fs::FileExt as _;

use conformance::process::Signal;

use crate::scene::PATIENCE;
use crate::service::{Desk, insert, wait_for_text};

/// A file where the directory for local state should be: as loud and as passing as a directory that is read-only.
#[test]
fn local_state_that_cannot_be_kept_is_told_and_replication_begins_once_it_can() {
    let desk = Desk::new();
    let db = desk.app("app.db");
    desk.write(".app.db-litestream", "x");
    let url = format!("file://{}", desk.path("backup").display());
    let mut process = desk.start(&["replicate", "app.db", &url]);
    wait_for_text(&process, "level=ERROR");
    assert!(process.output().contains(".app.db-litestream"), "{}", process.output());
    insert(&db, 3);
    std::fs::remove_file(desk.path(".app.db-litestream")).unwrap();
    wait_for_text(&process, "full copy complete");
    process.signal(Signal::Terminate).unwrap();
    assert_eq!(process.wait(PATIENCE).unwrap().code(), Some(0), "{}", process.output());
    assert_eq!(desk.rows_in_replica("backup"), 3);
}

#[test]
fn a_database_written_by_an_sqlite_that_can_corrupt_it_is_warned_about() {
    let desk = Desk::new();
    let url = format!("file://{}", desk.path("backup").display());
    let once_as = |version: u32| {
        let db = desk.app("app.db");
        insert(&db, 1);
        drop(db);
        // The application's library leaves its version number in bytes 96 to 99 of the file.
        let file = std::fs::File::options().write(true).open(desk.path("app.db")).unwrap();
        file.write_all_at(&version.to_be_bytes(), 96).unwrap();
        let _ = std::fs::remove_file(desk.path("log"));
        let (code, log) = desk.run(&["replicate", "-once", "app.db", &url]);
        assert_eq!(code, 0, "{log}");
        log
    };
    let log = once_as(3_045_000);
    assert!(log.contains("level=WARN") && log.contains("3.45.0") && log.contains("WAL reset bug"), "{log}");
    let log = once_as(3_052_000);
    assert!(!log.contains("WAL reset bug"), "{log}");
}
