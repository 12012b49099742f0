//! Every state of a replica is judged, not the newest alone.

use std::path::Path;

use crc::{CRC_64_GO_ISO, Crc};

use super::*;
use crate::replica::Directory;

const PAGE: usize = 4096;

/// A database file after each commit of an application whose commits are numbered from `first_seq` on.
fn states(first_seq: u64, count: usize, history: &mut History) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let db = Connection::open(&file).unwrap();
    let settings = workload::Settings::ordinary();
    let mut app = Workload::start(db, settings, first_seq, first_seq, history).unwrap();
    let mut found = Vec::new();
    while found.len() < count {
        let before = app.seq();
        app.perform(Action::Grow, history).unwrap();
        assert!(app.seq() > before);
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        app.db().query_row(checkpoint, [], |row| row.get::<_, i64>(0)).unwrap();
        found.push(std::fs::read(&file).unwrap());
    }
    found
}

/// Writes an LTX file of these pages, and nothing that is not needed to read it.
fn write(place: &Path, level: u8, (min, max): (u64, u64), commit: usize, pages: &[(usize, &[u8])]) {
    let mut header = b"LTX1".to_vec();
    let no_checksum = 2_u32;
    for word in [no_checksum, u32::try_from(PAGE).unwrap(), u32::try_from(commit).unwrap()] {
        header.extend(word.to_be_bytes());
    }
    header.extend([min, max, max].map(u64::to_be_bytes).concat());
    header.resize(100, 0);
    let (mut file, mut hashed, mut index) = (header.clone(), header, Vec::new());
    for (number, content) in pages {
        let packed = lz4_flex::block::compress(content);
        let head = [&u32::try_from(*number).unwrap().to_be_bytes()[..], &[0, 1]].concat();
        let head = [&head[..], &u32::try_from(packed.len()).unwrap().to_be_bytes()].concat();
        for value in [*number, file.len(), head.len() + packed.len()] {
            varint(&mut index, value);
        }
        hashed.extend([&head, *content].concat());
        file.extend([head, packed].concat());
    }
    index.push(0);
    // The mark behind the pages, the index, its length, and no checksum of the database.
    let tail = [&[0; 6][..], &index, &(index.len() as u64).to_be_bytes(), &[0; 8]].concat();
    hashed.extend(&tail);
    file.extend(tail);
    let sum = Crc::<u64>::new(&CRC_64_GO_ISO).checksum(&hashed) | 1 << 63;
    file.extend(sum.to_be_bytes());
    let folder = place.join(format!("ltx/{level}"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{min:016x}-{max:016x}.ltx")), file).unwrap();
}

fn varint(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
}

/// Page numbers and contents.
fn pages(image: &[u8]) -> Vec<(usize, &[u8])> {
    image.chunks(PAGE).enumerate().map(|(index, page)| (index + 1, page)).collect()
}

#[test]
fn a_foreign_file_in_the_middle_is_found_although_a_full_copy_follows() {
    let mut history = History::new();
    let own = states(1, 4, &mut history);
    let foreign = states(1_000_000, 1, &mut history);
    let folder = tempfile::tempdir().unwrap();
    let (place, store) = (folder.path(), Directory::new(folder.path()));
    let size = |image: &[u8]| image.len() / PAGE;
    for (txid, image) in (1..=3).zip(&own) {
        write(place, 0, (txid, txid), size(image), &pages(image));
    }
    write(place, 9, (1, 4), size(&own[3]), &pages(&own[3]));
    committed_throughout(&store, &history).unwrap();
    // What a rival wrote: some pages, meant for its own database.
    write(place, 0, (3, 3), size(&own[1]), &pages(&foreign[0])[1..3]);
    let replica = Replica::read(&store).unwrap();
    let newest = replica.restore(4).unwrap();
    assert!(replica.report().whole && compare::judge_image(&newest.bytes, &history, 0).is_ok());
    let found = committed_throughout(&store, &history).unwrap_err();
    assert!(found.0.starts_with("state 0000000000000003: "), "{found:?}");
}
