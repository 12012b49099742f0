//! Which place an `s3://` URL and the environment mean: the one that a replicator writes to when it is given both.

use std::collections::BTreeMap;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;

use crate::Defect;

/// Domains of providers. Replicators split such a host into bucket, region and endpoint, or refuse it; taken for a
/// bucket it would be looked for at AWS.
const DOMAINS: [&str; 16] = [
    "aliyuncs.com",
    "amazonaws.com",
    "backblazeb2.com",
    "cloudflarestorage.com",
    "digitaloceanspaces.com",
    "filebase.com",
    "googleapis.com",
    "linodeobjects.com",
    "oraclecloud.com",
    "scw.cloud",
    "storage.dev",
    "supabase.co",
    "tigris.dev",
    "vultrobjects.com",
    "wasabisys.com",
    "your-objectstorage.com",
];

/// What a URL says, completed from the environment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub bucket: String,
    /// Cleaned; `.` if the URL ends with the bucket.
    pub path: String,
    /// With scheme; absent for AWS.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub path_style: Option<bool>,
}

impl Place {
    pub(super) fn parse(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Defect> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let rest = url.strip_prefix("s3://").ok_or_else(|| Defect::new("not an s3:// URL"))?;
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        refuse_host(bucket)?;
        let parameters = parameters(query)?;
        let set = |names: &[&str]| {
            let values = names.iter().filter_map(|name| parameters.get(*name));
            values.into_iter().find(|value| !value.is_empty()).cloned()
        };
        let named = set(&["endpoint"]).map(|endpoint| with_scheme(&endpoint, is_local(&endpoint)));
        let variables = || ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(variable);
        Ok(Self {
            bucket: bucket.to_owned(),
            path: clean(&decode(path)?),
            endpoint: named.or_else(|| endpoint_of(variable)),
            region: set(&["region"]).or_else(variables),
            path_style: set(&["forcePathStyle", "force-path-style"]).map(|text| flag(&text)).transpose()?,
        })
    }
}

/// Never repeats what may hold a key.
fn refuse_host(bucket: &str) -> Result<(), Defect> {
    let advice =
        "write s3://BUCKET/PATH?endpoint=https://SERVER&region=REGION, and keys into the environment";
    if bucket.is_empty() || bucket.contains([':', '@']) {
        return Err(Defect::new(format!("the URL does not begin with a bucket alone: {advice}")));
    }
    let lower = bucket.to_ascii_lowercase();
    let is_of = |domain: &str| lower.strip_suffix(domain).is_some_and(|front| front.ends_with('.'));
    if DOMAINS.into_iter().any(is_of) {
        return Err(Defect::new(format!("{bucket} is a server, not a bucket: {advice}")));
    }
    Ok(())
}

/// By name; of a repeated one the first counts.
fn parameters(query: &str) -> Result<BTreeMap<String, String>, Defect> {
    let mut parameters = BTreeMap::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameters.entry(decode(name)?).or_insert(decode(&value.replace('+', " "))?);
    }
    Ok(parameters)
}

fn decode(text: &str) -> Result<String, Defect> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| Defect::new("a part of the URL is not UTF-8 when it is decoded"))
}

/// Without empty parts, `.` and `..`. No path at all is `.`, and its keys begin with `./`.
fn clean(path: &str) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// As the AWS SDKs name it, after Litestream's own variable.
fn endpoint_of(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let is_off = variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let of_aws = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].into_iter().filter(|_| !is_off);
    let endpoint = ["LITESTREAM_S3_ENDPOINT"].into_iter().chain(of_aws).find_map(variable);
    endpoint.map(|endpoint| with_scheme(&endpoint, false))
}

fn with_scheme(endpoint: &str, is_plain: bool) -> String {
    if endpoint.contains("://") {
        return endpoint.to_owned();
    }
    format!("{}://{endpoint}", if is_plain { "http" } else { "https" })
}

/// This machine, a private address or a `.local` name: plain HTTP, if a URL names it without a scheme.
fn is_local(endpoint: &str) -> bool {
    let authority = endpoint.split('/').next().unwrap_or_default().to_ascii_lowercase();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    };
    let host = host.unwrap_or_default();
    match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_private(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
        Err(_) => host == "localhost" || host.ends_with(".local") || host.ends_with(".localhost"),
    }
}

fn flag(text: &str) -> Result<bool, Defect> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" | "yes" => Ok(true),
        "false" | "0" | "f" | "no" => Ok(false),
        _ => Err(Defect::new("forcePathStyle must be true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, variables: &[(&str, &str)]) -> Result<Place, Defect> {
        Place::parse(url, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_path_is_decoded_and_cleaned() {
        for (url, path) in [
            ("s3://b", "."),
            ("s3://b?region=x", "."),
            ("s3://b/", ""),
            ("s3://b/app", "app"),
            ("s3://b/my%20app/", "my app"),
            ("s3://b/a//b/./c/../d#part", "a/b/d"),
            ("s3://b/../a%2Fb", "a/b"),
        ] {
            let place = parse(url, &[]).unwrap();
            assert_eq!((place.bucket.as_str(), place.path.as_str()), ("b", path), "{url}");
        }
        assert!(parse("s3://b/%ff", &[]).is_err());
    }

    #[test]
    fn parameters_go_before_variables_in_both_spellings() {
        let variables = [
            ("AWS_ENDPOINT_URL", "https://all.example"),
            ("AWS_ENDPOINT_URL_S3", "s3.example"),
            ("AWS_REGION", ""),
            ("AWS_DEFAULT_REGION", "there"),
        ];
        let place = parse("s3://b/p?force-path-style=1", &variables).unwrap();
        assert_eq!(place.endpoint.as_deref(), Some("https://s3.example"));
        assert_eq!((place.region.as_deref(), place.path_style), (Some("there"), Some(true)));
        let named = "s3://b/p?endpoint=10.0.0.1:9000&region=here&forcePathStyle=false&region=else";
        let place = parse(named, &variables).unwrap();
        assert_eq!(place.endpoint.as_deref(), Some("http://10.0.0.1:9000"));
        assert_eq!((place.region.as_deref(), place.path_style), (Some("here"), Some(false)));
        let off = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "True");
        assert_eq!(parse("s3://b/p", &[variables[0], off]).unwrap().endpoint, None);
        let place = parse("s3://b/p", &variables[..1]).unwrap();
        assert_eq!((place.endpoint.as_deref(), place.path_style), (Some("https://all.example"), None));
        assert!(parse("s3://b/p?forcePathStyle=perhaps", &[]).is_err());
    }

    #[test]
    fn a_server_is_not_taken_for_a_bucket() {
        for url in [
            "s3://app.s3.us-west-002.backblazeb2.com/app",
            "s3://b.s3.eu-west-1.amazonaws.com/app",
            "s3://b.localhost:9000/app",
            "s3://arn:aws:s3:eu-west-1:1:accesspoint/n/p",
            "s3://KEY:SECRET@b/app",
            "s3:///app",
        ] {
            let said = parse(url, &[]).unwrap_err().to_string();
            assert!(said.contains("s3://BUCKET/PATH?endpoint=") && !said.contains("SECRET@"), "{said}");
        }
        assert!(parse("s3://my.bucket.com/app", &[]).is_ok());
    }
}
