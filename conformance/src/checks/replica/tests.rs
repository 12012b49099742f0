//! The rig with a program in the replicator's place: what becomes of it and of what was written, however a check ends.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::runtime::Handle;

use super::super::Running;
use super::super::runner::{Options, run_one};
use super::*;
use crate::client::{Budget, Call, Client};
use crate::server::{ErrorAnswer, Fault, FaultPlan, Loopback, Moment, Outcome, RequestFacts, Server};
use crate::server::{Settings, Verb, system_clock};
use crate::targets::Target;
use crate::verdict;
use crate::workload::History;

/// A server, and a program that says its id and then does nothing.
struct Scene {
    loopback: Loopback,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new(faults: impl FaultPlan + 'static) -> Self {
        let mut settings = Settings::new(system_clock());
        settings.faults = Arc::new(faults);
        let loopback = Server::new(settings).start_loopback().await.unwrap();
        loopback.server().create_bucket("conformance");
        let scene = Self { loopback, folder: tempfile::tempdir().unwrap() };
        let script = format!("#!/bin/sh\necho $$ > {}\nexec sleep 60\n", scene.pid_file().display());
        std::fs::write(scene.program(), script).unwrap();
        std::fs::set_permissions(scene.program(), PermissionsExt::from_mode(0o755)).unwrap();
        scene
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("program")
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.path().join("pid")
    }

    async fn ran(&self, run: for<'a> fn(&'a Probe) -> Running<'a>, timeout: Duration) -> verdict::Outcome {
        let target = Target::local("here", &self.loopback.endpoint(), "access", "secret");
        let client = Client::new(Arc::new(target), Arc::new(Budget::new(1000, 1 << 20))).unwrap();
        let options = Options { replicator: Some(self.program()), timeout, ..Options::default() };
        run_one(&Check { run, ..CHECKS[0] }, &client, "suite/", &options).await
    }

    fn keys(&self) -> Vec<String> {
        let store = self.loopback.server().store();
        store.list("conformance", "", Moment::Latest).unwrap().map(|(key, ..)| key.to_owned()).collect()
    }
}

/// Has a replicator running, and writes an object at each look.
fn write_for_ever(rig: &Rig) -> Result<(), Complaint> {
    let (site, mut history) = (rig.site()?, History::new());
    let _daemon = rig.app("app", 1, &mut history)?.replicate(&site, &[])?;
    let mut count = 0;
    rig.wait_until("an end", || {
        count += 1;
        let put = Call::new(Method::PUT, &format!("{}app/{count}", rig.prefix)).body("x");
        Handle::current().block_on(rig.client.send(&put))?;
        Ok(false)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_late_check_runs_has_ended_when_its_prefix_is_emptied() {
    let slow = |request: &RequestFacts| match request.verb {
        Verb::PutObject => Fault { delay: Duration::from_millis(300), outcome: Outcome::Pass },
        _ => Fault::default(),
    };
    let scene = Scene::new(slow).await;
    let found = scene.ran(|probe| Box::pin(on_rig(probe, write_for_ever)), Duration::from_millis(700)).await;
    assert!(found.is_late && found.detail.unwrap().starts_with("not done within"));
    assert_eq!(found.left_behind, None);
    let pid = std::fs::read_to_string(scene.pid_file()).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "the replicator runs on");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let written = scene.loopback.server().store().log().iter().any(|event| event.key.ends_with("app/1"));
    assert!(written && scene.keys().is_empty(), "{:?}", scene.keys());
}

/// As a replicator that is killed in the middle of an upload: nobody knows of it but the store.
fn begin_an_upload_and_fail(rig: &Rig) -> Result<(), Complaint> {
    for key in [format!("{}app/large", rig.prefix), "beside".to_owned()] {
        let begin = Call::new(Method::POST, &key).query("uploads", "");
        Handle::current().block_on(rig.client.send(&begin))?;
    }
    Err(Complaint::new("it was killed"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_only_the_store_knows_of_are_aborted() {
    let scene = Scene::new(|_: &RequestFacts| Fault::default()).await;
    let long = Duration::from_secs(60);
    let found = scene.ran(|probe| Box::pin(on_rig(probe, begin_an_upload_and_fail)), long).await;
    assert!(!found.passed && !found.is_late);
    assert_eq!(found.left_behind, None);
    let store = scene.loopback.server().store();
    let left: Vec<_> = store.uploads("conformance").unwrap().values().map(|upload| &upload.key).collect();
    assert_eq!(left, ["beside"], "its own is aborted, and no other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_may_be_left_are_named() {
    let long = Duration::from_secs(60);
    for verb in [Verb::ListMultipartUploads, Verb::AbortMultipartUpload] {
        let refusing = move |request: &RequestFacts| match request.verb {
            found if found == verb => Outcome::Refuse(ErrorAnswer::new(403, "AccessDenied")).into(),
            _ => Fault::default(),
        };
        let scene = Scene::new(refusing).await;
        let found = scene.ran(|probe| Box::pin(on_rig(probe, begin_an_upload_and_fail)), long).await;
        let left = found.left_behind.unwrap();
        assert!(left.contains("uploads") && left.contains("403 AccessDenied"), "{left}");
    }
}
