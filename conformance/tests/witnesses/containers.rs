//! Servers in containers, through testcontainers: MinIO's image where it can be had, and an image built on the spot
//! from a static versitygw, so that the container code runs in CI even where no image registry is reached.
//!
//! With `CI` set, a daemon that cannot be started is a failure. Elsewhere a lane that cannot run says so by name.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use conformance::checks::{self, Options};
use conformance::targets::{self, Target};
use conformance::verdict::Verdict;
use testcontainers::core::WaitFor;
use testcontainers::runners::AsyncRunner;
use testcontainers::{GenericImage, ImageExt};
use testcontainers_modules::minio::MinIO;

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts")
}

/// Tells people that a lane did not run. Past the test harness, which swallows what passing tests print.
fn did_not_run(lane: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "NOT RUN: {lane}: {why}");
}

/// A Docker daemon: the machine's, or in CI one of our own that ends with this value.
struct Daemon(Option<Child>);

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let pid = i32::try_from(child.id()).expect("a pid");
            // SAFETY: the pid is that of our own child, which has not been waited for.
            unsafe { libc::kill(pid, libc::SIGTERM) };
            let _ = child.wait();
        }
    }
}

/// Finds or starts a daemon; returns it and the `DOCKER_HOST` to use, if not the default.
fn daemon() -> Result<(Daemon, Option<String>), String> {
    let answers = Command::new("docker").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if answers.is_ok_and(|status| status.success()) {
        return Ok((Daemon(None), None));
    }
    if std::env::var_os("CI").is_none() {
        return Err("no Docker daemon answers".to_owned());
    }
    let mut child = Command::new(scripts().join("dockerd.sh"))
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let lines = BufReader::new(child.stdout.take().expect("stdout was asked for")).lines();
    let daemon = Daemon(Some(child));
    let mut host = None;
    for line in lines.map_while(Result::ok) {
        match line.strip_prefix("DOCKER_HOST=") {
            Some(found) => host = Some(found.to_owned()),
            // Reading on to here matters: a script that writes into a closed pipe ends.
            None if line == "READY" => return Ok((daemon, host)),
            None => {}
        }
    }
    Err("scripts/dockerd.sh ended; what it said is above".to_owned())
}

/// Runs the lane, or says that it did not run. In CI the daemon must be there.
async fn with_daemon<F: Future<Output = ()>>(lane: &str, run: impl FnOnce() -> F) {
    match daemon() {
        Ok((_daemon, host)) => {
            if let Some(host) = host {
                // SAFETY: nextest and the lanes below keep this binary's container tests in one test function.
                unsafe { std::env::set_var("DOCKER_HOST", host) };
            }
            run().await;
        }
        Err(why) if std::env::var_os("CI").is_some() => panic!("{lane}: {why}"),
        Err(why) => did_not_run(lane, &why),
    }
}

/// Both lanes in one test, since they share a daemon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_in_containers() {
    with_daemon("containers (versitygw image, MinIO image)", || async {
        versitygw_image().await;
        minio_image().await;
    })
    .await;
}

/// Only what moves little: the whole suite is for `conformance run`.
fn quick() -> Options {
    let only =
        ["address", "auth", "condition", "get", "head", "delete", "list.finds", "list.order", "list.pages"];
    Options { only: only.map(str::to_owned).to_vec(), ..Options::default() }
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn versitygw_image() {
    let built = Command::new(scripts().join("versitygw-image.sh"))
        .stderr(Stdio::inherit())
        .output()
        .expect("the script runs");
    assert!(built.status.success(), "scripts/versitygw-image.sh failed");
    let image = String::from_utf8(built.stdout).expect("a name");
    let (name, tag) = image.trim().split_once(':').expect("name:tag");
    let port = free_port().expect("a free port");
    // The private daemon has no bridge, so the container shares our network and binds to loopback itself.
    let address = format!("127.0.0.1:{port}");
    let container = GenericImage::new(name, tag)
        .with_wait_for(WaitFor::seconds(1))
        .with_network("host")
        .with_env_var("ROOT_ACCESS_KEY", "access")
        .with_env_var("ROOT_SECRET_KEY", "secret-secret")
        .with_cmd(["--port", &address, "--virtual-domain", &format!("localhost:{port}"), "posix", "/data"])
        .with_startup_timeout(Duration::from_secs(60))
        .start()
        .await
        .expect("the container starts");
    let mut target = Target::local("versitygw", &format!("http://{address}"), "access", "secret-secret");
    let entry = targets::catalogue()
        .expect("it parses")
        .into_iter()
        .find(|entry| entry.name == "versitygw")
        .expect("it is listed");
    target.quirks = entry.quirks;
    let report = checks::run(target.clone(), &quick()).await.expect("it answers");
    let surprises: Vec<_> = report.surprises().iter().map(|outcome| (&outcome.id, &outcome.detail)).collect();
    assert!(surprises.is_empty(), "{surprises:?}");
    // What ran before is gone, so the listings below see only their own.
    target.bucket = "clients".to_owned();
    let one = Options { only: vec!["head.bucket".to_owned()], ..Options::default() };
    let _ = checks::run(target.clone(), &one).await;
    super::clients::agree(target).await;
    container.rm().await.expect("the container is removed");
}

/// MinIO as it is published; `CONFORMANCE_MINIO_IMAGE` (name:tag) names another image.
async fn minio_image() {
    let lane = "minio image";
    let image = std::env::var("CONFORMANCE_MINIO_IMAGE").unwrap_or_default();
    let start = async {
        match image.split_once(':') {
            Some((name, tag)) => MinIO::default().with_name(name).with_tag(tag).start().await,
            None => MinIO::default().start().await,
        }
    };
    let container = match tokio::time::timeout(Duration::from_secs(120), start).await {
        Ok(Ok(container)) => container,
        Ok(Err(error)) => return did_not_run(lane, &error.to_string().replace('\n', " ")),
        Err(_) => return did_not_run(lane, "the image was not there within two minutes"),
    };
    let (host, port) = (
        container.get_host().await.expect("a host"),
        container.get_host_port_ipv4(9000).await.expect("a port"),
    );
    let target = Target::local("minio", &format!("http://{host}:{port}"), "minioadmin", "minioadmin");
    let report = checks::run(target.clone(), &quick()).await.expect("it answers");
    assert!(!matches!(report.verdict(), Verdict::NotUsable(_)), "{}", report.verdict());
}
