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
        assert_eq!(names(dir.path()), [""; 0]);
    }
    let options = Options { integrity_check: IntegrityCheck::None, ..Options::new(&output) };
    restored(&bucket, options).await;
}
