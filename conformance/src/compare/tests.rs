//! Each judgement is shown to fail on a database mutilated in just that way.

use std::path::PathBuf;

use super::*;
use crate::workload::{Action, Settings, Workload};

/// A finished application: its folder, its file and its history.
struct App {
    folder: tempfile::TempDir,
    path: PathBuf,
    history: History,
}

fn app(steps: usize) -> App {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let mut history = History::new();
    let db = Connection::open(&path).unwrap();
    let mut workload = Workload::start(db, Settings::ordinary(), 11, 0, &mut history).unwrap();
    workload.perform(Action::Grow, &mut history).unwrap();
    for _ in 0..steps {
        workload.step(&mut history).unwrap();
    }
    workload.close().unwrap();
    App { folder, path, history }
}

impl App {
    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    /// Continues with a connection of its own, leaves the last commits in the WAL, and returns a copy of that WAL.
    fn go_on(&mut self, actions: &[Action]) -> Vec<u8> {
        let mut settings = Settings::ordinary();
        settings.autocheckpoint_pages = 0;
        let db = Connection::open(&self.path).unwrap();
        let mut workload = Workload::start(db, settings, 12, 0, &mut self.history).unwrap();
        for action in actions {
            workload.perform(*action, &mut self.history).unwrap();
        }
        let wal = std::fs::read(self.folder.path().join("app.db-wal")).unwrap();
        workload.close().unwrap();
        wal
    }
}

#[test]
fn a_faithful_copy_is_accepted() {
    let app = app(40);
    let state = judge(&app.path, &app.history, app.history.committed()).unwrap();
    assert_eq!(state.seq, app.history.committed());
    assert_eq!(judge_image(&app.bytes(), &app.history, 0), Ok(state));
}

#[test]
fn missing_index_rows_are_damage() {
    let app = app(10);
    let db = Connection::open(&app.path).unwrap();
    // The index is hidden from a deletion, and put back.
    db.execute_batch(
        "PRAGMA writable_schema = ON;
         CREATE TABLE kept AS SELECT rowid AS place, sql FROM sqlite_schema WHERE name = 't0_by_name';
         UPDATE sqlite_schema SET sql = replace(sql, 'ON t0(name)', 'ON t0(name) WHERE number < 0')
         WHERE name = 't0_by_name';",
    )
    .unwrap();
    drop(db);
    let db = Connection::open(&app.path).unwrap();
    db.execute_batch(
        "UPDATE t0 SET name = 'moved' WHERE id = (SELECT min(id) FROM t0);
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = (SELECT sql FROM kept) WHERE name = 't0_by_name';
         DROP TABLE kept;",
    )
    .unwrap();
    drop(db);
    let wrong = judge(&app.path, &app.history, 0).unwrap_err();
    assert!(
        matches!(&wrong, Wrong::Damaged(lines) if lines.iter().any(|line| line.contains("t0_by_name"))),
        "{wrong}"
    );
}

#[test]
fn content_changed_behind_the_applications_back_is_a_mixture() {
    let app = app(10);
    let db = Connection::open(&app.path).unwrap();
    db.execute_batch("UPDATE t0 SET number = number + 1 WHERE id = (SELECT max(id) FROM t0)").unwrap();
    drop(db);
    assert!(matches!(judge(&app.path, &app.history, 0), Err(Wrong::Mixture { .. })));
}

#[test]
fn pages_of_two_states_are_no_state() {
    let mut app = app(10);
    let old = app.bytes();
    app.go_on(&[Action::Update, Action::Update, Action::Insert, Action::UpdateOne]);
    let new = app.bytes();
    let mut caught = 0;
    let pages = old.len().min(new.len()) / 4096;
    for page in 0..pages {
        let range = page * 4096..(page + 1) * 4096;
        if old[range.clone()] == new[range.clone()] {
            continue;
        }
        let mut mixed = new.clone();
        mixed[range.clone()].copy_from_slice(&old[range]);
        let wrong = judge_image(&mixed, &app.history, 0).expect_err("a page of another state");
        assert!(
            matches!(wrong, Wrong::Damaged(_) | Wrong::Mixture { .. } | Wrong::Unreadable(_)),
            "page {}: {wrong}",
            page + 1
        );
        caught += 1;
    }
    assert!(caught >= 3, "only {caught} pages differed");
}

#[test]
fn a_torn_page_is_caught() {
    let mut app = app(10);
    let old = app.bytes();
    app.go_on(&[Action::Update, Action::Update, Action::Insert]);
    let new = app.bytes();
    let changed = (0..old.len().min(new.len()) / 512).filter(|sector| {
        let range = sector * 512..(sector + 1) * 512;
        // Page 1's first sector holds counters that no content depends on.
        *sector > 0 && old[range.clone()] != new[range]
    });
    let mut torn = 0;
    for sector in changed {
        let range = sector * 512..(sector + 1) * 512;
        let mut image = new.clone();
        image[range.clone()].copy_from_slice(&old[range]);
        // A sector may hold only bytes that are free in both states; any other tear must show.
        if judge_image(&image, &app.history, 0).is_err() {
            torn += 1;
        }
    }
    assert!(torn >= 3, "only {torn} tears were seen");
}

#[test]
fn an_old_state_is_refused_only_if_a_newer_one_was_promised() {
    let mut app = app(10);
    let (old, seq) = (app.bytes(), app.history.committed());
    app.go_on(&[Action::Insert]);
    assert_eq!(judge_image(&old, &app.history, 0).unwrap().seq, seq);
    assert_eq!(judge_image(&old, &app.history, seq + 1), Err(Wrong::Old { seq, at_least: seq + 1 }));
}

#[test]
fn a_state_that_never_was_is_unknown() {
    let mut app = app(10);
    let seq = app.history.committed();
    let earlier = std::mem::take(&mut app.history);
    app.go_on(&[Action::Insert]);
    let wrong = judge(&app.path, &earlier, 0).unwrap_err();
    assert_eq!(wrong, Wrong::Unknown { seq: seq + 1, newest: seq });
}

#[test]
fn an_empty_database_and_a_text_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    std::fs::write(&path, "this is not a database, and long enough to look at").unwrap();
    assert!(matches!(judge(&path, &History::new(), 0), Err(Wrong::Unreadable(_))));
    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE other(x)").unwrap();
    assert_eq!(judge(&path, &History::new(), 0), Err(Wrong::NoMark));
    assert!(matches!(judge(&folder.path().join("absent"), &History::new(), 0), Err(Wrong::Unreadable(_))));
}

#[test]
fn a_stale_wal_beside_the_file_is_refused() {
    let mut app = app(10);
    let old = app.bytes();
    let wal = app.go_on(&[Action::Insert, Action::Update]);
    std::fs::write(&app.path, &old).unwrap();
    std::fs::write(app.folder.path().join("app.db-wal"), wal).unwrap();
    assert!(matches!(judge(&app.path, &app.history, 0), Err(Wrong::SideFile(_))));
}

#[test]
fn differing_pages_are_named() {
    let app = app(10);
    let bytes = app.bytes();
    assert_eq!(same_pages(4096, &bytes, &bytes), Ok(()));
    let mut other = bytes.clone();
    other[4096 * 2 + 17] ^= 1;
    assert_eq!(same_pages(4096, &bytes, &other), Err(PageDifference::Pages { count: 1, first: vec![3] }));
    other.truncate(4096);
    assert!(matches!(same_pages(4096, &bytes, &other), Err(PageDifference::Size { .. })));
}
