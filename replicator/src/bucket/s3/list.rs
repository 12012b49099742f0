//! Listing: every page, or an error.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;

use super::super::ObjectInfo;
use super::super::observer::Verb;
use super::client::{Client, Request};
use super::failure::Failure;
use super::read::{self, millis};
use crate::error::Result;

/// All objects with full keys that start with `prefix` and sort after `start_after`.
pub(super) async fn list(
    client: &Client,
    prefix: &str,
    start_after: Option<&str>,
) -> Result<Vec<ObjectInfo>> {
    let request = Request::new(Verb::List, "ListObjectsV2", prefix);
    let mut objects = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let send = |sdk: aws_sdk_s3::Client| {
            sdk.list_objects_v2()
                .bucket(&client.bucket)
                .prefix(prefix)
                .set_start_after(start_after.map(str::to_owned))
                .set_continuation_token(token.clone())
                .send()
        };
        let page = client.run(&request, send).await.map_err(|failure| client.error(&request, &failure))?;
        let next = next_token(&page, token.as_deref()).map_err(|failure| client.error(&request, &failure))?;
        for object in page.contents.unwrap_or_default() {
            let Some(key) = object.key else { continue };
            if !key.starts_with(prefix) || start_after.is_some_and(|start| key.as_str() <= start) {
                continue;
            }
            let modified = object.last_modified.map(millis);
            match object.size.and_then(|size| u64::try_from(size).ok()) {
                Some(size) => objects.push(ObjectInfo { key, size, modified }),
                // A store that leaves the size out is asked for it.
                None => objects.extend(read::head(client, &key).await?),
            }
        }
        match next {
            Some(next) => token = Some(next),
            None => break,
        }
    }
    // Keys come in order from a correct store; pages that overlap or are out of order cost nothing here.
    objects.sort_by(|a, b| a.key.cmp(&b.key));
    objects.dedup_by(|later, earlier| later.key == earlier.key);
    Ok(objects)
}

/// The token of the next page, `None` after the last. A listing that cannot go on is an error, never an end.
fn next_token(page: &ListObjectsV2Output, current: Option<&str>) -> Result<Option<String>, Failure> {
    if planted!("first-page-only") || !page.is_truncated.unwrap_or(page.next_continuation_token.is_some()) {
        return Ok(None);
    }
    match page.next_continuation_token.as_deref() {
        None | Some("") => Err(Failure::bad_answer("the listing is cut but names no next page")),
        Some(next) if Some(next) == current => {
            Err(Failure::bad_answer("the listing names the same page again"))
        }
        Some(next) => Ok(Some(next.to_owned())),
    }
}
