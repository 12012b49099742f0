//! A real 0.3.13 replica, damaged as the input says, restored: no panic, bounded memory, a classified error or a
//! database that SQLite finds sound, and nothing left behind on failure.

#![no_main]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use lz4_flex::frame::{FrameDecoder, FrameEncoder};
use replicator::ErrorKind;
use replicator::bucket::memory::MemoryBucket;
use replicator::bucket::{Bucket as _, PutCondition, PutOptions};
use replicator::host::UnixMillis;
use replicator::restore::{self, NoProgress, Options};
use tokio::runtime::Runtime;

/// Keys and bodies of the replica.
static GOLDEN: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
    let generation = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../conformance/golden/0.3.13-4096/generations/24a7e1693b7ea52a"
    );
    let mut objects = BTreeMap::new();
    for folder in ["snapshots", "wal"] {
        for entry in std::fs::read_dir(format!("{generation}/{folder}")).expect("the golden replica is there")
        {
            let entry = entry.expect("readable");
            let name = entry.file_name().into_string().expect("ASCII");
            let body = std::fs::read(entry.path()).expect("readable");
            objects.insert(format!("generations/24a7e1693b7ea52a/{folder}/{name}"), body);
        }
    }
    objects
});

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));

fuzz_target!(|input: &[u8]| {
    let mut objects = GOLDEN.clone();
    let mut rest = input;
    while let Some((edit, behind)) = rest.split_first_chunk::<6>() {
        let payload;
        (payload, rest) = behind.split_at(usize::from(edit[5]).min(behind.len()));
        damage(&mut objects, edit, payload);
    }
    RUNTIME.block_on(restore_from(objects));
});

/// Carries out one edit: which object, what to do, where (2 bytes), a parameter.
fn damage(objects: &mut BTreeMap<String, Vec<u8>>, edit: &[u8; 6], payload: &[u8]) {
    let Some(key) = objects.keys().nth(usize::from(edit[0]) % objects.len().max(1)).cloned() else { return };
    let at = usize::from(u16::from_be_bytes([edit[2], edit[3]]));
    let body = objects.get_mut(&key).expect("just found");
    match edit[1] % 6 {
        0 => overwrite(body, at, payload),
        1 => body.truncate(at),
        2 => drop(objects.remove(&key)),
        3 => {
            // The same body under another index, offset or spelling.
            let body = body.clone();
            let mut renamed = key.clone().into_bytes();
            let start = key.rfind('/').expect("keys have folders") + 1;
            overwrite(&mut renamed[start..], at % 20, payload);
            objects.insert(
                String::from_utf8_lossy(&renamed).replace(['/', '\0'], "_").replacen('_', "/", 2),
                body,
            );
        }
        // Below the compression, where the frame itself stays valid.
        op => {
            let Some(mut plain) = inflate(body) else { return };
            let at = at * 16 % plain.len().max(1);
            if op == 4 {
                overwrite(&mut plain, at, payload);
            } else {
                plain.truncate(at);
                plain.extend_from_slice(payload);
            }
            *body = deflate(&plain);
        }
    }
}

fn overwrite(bytes: &mut [u8], at: usize, payload: &[u8]) {
    for (byte, new) in bytes.iter_mut().skip(at).zip(payload) {
        *byte = *new;
    }
}

fn inflate(body: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    FrameDecoder::new(body).take(1 << 20).read_to_end(&mut plain).ok().map(|_| plain)
}

fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut encoder = FrameEncoder::new(Vec::new());
    encoder.write_all(plain).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

async fn restore_from(objects: BTreeMap<String, Vec<u8>>) {
    let bucket = MemoryBucket::new();
    for (key, body) in objects {
        let options = PutOptions { timestamp: Some(UnixMillis(1_700_000_000_000)) };
        // Keys that no store would take are not the point here.
        let _ = bucket.put(&key, body.into(), PutCondition::Overwrite, options).await;
    }
    let directory = tempfile::tempdir().expect("a scratch directory");
    let output = directory.path().join("restored.db");
    let host = replicator::host::os::host();
    let result = restore::run(&host, Arc::new(bucket), Options::new(&output), &NoProgress).await;
    let left: Vec<_> = std::fs::read_dir(directory.path()).expect("still there").collect();
    match result {
        Ok(_) => assert_eq!(left.len(), 1, "{left:?}"),
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
            assert!(left.is_empty(), "{error} left {left:?}");
        }
    }
}
