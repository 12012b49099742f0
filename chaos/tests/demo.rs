//! The README's first command, shortened: it passes with our replicator and fails with one that does nothing.

use std::process::{Command, Output};

fn demo(arguments: &[&str]) -> (Output, serde_json::Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
    let output = command.args(["demo", "--json"]).args(arguments).output().expect("the binary was built");
    let said = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, said)
}

fn assert_passed((output, said): &(Output, serde_json::Value)) {
    assert!(output.status.success() && said["passed"] == true, "{said:#}");
    assert!(said["commits"].as_u64() > said["killed_at_commit"].as_u64(), "{said:#}");
    assert!(said["acknowledged_at_kill"].as_u64() > Some(0), "{said:#}");
    assert!(said["points_in_time"].as_u64() > Some(1), "{said:#}");
}

#[test]
fn passes_on_the_embedded_server() {
    let played = demo(&["--seconds", "2"]);
    assert_passed(&played);
    assert!(played.1["requests"]["PutObject"].as_u64() > Some(1), "{:#}", played.1);
}

#[test]
fn passes_on_a_directory_and_refuses_to_reuse_it() {
    let folder = tempfile::tempdir().unwrap();
    let replica = folder.path().join("replica");
    let arguments = ["--seconds", "2", "--dir", replica.to_str().unwrap()];
    assert_passed(&demo(&arguments));
    let (output, said) = demo(&arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(said["error"].as_str().unwrap().contains("is not empty"), "{said:#}");
}

#[test]
fn a_replicator_that_loses_commits_is_found_out() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let forgetful = folder.path().join("forgetful");
    // Stops replicating after a second, and still ends with exit code 0.
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = restore ]; then exec {0} replicator \"$@\"; fi\ntrap 'exit 0' TERM\n\
         {0} replicator \"$@\" & child=$!\nsleep 1\nkill -9 $child\nwhile :; do sleep 0.1; done\n",
        env!("CARGO_BIN_EXE_chaos")
    );
    std::fs::write(&forgetful, script).unwrap();
    std::fs::set_permissions(&forgetful, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (output, said) = demo(&["--binary", forgetful.to_str().unwrap(), "--seconds", "5"]);
    assert_eq!(output.status.code(), Some(1), "{said:#}");
    assert_eq!(said["passed"], false, "{said:#}");
}
