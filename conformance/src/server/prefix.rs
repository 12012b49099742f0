//! Endpoints with a path in front (`/storage/v1/s3/bucket/key`): the client signs the whole path, the store knows
//! nothing of it. Checks the signature over what was received, then signs anew what is handed on to `s3s`.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::{HeaderValue, Request};

use super::fault::ErrorAnswer;
use super::keys::Keys;
use super::raw_rules::parse_amz_date;

/// The parts of an `Authorization` header.
struct Claim {
    key_id: String,
    region: String,
    signed: Vec<String>,
    signature: String,
}

fn claim(header: &str) -> Option<Claim> {
    let after =
        |name: &str| header.split(name).nth(1).map(|rest| rest.split([',', ' ']).next().unwrap_or(rest));
    let mut scope = after("Credential=")?.split('/');
    let key_id = scope.next()?.to_owned();
    let region = scope.nth(1)?.to_owned();
    let signed = after("SignedHeaders=")?.split(';').map(str::to_owned).collect();
    Some(Claim { key_id, region, signed, signature: after("Signature=")?.to_owned() })
}

/// Takes the prefix off a request, or says why it may not pass. A request without a signature passes unsigned.
pub(super) fn strip(
    mut request: Request<Bytes>,
    prefix: &str,
    keys: &Keys,
) -> Result<Request<Bytes>, ErrorAnswer> {
    let refuse = |status, code: &str| ErrorAnswer::new(status, code);
    let whole = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let Some(rest) = whole.strip_prefix(prefix) else { return Err(refuse(404, "NoSuchKey")) };
    let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    let stripped = rest.parse().map_err(|_| refuse(400, "InvalidURI"))?;
    let Some(authorization) = text(&request, "authorization") else {
        *request.uri_mut() = stripped;
        return Ok(request);
    };
    // The signatures of the chunks hang on the one that is about to be replaced.
    if text(&request, "x-amz-content-sha256").is_some_and(|kind| kind.starts_with("STREAMING-AWS4-HMAC")) {
        return Err(refuse(501, "NotImplemented"));
    }
    let claim = claim(&authorization).ok_or_else(|| refuse(400, "AuthorizationHeaderMalformed"))?;
    let secret = {
        let keys = keys.lock().expect("no holder of the key list panics");
        keys.iter().find(|key| key.id == claim.key_id).map(|key| key.secret.clone())
    };
    let secret = secret.ok_or_else(|| refuse(403, "InvalidAccessKeyId"))?;
    let (_, signature) =
        signature(&request, &claim, &secret, &whole).ok_or_else(|| refuse(400, "InvalidRequest"))?;
    if signature != claim.signature {
        return Err(refuse(403, "SignatureDoesNotMatch"));
    }
    let (authorization, _) =
        self::signature(&request, &claim, &secret, &rest).ok_or_else(|| refuse(400, "InvalidRequest"))?;
    *request.uri_mut() = stripped;
    request.headers_mut().insert("authorization", authorization);
    Ok(request)
}

fn text(request: &Request<Bytes>, name: &str) -> Option<String> {
    Some(request.headers().get(name)?.to_str().ok()?.to_owned())
}

/// The `Authorization` header and bare signature that the key's owner makes for this path and query.
fn signature(
    request: &Request<Bytes>,
    claim: &Claim,
    secret: &str,
    path: &str,
) -> Option<(HeaderValue, String)> {
    let at = u64::try_from(parse_amz_date(&text(request, "x-amz-date")?)?).ok()?;
    let identity =
        Credentials::new(&claim.key_id, secret, text(request, "x-amz-security-token"), None, "server").into();
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    // Exactly the headers that the client signed, whatever they are.
    settings.excluded_headers = None;
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(&claim.region)
        .name("s3")
        .time(UNIX_EPOCH + Duration::from_millis(at))
        .settings(settings)
        .build()
        .ok()?
        .into();
    const ADDED: [&str; 4] = ["host", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"];
    let headers: Vec<_> = claim
        .signed
        .iter()
        .filter(|name| !ADDED.contains(&name.as_str()))
        .map(|name| Some((name.as_str(), request.headers().get(name)?.to_str().ok()?)))
        .collect::<Option<_>>()?;
    let url = format!("http://{}{path}", text(request, "host")?);
    let body = SignableBody::Precomputed(text(request, "x-amz-content-sha256")?);
    let signable = SignableRequest::new(request.method().as_str(), url, headers.into_iter(), body).ok()?;
    let (instructions, signature) = sign(signable, &params).ok()?.into_parts();
    let (_, header) = instructions.headers().find(|(name, _)| *name == "authorization")?;
    Some((HeaderValue::from_str(header).ok()?, signature))
}
