//! Two independent clients: what aws-sdk-s3 wrote, MinIO's own SDK reads, and the other way round.

use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use conformance::client::{Budget, Client, SdkChecksums};
use conformance::targets::{self, Target};
use futures::StreamExt;
use minio::s3::MinioClient;
use minio::s3::creds::StaticProvider;
use minio::s3::http::BaseUrl;

const BUCKET: &str = "conformance";
