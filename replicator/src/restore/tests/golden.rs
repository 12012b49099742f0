//! Every state of replicas written by real Litestream releases, compared byte for byte with what those releases
//! restore.

use crc::{CRC_64_GO_ISO, Crc};
use serde_json::Value;

use super::*;
use crate::ltx::Txid;

pub(super) fn set(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/golden").join(name)
}

pub(super) fn expected(name: &str) -> Value {
    serde_json::from_slice(&read(&set(name).join("expected.json"))).unwrap()
}

pub(super) fn assert_same(image: &[u8], expected: &Value) {
    assert_eq!(image.len() as u64, expected["bytes"]);
    assert_eq!(format!("{:016x}", Crc::<u64>::new(&CRC_64_GO_ISO).checksum(image)), expected["crc64"]);
}

#[tokio::test]
async fn every_state_of_0_5() {
    for name in ["0.5.15-512", "0.5.15-4096", "0.5.15-65536", "0.5.17-512", "0.5.17-4096", "0.5.17-65536"] {
        let expected = expected(name);
        let states = expected["states"].as_object().unwrap();
        let bucket = directory(set(name));
        for (txid, state) in states {
            let dir = tempfile::tempdir().unwrap();
            let txid: Txid = txid.parse().unwrap();
            let options = Options {
                target: Target::Txid(txid),
                integrity_check: IntegrityCheck::Full,
                ..Options::new(dir.path().join("new/a.db"))
            };
            let (report, image) = restored(&bucket, options).await;
            assert_same(&image, state);
            assert_eq!(report.plan.txid, Some(txid));
            assert_eq!(names(&dir.path().join("new")), ["a.db"]);
        }
        let dir = tempfile::tempdir().unwrap();
        let (_, image) = restored(&bucket, Options::new(dir.path().join("a.db"))).await;
        assert_same(&image, states.values().next_back().unwrap());
    }
}

#[tokio::test]
async fn the_latest_state_of_0_3() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = directory(set("0.3.13-4096"));
    let (report, image) = restored(&bucket, Options::new(dir.path().join("a.db"))).await;
    assert_same(&image, &expected("0.3.13-4096")["latest"]);
    assert_eq!(report.plan.format, Format::Legacy);
    assert_eq!(names(dir.path()), ["a.db"]);
}
