//! `conformance replica`, as a person or a pipeline runs it.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::process::{Command, Output};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");

fn replica(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_conformance")).arg("replica").args(arguments).output().unwrap()
}

#[test]
fn a_whole_replica_is_a_success_with_a_table() {
    let said = replica(&[&format!("{GOLDEN}/0.5.17-4096")]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.status.code(), Some(0), "{text}");
    assert!(text.contains(": whole\n"), "{text}");
    assert!(text.contains("restorable: 6 states, 0000000000000001 to 0000000000000006"), "{text}");
}

#[test]
fn json_lists_every_state() {
    let said = replica(&["--json", &format!("file://{GOLDEN}/0.5.15-512")]);
    let report: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(report["restorable"].as_array().unwrap().len(), 6);
    assert_eq!(report["whole"], true);
}

#[test]
fn a_broken_replica_and_an_absent_one_have_codes_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let level = folder.path().join("ltx/0");
    std::fs::create_dir_all(&level).unwrap();
    let name = "0000000000000002-0000000000000002.ltx";
    std::fs::copy(format!("{GOLDEN}/0.5.17-4096/ltx/0/{name}"), level.join(name)).unwrap();
    let said = replica(&[folder.path().to_str().unwrap()]);
    assert_eq!(said.status.code(), Some(1));
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains(&format!("broken: ltx/0/{name}: cannot be reached")), "{text}");
    let absent = replica(&["/nowhere/at/all"]);
    assert_eq!(absent.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&absent.stderr).contains("cannot list /nowhere/at/all"));
}
