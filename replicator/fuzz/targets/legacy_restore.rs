//! A real 0.3.13 replica, damaged as the input says, restored in memory: no panic, bounded memory, a classified error
//! or a whole number of pages, and nothing left behind on failure. Undamaged, it gives the same database every time.
//!
//! SQLite's own check of the result is left out: it needs real files, is no reader of ours, and takes ten times as long
//! as all the rest.

#![no_main]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::{Arc, LazyLock, OnceLock};

use libfuzzer_sys::fuzz_target;
use lz4_flex::frame::{BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use replicator::ErrorKind;
use replicator::bucket::memory::MemoryBucket;
use replicator::bucket::{Bucket as _, PutCondition, PutOptions};
use replicator::host::{Host, UnixMillis};
use replicator::restore::{self, IntegrityCheck, NoProgress, Options};
use tokio::runtime::Runtime;

mod memory_disk;
use memory_disk::{MemoryDisk, OnTheSpot};

/// WAL indexes kept of the golden replica: enough for every order of snapshot, first and later segments.
const LAST_INDEX: &str = "00000002";

/// Keys and bodies of the replica. Compressed anew in small blocks: a decoder allocates what the header announces, and
/// Litestream's 4 MiB would take most of the time.
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
            if &name[..8] > LAST_INDEX {
                continue;
            }
            let body = std::fs::read(entry.path()).expect("readable");
            let body = deflate(&inflate(&body).expect("sound"));
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
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).content_checksum(true);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(plain).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

/// The host that all runs share, apart from the disk.
static HOST: LazyLock<Host> =
    LazyLock::new(|| Host { blocking: Arc::new(OnTheSpot), ..replicator::host::os::host() });

/// What the undamaged replica gives.
static SOUND: OnceLock<Vec<u8>> = OnceLock::new();

async fn restore_from(objects: BTreeMap<String, Vec<u8>>) {
    let is_undamaged = objects == *GOLDEN;
    let bucket = MemoryBucket::new();
    for (key, body) in objects {
        let options = PutOptions { timestamp: Some(UnixMillis(1_700_000_000_000)) };
        // Keys that no store would take are not the point here.
        let _ = bucket.put(&key, body.into(), PutCondition::Overwrite, options).await;
    }
    let disk = MemoryDisk::default();
    let host = Host { disk: Arc::new(disk.clone()), ..HOST.clone() };
    let output = Path::new("/out/restored.db");
    let mut options = Options::new(output);
    options.integrity_check = IntegrityCheck::None;
    match restore::run(&host, Arc::new(bucket), options, &NoProgress).await {
        Ok(_) => {
            assert_eq!(disk.names(), [output]);
            let bytes = disk.read(output).expect("just listed");
            assert!(bytes.starts_with(b"SQLite format 3\0") && bytes.len() % 512 == 0, "{} bytes", bytes.len());
            if is_undamaged {
                assert!(*SOUND.get_or_init(|| bytes.clone()) == bytes, "the same replica gives another database");
            }
        }
        Err(error) => {
            assert!(!is_undamaged, "{error}");
            assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
            assert!(disk.names().is_empty(), "{error} left {:?}", disk.names());
        }
    }
}
