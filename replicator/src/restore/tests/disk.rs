//! A disk that fails or a process that dies at any step, and a caller that loses patience.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::output::TempFile;
use super::faults::{Fault, FaultyBucket, FaultyDisk, Get, without};
use super::*;

/// A replica and what a restore of it gives.
struct Case {
    bucket: Arc<dyn Bucket>,
    image: Vec<u8>,
}

/// One LTX replica and the beginning of a 0.3.x one.
async fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, part) in [("0.5.17-4096", "ltx/0/"), ("0.3.13-4096", "0000001")] {
        let all = directory(golden::set(name));
        let others = all.list("", None).await.unwrap().into_iter().map(|object| object.key);
        let bucket = without(&all, &others.filter(|key| !key.contains(part)).collect()).await;
        let dir = tempfile::tempdir().unwrap();
        let (_, image) = restored(&bucket, Options::new(dir.path().join("a.db"))).await;
        cases.push(Case { bucket, image });
    }
    cases
}

/// An output in a new directory, over an old database with a log if `replace`.
fn options(dir: &Path, replace: bool) -> Options {
    if !replace {
        return unchecked(dir.join("x/y/a.db"));
    }
    write(&dir.join("a.db"), b"old");
    write(&dir.join("a.db-wal"), &[7; 100]);
    write(&dir.join("a.db-shm"), b"shm");
    Options { force: true, ..unchecked(dir.join("a.db")) }
}

/// SQLite reads past the faulty disk, so its check adds nothing here.
fn unchecked(output: PathBuf) -> Options {
    Options { integrity_check: IntegrityCheck::None, ..Options::new(output) }
}

async fn restore_with(fault: Fault, case: &Case, options: Options) -> (Result<Report>, usize) {
    let (host, steps) = FaultyDisk::host(fault);
    let result = run(&host, case.bucket.clone(), options, &NoProgress).await;
    (result, steps.load(Ordering::SeqCst))
}

/// Runs restores that fail at step after step: the first ones, the last ones, and a sample between.
async fn at_every_step(
    fault: fn(usize) -> Fault,
    mut check: impl AsyncFnMut(usize, &Case, bool, &Path, Options, Result<Report>),
) {
    for case in &cases().await {
        for replace in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (result, total) = restore_with(fault(usize::MAX), case, options(dir.path(), replace)).await;
            result.unwrap();
            for at in (0..total).filter(|at| at % 5 == 0 || *at < 20 || at + 25 > total) {
                let dir = tempfile::tempdir().unwrap();
                let options = options(dir.path(), replace);
                let (result, _) = restore_with(fault(at), case, options.clone()).await;
                check(at, case, replace, dir.path(), options, result).await;
            }
        }
    }
}

#[tokio::test]
async fn a_failing_step_leaves_nothing_new() {
    let mut failed = 0;
    at_every_step(Fault::Once, async |at, case, replace, dir, options, result| {
        if let Err(error) = result {
            assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
            assert_nothing_new(dir, &options.output, case, replace, at);
            assert_none_lost(&options.output, case, replace, &error);
            failed += 1;
        }
    })
    .await;
    assert!(failed > 100, "only {failed} steps failed");
}

/// After a failure: nothing, or what was there before; or the new file, if only making its name durable failed.
fn assert_nothing_new(dir: &Path, output: &Path, case: &Case, replace: bool, at: usize) {
    let left = names(output.parent().filter(|parent| parent.is_dir()).unwrap_or(dir));
    if left.contains(&"a.db".to_owned()) && read(output) != b"old" {
        assert_eq!(read(output), case.image, "step {at}");
        assert_eq!(left, ["a.db"], "step {at}");
    } else if replace {
        let expected = ["a.db", "a.db-shm", "a.db-wal", "a.db.tmp"];
        assert!(left.iter().all(|name| expected.contains(&name.as_str())), "step {at}: {left:?}");
        // Never the old database without its log.
        let has = |name: &str| left.iter().any(|other| other == name);
        assert!(!has("a.db") || has("a.db-wal"), "step {at}: {left:?}");
    } else {
        assert!(left.is_empty() || names(dir).is_empty(), "step {at}: {left:?}");
    }
}

/// Once the old database is removed the new one stays, under whatever name, and the error says where.
fn assert_none_lost(output: &Path, case: &Case, replace: bool, error: &Error) {
    let unfinished = output.with_extension("db.tmp");
    assert_eq!(unfinished.is_file(), replace && !output.is_file(), "{error}");
    if unfinished.is_file() {
        assert_eq!(read(&unfinished), case.image);
        assert!(error.message().contains(unfinished.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn a_process_killed_at_any_step_is_followed_by_a_good_restore() {
    at_every_step(Fault::From, async |at, case, _, _, options, result| {
        assert!(result.is_err(), "step {at}");
        let output = options.output.clone();
        if output.is_file() && read(&output) != b"old" {
            assert_eq!(read(&output), case.image, "step {at}");
            assert!(!output.with_extension("db-wal").is_file(), "a foreign log beside the new file");
        }
        let (_, image) = restored(&case.bucket, Options { force: true, ..options }).await;
        assert_eq!(image, case.image);
        assert_eq!(names(output.parent().unwrap()), ["a.db"]);
    })
    .await;
}

#[tokio::test]
async fn a_dropped_restore_leaves_nothing() {
    for case in &cases().await {
        for number in 0..3 {
            let hanging = FaultyBucket::get(&case.bucket, move |n, _| match n == number {
                true => Get::Hangs,
                false => Get::Normal,
            });
            let dir = tempfile::tempdir().unwrap();
            let restore = run_owned(hanging, Options::new(dir.path().join("x/a.db")));
            let stopped = tokio::time::timeout(Duration::from_millis(60), restore).await;
            if stopped.is_ok() {
                assert!(number > 0);
                break;
            }
            // Work that has begun ends by itself and cleans up then.
            for _ in 0..100 {
                if names(dir.path()).is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(names(dir.path()), [""; 0], "at request {number}");
        }
    }
}

async fn run_owned(bucket: Arc<dyn Bucket>, options: Options) {
    run(&crate::host::os::host(), bucket, options, &NoProgress).await.unwrap();
}

/// The second one takes the place of the first, and is complete.
fn two_restores_to(output: &Path) -> (TempFile, TempFile) {
    let create = || TempFile::create(crate::host::os::host().disk, output).unwrap();
    let (first, second) = (create(), create());
    second.file().write_all_at(b"second", 0).unwrap();
    (first, second)
}

#[tokio::test]
async fn another_restore_to_the_same_output_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("a.db");
    let (first, second) = two_restores_to(&output);
    let error = first.publish(false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    second.publish(false).unwrap();
    assert_eq!(read(&output), b"second");
}

#[tokio::test]
async fn a_restore_that_fails_leaves_the_file_of_another_one_alone() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("x/a.db");
    let (first, second) = two_restores_to(&output);
    drop(first);
    second.publish(false).unwrap();
    assert_eq!(read(&output), b"second");
}

/// SQLite opens a file by its name: what it says about the file of another restore is no damage.
#[tokio::test]
async fn the_check_of_a_file_that_another_restore_replaced_is_no_verdict() {
    let case = &cases().await[0];
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("a.db");
    let (disk, other) = (crate::host::os::host().disk, output.clone());
    let bucket: Arc<dyn Bucket> = FaultyBucket::get(&case.bucket, move |_, _| {
        let file = TempFile::create(disk.clone(), &other).unwrap();
        file.file().write_all_at(&[7; 4096], 0).unwrap();
        // As if its process went on for ever.
        std::mem::forget(file);
        Get::Normal
    });
    let error = restore(&bucket, Options::new(&output)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(names(dir.path()), ["a.db.tmp"], "it is the other's");
}

/// Two restores over one database: the first to end must not remove what the second may yet fail to replace.
#[tokio::test]
async fn a_restore_that_lost_its_file_removes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("a.db");
    write(&output, b"old");
    write(&dir.path().join("a.db-wal"), &[7; 100]);
    let (first, second) = two_restores_to(&output);
    let error = first.publish(true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    drop(second);
    assert_eq!(read(&output), b"old");
    assert_eq!(names(dir.path()), ["a.db", "a.db-wal"]);
}
