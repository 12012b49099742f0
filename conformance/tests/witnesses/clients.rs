//! Two independent clients: what aws-sdk-s3 wrote, MinIO's own SDK reads, and the other way round.
//!
//! A fault that one client and our server share would stay hidden with one of them alone.

use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use conformance::client::{Budget, Client, SdkChecksums};
use conformance::server::{Server, Settings, system_clock};
use conformance::targets::Target;
use futures::StreamExt;
use minio::s3::builders::ObjectContent;
use minio::s3::creds::StaticProvider;
use minio::s3::http::BaseUrl;
use minio::s3::response_traits::HasEtagFromHeaders;
use minio::s3::types::{BucketName, ObjectKey, S3Api, ToStream};
use minio::s3::{MinioClient, MinioClientBuilder};

/// MinIO's SDK on a target.
fn minio(target: &Target) -> MinioClient {
    let url: BaseUrl = target.endpoint.parse().expect("a URL");
    let keys = StaticProvider::new(&target.access_key, &target.secret_key, None);
    MinioClientBuilder::new(url).provider(Some(keys)).build().expect("a client")
}

fn bytes(len: usize, seed: u8) -> Bytes {
    (0..len).map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed) ^ (n >> 8) as u8).collect()
}

/// Writes with each client, and reads, lists and deletes with the other.
pub async fn agree(target: Target) {
    let bucket = BucketName::try_from(target.bucket.as_str()).expect("a bucket name");
    let minio = minio(&target);
    let client = Client::new(Arc::new(target), Arc::new(Budget::new(1000, 1 << 30))).expect("a URL");
    let aws = client.sdk(SdkChecksums::WhenRequired);
    let name = client.target().bucket.clone();
    // 11 MiB go in parts with MinIO's SDK (5 MiB is the least it allows).
    for (key, body) in
        [("small object", bytes(1000, 1)), ("größer/11 MiB", bytes(11 << 20, 2)), ("none", Bytes::new())]
    {
        let object = ObjectKey::new(key).expect("a key");
        let by_aws = format!("aws/{key}");
        let put = aws.put_object().bucket(&name).key(&by_aws).body(ByteStream::from(body.clone()));
        let etag = put.send().await.expect("aws-sdk-s3 writes").e_tag.expect("an ETag");
        let found = minio.get_object(&bucket, ObjectKey::new(&by_aws).expect("a key")).expect("valid");
        let found = found.build().send().await.expect("MinIO's SDK reads what aws-sdk-s3 wrote");
        assert_eq!(
            found.etag().expect("an ETag").as_str().trim_matches('"'),
            etag.trim_matches('"'),
            "{key}"
        );
        let content =
            found.content().expect("content").to_segmented_bytes().await.expect("all of it").to_bytes();
        assert!(content == body, "{key} reads back as {} bytes", content.len());

        let put =
            minio.put_object_content(&bucket, &object, ObjectContent::from(body.clone())).expect("valid");
        // With a part size, MinIO's SDK refuses to write an object of no bytes.
        let part_size = (!body.is_empty()).then_some(5_u64 << 20);
        put.part_size(part_size).build().send().await.expect("MinIO's SDK writes");
        let found = aws
            .get_object()
            .bucket(&name)
            .key(key)
            .send()
            .await
            .expect("aws-sdk-s3 reads what MinIO's wrote");
        let content = found.body.collect().await.expect("all of it").into_bytes();
        assert!(content == body, "{key} reads back as {} bytes", content.len());
    }
    let wanted =
        ["aws/größer/11 MiB", "aws/none", "aws/small object", "größer/11 MiB", "none", "small object"];
    let listed = aws.list_objects_v2().bucket(&name).send().await.expect("aws-sdk-s3 lists");
    let by_aws: Vec<_> = listed.contents().iter().filter_map(|object| object.key()).collect();
    assert_eq!(by_aws, wanted);
    let listing = minio.list_objects(&bucket).expect("valid").recursive(true).build();
    let pages: Vec<_> = listing.to_stream().await.collect().await;
    let by_minio: Vec<_> =
        pages.into_iter().flat_map(|page| page.expect("a page").contents).map(|entry| entry.name).collect();
    assert_eq!(by_minio, wanted);
    for key in wanted {
        let delete = minio.delete_object(&bucket, ObjectKey::new(key).expect("a key")).expect("valid");
        delete.build().send().await.expect("MinIO's SDK deletes");
    }
    let listed = aws.list_objects_v2().bucket(&name).send().await.expect("aws-sdk-s3 lists");
    assert!(listed.contents().is_empty(), "{:?}", listed.contents());
}

#[tokio::test]
async fn on_the_embedded_server() {
    let loopback = Server::new(Settings::new(system_clock())).start_loopback().await.unwrap();
    loopback.server().create_bucket("conformance");
    agree(Target::local("embedded", &loopback.endpoint(), "access", "secret")).await;
}
