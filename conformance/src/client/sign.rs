//! Ways of signing a request, right ones and wrong ones.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign as sigv4,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use s3s::crypto::{Checksum as _, Crc32, Sha256};

use super::{Call, Place};
use crate::targets::Target;

/// How a request is signed and its body framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    /// SigV4 with the SHA-256 of the body: what every provider takes.
    Payload,
    /// SigV4 with `UNSIGNED-PAYLOAD`.
    UnsignedPayload,
    /// `aws-chunked` with a signature on every chunk.
    Chunked,
    /// `aws-chunked` with a trailing CRC-32, chunks unsigned: the SDK's default against AWS.
    ChunkedTrailer,
    /// No signature.
    Anonymous,
    /// Signed with a secret that is not the key's.
    WrongSecret,
    /// Signed with a key id nobody has.
    WrongKey,
    /// Signed as of so many seconds from now.
    Skewed(i64),
    /// Signed for another body than is sent.
    OtherBody,
    /// Signed for another region.
    OtherRegion,
    /// Signed with a made-up session token beside the key.
    ForeignToken,
}

/// What signing adds to a request.
pub(super) struct Signed {
    pub headers: Vec<(String, String)>,
    /// The framed body, if framing changes it.
    pub body: Option<Bytes>,
}

/// Bytes per frame; small, so that a small object has several.
const FRAME_BYTES: usize = 64 << 10;

/// Percent-encodes a query part.
pub(super) fn encode(text: &str) -> String {
    let mut coded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            coded.push(char::from(byte));
        } else {
            coded.push_str(&format!("%{byte:02X}"));
        }
    }
    coded
}

/// Percent-encodes a key, keeping its slashes.
pub(super) fn encode_path(key: &str) -> String {
    key.split('/').map(encode).collect::<Vec<_>>().join("/")
}

#[expect(clippy::disallowed_methods, reason = "requests to real endpoints carry the real time")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Signs a request.
pub(super) fn sign(target: &Target, call: &Call, place: &Place) -> Result<Signed, String> {
    if call.signing == Signing::Anonymous {
        return Ok(Signed { headers: Vec::new(), body: None });
    }
    let time = match call.signing {
        Signing::Skewed(seconds) if seconds < 0 => now() - Duration::from_secs(seconds.unsigned_abs()),
        Signing::Skewed(seconds) => now() + Duration::from_secs(seconds.unsigned_abs()),
        _ => now(),
    };
    let token = match call.signing {
        Signing::ForeignToken => Some("not-a-token-of-this-server".to_owned()),
        _ => target.session_token.clone(),
    };
    let secret =
        if call.signing == Signing::WrongSecret { "wrong-secret-wrong-secret" } else { &target.secret_key };
    let id = if call.signing == Signing::WrongKey { "AKIDNOBODYHASTHISKEY" } else { &target.access_key };
    let region = if call.signing == Signing::OtherRegion { "nowhere-9" } else { &target.region };
    let identity = Credentials::new(id, secret, token, None, "conformance").into();
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("s3")
        .time(time)
        .settings(settings)
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let mut extra = framing_headers(call);
    let body = match call.signing {
        Signing::UnsignedPayload => SignableBody::UnsignedPayload,
        Signing::ChunkedTrailer => SignableBody::StreamingUnsignedPayloadTrailer,
        Signing::Chunked => SignableBody::Precomputed("STREAMING-AWS4-HMAC-SHA256-PAYLOAD".to_owned()),
        Signing::OtherBody => SignableBody::Bytes(b"another body"),
        _ => SignableBody::Bytes(&call.body),
    };
    let signing_of_coding =
        call.headers.iter().chain(&extra).map(|(name, value)| (name.as_str(), value.as_str()));
    let signable = SignableRequest::new(call.method.as_str(), place.url(), signing_of_coding, body)
        .map_err(|error| error.to_string())?;
    let (instructions, signature) = sigv4(signable, &params).map_err(|error| error.to_string())?.into_parts();
    let signature_headers: Vec<_> =
        instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let body = match call.signing {
        Signing::Chunked => {
            let date = signature_headers.iter().find(|(name, _)| name == "x-amz-date").map_or("", |(_, v)| v);
            Some(signed_frames(&call.body, secret, time, date, region, signature))
        }
        Signing::ChunkedTrailer => Some(trailer_frames(&call.body)),
        _ => None,
    };
    extra.extend(signature_headers);
    Ok(Signed { headers: extra, body })
}

fn framing_headers(call: &Call) -> Vec<(String, String)> {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    match call.signing {
        Signing::Chunked => vec![
            pair("content-encoding", "aws-chunked".to_owned()),
            pair("x-amz-decoded-content-length", call.body.len().to_string()),
        ],
        Signing::ChunkedTrailer => vec![
            pair("content-encoding", "aws-chunked".to_owned()),
            pair("x-amz-decoded-content-length", call.body.len().to_string()),
            pair("x-amz-trailer", "x-amz-checksum-crc32".to_owned()),
            pair("x-amz-sdk-checksum-algorithm", "CRC32".to_owned()),
        ],
        _ => Vec::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Frames as in AWS's "Signature calculations: transferring payload in multiple chunks".
fn signed_frames(
    body: &[u8],
    secret: &str,
    time: SystemTime,
    date: &str,
    region: &str,
    seed: String,
) -> Bytes {
    let key = v4::generate_signing_key(secret, time, region, "s3");
    let scope = format!("{}/{region}/s3/aws4_request", date.get(..8).unwrap_or(""));
    let empty = hex(&Sha256::checksum(b""));
    let (mut out, mut previous) = (Vec::new(), seed);
    for chunk in body.chunks(FRAME_BYTES).chain(std::iter::once(&[][..])) {
        let to_sign = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{scope}\n{previous}\n{empty}\n{}",
            hex(&Sha256::checksum(chunk))
        );
        previous = v4::calculate_signature(&key, to_sign.as_bytes());
        out.extend_from_slice(format!("{:x};chunk-signature={previous}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.into()
}

fn trailer_frames(body: &[u8]) -> Bytes {
    let mut out = Vec::new();
    for chunk in body.chunks(FRAME_BYTES) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    let sum = aws_smithy_types::base64::encode(Crc32::checksum(body));
    out.extend_from_slice(format!("0\r\nx-amz-checksum-crc32:{sum}\r\n\r\n").as_bytes());
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_encoded_as_s3_wants_them() {
        assert_eq!(encode_path("a b/ü+(1).ltx~"), "a%20b/%C3%BC%2B%281%29.ltx~");
        assert_eq!(encode("a/b=c"), "a%2Fb%3Dc");
    }

    #[test]
    fn unsigned_frames_end_with_the_checksum() {
        let text = String::from_utf8(trailer_frames(b"123456789").to_vec()).unwrap();
        // CRC-32 of the check string is cbf43926.
        assert_eq!(text, "9\r\n123456789\r\n0\r\nx-amz-checksum-crc32:y/Q5Jg==\r\n\r\n");
    }
}
