//! Replica URLs → [`Settings`], as Litestream 0.5 reads them. Pure.
//!
//! Both spellings of each query parameter (`partSize`, `part-size`) work everywhere. Forms that Litestream reads
//! against the user's intent (a provider's host name taken for an AWS bucket, an IP address split at its first
//! dot) are read as meant or refused, so that keys never go to a host that was not named.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

use super::settings::{DirectorySettings, S3Settings, Secret, Settings};
use crate::error::{Error, ErrorKind, Result};

/// A parsed replica URL.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaUrl {
    /// What it says.
    pub settings: Settings,
    /// Parts that have no meaning here (query parameters, user names), to be warned about.
    pub ignored: Vec<String>,
    /// Its host is one of AWS's, or it is an access point: no endpoint from elsewhere takes their place.
    pub names_aws: bool,
}

/// Whether `text` is a URL rather than a path: word characters, then `://`.
#[must_use]
pub fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}

/// Parses `s3://…` and `file://…`.
///
/// # Errors
/// `Usage` for malformed URLs and values; `Unsupported` for the schemes of stores that Litestream has and we have
/// not.
pub fn parse(url: &str) -> Result<ReplicaUrl> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(usage(format!(
            "replica URL {url:?} has no scheme: write s3://BUCKET/PATH or file:///PATH"
        )));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "file" => Ok(parse_file(rest)),
        "s3" => parse_s3(rest),
        other => Err(unsupported_type(other)),
    }
}

/// The error for a replica type or URL scheme that is not implemented; also used for `type:` in configuration.
#[must_use]
pub fn unsupported_type(name: &str) -> Error {
    let advice = match name {
        "gs" | "gcs" => {
            "use Google's S3-compatible API with HMAC keys: s3://BUCKET/PATH?endpoint=https://storage.googleapis.com"
        }
        "oss" => {
            "use the store's S3-compatible API: s3://BUCKET/PATH?endpoint=https://s3.oss-REGION.aliyuncs.com"
        }
        "abs" | "sftp" | "webdav" | "webdavs" | "nats" => {
            "replicate to S3-compatible storage (s3://BUCKET/PATH) or to a mounted directory (file:///PATH)"
        }
        _ => "supported are s3 and file",
    };
    Error::new(ErrorKind::Unsupported, format!("replica type {name:?} is not supported: {advice}"))
}

fn usage(message: String) -> Error {
    Error::new(ErrorKind::Usage, message)
}

/// The text after `file://` without its query, absolute and cleaned, not percent-decoded.
fn parse_file(rest: &str) -> ReplicaUrl {
    let path = rest.split_once('?').map_or(rest, |(path, _)| path);
    let path = PathBuf::from(clean_path(&format!("/{path}")));
    ReplicaUrl {
        settings: Settings::Directory(DirectorySettings { path, ownership: None }),
        ignored: Vec::new(),
        names_aws: false,
    }
}

/// The directory that Litestream means by a `file` URL with this path, if that is another: it takes the URL as Go prints
/// it, escapes and all.
pub(super) fn as_litestream_stores(path: &Path) -> Option<PathBuf> {
    let text = path.to_str()?;
    // What follows `#` is a part of its own.
    let parts: Option<Vec<String>> = text.splitn(2, '#').map(go_escaped).collect();
    let stored = parts?.join("#");
    (stored != text).then(|| PathBuf::from(stored))
}

/// As Go prints a part of a URL: as it is, unless it holds something that must be escaped. `None` if Go refuses it.
fn go_escaped(part: &str) -> Option<String> {
    const PLAIN: &[u8] = b"-_.~$&+,/:;=@";
    const TOLERATED: &[u8] = b"!'()*[]%";
    let is = |byte: u8, others: &[u8]| byte.is_ascii_alphanumeric() || others.contains(&byte);
    let escapes = part.split('%').skip(1);
    let is_escape =
        |rest: &str| rest.get(..2).is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    if part.contains('?') || !escapes.into_iter().all(is_escape) {
        return None;
    }
    if part.bytes().all(|byte| is(byte, PLAIN) || TOLERATED.contains(&byte)) {
        return Some(part.to_owned());
    }
    let escaped =
        |byte: u8| if is(byte, PLAIN) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    Some(percent_decode_str(part).map(escaped).collect())
}

fn parse_s3(rest: &str) -> Result<ReplicaUrl> {
    let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut ignored = Vec::new();
    let is_access_point = place.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("arn:"));
    let mut names_aws = is_access_point;
    let mut settings = if is_access_point {
        access_point(place)?
    } else {
        refuse_keys(place)?;
        let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| {
            ignored.push("user name or password in the URL".to_owned());
            host
        });
        let mut settings = host_form(host);
        names_aws = split_host(host, "s3", "amazonaws.com").is_some();
        // `s3://bucket` without a slash means the path `.`: Litestream's cleaning makes it so, and its keys
        // really begin with `./`.
        settings.path = clean_path(&decode(path)?).trim_start_matches('/').to_owned();
        settings
    };
    let mut query = parse_query(query)?;
    apply_query(&mut settings, &mut query)?;
    ignored.extend(query.into_keys().map(|name| format!("query parameter {name:?}")));

    if settings.bucket.is_empty() && !place.starts_with('/') {
        take_bucket_from_path(&mut settings);
    }
    if settings.bucket.is_empty() {
        return Err(usage("the s3 replica URL names no bucket: write s3://BUCKET/PATH".to_owned()));
    }
    if settings.endpoint.is_none() {
        refuse_foreign_host(&settings.bucket)?;
    }
    Ok(ReplicaUrl { settings: Settings::S3(Box::new(settings)), ignored, names_aws })
}

/// A secret key may hold a `/`, which ends the host, so that the rest would count as bucket and path and be shown.
fn refuse_keys(place: &str) -> Result<()> {
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    let is_cut = authority.contains(':') && !authority.contains('@') && path.contains('@');
    if is_cut && authority.split_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_err()) {
        return Err(usage(
            "the s3 replica URL contains keys: give them by configuration or environment".to_owned(),
        ));
    }
    Ok(())
}

/// `arn:PARTITION:s3:REGION:ACCOUNT:accesspoint/NAME[/PATH]`.
fn access_point(place: &str) -> Result<S3Settings> {
    const MARK: &str = ":accesspoint/";
    let start = place.to_ascii_lowercase().find(MARK).map(|at| at + MARK.len());
    let Some(start) = start.filter(|start| *start < place.len()) else {
        return Err(usage(format!(
            "s3://{place} is not an access point: write s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/PATH"
        )));
    };
    let end = place[start..].find('/').map_or(place.len(), |slash| start + slash);
    let path = clean_path(&format!("/{}", place[end..].trim_start_matches('/')));
    Ok(S3Settings {
        bucket: place[..end].to_owned(),
        path: path.trim_start_matches('/').to_owned(),
        region: arn_region(&place[..end]).map(str::to_owned),
        ..S3Settings::default()
    })
}

/// The region inside an ARN, if it names one.
#[must_use]
pub fn arn_region(arn: &str) -> Option<&str> {
    arn.split(':').nth(3).filter(|region| !region.is_empty() && arn.starts_with("arn:"))
}

/// Bucket, region, endpoint and addressing from the host part of the URL.
fn host_form(host: &str) -> S3Settings {
    let mut settings = S3Settings::default();
    if host.contains(':') && !host.contains(".com") {
        // `bucket.host:port`: MinIO and its like.
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let is_address = name.parse::<IpAddr>().is_ok() || name.starts_with('[');
        let (bucket, server) = match host.split_once('.') {
            Some((bucket, server)) if !is_address => (bucket, server),
            _ => ("", host),
        };
        settings.bucket = bucket.to_owned();
        settings.endpoint = Some(format!("http://{server}"));
        settings.region = Some("us-east-1".to_owned());
        settings.force_path_style = Some(true);
    } else if let Some((bucket, region)) = split_host(host, "s3", "amazonaws.com") {
        settings.bucket = bucket.to_owned();
        settings.region = region.map(str::to_owned);
    } else if let Some((bucket, Some(region))) = split_host(host, "", "digitaloceanspaces.com") {
        settings.bucket = bucket.to_owned();
        settings.endpoint = Some(format!("https://{region}.digitaloceanspaces.com"));
        settings.region = Some(region.to_owned());
        settings.force_path_style = Some(false);
    } else if let Some((bucket, Some(region))) = split_host(host, "s3", "backblazeb2.com") {
        settings.bucket = bucket.to_owned();
        settings.endpoint = Some(format!("https://s3.{region}.backblazeb2.com"));
        settings.region = Some(region.to_owned());
        settings.force_path_style = Some(true);
    } else if let Some((bucket, None)) = split_host(host, "s3", "filebase.com") {
        settings.bucket = bucket.to_owned();
        settings.endpoint = Some("s3.filebase.com".to_owned());
        settings.force_path_style = Some(true);
    } else if let Some((bucket, Some(region))) = split_host(host, "s3", "scw.cloud") {
        settings.bucket = bucket.to_owned();
        settings.endpoint = Some(format!("s3.{region}.scw.cloud"));
        settings.region = Some(region.to_owned());
        settings.force_path_style = Some(false);
    } else {
        settings.bucket = host.to_owned();
    }
    settings
}

/// Splits `[BUCKET.]SERVICE[.REGION].DOMAIN`; the bucket is empty if absent, and `service` may be empty too.
fn split_host<'a>(host: &'a str, service: &str, domain: &str) -> Option<(&'a str, Option<&'a str>)> {
    let front = host.strip_suffix(domain)?.strip_suffix('.')?;
    if service.is_empty() {
        return Some(
            front.rsplit_once('.').map_or(("", Some(front)), |(bucket, region)| (bucket, Some(region))),
        );
    }
    let (before, last) = front.rsplit_once('.').unwrap_or(("", front));
    if last == service {
        return Some((before, None));
    }
    if before == service {
        return Some(("", Some(last)));
    }
    let bucket = before.strip_suffix(service)?.strip_suffix('.')?;
    Some((bucket, Some(last)))
}

/// `s3://HOST/BUCKET/PATH`: the provider's host alone, then the bucket.
fn take_bucket_from_path(settings: &mut S3Settings) {
    let path = std::mem::take(&mut settings.path);
    let (bucket, path) = path.split_once('/').unwrap_or((&path, ""));
    if bucket != "." {
        settings.bucket = bucket.to_owned();
        settings.path = path.to_owned();
    }
}

/// Refuses a "bucket" that is plainly another provider's host: the keys would be sent to AWS.
fn refuse_foreign_host(bucket: &str) -> Result<()> {
    const HOSTS: [&str; 12] = [
        "amazonaws.com",
        "aliyuncs.com",
        "cloudflarestorage.com",
        "googleapis.com",
        "linodeobjects.com",
        "oraclecloud.com",
        "storage.dev",
        "supabase.co",
        "tigris.dev",
        "vultrobjects.com",
        "wasabisys.com",
        "your-objectstorage.com",
    ];
    let lower = bucket.to_ascii_lowercase();
    let foreign = |domain: &str| lower.strip_suffix(domain).is_some_and(|front| front.ends_with('.'));
    if HOSTS.iter().any(|domain| foreign(domain)) {
        return Err(usage(format!(
            "{bucket:?} in the replica URL is a server, not a bucket: write s3://BUCKET/PATH?endpoint=https://SERVER"
        )));
    }
    Ok(())
}

fn apply_query(settings: &mut S3Settings, query: &mut BTreeMap<String, String>) -> Result<()> {
    let mut take = |names: &[&str]| {
        let values: Vec<String> = names.iter().filter_map(|name| query.remove(*name)).collect();
        values.into_iter().find(|value| !value.is_empty())
    };
    if let Some(endpoint) = take(&["endpoint"]) {
        settings.endpoint = Some(with_scheme(&endpoint));
        settings.force_path_style = None;
    }
    settings.region = take(&["region"]).or(settings.region.take());
    settings.force_path_style = boolean("force-path-style", take(&["forcePathStyle", "force-path-style"]))?
        .or(settings.force_path_style);
    settings.skip_verify = boolean("skip-verify", take(&["skipVerify", "skip-verify"]))?;
    settings.sign_payload = boolean("sign-payload", take(&["signPayload", "sign-payload"]))?;
    settings.require_content_md5 =
        boolean("require-content-md5", take(&["requireContentMD5", "require-content-md5"]))?;
    settings.sign_accept_encoding =
        boolean("sign-accept-encoding", take(&["signAcceptEncoding", "sign-accept-encoding"]))?;
    settings.storage_class = take(&["storageClass", "storage-class"]);
    settings.part_size = positive("part-size", take(&["partSize", "part-size"]))?;
    settings.concurrency = positive("concurrency", take(&["concurrency"]))?
        .map(|count| usize::try_from(count).unwrap_or(usize::MAX));
    settings.sse_customer_algorithm = take(&["sseCustomerAlgorithm", "sse-customer-algorithm"]);
    settings.sse_customer_key = take(&["sseCustomerKey", "sse-customer-key"]).map(Secret::new);
    settings.sse_customer_key_path =
        take(&["sseCustomerKeyPath", "sse-customer-key-path"]).map(PathBuf::from);
    settings.sse_customer_key_md5 = take(&["sseCustomerKeyMD5", "sse-customer-key-md5"]);
    settings.sse_kms_key_id = take(&["sseKmsKeyId", "sse-kms-key-id"]);
    Ok(())
}

fn boolean(name: &str, value: Option<String>) -> Result<Option<bool>> {
    let Some(value) = value else { return Ok(None) };
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" | "yes" => Ok(Some(true)),
        "false" | "0" | "f" | "no" => Ok(Some(false)),
        _ => Err(usage(format!("{name}={value:?} in the replica URL must be true or false"))),
    }
}

fn positive(name: &str, value: Option<String>) -> Result<Option<u64>> {
    let Some(value) = value else { return Ok(None) };
    match value.parse::<u64>() {
        Ok(number) if number > 0 => Ok(Some(number)),
        _ => Err(usage(format!("{name}={value:?} in the replica URL must be a positive whole number"))),
    }
}

/// An endpoint from a URL gets `http` if it is local or private, else `https`. (From configuration it is always
/// `https`, which is why this happens here.)
fn with_scheme(endpoint: &str) -> String {
    if endpoint.contains("://") {
        return endpoint.to_owned();
    }
    let scheme = if is_local(endpoint) { "http" } else { "https" };
    format!("{scheme}://{endpoint}")
}

/// Whether `host[:port][/path]` is this machine, a private address or a `.local` name.
#[must_use]
pub fn is_local(endpoint: &str) -> bool {
    let authority = endpoint.split('/').next().unwrap_or_default().to_ascii_lowercase();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_private(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
        Err(_) => host == "localhost" || host.ends_with(".local") || host.ends_with(".localhost"),
    }
}

/// Parameters by name; of a repeated one the first counts. `+` is a space.
fn parse_query(query: &str) -> Result<BTreeMap<String, String>> {
    let mut parameters = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name)?;
        // The value may be a secret.
        let value = percent_decode_str(&value.replace('+', " ")).decode_utf8().map(String::from);
        let value = value
            .map_err(|_| usage(format!("{name} in the replica URL is not UTF-8 after percent-decoding")))?;
        parameters.entry(name).or_insert(value);
    }
    Ok(parameters)
}

fn decode(text: &str) -> Result<String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| usage(format!("{text:?} in the replica URL is not UTF-8 after percent-decoding")))
}

/// The shortest equal path, by text alone: no empty, `.` or resolvable `..` parts; an empty path becomes `.`.
pub(super) fn clean_path(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;
