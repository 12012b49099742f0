//! From settings to how one store is spoken to: the only place with defaults and provider quirks. Pure.
//!
//! Providers are recognised by the endpoint's host, whichever way the endpoint was given, so that equal settings
//! make equal requests.

use aws_smithy_types::base64;

use super::super::settings::S3Settings;
use super::super::url::{arn_region, is_local};
use super::md5_base64;
use crate::error::{Error, ErrorKind, Result};

/// Where requests for a bucket of unknown region are sent first.
const FIRST_REGION: &str = "us-east-1";
/// Smallest part S3 accepts, and Litestream's default.
const MIN_PART: u64 = 5 << 20;
/// Parts on their way at the same time. Litestream takes 5; each costs its size in memory, and three of 5 MiB are more
/// than a gigabit line holds at 100 ms.
const CONCURRENCY: usize = 3;
/// As above, for a store that takes no more of one upload.
const CONCURRENCY_R2: usize = 2;
/// Largest part S3 accepts.
pub(super) const MAX_PART: u64 = 5 << 30;

/// Stores that need something of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Provider {
    /// Object Storage Service; refuses path style ("SecondLevelDomainForbidden").
    Alibaba,
    Aws,
    Backblaze,
    CloudflareR2,
    DigitalOcean,
    Filebase,
    GoogleXml,
    Hetzner,
    /// `host:port` of nobody known.
    MinioLike,
    Scaleway,
    Supabase,
    Tigris,
    Other,
}

/// Everything that shapes requests, resolved.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dialect {
    pub provider: Provider,
    /// With scheme, without trailing slash; absent for AWS.
    pub endpoint: Option<String>,
    /// Region to sign for, until the store names another.
    pub region: String,
    /// Whether an answer that names another region is followed.
    pub follows_region: bool,
    pub path_style: bool,
    pub sign_payload: bool,
    /// `Content-MD5` with batch deletions.
    pub content_md5: bool,
    /// Checksum headers of newer S3 on every upload.
    pub checksums: bool,
    /// `X-Tigris-Consistent` on every request.
    pub tigris_consistent: bool,
    /// Whether several keys can be deleted by one request.
    pub batch_delete: bool,
    /// All parts but the last must have the same size.
    pub equal_parts: bool,
    pub part_size: u64,
    pub concurrency: usize,
    pub storage_class: Option<String>,
    pub encryption: Encryption,
}

/// Server-side encryption asked for.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Encryption {
    /// Whatever the bucket does by default.
    Default,
    /// With a key that only the customer keeps; needed again for every read.
    Customer { key: String, key_md5: String },
    /// With a key of the provider's key service.
    Kms { key_id: String },
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("Default"),
            Self::Customer { .. } => f.write_str("Customer(***)"),
            Self::Kms { key_id } => write!(f, "Kms({key_id})"),
        }
    }
}

/// Resolves settings. `region_hint` is the environment's region, used before [`FIRST_REGION`] on AWS;
/// `customer_key` is the key read from `sse_customer_key_path`, if that was given.
pub(super) fn resolve(
    settings: &S3Settings,
    region_hint: Option<&str>,
    customer_key: Option<&str>,
) -> Result<Dialect> {
    if settings.bucket.is_empty() {
        return Err(usage("the s3 replica names no bucket"));
    }
    let endpoint = settings.endpoint.as_deref().map(normal_endpoint).transpose()?;
    let provider = endpoint.as_deref().map_or(Provider::Aws, recognise);
    let is_aws = provider == Provider::Aws;
    let part_size = settings.part_size.unwrap_or(MIN_PART);
    if !(MIN_PART..=MAX_PART).contains(&part_size) {
        return Err(usage(format!("part-size {part_size} must be between 5 MiB and 5 GiB")));
    }
    let usual = if provider == Provider::CloudflareR2 { CONCURRENCY_R2 } else { CONCURRENCY };
    let concurrency = settings.concurrency.unwrap_or(usual);
    if concurrency == 0 {
        return Err(usage("concurrency must be at least 1"));
    }
    let own_region = settings.region.as_deref().filter(|region| !region.is_empty());
    let region = own_region
        .or_else(|| arn_region(&settings.bucket))
        .or(region_hint.filter(|_| is_aws))
        .unwrap_or(FIRST_REGION);
    let encryption = encryption(settings, endpoint.as_deref(), customer_key)?;
    Ok(Dialect {
        provider,
        region: region.to_owned(),
        follows_region: own_region.is_none(),
        path_style: settings.force_path_style.unwrap_or(!is_aws && provider != Provider::Alibaba),
        sign_payload: settings.sign_payload.unwrap_or(!planted!("payload-unsigned")),
        content_md5: settings.require_content_md5.unwrap_or(provider != Provider::Tigris),
        checksums: is_aws || planted!("trailers-for-every-store"),
        tigris_consistent: provider == Provider::Tigris,
        batch_delete: provider != Provider::GoogleXml,
        equal_parts: provider == Provider::CloudflareR2,
        part_size,
        concurrency,
        storage_class: settings.storage_class.clone(),
        encryption,
        endpoint,
    })
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}

/// Adds `https://` where no scheme was given, and removes trailing slashes.
fn normal_endpoint(endpoint: &str) -> Result<String> {
    let endpoint = endpoint.trim();
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("https", endpoint));
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err(usage(format!("endpoint scheme {scheme:?} is not http or https")));
    }
    if rest.contains('@') {
        // Not quoted: what stands before it may be keys.
        return Err(usage("the endpoint contains a user name: give keys by configuration or environment"));
    }
    let full = format!("{scheme}://{}", rest.trim_end_matches('/'));
    let uri: http::Uri = full
        .parse()
        .map_err(|error| usage(format!("endpoint {endpoint:?} is not a host or URL: {error}")))?;
    let port = uri.authority().and_then(|authority| authority.as_str().rsplit_once(':'));
    // (The last part of an IPv6 address ends with a bracket.)
    if let Some((_, port)) = port.filter(|(_, port)| !port.ends_with(']') && port.parse::<u16>().is_err()) {
        return Err(usage(format!("endpoint {endpoint:?}: {port:?} is not a port")));
    }
    match uri.authority() {
        Some(_) if uri.query().is_none() => Ok(full),
        _ => Err(usage(format!("endpoint {endpoint:?} is not a host or URL"))),
    }
}

/// `host[:port]` of a normalised endpoint, in lower case.
fn authority(endpoint: &str) -> String {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default().to_ascii_lowercase()
}

/// Whose endpoint it is.
fn recognise(endpoint: &str) -> Provider {
    let authority = authority(endpoint);
    let (host, has_port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, true),
        _ => (authority.as_str(), false),
    };
    let host = host.trim_end_matches('.');
    match host {
        "fly.storage.tigris.dev" | "t3.storage.dev" => Provider::Tigris,
        "s3.filebase.com" => Provider::Filebase,
        _ if host.ends_with(".aliyuncs.com") => Provider::Alibaba,
        _ if host.ends_with(".your-objectstorage.com") => Provider::Hetzner,
        _ if host.ends_with(".digitaloceanspaces.com") => Provider::DigitalOcean,
        _ if host.ends_with(".backblazeb2.com") => Provider::Backblaze,
        _ if host.ends_with(".scw.cloud") => Provider::Scaleway,
        _ if host.ends_with(".r2.cloudflarestorage.com") => Provider::CloudflareR2,
        _ if host.ends_with(".supabase.co") => Provider::Supabase,
        _ if is_google(host) => Provider::GoogleXml,
        _ if has_port && !host.ends_with(".amazonaws.com") => Provider::MinioLike,
        _ => Provider::Other,
    }
}

/// `storage.googleapis.com` and its regional forms, not other Google services.
fn is_google(host: &str) -> bool {
    let Some(front) = host.strip_suffix(".googleapis.com") else { return false };
    let mut labels = front.split('.');
    let has_storage =
        |label: Option<&str>| label.is_some_and(|label| label.split('-').any(|s| s == "storage"));
    if front.split('.').any(str::is_empty) {
        return false;
    }
    has_storage(labels.next()) && !has_storage(labels.next())
}

fn encryption(
    settings: &S3Settings,
    endpoint: Option<&str>,
    key_from_file: Option<&str>,
) -> Result<Encryption> {
    let key = key_from_file.map(str::trim).or(settings.sse_customer_key.as_ref().map(|key| key.expose()));
    let Some(key) = key else {
        return Ok(settings
            .sse_kms_key_id
            .clone()
            .map_or(Encryption::Default, |key_id| Encryption::Kms { key_id }));
    };
    if settings.sse_kms_key_id.is_some() {
        return Err(usage("sse-customer-key and sse-kms-key-id exclude each other"));
    }
    if settings.sse_customer_algorithm.as_deref().is_some_and(|name| name != "AES256") {
        return Err(usage("sse-customer-algorithm must be AES256"));
    }
    let bytes = base64::decode(key)
        .map_err(|_| usage("the SSE customer key must be base64 (its text is not shown here)"))?;
    if bytes.len() != 32 {
        return Err(usage(format!("the SSE customer key must have 32 bytes, it has {}", bytes.len())));
    }
    let key_md5 = md5_base64(&bytes);
    if settings.sse_customer_key_md5.as_ref().is_some_and(|given| *given != key_md5) {
        return Err(usage("sse-customer-key-md5 does not belong to the SSE customer key"));
    }
    if let Some(plain) = endpoint.and_then(|endpoint| endpoint.strip_prefix("http://"))
        && !is_local(plain)
    {
        return Err(usage("an SSE customer key is sent over https only (http is for local addresses)"));
    }
    Ok(Encryption::Customer { key: key.to_owned(), key_md5 })
}

#[cfg(test)]
#[path = "dialect_tests.rs"]
mod tests;
