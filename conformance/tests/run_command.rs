//! `conformance run` and `conformance diff`, as a person or a pipeline runs it.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["run", "embedded"])
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn what_asks_nothing_finds_nothing_usable() {
    for arguments in [["--only", "condtion"], ["--skip", ""], ["--only", ""]] {
        let said = run(&arguments);
        assert_eq!(said.status.code(), Some(1), "{arguments:?}");
        let text = String::from_utf8(said.stderr).unwrap();
        assert!(text.contains("no check's id begins with that"), "{arguments:?}: {text}");
    }
    let said = run(&["--only", "condition.create-refused"]);
    assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stdout));
}

#[test]
fn a_comparison_of_nothing_is_no_success() {
    let compared = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
        command.args(["diff", "embedded", "dialect-aws"]).args(arguments).output().unwrap()
    };
    for arguments in [["--seeds", "0"], ["--steps", "0"]] {
        let said = compared(&arguments);
        assert_eq!(said.status.code(), Some(1), "{arguments:?}");
        let text = String::from_utf8(said.stderr).unwrap();
        assert!(text.contains("not a single step"), "{arguments:?}: {text}");
    }
    let said = compared(&["--seeds", "2", "--steps", "10"]);
    assert_eq!(said.status.code(), Some(0));
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains("20 of 20 steps, 0 differences"), "{text}");
}
