//! Replica settings: what was typed → [`bucket::Settings`](crate::bucket::settings::Settings).

use super::environment::Environment;
use super::raw_replica::{RawReplica, RawS3};
use super::resolved::Replica;
use super::section::{At, Report};
use crate::bucket::settings::{DirectorySettings, S3Settings, Settings};
use crate::bucket::url;
use crate::error::Result;

/// A replica named only by a URL and the environment.
///
/// # Errors
/// As [`url::parse`].
pub fn from_url(text: &str, environment: &Environment, report: &Report) -> Result<Replica> {
    let parsed = url::parse(text)?;
    for part in &parsed.ignored {
        report.warn(None, "", format!("the replica URL contains a {part}, which has no effect"));
    }
    let mut settings = parsed.settings;
    if let Settings::S3(s3) = &mut settings {
        if !parsed.names_aws {
            endpoint_from_environment(s3, environment, report);
        }
        name_debugging(environment, report);
    }
    let mut replica =
        Replica { settings, name: String::new(), age_identities: Vec::new(), encryption_line: None };
    replica.name = replica.kind().to_owned();
    Ok(replica)
}

/// Resolves one replica of the file; `None` if it cannot be used, which is in the report then.
pub fn resolve(raw: &RawReplica, environment: &Environment, report: &Report) -> Option<Replica> {
    let (settings, names_aws) = match &raw.url {
        Some(at) => from_url_key(raw, at, report)?,
        None => (from_parts(raw, environment, report)?, false),
    };
    let settings = match settings {
        Settings::S3(mut s3) => {
            apply(&raw.s3, &mut s3, environment, report);
            if !names_aws {
                endpoint_from_environment(&mut s3, environment, report);
            }
            name_debugging(environment, report);
            Settings::S3(s3)
        }
        Settings::Directory(directory) => {
            let prefix = format!("{}.", raw.key);
            for (line, key) in raw.s3.given().into_iter().filter(|(_, key)| key.starts_with(&prefix)) {
                report.warn(Some(line), key, "has no effect on a replica of type file");
            }
            Settings::Directory(directory)
        }
    };
    let mut replica = Replica {
        settings,
        name: String::new(),
        age_identities: raw.age_identities.clone(),
        encryption_line: raw.age,
    };
    replica.name = raw.name.as_ref().map_or(replica.kind(), |at| at.value.as_str()).to_owned();
    Some(replica)
}

/// From `url:`, and whether that names AWS. It counts more than `type` beside it; `bucket` and `path` are refused.
fn from_url_key(raw: &RawReplica, at: &At<String>, report: &Report) -> Option<(Settings, bool)> {
    let parsed = match url::parse(&at.value) {
        Ok(parsed) => parsed,
        Err(error) => {
            report.error(Some(at.line), &at.key, error.to_string());
            return None;
        }
    };
    for part in &parsed.ignored {
        report.warn(Some(at.line), &at.key, format!("contains a {part}, which has no effect"));
    }
    let kind = match parsed.settings {
        Settings::S3(_) => "s3",
        Settings::Directory(_) => "file",
    };
    if let Some(typed) = raw.kind.as_ref().filter(|typed| typed.value != kind) {
        let message = format!("has no effect: the url on line {} is of type {kind:?}", at.line);
        report.warn(Some(typed.line), &typed.key, message);
    }
    if let Some(other) = raw.path.as_ref().or(raw.s3.bucket.as_ref()) {
        let message = format!("cannot stand beside url (line {}): remove one of them", at.line);
        report.error(Some(other.line), &other.key, message);
        return None;
    }
    Some((parsed.settings, parsed.names_aws))
}

/// From `type:`, `bucket:` and `path:`.
fn from_parts(raw: &RawReplica, environment: &Environment, report: &Report) -> Option<Settings> {
    if let Some(at) = raw.path.as_ref().filter(|at| url::is_url(&at.value)) {
        report.error(Some(at.line), &at.key, "is a URL: write it as url instead of path");
        return None;
    }
    let kind = raw.kind.as_ref().map_or("file", |at| at.value.as_str());
    match kind {
        "s3" => {
            let Some(bucket) = &raw.s3.bucket else {
                report.error(Some(raw.line), &raw.key, "a replica of type s3 needs a bucket, or a url");
                return None;
            };
            let path = raw.path.as_ref().map(|at| at.value.clone()).unwrap_or_default();
            let settings = S3Settings { bucket: bucket.value.clone(), path, ..S3Settings::default() };
            Some(Settings::S3(Box::new(settings)))
        }
        "file" => {
            let Some(path) = &raw.path else {
                let message = if raw.s3.bucket.is_some() {
                    "has a bucket, but no type: write type: s3"
                } else {
                    "needs a url (s3://BUCKET/PATH or file:///PATH), or a type and a path; \
                     if it comes from an environment variable, is that set?"
                };
                report.error(Some(raw.line), &raw.key, message);
                return None;
            };
            match environment.absolute(&path.value) {
                Ok(path) => Some(Settings::Directory(DirectorySettings { path, ownership: None })),
                Err(error) => {
                    report.error(Some(path.line), &path.key, error.to_string());
                    None
                }
            }
        }
        other => {
            let line = raw.kind.as_ref().map(|at| at.line);
            report.error(line, &format!("{}.type", raw.key), url::unsupported_type(other).to_string());
            None
        }
    }
}

/// Keys of the file win over parameters of the URL.
fn apply(raw: &RawS3, s3: &mut S3Settings, environment: &Environment, report: &Report) {
    fn set<T: Clone>(target: &mut Option<T>, at: Option<&At<T>>) {
        if let Some(at) = at {
            *target = Some(at.value.clone());
        }
    }
    if raw.endpoint.is_some() && raw.force_path_style.is_none() {
        // Addressing that the URL's host implied belongs to that host.
        s3.force_path_style = None;
    }
    set(&mut s3.region, raw.region.as_ref());
    set(&mut s3.endpoint, raw.endpoint.as_ref());
    set(&mut s3.access_key_id, raw.access_key_id.as_ref());
    set(&mut s3.secret_access_key, raw.secret_access_key.as_ref());
    set(&mut s3.session_token, raw.session_token.as_ref());
    set(&mut s3.force_path_style, raw.force_path_style.as_ref());
    set(&mut s3.skip_verify, raw.skip_verify.as_ref());
    set(&mut s3.sign_payload, raw.sign_payload.as_ref());
    set(&mut s3.require_content_md5, raw.require_content_md5.as_ref());
    set(&mut s3.sign_accept_encoding, raw.sign_accept_encoding.as_ref());
    set(&mut s3.storage_class, raw.storage_class.as_ref());
    set(&mut s3.part_size, raw.part_size.as_ref());
    set(&mut s3.sse_customer_algorithm, raw.sse_customer_algorithm.as_ref());
    set(&mut s3.sse_customer_key, raw.sse_customer_key.as_ref());
    set(&mut s3.sse_kms_key_id, raw.sse_kms_key_id.as_ref());
    if let Some(at) = &raw.concurrency {
        s3.concurrency = Some(at.value as usize);
    }
    if let Some(at) = &raw.sse_customer_key_path {
        match environment.absolute(&at.value) {
            Ok(path) => s3.sse_customer_key_path = Some(path),
            Err(error) => report.error(Some(at.line), &at.key, error.to_string()),
        }
    }
    check_pairs(raw, s3, report);
}

/// Settings that need, or exclude, one another.
fn check_pairs(raw: &RawS3, s3: &S3Settings, report: &Report) {
    const SMALLEST_PART: u64 = 5 << 20;
    if let Some(at) = raw.part_size.as_ref().filter(|at| at.value < SMALLEST_PART) {
        report.error(Some(at.line), &at.key, "is below 5MiB, the smallest part that S3 accepts");
    }
    match (&raw.access_key_id, &raw.secret_access_key) {
        (Some(at), None) => report.error(
            Some(at.line),
            &at.key,
            "has no secret-access-key beside it; if that comes from an environment variable, is it set?",
        ),
        (None, Some(at)) => report.error(
            Some(at.line),
            &at.key,
            "has no access-key-id beside it; if that comes from an environment variable, is it set?",
        ),
        _ => {}
    }
    let customer_key = s3.sse_customer_key.is_some() || s3.sse_customer_key_path.is_some();
    if let Some(at) = raw.sse_kms_key_id.as_ref().filter(|_| customer_key) {
        report.error(
            Some(at.line),
            &at.key,
            "cannot stand beside a customer key: choose one kind of encryption",
        );
    }
    if let Some(at) = raw.sse_customer_key_path.as_ref().filter(|_| raw.sse_customer_key.is_some()) {
        report.error(Some(at.line), &at.key, "cannot stand beside sse-customer-key: remove one of them");
    }
    if let Some(at) = raw.sse_customer_algorithm.as_ref().filter(|_| !customer_key) {
        report.error(
            Some(at.line),
            &at.key,
            "asks for encryption without a key (sse-customer-key or sse-customer-key-path)",
        );
    }
}

/// Litestream's SDK prints whole requests, bodies and signatures included. We do not, but nobody should wait for it.
fn name_debugging(environment: &Environment, report: &Report) {
    if environment.get("LITESTREAM_S3_DEBUG").is_some() {
        report.warn(
            None,
            "",
            "LITESTREAM_S3_DEBUG has no effect: -log-level debug (or LOG_LEVEL=debug) shows each request to the \
             store, without headers and bodies",
        );
    }
}

/// Where no endpoint is written, the environment may name one: Litestream's variable, or those of the AWS SDKs, the
/// one for S3 before the one for all services, unless they are switched off
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>). A scheme may be absent here, too. Not
/// for a URL that names AWS: keys must not go to another host than the one that is written.
fn endpoint_from_environment(s3: &mut S3Settings, environment: &Environment, report: &Report) {
    if s3.endpoint.is_some() {
        return;
    }
    let switched_off = environment
        .get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let of_aws: &[&str] = if switched_off { &[] } else { &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"] };
    let names = ["LITESTREAM_S3_ENDPOINT"].into_iter().chain(of_aws.iter().copied());
    let found = names.into_iter().find_map(|name| environment.get(name).map(|value| (name, value)));
    if let Some((name, value)) = found {
        // Litestream has this variable for its read-only VFS alone.
        if name == "LITESTREAM_S3_ENDPOINT" {
            report.warn(None, name, format!("is the endpoint of bucket {}", s3.bucket));
        }
        s3.endpoint = Some(value.to_owned());
    }
}
