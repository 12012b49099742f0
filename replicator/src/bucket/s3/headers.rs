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
    content_md5: bool,
    /// Whether the SDK's `x-id=` query parameter goes: it means nothing, and some gateways leave it out of the
    /// signature they compute.
    strips_id: bool,
}

impl DialectHeaders {
    pub(super) fn new(dialect: &Dialect) -> Self {
        Self {
            tigris_consistent: dialect.tigris_consistent,
            content_md5: dialect.content_md5,
            strips_id: dialect.provider != Provider::Aws,
        }
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
        let deletes_batch = request.method() == "POST" && has_parameter(request.uri(), "delete");
        if self.content_md5
            && deletes_batch
            && let Some(digest) = request.body().bytes().map(md5_base64)
        {
            request.headers_mut().insert("content-md5", digest);
        }
        if self.strips_id
            && let Some(uri) = without_id(request.uri())
        {
            request.set_uri(uri)?;
        }
        Ok(())
    }
}

fn has_parameter(uri: &str, name: &str) -> bool {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|pair| pair.split('=').next() == Some(name))
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
        assert!(has_parameter("https://h/b?delete=", "delete"));
        assert!(!has_parameter("https://h/b/delete?x=delete", "delete"));
    }
}
