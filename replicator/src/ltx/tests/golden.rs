//! Files written by real Litestream binaries (0.5.15: LZ4 frames, 0.5.17: LZ4 blocks) in `conformance/golden`:
//! merging the level-0 files up to any transaction gives the database that Litestream itself restored there.

use std::path::Path;

use super::*;

#[test]
fn every_state_of_the_golden_replicas_is_reproduced() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/golden");
    let replicas = ["0.5.15-512", "0.5.15-4096", "0.5.15-65536", "0.5.17-512", "0.5.17-4096", "0.5.17-65536"];
    for replica in replicas {
        let expected: serde_json::Value =
            serde_json::from_slice(&read(&golden.join(replica).join("expected.json"))).unwrap();
        let mut files = Vec::new();
        for (txid, state) in expected["states"].as_object().unwrap() {
            files.push(read(&golden.join(format!("{replica}/ltx/0/{txid}-{txid}.ltx"))));
            let (header, pages) = merging::merge(&files, 10_000).unwrap();
            let database: Vec<u8> = pages.values().flatten().copied().collect();
            assert_eq!(pages.len(), header.commit as usize, "{replica} {txid}");
            assert_eq!(state["bytes"], database.len(), "{replica} {txid}");
            assert_eq!(state["crc64"], format!("{:016x}", crc64(&database)), "{replica} {txid}");
        }
        assert!(files.len() > 3, "{replica}");
    }
}

/// The checksum of `expected.json`.
fn crc64(bytes: &[u8]) -> u64 {
    crc::Crc::<u64>::new(&crc::CRC_64_GO_ISO).checksum(bytes)
}

#[expect(clippy::disallowed_methods, reason = "a test reads its fixtures")]
fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
