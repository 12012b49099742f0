//! Deleting: in batches where the store can, each key confirmed.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::super::DeleteFailure;
use super::super::observer::Verb;
use super::client::{Client, Request};
use super::failure::Failure;
use super::headers::BatchDigest;
use super::read;
use crate::error::{Error, ErrorKind, Result};

/// Keys that S3 accepts in one request.
const BATCH: usize = 1000;

/// Deletes full keys. Returns those that are still there.
pub(super) async fn delete(client: &Client, keys: &[String]) -> Result<Vec<DeleteFailure>> {
    let mut failures = Vec::new();
    for batch in keys.chunks(BATCH) {
        if batch.len() > 1 && client.deletes_batches() {
            match delete_batch(client, batch).await {
                Ok(failed) => failures.extend(failed),
                Err(failure) if may_mean_unsupported(&failure) => {
                    let failed = delete_singly(client, batch).await;
                    // Some went one by one, so it was the batch that the store does not take.
                    if failed.len() < batch.len() {
                        client.batch_delete.store(false, Ordering::Relaxed);
                    }
                    failures.extend(failed);
                }
                Err(failure) => {
                    let request = Request::new(Verb::Delete, "DeleteObjects", &batch[0]);
                    return Err(client.error(&request, &failure));
                }
            }
        } else {
            failures.extend(delete_singly(client, batch).await);
        }
    }
    Ok(failures)
}

fn may_mean_unsupported(failure: &Failure) -> bool {
    failure.is_not_implemented() || failure.status == Some(400)
}

async fn delete_batch(client: &Client, keys: &[String]) -> Result<Vec<DeleteFailure>, Failure> {
    let request = Request::new(Verb::Delete, "DeleteObjects", &keys[0]);
    let identifiers = keys
        .iter()
        .map(|key| ObjectIdentifier::builder().key(key).build())
        .collect::<Result<Vec<_>, _>>()
        .expect("every identifier has a key");
    let delete = Delete::builder()
        .set_objects(Some(identifiers))
        .quiet(false)
        .build()
        .expect("the list of objects is set");
    let send = |sdk: aws_sdk_s3::Client| {
        let operation = sdk.delete_objects().bucket(&client.bucket).delete(delete.clone()).customize();
        if client.dialect.content_md5 {
            operation.interceptor(BatchDigest::new(&client.dialect)).send()
        } else {
            operation.send()
        }
    };
    let output = client.run(&request, send).await?;
    let mut unconfirmed: BTreeMap<&str, Option<Error>> =
        keys.iter().map(|key| (key.as_str(), None)).collect();
    for deleted in output.deleted() {
        unconfirmed.remove(deleted.key().unwrap_or_default());
    }
    for error in output.errors() {
        let key = error.key().unwrap_or_default();
        if error.code() == Some("NoSuchKey") {
            unconfirmed.remove(key);
        } else if let Some(entry) = unconfirmed.get_mut(key) {
            *entry = Some(refused(client, key, error));
        }
    }
    let mut failures = Vec::new();
    if planted!("refused-keys-count-as-deleted") {
        unconfirmed.clear();
    }
    for (key, error) in unconfirmed {
        let error = match error {
            Some(error) => error,
            // Neither deleted nor refused: look.
            None => match read::head(client, key).await {
                Ok(None) => continue,
                Ok(Some(_)) => Error::new(
                    ErrorKind::Transient,
                    format!(
                        "DeleteObjects {}: the store said nothing, the object is still there",
                        client.url(key)
                    ),
                ),
                Err(error) => error,
            },
        };
        failures.push(DeleteFailure { key: key.to_owned(), error });
    }
    Ok(failures)
}

fn refused(client: &Client, key: &str, error: &aws_sdk_s3::types::Error) -> Error {
    let code = error.code().unwrap_or("no code");
    let kind = match code {
        "AccessDenied" | "Forbidden" => ErrorKind::Denied,
        _ => ErrorKind::Transient,
    };
    let message = error.message().unwrap_or_default();
    Error::new(kind, format!("DeleteObjects {}: {code} {message}", client.url(key)))
}

async fn delete_singly(client: &Client, keys: &[String]) -> Vec<DeleteFailure> {
    let mut failures = Vec::new();
    for key in keys {
        let request = Request::new(Verb::Delete, "DeleteObject", key);
        let send = |sdk: aws_sdk_s3::Client| sdk.delete_object().bucket(&client.bucket).key(key).send();
        match client.run(&request, send).await {
            Ok(_) => {}
            Err(failure) if failure.is_already_gone() => {}
            Err(failure) => {
                failures.push(DeleteFailure { key: key.clone(), error: client.error(&request, &failure) });
            }
        }
    }
    failures
}
