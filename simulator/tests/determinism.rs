//! The same seeds in two processes, with addresses randomised in one and fixed in the other.

use std::process::{Command, Output};

/// Exit code of `simulator meta` when two runs of one seed differ.
const NONDETERMINISM: i32 = 13;

fn meta(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_simulator"))
        .arg("meta")
        .args(arguments)
        .output()
        .expect("cargo built the program")
}

fn agrees(arguments: &[&str]) {
    let output = meta(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_seed_is_the_same_run_in_every_process() {
    agrees(&["--seeds", "10", "--steps"]);
}

#[test]
fn so_it_is_across_the_network() {
    agrees(&["--seeds", "2", "--full"]);
}

#[test]
fn an_address_that_gets_into_a_run_is_noticed() {
    let output = meta(&["--seeds", "2", "--flawed"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(NONDETERMINISM), "{text}");
    assert!(text.contains("seed 0 differs"), "{text}");
}
