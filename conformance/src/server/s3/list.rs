//! Listings of objects, parts, uploads and buckets.

use s3s::dto::{
    Bucket, CommonPrefix, ETag, EncodingType, ListBucketsOutput, ListMultipartUploadsInput,
    ListMultipartUploadsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output,
    ListPartsInput, ListPartsOutput, MultipartUpload, Object as Entry, Part as PartEntry,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::super::dialect::{ListRules, Treatment};
use super::super::fault::{Lie, Outcome, Staleness};
use super::super::store::{Moment, Object, Store, Version};
use super::write::hex;
use super::{Backend, Context, context, refuse, timestamp};

/// Which past a listing shows.
fn moment(at: &Context, rules: &ListRules, store: &Store) -> Moment {
    match &at.outcome {
        Outcome::StaleList(Staleness::Behind(lag)) => {
            Moment::At(at.stamp.at - i64::try_from(lag.as_millis()).unwrap_or(i64::MAX))
        }
        Outcome::StaleList(Staleness::HideNewest(count)) => {
            Moment::Seq((store.log().len() as u64).saturating_sub(*count))
        }
        _ if rules.stale_millis > 0 && !at.fresh => Moment::At(at.stamp.at - rules.stale_millis),
        _ => Moment::Latest,
    }
}

/// A page being filled.
#[derive(Default)]
struct Page {
    entries: Vec<Entry>,
    prefixes: Vec<String>,
    last: Option<String>,
    truncated: bool,
}

struct Query<'a> {
    bucket: &'a str,
    prefix: &'a str,
    delimiter: Option<&'a str>,
    /// Only what sorts after this.
    after: Option<&'a str>,
    max_keys: usize,
    url_encoded: bool,
}

fn encode(text: &str, url_encoded: bool) -> String {
    if !url_encoded {
        return text.to_owned();
    }
    let mut coded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            coded.push(char::from(byte));
        } else {
            coded.push_str(&format!("%{byte:02X}"));
        }
    }
    coded
}

fn entry(
    key: &str,
    version: &Version,
    object: &Object,
    query: &Query<'_>,
    rules: &ListRules,
    at: &Context,
) -> Entry {
    let size =
        i64::try_from(object.body.len()).expect("a body in memory") + i64::from(at.lies(Lie::WrongListSize));
    Entry {
        key: Some(encode(key, query.url_encoded)),
        size: (!rules.omit_size).then_some(size),
        last_modified: (!rules.omit_last_modified).then(|| timestamp(version.at)),
        e_tag: (!rules.omit_etag).then(|| ETag::Strong(object.etag.clone())),
        ..Entry::default()
    }
}

fn page(backend: &Backend, at: &Context, query: &Query<'_>) -> S3Result<Page> {
    let rules = &backend.dialect.list;
    let store = backend.store();
    let mut page = Page::default();
    let prefix = if at.lies(Lie::IgnorePrefix) { "" } else { query.prefix };
    let all = store.list(query.bucket, prefix, moment(at, rules, &store)).map_err(refuse)?;
    if at.lies(Lie::EmptyList) || query.max_keys == 0 {
        return Ok(page);
    }
    for (index, (key, version, object)) in all.enumerate() {
        if query.after.is_some_and(|after| key <= after) || (at.lies(Lie::GapsInList) && index % 3 == 2) {
            continue;
        }
        let group = query.delimiter.and_then(|delimiter| {
            let rest = &key[prefix.len()..];
            let end = rest.find(delimiter)? + delimiter.len();
            Some(&key[..prefix.len() + end])
        });
        if let Some(group) = group {
            // Keys after a group's name but inside it were counted with the page that showed the group.
            let seen = page.prefixes.last().is_some_and(|last| last == group)
                || query.after.is_some_and(|after| after.starts_with(group));
            if seen {
                page.last = Some(key.to_owned()).filter(|_| !page.truncated).or(page.last);
                continue;
            }
        }
        if page.entries.len() + page.prefixes.len() >= query.max_keys {
            page.truncated = true;
            break;
        }
        match group {
            Some(group) => page.prefixes.push(group.to_owned()),
            None => page.entries.push(entry(key, version, object, query, rules, at)),
        }
        page.last = Some(key.to_owned());
    }
    if at.lies(Lie::UnorderedList) {
        page.entries.reverse();
    }
    if at.lies(Lie::ListEndsEarly) {
        page.truncated = false;
    }
    Ok(page)
}

fn max_keys(asked: Option<i32>, rules: &ListRules) -> S3Result<(i32, usize)> {
    let asked = asked.unwrap_or(1000);
    let wanted =
        usize::try_from(asked).map_err(|_| s3_error!(InvalidArgument, "max-keys must not be negative"))?;
    let limit = usize::try_from(rules.page_size).unwrap_or(1000);
    Ok((asked, wanted.min(limit)))
}

/// Continuation tokens are opaque to clients; ours carry the last key, hex-coded so that nobody takes one for a key.
fn token(key: &str) -> String {
    format!("after-{}", hex(key.as_bytes()))
}

fn parse_token(token: &str) -> S3Result<String> {
    let bad = || s3_error!(InvalidArgument, "the continuation token is not one of ours");
    let digits = token.strip_prefix("after-").ok_or_else(bad)?;
    let bytes: Option<Vec<u8>> = digits
        .as_bytes()
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok())
        .collect();
    String::from_utf8(bytes.ok_or_else(bad)?).map_err(|_| bad())
}

fn common(prefixes: Vec<String>, url_encoded: bool) -> Vec<CommonPrefix> {
    prefixes.into_iter().map(|prefix| CommonPrefix { prefix: Some(encode(&prefix, url_encoded)) }).collect()
}

pub(super) fn objects_v2(
    backend: &Backend,
    req: &S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let at = context(req);
    let input = &req.input;
    let rules = &backend.dialect.list;
    let start_after = match rules.start_after {
        Treatment::Refused if input.start_after.is_some() => {
            return Err(s3_error!(NotImplemented, "start-after"));
        }
        Treatment::Ignored => None,
        _ if at.lies(Lie::IgnoreStartAfter) => None,
        _ => input.start_after.clone(),
    };
    let own = |token: &str| match parse_token(token) {
        Err(_) if rules.any_token => Ok(token.to_owned()),
        result => result,
    };
    let continued = input.continuation_token.as_deref().map(own).transpose()?;
    let after = if at.lies(Lie::ListStartsOver) { start_after } else { continued.or(start_after) };
    let (asked, max_keys) = max_keys(input.max_keys, rules)?;
    let url_encoded = input.encoding_type.as_ref().is_some_and(|e| e.as_str() == EncodingType::URL);
    let query = Query {
        bucket: &input.bucket,
        prefix: input.prefix.as_deref().unwrap_or(""),
        delimiter: input.delimiter.as_deref().filter(|d| !d.is_empty()),
        after: after.as_deref(),
        max_keys,
        url_encoded,
    };
    let page = page(backend, &at, &query)?;
    let count = page.entries.len() + page.prefixes.len();
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket.clone()),
        prefix: Some(encode(query.prefix, url_encoded)),
        delimiter: input.delimiter.clone(),
        encoding_type: input.encoding_type.clone(),
        start_after: input.start_after.as_deref().map(|key| encode(key, url_encoded)),
        continuation_token: input.continuation_token.clone(),
        max_keys: Some(asked),
        key_count: Some(i32::try_from(count).expect("at most a page")),
        is_truncated: Some(page.truncated),
        next_continuation_token: page.truncated.then(|| token(page.last.as_deref().unwrap_or(""))),
        contents: Some(page.entries),
        common_prefixes: Some(common(page.prefixes, url_encoded)),
        ..ListObjectsV2Output::default()
    }))
}

pub(super) fn objects_v1(
    backend: &Backend,
    req: S3Request<ListObjectsInput>,
) -> S3Result<S3Response<ListObjectsOutput>> {
    let at = context(&req);
    let input = req.input;
    let (asked, max_keys) = max_keys(input.max_keys, &backend.dialect.list)?;
    let url_encoded = input.encoding_type.as_ref().is_some_and(|e| e.as_str() == EncodingType::URL);
    let query = Query {
        bucket: &input.bucket,
        prefix: input.prefix.as_deref().unwrap_or(""),
        delimiter: input.delimiter.as_deref().filter(|d| !d.is_empty()),
        after: input.marker.as_deref(),
        max_keys,
        url_encoded,
    };
    let page = page(backend, &at, &query)?;
    Ok(S3Response::new(ListObjectsOutput {
        next_marker: page.last.filter(|_| page.truncated).map(|key| encode(&key, url_encoded)),
        prefix: Some(encode(query.prefix, url_encoded)),
        name: Some(input.bucket),
        delimiter: input.delimiter,
        encoding_type: input.encoding_type,
        marker: input.marker,
        max_keys: Some(asked),
        is_truncated: Some(page.truncated),
        contents: Some(page.entries),
        common_prefixes: Some(common(page.prefixes, url_encoded)),
        ..ListObjectsOutput::default()
    }))
}

pub(super) fn parts(
    backend: &Backend,
    req: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let input = req.input;
    let store = backend.store();
    let upload = store.upload(&input.bucket, &input.upload_id).map_err(refuse)?;
    let marker = input.part_number_marker.unwrap_or(0);
    let limit = usize::try_from(input.max_parts.unwrap_or(1000)).unwrap_or(1000).min(1000);
    let mut rest = upload.parts.range(marker + 1..);
    let parts: Vec<_> = rest
        .by_ref()
        .take(limit)
        .map(|(number, part)| PartEntry {
            part_number: Some(*number),
            size: i64::try_from(part.body.len()).ok(),
            e_tag: Some(ETag::Strong(hex(&part.md5))),
            last_modified: Some(timestamp(part.at)),
            ..PartEntry::default()
        })
        .collect();
    let truncated = rest.next().is_some();
    Ok(S3Response::new(ListPartsOutput {
        next_part_number_marker: parts.last().and_then(|p| p.part_number),
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        is_truncated: Some(truncated),
        parts: Some(parts),
        ..ListPartsOutput::default()
    }))
}

pub(super) fn uploads(
    backend: &Backend,
    req: &S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let prefix = req.input.prefix.as_deref().unwrap_or("");
    let store = backend.store();
    let uploads = store
        .uploads(&req.input.bucket)
        .map_err(refuse)?
        .iter()
        .filter(|(_, upload)| upload.key.starts_with(prefix))
        .map(|(id, upload)| MultipartUpload {
            key: Some(upload.key.clone()),
            upload_id: Some(id.clone()),
            initiated: Some(timestamp(upload.at)),
            ..MultipartUpload::default()
        })
        .collect();
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(req.input.bucket.clone()),
        prefix: req.input.prefix.clone(),
        is_truncated: Some(false),
        uploads: Some(uploads),
        ..ListMultipartUploadsOutput::default()
    }))
}

pub(super) fn buckets(store: &Store) -> ListBucketsOutput {
    let buckets =
        store.buckets().map(|name| Bucket { name: Some(name.to_owned()), ..Bucket::default() }).collect();
    ListBucketsOutput { buckets: Some(buckets), ..ListBucketsOutput::default() }
}
