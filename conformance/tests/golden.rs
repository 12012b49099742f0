//! The naive decoders read what real Litestream binaries wrote, and refuse it once it is damaged.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::path::{Path, PathBuf};

use conformance::ltx::{self, PageForm};
use conformance::replica::{Directory, Replica, Severity};
use crc::{CRC_64_GO_ISO, Crc};
use serde_json::Value;

const LTX_SETS: [(&str, u32, PageForm); 6] = [
    ("0.5.15-512", 512, PageForm::Frame),
    ("0.5.15-4096", 4096, PageForm::Frame),
    ("0.5.15-65536", 65536, PageForm::Frame),
    ("0.5.17-512", 512, PageForm::Block),
    ("0.5.17-4096", 4096, PageForm::Block),
    ("0.5.17-65536", 65536, PageForm::Block),
];

fn set(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

fn expected(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(set(name).join("expected.json")).unwrap()).unwrap()
}

fn assert_same_file(image: &[u8], expected: &Value) {
    assert_eq!(image.len() as u64, expected["bytes"]);
    let checksum = Crc::<u64>::new(&CRC_64_GO_ISO).checksum(image);
    assert_eq!(format!("{checksum:016x}"), expected["crc64"]);
}

/// A copy of a set without the note of what is expected.
fn copy_of(name: &str) -> (tempfile::TempDir, Directory) {
    let copy = tempfile::tempdir().unwrap();
    copy_tree(&set(name), copy.path());
    std::fs::remove_file(copy.path().join("expected.json")).unwrap();
    let store = Directory::new(copy.path());
    (copy, store)
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn broken(store: &Directory) -> Vec<String> {
    let report = Replica::read(store).unwrap().report();
    let broken = report.problems.iter().filter(|problem| problem.severity == Severity::Broken);
    let found: Vec<_> = broken.map(|problem| format!("{}: {}", problem.key, problem.what)).collect();
    assert_eq!(report.whole, found.is_empty());
    found
}

#[test]
fn every_state_is_restored_as_litestream_restores_it() {
    for (name, page_size, form) in LTX_SETS {
        let (_copy, store) = copy_of(name);
        let replica = Replica::read(&store).unwrap();
        for entry in replica.entries() {
            assert_eq!(
                (entry.header.page_size, entry.forms.as_slice()),
                (page_size, [form].as_slice()),
                "{name}"
            );
        }
        let expected = expected(name);
        let states = expected["states"].as_object().unwrap();
        assert_eq!(replica.restorable().count(), states.len());
        for (txid, _) in replica.restorable() {
            assert_same_file(&replica.restore(txid).unwrap().bytes, &states[&format!("{txid:016x}")]);
        }
        assert_eq!(broken(&store), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_generation_of_0_3_is_restored_as_litestream_restores_it() {
    let (_copy, store) = copy_of("0.3.13-4096");
    let replica = Replica::read(&store).unwrap();
    let (generation, snapshot) = replica.legacy_snapshots().next().unwrap();
    let image = replica.restore_legacy(generation, snapshot).unwrap();
    assert_same_file(&image, &expected("0.3.13-4096")["latest"]);
    assert!(replica.report().whole);
}

#[test]
fn a_generation_of_0_3_with_a_missing_segment_is_broken() {
    let (copy, store) = copy_of("0.3.13-4096");
    let generations = copy.path().join("generations");
    let generation = std::fs::read_dir(generations).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(generation.join("wal/00000002_00000000.wal.lz4")).unwrap();
    let found = broken(&store);
    assert!(found[0].contains("a WAL segment is missing before index 00000002 offset 00001038"), "{found:?}");
}

#[test]
fn a_generation_of_0_3_without_the_log_of_its_snapshot_is_broken() {
    let (copy, store) = copy_of("0.3.13-4096");
    let wal = copy.path().join("generations/24a7e1693b7ea52a/wal");
    for name in ["00000001_00000000.wal.lz4", "00000001_00001038.wal.lz4"] {
        std::fs::remove_file(wal.join(name)).unwrap();
    }
    let found = broken(&store);
    assert!(found[0].contains("a WAL segment is missing before index 00000002 offset 00000000"), "{found:?}");
    std::fs::remove_dir_all(wal).unwrap();
    assert_eq!(broken(&store), Vec::<String>::new(), "a snapshot alone is a state");
}

#[test]
fn a_cut_file_is_refused_at_every_length() {
    let bytes = std::fs::read(set("0.5.17-512/ltx/0/0000000000000002-0000000000000002.ltx")).unwrap();
    for length in 0..bytes.len() {
        assert!(ltx::parse(&bytes[..length]).is_err(), "cut to {length}");
    }
    let frames = std::fs::read(set("0.5.15-512/ltx/0/0000000000000002-0000000000000002.ltx")).unwrap();
    for length in 0..frames.len() {
        assert!(ltx::parse(&frames[..length]).is_err(), "cut to {length}");
    }
}

#[test]
fn no_flipped_bit_changes_what_a_file_says() {
    for name in ["0.5.17-512", "0.5.15-512"] {
        let path = set(name).join("ltx/0/0000000000000002-0000000000000002.ltx");
        let bytes = std::fs::read(path).unwrap();
        let file = ltx::parse(&bytes).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // A run of equal bytes can be packed in more than one way, so some flips mean the same pages.
            if let Ok(read) = ltx::parse(&damaged) {
                assert_eq!(read, file, "bit {bit} of {name}");
            }
        }
    }
}

#[test]
fn a_lost_object_is_a_gap() {
    let (copy, store) = copy_of("0.5.17-4096");
    std::fs::remove_file(copy.path().join("ltx/0/0000000000000003-0000000000000003.ltx")).unwrap();
    assert_eq!(broken(&store), Vec::<String>::new(), "other levels still hold it");
    for level in ["1", "9"] {
        std::fs::remove_dir_all(copy.path().join("ltx").join(level)).unwrap();
    }
    let found = broken(&store);
    assert!(found[0].contains("level 0 has nothing from 0000000000000003 to 0000000000000003"), "{found:?}");
}

fn level0(copy: &Path, txid: u64) -> PathBuf {
    copy.join(format!("ltx/0/{txid:016x}-{txid:016x}.ltx"))
}

#[test]
fn what_only_a_later_snapshot_spans_is_lost() {
    let (copy, store) = copy_of("0.5.17-4096");
    std::fs::remove_file(level0(copy.path(), 4)).unwrap();
    assert_eq!(broken(&store), Vec::<String>::new(), "a merged file leads over the hole");
    std::fs::remove_dir_all(copy.path().join("ltx/1")).unwrap();
    let states: Vec<u64> = Replica::read(&store).unwrap().restorable().map(|(txid, _)| txid).collect();
    assert_eq!(states, [1, 2, 3, 6]);
    let fifth = "ltx/0/0000000000000005-0000000000000005.ltx";
    let said = format!("{fifth}: cannot be reached: the last state before it is 0000000000000003");
    assert_eq!(broken(&store), [said]);
    // States that end at a hole are history that ended; the next ones start over.
    std::fs::remove_file(copy.path().join(fifth)).unwrap();
    assert_eq!(broken(&store), Vec::<String>::new());
}

#[test]
fn what_retention_left_below_the_oldest_snapshot_is_not_lost() {
    let (copy, store) = copy_of("0.5.17-4096");
    let snapshots = copy.path().join("ltx/9");
    std::fs::remove_file(snapshots.join("0000000000000001-0000000000000003.ltx")).unwrap();
    // The newest of a level that is no longer written, and the newest transactions, by their age.
    std::fs::remove_file(copy.path().join("ltx/1/0000000000000004-0000000000000006.ltx")).unwrap();
    for txid in 1..=4 {
        std::fs::remove_file(level0(copy.path(), txid)).unwrap();
    }
    assert_eq!(broken(&store), Vec::<String>::new());
    let states: Vec<u64> = Replica::read(&store).unwrap().restorable().map(|(txid, _)| txid).collect();
    assert_eq!(states, [3, 6]);
}

#[test]
fn an_object_that_nothing_leads_to_is_broken() {
    let (copy, store) = copy_of("0.5.17-4096");
    for level in ["1", "9"] {
        std::fs::remove_dir_all(copy.path().join("ltx").join(level)).unwrap();
    }
    std::fs::remove_file(copy.path().join("ltx/0/0000000000000001-0000000000000001.ltx")).unwrap();
    let found = broken(&store);
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(found.iter().all(|problem| problem.contains("cannot be reached")), "{found:?}");
}

#[test]
fn an_object_under_another_name_is_broken() {
    let (copy, store) = copy_of("0.5.17-4096");
    let folder = copy.path().join("ltx/0");
    let name = |txid: u64| folder.join(format!("{txid:016x}-{txid:016x}.ltx"));
    std::fs::copy(name(2), name(3)).unwrap();
    let found = broken(&store);
    assert!(found[0].contains("holds transactions 0000000000000002-0000000000000002"), "{found:?}");
}

#[test]
fn a_snapshot_of_another_database_is_a_disagreement() {
    let (copy, store) = copy_of("0.5.17-4096");
    let other = set("0.5.15-4096");
    let snapshot = "ltx/9/0000000000000001-0000000000000003.ltx";
    std::fs::copy(other.join(snapshot), copy.path().join(snapshot)).unwrap();
    let found = broken(&store);
    assert!(found.iter().any(|problem| problem.starts_with(snapshot)), "{found:?}");
}

#[test]
fn another_page_size_needs_a_file_that_starts_over() {
    let (copy, store) = copy_of("0.5.17-4096");
    let other = set("0.5.17-512");
    for name in ["4", "5", "6"].map(|txid| format!("ltx/0/{txid:0>16}-{txid:0>16}.ltx")) {
        std::fs::remove_file(copy.path().join(name)).unwrap();
    }
    for level in ["1", "9"] {
        std::fs::remove_dir_all(copy.path().join("ltx").join(level)).unwrap();
    }
    let third = "ltx/0/0000000000000003-0000000000000003.ltx";
    std::fs::copy(other.join(third), copy.path().join(third)).unwrap();
    let found = broken(&store);
    assert!(found[0].contains("the newest state that connects is 0000000000000002"), "{found:?}");
    std::fs::remove_file(copy.path().join(third)).unwrap();
    let snapshot = "ltx/9/0000000000000001-0000000000000003.ltx";
    std::fs::create_dir(copy.path().join("ltx/9")).unwrap();
    std::fs::copy(other.join(snapshot), copy.path().join(snapshot)).unwrap();
    assert_eq!(broken(&store), Vec::<String>::new());
    let image = Replica::read(&store).unwrap().restore(3).unwrap();
    assert_same_file(&image.bytes, &expected("0.5.17-512")["states"]["0000000000000003"]);
}

#[test]
fn an_empty_folder_is_not_a_replica() {
    let folder = tempfile::tempdir().unwrap();
    let report = Replica::read(&Directory::new(folder.path())).unwrap().report();
    assert!(!report.whole);
}
