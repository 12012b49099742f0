//! Every kind of output path, and what lies beside it.

use super::faults::{FaultyBucket, Get};
use super::*;

async fn restore_golden(options: Options) -> Result<Report> {
    restore(&directory(golden::set("0.5.17-4096")), options).await
}

#[tokio::test]
async fn an_existing_database_is_left_alone_refused_or_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("a.db");
    write(&output, b"mine");
    let kept = Options { if_db_not_exists: true, ..Options::new(&output) };
    assert_eq!(restore_golden(kept).await.unwrap(), Report::OutputExists);
    let error = restore_golden(Options::new(&output)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.message().contains("-force"), "{error}");
    assert_eq!(read(&output), b"mine");

    let disk = crate::host::os::host().disk;
    let owner = disk.metadata(&output).unwrap();
    disk.set_permissions(&output, 0o640, owner.uid, owner.gid).unwrap();
    write(&dir.path().join("a.db-wal"), &[1; 5000]);
    write(&dir.path().join("a.db-shm"), &[1; 5000]);
    write(&dir.path().join("a.db-journal"), &[1; 5000]);
    restore_golden(Options { force: true, ..Options::new(&output) }).await.unwrap();
    assert_eq!(names(dir.path()), ["a.db"]);
    assert_eq!(disk.metadata(&output).unwrap().mode, 0o640);
}

/// D2: the database is gone (or empty), its log is not.
#[tokio::test]
async fn a_log_without_its_database_is_never_replayed_into_the_result() {
    let journal = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7, 0, 0, 0, 1];
    let wal = [0; 32 + 24 + 4096];
    for empty_output in [false, true] {
        for (suffix, content) in [("-wal", &wal[..]), ("-journal", &journal[..])] {
            let dir = tempfile::tempdir().unwrap();
            let output = dir.path().join("a.db");
            if empty_output {
                write(&output, b"");
            }
            let leftover = dir.path().join(format!("a.db{suffix}"));
            write(&leftover, content);
            let error = restore_golden(Options::new(&output)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
            assert!(error.message().contains(leftover.to_str().unwrap()), "{error}");
            assert_eq!(read(&leftover), content, "it may hold the only copy of commits");
            restore_golden(Options { force: true, ..Options::new(&output) }).await.unwrap();
            assert_eq!(names(dir.path()), ["a.db"]);
        }
    }
}

#[tokio::test]
async fn leftovers_without_data_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a.db-wal"), &[1; 32]);
    write(&dir.path().join("a.db-shm"), &[1; 32768]);
    write(&dir.path().join("a.db-journal"), &[0; 512]);
    restore_golden(Options::new(dir.path().join("a.db"))).await.unwrap();
    assert_eq!(names(dir.path()), ["a.db"]);
}

/// A restore of a 0.3.x replica was killed, and the next one is of LTX files.
#[tokio::test]
async fn what_a_killed_restore_of_either_format_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.db.tmp", "a.db.tmp-object", "a.db.tmp-wal"] {
        write(&dir.path().join(name), b"unfinished");
    }
    restore_golden(Options::new(dir.path().join("a.db"))).await.unwrap();
    assert_eq!(names(dir.path()), ["a.db"]);
}

#[tokio::test]
async fn a_database_that_appears_during_the_restore_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("a.db");
    let new = output.clone();
    let bucket: Arc<dyn Bucket> = FaultyBucket::get(&directory(golden::set("0.5.17-4096")), move |_, _| {
        write(&new, b"a new life");
        Get::Normal
    });
    let error = restore(&bucket, Options::new(&output)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert_eq!(read(&output), b"a new life");
    assert_eq!(names(dir.path()), ["a.db"]);
}

#[tokio::test]
async fn a_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for force in [false, true] {
        let error = restore_golden(Options { force, ..Options::new(dir.path()) }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.message().contains("is a directory"), "{error}");
    }
}

#[tokio::test]
async fn a_parent_that_is_a_file_is_a_local_error_not_a_missing_replica() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("file"), b"x");
    let flags = Options { if_replica_exists: true, ..Options::new(dir.path().join("file/a.db")) };
    let error = restore_golden(flags).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
}

/// A rename would replace the link, and leave the database where the link led.
#[tokio::test]
async fn a_link_is_followed() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write(&at("old.db"), b"old");
    write(&at("old.db-wal"), &[1; 5000]);
    symlink("old.db", at("link.db")).unwrap();
    symlink(at("volume/new.db"), at("dangling.db")).unwrap();
    symlink("dangling.db", at("second.db")).unwrap();
    let error = restore_golden(Options::new(at("link.db"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    restore_golden(Options { force: true, ..Options::new(at("link.db")) }).await.unwrap();
    restore_golden(Options::new(at("second.db"))).await.unwrap();
    assert_eq!(names(dir.path()), ["dangling.db", "link.db", "old.db", "second.db", "volume"]);
    assert_eq!(names(&at("volume")), ["new.db"]);
    for name in ["dangling.db", "link.db", "second.db"] {
        assert!(at(name).is_symlink(), "{name}");
    }
    assert!(read(&at("old.db")).len() > 4096 && read(&at("old.db")) == read(&at("volume/new.db")));

    symlink("loop.db", at("loop.db")).unwrap();
    let error = restore_golden(Options::new(at("loop.db"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.message().contains("loop.db is a link that leads nowhere"), "{error}");
}

/// Not even while it is being restored.
#[tokio::test]
async fn what_replaces_a_private_database_is_private_from_the_first_byte() {
    for (name, replaced, expected) in [
        ("0.5.17-4096", Some(0o600), &[("a.db.tmp", 0o600)][..]),
        ("0.5.17-4096", Some(0o644), &[("a.db.tmp", 0o600)]),
        ("0.3.13-4096", None, &[("a.db.tmp-object", 0o600), ("a.db.tmp-wal", 0o600)]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("a.db");
        let disk = crate::host::os::host().disk;
        if let Some(mode) = replaced {
            write(&output, b"mine");
            let owner = disk.metadata(&output).unwrap();
            disk.set_permissions(&output, mode, owner.uid, owner.gid).unwrap();
        }
        let (seen, directory_there) = (Arc::new(std::sync::Mutex::new(0)), dir.path().to_owned());
        let count = seen.clone();
        let bucket: Arc<dyn Bucket> = FaultyBucket::get(&directory(golden::set(name)), move |_, _| {
            let disk = crate::host::os::host().disk;
            for (file, mode) in expected {
                let facts = disk.metadata(&directory_there.join(file)).unwrap();
                assert_eq!(format!("{:o}", facts.mode), format!("{mode:o}"), "{file}");
                *count.lock().unwrap() += 1;
            }
            Get::Normal
        });
        restore(&bucket, Options { force: true, ..Options::new(&output) }).await.unwrap();
        assert!(*seen.lock().unwrap() > 0);
        if let Some(mode) = replaced {
            assert_eq!(disk.metadata(&output).unwrap().mode, mode);
        }
    }
}

/// The pages of a database, as one file of level 0.
fn whole(sql: &str) -> synthetic::File {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let image = read(&path);
    let pages = (1..).zip(image.chunks(4096).map(<[u8]>::to_vec));
    synthetic::file_of(0, (1, 1), 4096, u32::try_from(image.len() / 4096).unwrap(), pages)
}

/// A check that SQLite cannot make was not passed.
#[tokio::test]
async fn the_report_names_the_check_that_was_made() {
    const TABLE: &str = "CREATE TABLE t (a); INSERT INTO t VALUES (1);";
    let unknown = format!(
        "{TABLE} PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE t (a, b AS (mine(a)) NOT NULL)';"
    );
    for (sql, check) in [(TABLE, IntegrityCheck::Quick), (&unknown, IntegrityCheck::None)] {
        let bucket = synthetic::replica(&[whole(sql)]).await;
        let dir = tempfile::tempdir().unwrap();
        let (report, _) = restored(&bucket, Options::new(dir.path().join("a.db"))).await;
        assert_eq!(report.integrity_check, check);
    }
}

#[tokio::test]
async fn a_dry_run_plans_and_touches_nothing() {
    for (name, format) in [("0.5.17-4096", Format::Ltx), ("0.3.13-4096", Format::Legacy)] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { dry_run: true, ..Options::new(dir.path().join("x/a.db")) };
        let Report::Planned(plan) = restore(&directory(golden::set(name)), options).await.unwrap() else {
            panic!("not a plan")
        };
        assert_eq!(plan.format, format);
        assert!(!plan.files.is_empty() && plan.bytes() > 0);
        assert_eq!(names(dir.path()), [""; 0]);
    }
}

#[tokio::test]
async fn a_result_that_fails_the_check_never_appears() {
    // Sound LTX files around pages that are no database.
    let bucket = synthetic::replica(&[synthetic::l0(1, 512, 3, &[(1, 1), (2, 2), (3, 3)])]).await;
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("a.db");
    for integrity_check in [IntegrityCheck::Quick, IntegrityCheck::Full] {
        let options = Options { integrity_check, ..Options::new(&output) };
        let error = restore(&bucket, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.message().contains("-integrity-check none restores it all the same"), "{error}");
        assert_eq!(names(dir.path()), [""; 0]);
    }
    let options = Options { integrity_check: IntegrityCheck::None, ..Options::new(&output) };
    restored(&bucket, options).await;
}
