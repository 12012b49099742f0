//! Restores end to end: golden replicas, faulty stores, faulty disks, outputs of every kind.

mod broken;
mod disk;
mod faults;
mod generations;
mod golden;
mod model;
mod output;
mod synthetic;
mod time;
mod vanish;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::bucket::directory::DirectoryBucket;
use crate::bucket::settings::DirectorySettings;
use crate::host::OpenMode;

/// Restores with the real disk.
async fn restore(bucket: &Arc<dyn Bucket>, options: Options) -> Result<Report> {
    run(&crate::host::os::host(), bucket.clone(), options, &NoProgress).await
}

/// Restores and expects a database.
async fn restored(bucket: &Arc<dyn Bucket>, options: Options) -> (Restored, Vec<u8>) {
    let output = options.output.clone();
    match restore(bucket, options).await.unwrap() {
        Report::Restored(restored) => (restored, read(&output)),
        other => panic!("{other:?}"),
    }
}

fn read(path: &Path) -> Vec<u8> {
    let file = crate::host::os::host().disk.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn write(path: &Path, bytes: &[u8]) {
    let file = crate::host::os::host().disk.open(path, OpenMode::Truncate).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

/// Names in a directory.
fn names(path: &Path) -> Vec<String> {
    let entries = crate::host::os::host().disk.read_dir(path).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

fn directory(path: impl Into<PathBuf>) -> Arc<dyn Bucket> {
    let settings = DirectorySettings { path: path.into(), ownership: None };
    Arc::new(DirectoryBucket::new(&crate::host::os::host(), &settings))
}
