//! The doctor on the test server: as documented, in dialects, lying; and on a directory.

use std::sync::Arc;

use conformance::server::{
    Dialect, Fault, Lie, Loopback, Outcome as Told, RequestFacts, Server, Settings as ServerSettings, Verb,
    system_clock,
};
use futures::future::BoxFuture;

use super::*;
use crate::bucket::Environment;
use crate::bucket::settings::{DirectorySettings, S3Settings, Settings};
use crate::host::{Dial, Host, Stream, os};

async fn serve(dialect: Dialect) -> Loopback {
    let server = Server::new(ServerSettings { dialect, ..ServerSettings::new(system_clock()) });
    server.create_bucket("bucket");
    server.start_loopback().await.unwrap()
}

fn settings(loopback: &Loopback) -> S3Settings {
    S3Settings {
        bucket: "bucket".to_owned(),
        path: "some/path".to_owned(),
        endpoint: Some(format!("http://localhost:{}", loopback.address().port())),
        access_key_id: Some("access".to_owned()),
        secret_access_key: Some("secret".to_owned().into()),
        ..S3Settings::default()
    }
}

/// Every name is this machine's: `bucket.localhost` is not resolved everywhere.
struct ThisMachine;

impl Dial for ThisMachine {
    fn dial<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, std::io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

async fn examine(settings: S3Settings) -> Report {
    let settings = Settings::S3(Box::new(settings));
    let host = Host { dial: Arc::new(ThisMachine), ..os::host() };
    Doctor::new(host, Environment::default(), &settings).run().await.unwrap()
}

fn detail<'a>(report: &'a Report, check: &str) -> &'a Finding {
    report.findings.iter().find(|found| found.check == check).unwrap()
}

/// Nothing of the run is left.
fn assert_clean(loopback: &Loopback, report: &Report) {
    assert_eq!(report.left_behind, None);
    let store = loopback.server().store();
    let left: Vec<_> = store
        .list("bucket", "", conformance::server::Moment::Latest)
        .unwrap()
        .map(|(key, ..)| key.to_owned())
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn documented_s3_is_usable_within_the_ceiling() {
    let loopback = serve(Dialect::default()).await;
    let report = examine(settings(&loopback)).await;
    assert_eq!(report.verdict(), Verdict::Usable, "{report:?}");
    assert!(
        report.findings.len() >= 16 && report.findings.iter().all(|found| found.outcome == Outcome::Pass)
    );
    assert_clean(&loopback, &report);
    let traffic = loopback.server().traffic();
    assert_eq!(report.requests, traffic.total());
    let limit = ceiling();
    assert!(traffic.total() <= limit.requests && traffic.bytes_in + traffic.bytes_out <= limit.bytes);
    assert!(report.location.contains("some/path/doctor-"), "{}", report.location);
}

#[tokio::test]
async fn what_has_to_be_set_is_found_out() {
    let one_writer =
        "nothing; but a second writer is found only afterwards: never let two run on one replica";
    for (name, change, wanted) in [
        ("oss", S3Settings::default(), vec!["force-path-style: false", one_writer]),
        (
            "b2",
            S3Settings { sign_payload: Some(false), ..S3Settings::default() },
            vec!["sign-payload: true", one_writer],
        ),
        (
            "garage",
            S3Settings { region: Some("garage".to_owned()), ..S3Settings::default() },
            vec![one_writer],
        ),
        ("strict", S3Settings::default(), vec![]),
    ] {
        let loopback = serve(Dialect::named(name).unwrap()).await;
        let asked =
            S3Settings { sign_payload: change.sign_payload, region: change.region, ..settings(&loopback) };
        let report = examine(asked).await;
        let found = match report.verdict() {
            Verdict::Usable => Vec::new(),
            Verdict::UsableWith(settings) => settings,
            Verdict::NotUsable(checks) => panic!("{name}: {checks:?} {report:?}"),
        };
        assert_eq!(found, wanted, "{name}");
        assert_clean(&loopback, &report);
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_not_usable_and_nothing_else_is_asked() {
    let loopback = serve(Dialect::default()).await;
    let report = examine(S3Settings { bucket: "other".to_owned(), ..settings(&loopback) }).await;
    assert_eq!(report.verdict(), Verdict::NotUsable(vec!["list"]));
    assert!(report.findings[1..].iter().all(|found| found.outcome == Outcome::Skipped));
}

#[tokio::test]
async fn lies_are_found_out() {
    for (lie, verb, check) in [
        (Lie::StoreFlippedBit, Verb::PutObject, "write"),
        (Lie::AckWithoutStore, Verb::PutObject, "write"),
        (Lie::EmptyForMissing, Verb::GetObject, "absent"),
        (Lie::WrongHeadSize, Verb::HeadObject, "size"),
        (Lie::ShiftRange, Verb::GetObject, "range"),
        (Lie::EmptyList, Verb::ListObjects, "list-after-write"),
        (Lie::GapsInList, Verb::ListObjects, "list-after-write"),
        (Lie::PartsReversed, Verb::CompleteMultipartUpload, "multipart"),
        (Lie::AckWithoutStore, Verb::DeleteObject, "delete"),
        (Lie::BatchDeleteLeavesAll, Verb::DeleteObjects, "delete-many"),
        (Lie::AcceptAnySignature, Verb::ListObjects, "wrong-key"),
    ] {
        let loopback = serve(Dialect::default()).await;
        loopback.server().set_faults(Arc::new(move |facts: &RequestFacts| {
            if facts.verb == verb { Told::Lie(lie).into() } else { Fault::default() }
        }));
        let report = examine(settings(&loopback)).await;
        let found = detail(&report, check);
        assert_eq!(found.outcome, Outcome::Fail, "{lie:?}: {report:?}");
        assert!(found.detail.as_ref().is_some_and(|what| !what.is_empty()));
    }
}

#[tokio::test]
async fn a_directory_is_examined_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::Directory(DirectorySettings { path: folder.path().to_owned(), ownership: None });
    let report = Doctor::new(os::host(), Environment::default(), &settings).run().await.unwrap();
    assert_eq!(report.verdict(), Verdict::Usable, "{report:?}");
    assert_eq!(report.left_behind, None);
    assert!(os::host().disk.read_dir(folder.path()).unwrap().is_empty());
}
