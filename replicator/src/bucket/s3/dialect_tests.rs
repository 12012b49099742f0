//! Tables of providers, endpoints and defaults.

use super::super::super::settings::{Secret, Settings};
use super::super::super::url::parse;
use super::*;

fn settings(endpoint: Option<&str>) -> S3Settings {
    S3Settings { bucket: "b".into(), endpoint: endpoint.map(str::to_owned), ..S3Settings::default() }
}

fn resolved(settings: &S3Settings) -> Dialect {
    resolve(settings, None, None).unwrap()
}

fn from_url(url: &str) -> Dialect {
    match parse(url).unwrap().settings {
        Settings::S3(settings) => resolved(&settings),
        Settings::Directory(_) => panic!("{url}"),
    }
}

#[test]
fn providers_by_host() {
    use Provider::*;
    for (endpoint, provider) in [
        ("s3.oss-eu-central-1.aliyuncs.com", Alibaba),
        ("fsn1.your-objectstorage.com", Hetzner),
        ("https://FSN1.Your-ObjectStorage.com", Hetzner),
        ("fly.storage.tigris.dev", Tigris),
        ("t3.storage.dev", Tigris),
        ("x.t3.storage.dev", Other),
        ("nyc3.digitaloceanspaces.com", DigitalOcean),
        ("s3.us-west-002.backblazeb2.com", Backblaze),
        ("s3.us-west-002.backblazeb2.com:443", Backblaze),
        ("s3.filebase.com", Filebase),
        ("x.s3.filebase.com", Other),
        ("s3.fr-par.scw.cloud", Scaleway),
        ("acct.r2.cloudflarestorage.com", CloudflareR2),
        ("acct.eu.r2.cloudflarestorage.com", CloudflareR2),
        ("p.supabase.co/storage/v1/s3", Supabase),
        ("localhost:9000", MinioLike),
        ("http://10.0.0.1:9000", MinioLike),
        ("http://[::1]:9000", MinioLike),
        ("s3.us-east-1.amazonaws.com:443", Other),
        ("s3.wasabisys.com", Other),
        ("http://[::1]", Other),
        ("storage.googleapis.com", GoogleXml),
        ("storage.googleapis.com.", GoogleXml),
        ("storage-eu.googleapis.com", GoogleXml),
        ("storage.eu.rep.googleapis.com", GoogleXml),
        ("storage.storage-x.googleapis.com", Other),
        ("compute.googleapis.com", Other),
        (".googleapis.com", Other),
        ("storage.googleapis.com.evil.example", Other),
    ] {
        assert_eq!(resolved(&settings(Some(endpoint))).provider, provider, "{endpoint}");
    }
    assert_eq!(resolved(&settings(None)).provider, Aws);
}

#[test]
fn the_same_endpoint_means_the_same_however_it_is_given() {
    for (url, endpoint) in [
        ("s3://b/p?endpoint=fsn1.your-objectstorage.com", "fsn1.your-objectstorage.com"),
        ("s3://b/p?endpoint=https://t3.storage.dev/", "t3.storage.dev"),
        ("s3://b.s3.us-west-002.backblazeb2.com/p?region=us-east-1", "s3.us-west-002.backblazeb2.com"),
        ("s3://b.s3.filebase.com/p", "https://s3.filebase.com"),
        ("s3://b/p?endpoint=acct.r2.cloudflarestorage.com", "https://acct.r2.cloudflarestorage.com/"),
        ("s3://b/p?endpoint=https://p.supabase.co/storage/v1/s3/", "p.supabase.co/storage/v1/s3"),
        ("s3://b/p?endpoint=storage.googleapis.com", "storage.googleapis.com"),
        ("s3://b.localhost:9000/p?region=us-east-1", "http://localhost:9000"),
    ] {
        let mut by_config = settings(Some(endpoint));
        by_config.region = parse(url)
            .ok()
            .and_then(|url| match url.settings {
                Settings::S3(settings) => settings.region,
                Settings::Directory(_) => None,
            })
            .filter(|_| url.contains("region"));
        assert_eq!(from_url(url), resolved(&by_config), "{url}");
    }
}

#[test]
fn defaults_and_overrides() {
    let aws = resolved(&settings(None));
    assert_eq!(
        (aws.path_style, aws.sign_payload, aws.content_md5, aws.checksums, aws.part_size, aws.concurrency),
        (false, true, true, true, 5 << 20, 3)
    );
    assert!(aws.follows_region && aws.batch_delete && !aws.equal_parts && !aws.tigris_consistent);

    let custom = resolved(&settings(Some("s3.example.com")));
    assert_eq!((custom.path_style, custom.checksums, custom.region.as_str()), (true, false, "us-east-1"));
    assert_eq!(custom.endpoint.as_deref(), Some("https://s3.example.com"));

    let tigris = resolved(&settings(Some("t3.storage.dev")));
    assert!(tigris.tigris_consistent && !tigris.content_md5);
    let r2 = resolved(&settings(Some("acct.r2.cloudflarestorage.com")));
    assert!(r2.equal_parts && r2.concurrency == 2);
    assert!(!resolved(&settings(Some("storage.googleapis.com"))).batch_delete);
    assert!(!from_url("s3://b.nyc3.digitaloceanspaces.com/p").path_style);

    let explicit = S3Settings {
        force_path_style: Some(false),
        sign_payload: Some(false),
        require_content_md5: Some(true),
        concurrency: Some(7),
        part_size: Some(10 << 20),
        region: Some("auto".into()),
        ..settings(Some("t3.storage.dev"))
    };
    let explicit = resolved(&explicit);
    assert_eq!(
        (explicit.path_style, explicit.sign_payload, explicit.content_md5, explicit.concurrency),
        (false, false, true, 7)
    );
    assert!(!explicit.follows_region);
}

#[test]
fn regions() {
    let arn = "arn:aws:s3:eu-central-1:123456789012:accesspoint/ap";
    let with = |bucket: &str, region: Option<&str>, endpoint: Option<&str>, hint: Option<&str>| {
        let settings =
            S3Settings { bucket: bucket.into(), region: region.map(str::to_owned), ..settings(endpoint) };
        resolve(&settings, hint, None).unwrap().region
    };
    assert_eq!(with("b", None, None, None), "us-east-1");
    assert_eq!(with("b", None, None, Some("eu-west-1")), "eu-west-1");
    assert_eq!(with("b", None, Some("s3.example.com"), Some("eu-west-1")), "us-east-1");
    assert_eq!(with("b", Some("r"), None, Some("eu-west-1")), "r");
    assert_eq!(with("b", Some(""), None, None), "us-east-1");
    assert_eq!(with(arn, None, None, Some("eu-west-1")), "eu-central-1");
}

#[test]
fn encryption_settings() {
    let key = base64::encode([7u8; 32]);
    let sse = |change: fn(&mut S3Settings)| {
        let mut settings = settings(Some("https://s3.example.com"));
        settings.sse_customer_key = Some(Secret::new(base64::encode([7u8; 32])));
        change(&mut settings);
        resolve(&settings, None, None)
    };
    let good = sse(|_| {}).unwrap();
    assert!(matches!(&good.encryption, Encryption::Customer { key: k, .. } if *k == key));
    assert!(!format!("{good:?}").contains(&key));
    // A key file ends with a newline, and wins over the key in place.
    let from_file = resolve(&settings(None), None, Some(&format!("{key}\n"))).unwrap();
    assert_eq!(from_file.encryption, good.encryption);
    for (change, needle) in [
        ((|s| s.sse_kms_key_id = Some("k".into())) as fn(&mut S3Settings), "exclude"),
        (|s| s.sse_customer_algorithm = Some("AES128".into()), "AES256"),
        (|s| s.sse_customer_key = Some(Secret::new("hush!")), "base64"),
        (|s| s.sse_customer_key = Some(Secret::new("aHVzaA==")), "32 bytes"),
        (|s| s.sse_customer_key_md5 = Some("x".into()), "does not belong"),
        (|s| s.endpoint = Some("http://s3.example.com".into()), "https only"),
    ] {
        let error = sse(change).unwrap_err();
        assert!(error.message().contains(needle), "{error}");
        assert!(!error.message().contains("hush"), "{error}");
    }
    assert!(sse(|s| s.endpoint = Some("http://192.168.1.1:9000".into())).is_ok());
}

#[test]
fn mistakes_are_named() {
    for (endpoint, needle) in [
        ("ftp://x", "not http"),
        ("https://user:pw@x", "user name"),
        ("https://user:pw d@x", "user name"),
        ("http://minio:port", "is not a port"),
        ("minio:90000", "is not a port"),
        ("https://", "not a host"),
        ("a b", "not a host"),
        ("https://x/?y=1", "not a host"),
    ] {
        let error = resolve(&settings(Some(endpoint)), None, None).unwrap_err();
        assert!(error.message().contains(needle), "{endpoint}: {error}");
        assert!(!error.message().contains("pw"), "{error}");
    }
    let small = S3Settings { part_size: Some(1 << 20), ..settings(None) };
    assert!(resolve(&small, None, None).unwrap_err().message().contains("part-size"));
    let none = S3Settings { concurrency: Some(0), ..settings(None) };
    assert!(resolve(&none, None, None).unwrap_err().message().contains("concurrency"));
}
