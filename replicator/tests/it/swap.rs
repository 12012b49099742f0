//! What start scripts and files written for Litestream rely on without saying so.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use conformance::process::Process;

use crate::scene::PATIENCE;
use crate::service::{Desk, insert};

/// Runs a command that reads its configuration from a pipe.
fn with_piped_config(mut command: Command, text: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_configuration_may_come_through_a_pipe() {
    let desk = Desk::new();
    let text = "dbs:\n- path: /srv/app.db\n  replica: {path: /backup}\n";
    let output = with_piped_config(desk.command(&["databases", "-json", "-config", "/dev/stdin"]), text);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && shown.contains("/srv/app.db"), "{shown}");
    let long = format!("# {}\n{text}", "x".repeat(16 << 20));
    let mut command = desk.command(&["databases", "-config", "long.yml"]);
    desk.write("long.yml", &long);
    let output = command.output().unwrap();
    assert!(!output.status.success(), "larger than any configuration");
}

/// The directory's entry stands first; the daemon replicates the file by its own all the same.
#[test]
fn every_command_means_the_same_replica() {
    let desk = Desk::new();
    insert(&desk.app("data/special.db"), 3);
    let own = "- {path: data/special.db, replica: {path: own}}\n";
    let around = "- {dir: data, pattern: '*.db', replica: {path: all}}\n";
    for (name, entries) in [("first.yml", [around, own]), ("last.yml", [own, around])] {
        desk.write(name, &format!("dbs:\n{}", entries.concat()));
        let (code, text) = desk.run(&["replicate", "-once", "-config", name]);
        assert_eq!(code, 0, "{text}");
        assert!(desk.path("own/ltx").exists() && !desk.path("all").exists(), "{name}");
        let (code, text) = desk.run(&["restore", "-config", name, "-o", "out.db", "data/special.db"]);
        assert_eq!(code, 0, "{name}: {text}");
        std::fs::remove_file(desk.path("out.db")).unwrap();
        let output = desk.command(&["databases", "-config", name]).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert_eq!(shown.matches("special.db").count(), 1, "{name}: {shown}");
    }
}

#[test]
fn settings_that_can_never_work_end_the_start_before_the_child() {
    let desk = Desk::new();
    for setting in [
        "sse-customer-key-path: missing.key",
        "sse-customer-key: notbase64!",
        "endpoint: 'ftp://127.0.0.1'",
        "part-size: 6GiB",
    ] {
        let text = format!("dbs:\n- path: app.db\n  replica:\n    url: s3://b/p\n    {setting}\n");
        desk.write("litestream.yml", &text);
        let (code, text) = desk.run(&["replicate", "-config", "litestream.yml", "-exec", "touch started"]);
        assert_eq!(code, 1, "{setting}: {text}");
        assert!(text.contains("Error: ") && text.contains("app.db"), "{setting}: {text}");
        assert!(!desk.path("started").exists(), "{setting}");
    }
}

/// No shell: the command ends at the operator, and that is told.
#[test]
fn a_child_gets_no_operators_and_the_keys_under_the_sdks_names() {
    let desk = Desk::new();
    drop(desk.app("app.db"));
    desk.write("litestream.yml", "dbs:\n- {path: app.db, replica: {path: backup}}\n");
    desk.write("app.sh", "echo \"$# $1 $AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY\" >seen\n");
    let arguments = ["replicate", "-config", "litestream.yml", "-exec", "sh app.sh 'a > b' >> log 2>&1"];
    let mut command = desk.command(&arguments);
    command.env_remove("AWS_ACCESS_KEY_ID").env("LITESTREAM_ACCESS_KEY_ID", "AKIA");
    command.env("AWS_SECRET_ACCESS_KEY", "theirs").env("LITESTREAM_SECRET_ACCESS_KEY", "ours");
    let mut process = Process::start(&mut command, &desk.path("log")).unwrap();
    assert!(process.wait(PATIENCE).unwrap().success(), "{}", process.output());
    assert_eq!(std::fs::read_to_string(desk.path("seen")).unwrap(), "1 a > b AKIA theirs\n");
    assert!(process.output().contains("no shell runs the exec command"), "{}", process.output());
}

/// The kernel keeps signals from process 1 of a container unless it listens.
#[test]
fn a_restore_that_is_process_1_can_be_stopped() {
    let alone = ["--fork", "--pid", "--kill-child"];
    if !Command::new("unshare").args(alone).arg("true").status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: no process namespace can be made here");
        return;
    }
    let desk = Desk::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("s3://b/p?endpoint=http://{}", silent.local_addr().unwrap());
    let mut command = Command::new("unshare");
    command.args(alone).arg("sh").arg("-c");
    // The shell would be process 1: it becomes the product, once somebody in the namespace is there to stop it.
    command.arg("(sleep 1; kill -TERM 1) & exec \"$0\" restore -o out.db \"$1\"");
    command.arg(env!("CARGO_BIN_EXE_replicator")).arg(&url).current_dir(desk.path(""));
    for (name, value) in [("LITESTREAM_ACCESS_KEY_ID", "a"), ("LITESTREAM_SECRET_ACCESS_KEY", "b")] {
        command.env(name, value);
    }
    let mut process = Process::start(&mut command, &desk.path("log")).unwrap();
    let status = process.wait(Duration::from_secs(10)).unwrap();
    assert_eq!(status.code(), Some(1), "{}", process.output());
    assert!(process.output().contains("stopped by signal 15"), "{}", process.output());
}
