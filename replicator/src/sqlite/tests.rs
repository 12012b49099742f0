//! The pin and the checkpoint cycle on real files, with a second connection as the application.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::*;
use crate::error::ErrorKind;
use crate::host::{os, with_suffix};
use crate::wal::Position;

struct Fixture {
    path: PathBuf,
    app: Connection,
    _dir: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let app = Connection::open(&path).unwrap();
    app.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA busy_timeout=0; CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB);",
    )
    .unwrap();
    Fixture { path, app, _dir: dir }
}

impl Fixture {
    fn insert(&self, rows: u32) {
        for _ in 0..rows {
            self.app.execute("INSERT INTO t(v) VALUES (randomblob(2000))", []).unwrap();
        }
    }

    fn checkpoint(&self, mode: &str) -> (i64, i64, i64) {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        self.app.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
    }

    fn open(&self) -> Box<Source> {
        match Source::open(&os::host(), &self.path, Duration::from_secs(1), None).unwrap() {
            Opened::Ready(source) => source,
            Opened::Absent => panic!("the database is there"),
        }
    }
}

fn copy_all(source: &Source) -> Position {
    let index = source.index().unwrap();
    let Some(header) = source.files().wal_header().unwrap() else { return Position::default() };
    let span = Span { from: Position::default(), max_frame: index.max_frame, max_bytes: u64::MAX };
    let batch = source.files().scan(header, span).unwrap().unwrap();
    assert_eq!(batch.end.checksum, index.frame_checksum);
    batch.end
}

fn image(view: &PinnedView) -> Vec<u8> {
    let mut all = Vec::new();
    let mut ahead = ReadAhead::default();
    for number in 1..=view.page_count {
        let page = view.page(crate::ltx::PageNumber(number), &mut ahead).unwrap();
        all.extend_from_slice(&page);
    }
    all
}

#[test]
fn a_pinned_log_cannot_be_restarted_and_writers_never_wait() {
    let app = fixture();
    let source = app.open();
    app.insert(20);
    let before = source.index().unwrap();
    for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
        app.checkpoint(mode);
        app.insert(3);
    }
    let after = source.index().unwrap();
    assert_eq!((before.salt1, before.salt2), (after.salt1, after.salt2));
    assert!(after.max_frame > before.max_frame);
    assert_eq!(copy_all(&source).frame, after.max_frame);
}

#[test]
fn a_complete_cycle_lets_the_log_restart_exactly_once() {
    let app = fixture();
    let mut source = app.open();
    app.insert(20);
    let old = source.index().unwrap();
    let outcome = source.checkpoint(CheckpointMode::Passive, |source| Ok(copy_all(source))).unwrap();
    assert_eq!(outcome, CheckpointOutcome::Complete);
    app.insert(1);
    let new = source.index().unwrap();
    assert_eq!(new.salt1, old.salt1.wrapping_add(1), "the next writer restarts the log");
    // Now nobody can restart it again, whatever the application tries, until we move the pin.
    for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
        let (_, _, copied) = app.checkpoint(mode);
        assert!(copied <= 0, "{mode} copied {copied} frames past lock 0");
        app.insert(2);
    }
    let last = source.index().unwrap();
    assert_eq!((last.salt1, last.salt2), (new.salt1, new.salt2));
    assert_eq!(copy_all(&source).frame, last.max_frame);
}

#[test]
fn a_long_reader_makes_the_cycle_partial_and_a_later_one_completes() {
    let app = fixture();
    let mut source = app.open();
    app.insert(5);
    let reader = Connection::open(&app.path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM t;").unwrap();
    app.insert(5);
    let outcome = source.checkpoint(CheckpointMode::Passive, |source| Ok(copy_all(source))).unwrap();
    assert!(matches!(outcome, CheckpointOutcome::Partial { log, copied } if copied < log), "{outcome:?}");
    reader.execute_batch("COMMIT").unwrap();
    let outcome = source.checkpoint(CheckpointMode::Passive, |source| Ok(copy_all(source))).unwrap();
    assert_eq!(outcome, CheckpointOutcome::Complete);
}

#[test]
fn a_blocking_cycle_completes_under_a_writer_and_releases_the_lock() {
    let app = fixture();
    let mut source = app.open();
    app.insert(5);
    let outcome = source
        .checkpoint(CheckpointMode::Blocking, |source| {
            assert!(app.app.execute("INSERT INTO t(v) VALUES (1)", []).is_err(), "the write lock is held");
            Ok(copy_all(source))
        })
        .unwrap();
    assert_eq!(outcome, CheckpointOutcome::Complete);
    app.insert(1);
}

#[test]
fn a_view_is_exact_with_and_without_frames_in_the_log() {
    let app = fixture();
    let mut source = app.open();
    app.insert(30);
    app.checkpoint("PASSIVE");
    app.insert(30);
    let view = source.view().unwrap();
    assert!(!view.overlay.is_empty());
    let with_log = image(&view);
    source.checkpoint(CheckpointMode::Passive, |source| Ok(copy_all(source))).unwrap();
    let view = source.view().unwrap();
    assert!(view.overlay.is_empty());
    assert_eq!(with_log, image(&view));
    assert_eq!(with_log, os_read(&app.path));
}

#[test]
fn a_long_view_stays_exact_while_the_database_moves_on() {
    let app = fixture();
    let mut source = app.open();
    app.insert(30);
    let long = source.long_view().unwrap();
    let before = image(&long.view);
    app.app.execute("UPDATE t SET v = randomblob(2000)", []).unwrap();
    source.move_pin().unwrap();
    app.checkpoint("FULL");
    source.checkpoint(CheckpointMode::Passive, |source| Ok(copy_all(source))).unwrap();
    assert_eq!(before, image(&long.view));
}

#[test]
fn replacing_the_file_is_noticed() {
    let app = fixture();
    let source = app.open();
    assert!(!source.is_replaced().unwrap());
    let other = app.path.with_file_name("other.db");
    drop(Connection::open(&other).unwrap());
    rename(&other, &app.path);
    assert!(source.is_replaced().unwrap());
    let Err(error) = source.long_view() else { panic!("a view of one file, pinned by a reader of another") };
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
}

/// It used to be a panic.
#[test]
fn any_busy_timeout_will_do() {
    let app = fixture();
    let opened = Source::open(&os::host(), &app.path, Duration::from_secs(30 * 24 * 3600), None).unwrap();
    assert!(matches!(opened, Opened::Ready(_)));
}

#[test]
fn what_is_no_database_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    let open = || Source::open(&os::host(), &path, Duration::from_secs(1), None);
    assert!(matches!(open().unwrap(), Opened::Absent));
    os_write(&path, b"");
    assert!(matches!(open().unwrap(), Opened::Absent));
    os_write(&path, &[7; 8192]);
    let Err(error) = open() else { panic!("opened garbage") };
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("x.db"), "{error}");
}

#[expect(clippy::disallowed_methods, reason = "the test stands for another program")]
fn os_read(path: &std::path::Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the test stands for another program")]
fn os_write(path: &std::path::Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the test stands for another program")]
fn rename(from: &std::path::Path, to: &std::path::Path) {
    std::fs::rename(from, to).unwrap();
}

/// Whether another process would find SQLite's shared lock of this process on the database file. A child asks the
/// kernel, because a process does not see its own locks, and POSIX locks are not inherited.
fn another_process_sees_our_lock(path: &std::path::Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the child calls nothing but open, fcntl and _exit, which are safe after fork in a threaded process.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            let fd = libc::open(path.as_ptr(), libc::O_RDWR);
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = libc::F_WRLCK as libc::c_short;
            lock.l_whence = libc::SEEK_SET as libc::c_short;
            lock.l_start = 0x4000_0002;
            lock.l_len = 510;
            let asked = libc::fcntl(fd, libc::F_GETLK, &raw mut lock);
            let held = asked == 0 && lock.l_type != libc::F_UNLCK as libc::c_short;
            libc::_exit(i32::from(held));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        assert!(libc::WIFEXITED(status));
        libc::WEXITSTATUS(status) == 1
    }
}

#[test]
fn our_locks_survive_everything_we_do_with_the_files() {
    let app = fixture();
    app.insert(10);
    let mut source = app.open();
    drop(app.app);
    assert!(another_process_sees_our_lock(&app.path));
    drop(source.long_view().unwrap());
    source.move_pin().unwrap();
    source.checkpoint(CheckpointMode::Passive, |source| Ok(copy_all(source))).unwrap();
    assert!(!source.is_replaced().unwrap());
    assert!(another_process_sees_our_lock(&app.path));
    // A later session takes over the descriptor, so closing the earlier one closes nothing that is still needed.
    let files = Arc::clone(source.files());
    drop(source);
    let again = Source::open(&os::host(), &app.path, Duration::from_secs(1), Some(&files)).unwrap();
    drop(files);
    assert!(another_process_sees_our_lock(&app.path));
    // The trap itself: any other descriptor, once closed, takes the locks with it.
    drop(os::host().disk.open(&app.path, crate::host::OpenMode::Read).unwrap());
    assert!(!another_process_sees_our_lock(&app.path), "the check can fail");
    drop(again);
}

/// Simulated seed 21060054: a power loss in the middle of a checkpoint spoiled the first sector of the database file. The
/// log has page 1, and SQLite opens the database.
#[test]
fn a_first_page_that_only_the_log_has_is_enough() {
    let f = fixture();
    f.insert(3);
    let disk = os::host().disk;
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("app.db");
    for suffix in ["", "-wal"] {
        let from = disk.open(&with_suffix(&f.path, suffix), crate::host::OpenMode::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(from.metadata().unwrap().len).unwrap()];
        from.read_exact_at(&mut bytes, 0).unwrap();
        if suffix.is_empty() {
            bytes[..512].fill(0xee);
        }
        let to = disk.open(&with_suffix(&copy, suffix), crate::host::OpenMode::Create).unwrap();
        to.write_all_at(&bytes, 0).unwrap();
    }
    let open = || Source::open(&os::host(), &copy, Duration::from_secs(1), None);
    let Opened::Ready(source) = open().unwrap() else { panic!("it is there") };
    assert_eq!(image(&source.view().unwrap()), image(&f.open().view().unwrap()));
    drop(source);
    disk.remove_file(&with_suffix(&copy, "-wal")).unwrap();
    assert_eq!(open().err().map(|error| error.kind()), Some(ErrorKind::Corrupt));
}

/// A power loss in the middle of leaving WAL mode, or of entering it, can leave this: a header that says WAL, and a hot
/// journal that says otherwise.
#[test]
fn a_hot_journal_that_ends_wal_mode_leaves_no_wal_index_behind() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let app = Connection::open(at("app.db")).unwrap();
    app.execute_batch("CREATE TABLE t(v); PRAGMA cache_size=1; BEGIN; CREATE TABLE u(v)").unwrap();
    app.execute("INSERT INTO u VALUES (randomblob(1000000))", []).unwrap();
    let (mut file, journal) = (os_read(&at("app.db")), os_read(&at("app.db-journal")));
    drop(app);
    file[18..20].copy_from_slice(&[2, 2]);
    os_write(&at("copy.db"), &file);
    os_write(&at("copy.db-journal"), &journal);
    let open = || Source::open(&os::host(), &at("copy.db"), Duration::from_secs(1), None);
    let Err(error) = open() else { panic!("followed without a log") };
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    let is_there = |name: &str| os::host().disk.metadata(&at(name)).is_ok();
    assert!(!is_there("copy.db-journal"), "it was played back");
    assert!(!is_there("copy.db-shm"), "nobody would ever unmap it");
    assert!(matches!(open().unwrap(), Opened::Ready(_)), "switched to WAL mode");
}

/// A checkpoint of ours by a WAL-index that nobody else has any more would write old frames into the database.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test stands for an operator")]
fn a_deleted_wal_index_is_noticed() {
    let app = fixture();
    app.insert(3);
    let source = app.open();
    assert!(!source.is_replaced().unwrap());
    let Fixture { path, app, _dir } = app;
    drop(app);
    std::fs::remove_file(with_suffix(&path, "-shm")).unwrap();
    assert!(source.is_replaced().unwrap(), "absent");
    drop(source);
    let app = Connection::open(&path).unwrap();
    app.execute("INSERT INTO t(v) VALUES (1)", []).unwrap();
    let fixture = Fixture { path, app, _dir };
    let source = fixture.open();
    assert!(!source.is_replaced().unwrap(), "the new one is ours");
}

/// SQLite lets the connections of a process share the index of those that are open already.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test stands for an operator")]
fn a_reader_that_is_left_over_does_not_lend_a_deleted_index() {
    let Fixture { path, app, _dir } = fixture();
    let open = |previous: &SourceFiles| {
        let opened = Source::open(&os::host(), &path, Duration::from_secs(1), Some(previous));
        opened.map(|opened| matches!(opened, Opened::Ready(_)))
    };
    let Ok(Opened::Ready(source)) = Source::open(&os::host(), &path, Duration::from_secs(1), None) else {
        panic!("the database is there")
    };
    let long = source.long_view().unwrap();
    let files = Arc::clone(source.files());
    drop((app, source));
    assert!(open(&files).unwrap(), "the index is the same");
    std::fs::remove_file(with_suffix(&path, "-shm")).unwrap();
    let error = open(&files).unwrap_err();
    assert!(error.kind() == ErrorKind::Transient && error.to_string().contains("WAL-index"), "{error}");
    drop(long);
    assert!(open(&files).unwrap());
}

#[test]
fn a_log_that_was_emptied_is_in_nobodys_way() {
    let app = fixture();
    app.insert(3);
    let mut source = app.open();
    let position = copy_all(&source);
    let outcome = source.checkpoint(CheckpointMode::Passive, |source| Ok(copy_all(source))).unwrap();
    assert_eq!(outcome, CheckpointOutcome::Complete);
    assert_eq!(app.checkpoint("TRUNCATE").0, 0, "not busy");
    assert_eq!(source.index().unwrap().max_frame, 0);
    assert!(!source.is_in_the_way(), "moving the pin would lose the proof that");
    assert!(source.was_complete_at(&position), "what comes next follows on what was copied");
}

#[test]
fn a_writer_that_does_not_end_puts_a_blocking_checkpoint_off() {
    let app = fixture();
    app.insert(3);
    let mut source = app.open();
    app.app.execute_batch("BEGIN IMMEDIATE").unwrap();
    let never = |_: &Source| -> crate::error::Result<Position> { unreachable!("there is no write lock") };
    assert_eq!(source.checkpoint(CheckpointMode::Blocking, never).unwrap(), CheckpointOutcome::Busy);
    app.app.execute_batch("COMMIT").unwrap();
    assert_eq!(app.checkpoint("RESTART").0, 1, "the log is still pinned");
    let outcome = source.checkpoint(CheckpointMode::Blocking, |source| Ok(copy_all(source))).unwrap();
    assert_eq!(outcome, CheckpointOutcome::Complete);
}

/// A process that holds SQLite's shared lock, as one does that has a database in WAL mode open, until it is killed.
struct Elsewhere(libc::pid_t);

impl Elsewhere {
    fn new(path: &std::path::Path) -> Self {
        use std::os::unix::ffi::OsStrExt as _;
        let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
        let mut ends = [0; 2];
        // SAFETY: the child calls nothing but open, fcntl, write, pause and _exit, which are safe after fork in a threaded
        // process; the parent reads one byte into a buffer of one.
        unsafe {
            assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
            let child = libc::fork();
            if child == 0 {
                let fd = libc::open(path.as_ptr(), libc::O_RDWR);
                let mut lock: libc::flock = std::mem::zeroed();
                lock.l_type = libc::F_RDLCK as libc::c_short;
                lock.l_whence = libc::SEEK_SET as libc::c_short;
                lock.l_start = 0x4000_0002;
                lock.l_len = 510;
                if libc::fcntl(fd, libc::F_SETLK, &raw mut lock) == 0 {
                    libc::write(ends[1], [1_u8].as_ptr().cast(), 1);
                    libc::pause();
                }
                libc::_exit(1);
            }
            libc::close(ends[1]);
            let mut byte = [0_u8];
            assert_eq!(libc::read(ends[0], byte.as_mut_ptr().cast(), 1), 1, "it has the lock");
            libc::close(ends[0]);
            Self(child)
        }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // SAFETY: the child is ours and is waited for once.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// Another WAL-index was made beside the one that the application goes on with: none of its commits was seen, all was
/// claimed, and the next checkpoint wrote old frames over new pages.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test stands for an operator")]
fn no_second_index_is_made_beside_one_that_was_deleted() {
    let Fixture { path, app, _dir } = fixture();
    app.execute("INSERT INTO t(v) VALUES (1)", []).unwrap();
    app.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    drop(app);
    let elsewhere = Elsewhere::new(&path);
    let open = || Source::open(&os::host(), &path, Duration::from_secs(1), None);
    assert!(matches!(open(), Ok(Opened::Ready(_))), "the index is there");
    std::fs::remove_file(with_suffix(&path, "-shm")).unwrap();
    let error = open().err().expect("the index is the application's alone");
    assert!(error.kind() == ErrorKind::Transient && error.to_string().contains("restart"), "{error}");
    assert!(!with_suffix(&path, "-shm").exists());
    drop(elsewhere);
    assert!(matches!(open(), Ok(Opened::Ready(_))));
}
