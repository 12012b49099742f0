//! Last changes to a request before it is signed, by dialect.

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;

use super::dialect::{Dialect, Provider};
use super::md5_base64;

/// Applies a dialect to every request.
#[derive(Debug)]
pub(super) struct DialectHeaders {
    tigris_consistent: bool,
    /// Whether the SDK's `x-id=` query parameter goes: it means nothing, and some gateways leave it out of the
    /// signature they compute.
    strips_id: bool,
}

impl DialectHeaders {
    pub(super) fn new(dialect: &Dialect) -> Self {
        Self { tigris_consistent: dialect.tigris_consistent, strips_id: dialect.provider != Provider::Aws }
    }
}

impl Intercept for DialectHeaders {
    fn name(&self) -> &'static str {
        "DialectHeaders"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        if self.tigris_consistent {
            request.headers_mut().insert("x-tigris-consistent", "true");
        }
        if self.strips_id
            && !planted!("sdk-parameter-stays")
            && let Some(uri) = without_id(request.uri())
        {
            request.set_uri(uri)?;
        }
        Ok(())
    }
}

/// Gives a batch deletion its `Content-MD5`. Stores that are not AWS get it instead of the newer checksum headers,
/// which some of them refuse; the digest alone is what every one of them has always taken.
///
/// Must be given to the operation, not to the client: only then does it run after the SDK has added its checksum.
#[derive(Debug)]
pub(super) struct BatchDigest {
    keeps_checksum: bool,
}

impl BatchDigest {
    pub(super) fn new(dialect: &Dialect) -> Self {
        Self { keeps_checksum: dialect.checksums }
    }
}

impl Intercept for BatchDigest {
    fn name(&self) -> &'static str {
        "BatchDigest"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let digest = md5_base64(request.body().bytes().unwrap_or_default());
        request.headers_mut().insert("content-md5", digest);
        if !self.keeps_checksum {
            request.headers_mut().remove("x-amz-checksum-crc32");
            request.headers_mut().remove("x-amz-sdk-checksum-algorithm");
        }
        Ok(())
    }
}

/// The URI without its `x-id` parameter; `None` if it has none.
fn without_id(uri: &str) -> Option<String> {
    let (path, query) = uri.split_once('?')?;
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("x-id=")).collect();
    if kept.len() == query.split('&').count() {
        return None;
    }
    Some(if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_parameter_goes_and_the_others_stay() {
        for (uri, expected) in [
            ("https://h/b/k?x-id=GetObject", Some("https://h/b/k")),
            (
                "https://h/b/k?partNumber=1&x-id=UploadPart&uploadId=u",
                Some("https://h/b/k?partNumber=1&uploadId=u"),
            ),
            ("https://h/b?delete", None),
            ("https://h/b", None),
        ] {
            assert_eq!(without_id(uri).as_deref(), expected, "{uri}");
        }
    }
}
