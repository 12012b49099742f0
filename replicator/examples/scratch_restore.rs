#![allow(missing_docs, clippy::all)]
use replicator::restore::*;
use std::sync::Arc;
#[tokio::main]
async fn main() {
    let a: Vec<String> = std::env::args().collect();
    let host = replicator::host::os::host();
    let bucket: Arc<dyn replicator::bucket::Bucket> =
        Arc::new(replicator::bucket::directory::DirectoryBucket::new(
            &host,
            &replicator::bucket::settings::DirectorySettings { path: a[1].clone().into(), ownership: None },
        ));
    let mut o = Options::new(&a[2]);
    o.integrity_check = a[3].parse().unwrap();
    if let Some(p) = a.get(4) {
        o.parallelism = p.parse().unwrap();
    }
    o.force = true;
    let r = run(&host, bucket, o, &NoProgress).await;
    match r {
        Ok(Report::Restored(r)) => {
            println!("{:?} {} fetched {} db", r.duration, r.bytes_fetched, r.database_bytes)
        }
        other => println!("{other:?}"),
    }
}
