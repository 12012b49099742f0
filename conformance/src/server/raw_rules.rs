//! The dialect's rules on raw headers and bodies, which `s3s` cannot express. Pure: request in, verdict out.

use http::{HeaderMap, Method};

use super::dialect::{Addressing, AwsChunked, Dialect, Integrity, Treatment};
use super::fault::{ErrorAnswer, Verb};
use super::store::Millis;

/// Largest difference between the request's date and the server's clock, as documented.
const MAX_SKEW_MILLIS: i64 = 15 * 60 * 1000;

/// A request as it came, before anything is made of it.
pub(super) struct Raw<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub verb: Verb,
    /// Percent-decoded.
    pub key: Option<&'a str>,
    /// The host names a bucket.
    pub virtual_host: bool,
    pub now: Millis,
}

impl Raw<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn body_kind(&self) -> &str {
        self.header("x-amz-content-sha256").unwrap_or("")
    }

    /// `aws-chunked`, signed or not, with a trailer or not.
    pub(super) fn is_framed(&self) -> bool {
        self.body_kind().starts_with("STREAMING-")
    }

    fn signs(&self, header: &str) -> bool {
        let signed = self.header("authorization").and_then(|a| a.split("SignedHeaders=").nth(1));
        signed
            .and_then(|s| s.split(',').next())
            .is_some_and(|list| list.split(';').any(|name| name == header))
    }
}

fn refuse(status: u16, code: &str) -> Result<(), ErrorAnswer> {
    Err(ErrorAnswer::new(status, code))
}

/// Whether the dialect takes the request so far.
pub(super) fn check(dialect: &Dialect, raw: &Raw<'_>) -> Result<(), ErrorAnswer> {
    check_address(dialect, raw)?;
    check_signature(dialect, raw)?;
    check_key(dialect, raw)?;
    check_body(dialect, raw)
}

fn check_address(dialect: &Dialect, raw: &Raw<'_>) -> Result<(), ErrorAnswer> {
    match dialect.addressing {
        Addressing::Path if raw.virtual_host => refuse(404, "NoSuchBucket"),
        Addressing::Virtual if !raw.virtual_host && raw.path != "/" && raw.verb != Verb::CreateBucket => {
            refuse(403, "SecondLevelDomainForbidden")
        }
        _ => Ok(()),
    }
}

fn check_signature(dialect: &Dialect, raw: &Raw<'_>) -> Result<(), ErrorAnswer> {
    if let Some(date) = raw.header("x-amz-date").and_then(parse_amz_date)
        && (date - raw.now).abs() > MAX_SKEW_MILLIS
    {
        return refuse(403, "RequestTimeTooSkewed");
    }
    if let (Some(wanted), Some(authorization)) = (&dialect.region, raw.header("authorization")) {
        let scope = authorization.split("Credential=").nth(1).and_then(|rest| rest.split('/').nth(2));
        if scope.is_some_and(|region| region != wanted) {
            return refuse(400, "AuthorizationHeaderMalformed");
        }
    }
    if dialect.x_id != Treatment::Accepted && raw.query.split('&').any(|pair| pair.starts_with("x-id=")) {
        return refuse(403, "SignatureDoesNotMatch");
    }
    if dialect.rewrites_accept_encoding && raw.signs("accept-encoding") {
        return refuse(403, "SignatureDoesNotMatch");
    }
    if dialect.session_tokens == Treatment::Refused && raw.headers.contains_key("x-amz-security-token") {
        return refuse(403, "InvalidToken");
    }
    if dialect.unsigned_payload == Treatment::Refused && raw.body_kind().contains("UNSIGNED") && has_body(raw)
    {
        return refuse(403, "AccessDenied");
    }
    Ok(())
}

/// Only where an object comes into being: whoever reads a key that cannot be there is told that it is not.
fn check_key(dialect: &Dialect, raw: &Raw<'_>) -> Result<(), ErrorAnswer> {
    let Some(signs) = &dialect.key_signs else { return Ok(()) };
    let creates = matches!(raw.verb, Verb::PutObject | Verb::CreateMultipartUpload);
    let allowed = |sign: char| sign.is_ascii_alphanumeric() || signs.contains(sign);
    if creates && !raw.key.unwrap_or_default().chars().all(allowed) {
        return refuse(400, "InvalidKey");
    }
    Ok(())
}

fn has_body(raw: &Raw<'_>) -> bool {
    matches!(*raw.method, Method::PUT | Method::POST)
}

fn check_body(dialect: &Dialect, raw: &Raw<'_>) -> Result<(), ErrorAnswer> {
    let framed_in_name = raw.header("content-encoding").is_some_and(|coding| coding.contains("aws-chunked"));
    if dialect.aws_chunked == AwsChunked::Refused && (raw.is_framed() || framed_in_name) {
        return refuse(501, "NotImplemented");
    }
    let trailer = raw.headers.contains_key("x-amz-trailer") || raw.body_kind().ends_with("-TRAILER");
    if dialect.trailers == Treatment::Refused && trailer {
        return refuse(400, "MalformedTrailerError");
    }
    let checksum = |name: &http::HeaderName| {
        name.as_str().starts_with("x-amz-checksum-") || name == "x-amz-sdk-checksum-algorithm"
    };
    if dialect.checksum_headers == Treatment::Refused && has_body(raw) && raw.headers.keys().any(checksum) {
        return refuse(501, "NotImplemented");
    }
    let protected = match dialect.batch_delete_needs {
        Integrity::Nothing => true,
        Integrity::Checksum => {
            raw.headers.contains_key("content-md5")
                || raw.headers.keys().any(|name| name.as_str().starts_with("x-amz-checksum-"))
        }
        Integrity::Md5 => raw.headers.contains_key("content-md5"),
    };
    if raw.verb == Verb::DeleteObjects && !protected {
        return refuse(400, "MissingContentMD5");
    }
    let put = matches!(raw.verb, Verb::PutObject | Verb::UploadPart);
    if put && dialect.needs_content_length && !raw.headers.contains_key("content-length") {
        return refuse(411, "MissingContentLength");
    }
    Ok(())
}

/// `20260401T120000Z` as milliseconds since the epoch.
pub(super) fn parse_amz_date(text: &str) -> Option<Millis> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    if text.len() != 16 || text.as_bytes()[8] != b'T' || text.as_bytes()[15] != b'Z' {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days from 1970-01-01 in the proleptic Gregorian calendar, years counted from March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 719_469;
    Some((days * 86_400 + number(9, 11)? * 3600 + number(11, 13)? * 60 + number(13, 15)?) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amz_dates() {
        assert_eq!(parse_amz_date("19700101T000000Z"), Some(0));
        assert_eq!(parse_amz_date("20130524T000000Z"), Some(1_369_353_600_000));
        assert_eq!(parse_amz_date("20240229T235959Z"), Some(1_709_251_199_000));
        assert_eq!(parse_amz_date("20241329T235959Z"), None);
        assert_eq!(parse_amz_date("yesterday"), None);
    }
}
