//! Table of replica URLs and what they mean.

use super::*;

fn s3(url: &str) -> S3Settings {
    match parse(url).unwrap().settings {
        Settings::S3(settings) => *settings,
        Settings::Directory(_) => panic!("{url} is not s3"),
    }
}

fn directory(url: &str) -> String {
    match parse(url).unwrap().settings {
        Settings::Directory(settings) => settings.path.to_str().unwrap().to_owned(),
        Settings::S3(_) => panic!("{url} is not a file"),
    }
}

#[test]
fn file_urls() {
    for (url, path) in [
        ("file:///abs/p", "/abs/p"),
        ("file:///abs/p/?x=1", "/abs/p"),
        ("file:///abs/../b//c/.", "/b/c"),
        ("file://rel/p", "/rel/p"),
        ("file:///a b#c", "/a b#c"),
    ] {
        assert_eq!(directory(url), path, "{url}");
    }
}

/// As Litestream 0.5.17 was seen to name directories.
#[test]
fn file_urls_as_litestream_stores_them() {
    for (path, stored) in [
        ("/plain/a.db", None),
        ("/a(x)/~b_c!", None),
        ("/b%20c", None),
        ("/My Backups", Some("/My%20Backups")),
        ("/é(x)", Some("/%C3%A9%28x%29")),
        ("/c%20d e", Some("/c%20d%20e")),
        ("/f+g h&[i]", Some("/f+g%20h&%5Bi%5D")),
        ("/q#r s", Some("/q#r%20s")),
        ("/50% off", None),
    ] {
        assert_eq!(as_litestream_stores(Path::new(path)), stored.map(PathBuf::from), "{path}");
    }
}

/// URL → bucket, path, region, endpoint, path style.
type Row =
    (&'static str, &'static str, &'static str, Option<&'static str>, Option<&'static str>, Option<bool>);

#[test]
fn host_forms() {
    const HTTPS_DO: Option<&str> = Some("https://nyc3.digitaloceanspaces.com");
    const HTTPS_B2: Option<&str> = Some("https://s3.us-west-002.backblazeb2.com");
    let arn = "arn:aws:s3:us-east-2:123456789012:accesspoint/ap";
    let rows: Vec<Row> = vec![
        ("s3://b/p/q", "b", "p/q", None, None, None),
        ("S3://b/p", "b", "p", None, None, None),
        ("s3://b", "b", ".", None, None, None),
        ("s3://b/", "b", "", None, None, None),
        ("s3://b//p/./q/../r/", "b", "p/r", None, None, None),
        ("s3://my.dotted.bucket/p", "my.dotted.bucket", "p", None, None, None),
        ("s3://b/a%20b", "b", "a b", None, None, None),
        ("s3://b.s3.amazonaws.com/p", "b", "p", None, None, None),
        ("s3://b.s3.eu-west-1.amazonaws.com/p", "b", "p", Some("eu-west-1"), None, None),
        ("s3://a.b.s3.eu-west-1.amazonaws.com/p", "a.b", "p", Some("eu-west-1"), None, None),
        ("s3://s3.eu-west-1.amazonaws.com/b/p", "b", "p", Some("eu-west-1"), None, None),
        ("s3://b.nyc3.digitaloceanspaces.com/p", "b", "p", Some("nyc3"), HTTPS_DO, Some(false)),
        ("s3://b.s3.us-west-002.backblazeb2.com/p", "b", "p", Some("us-west-002"), HTTPS_B2, Some(true)),
        ("s3://s3.us-west-002.backblazeb2.com/b/p", "b", "p", Some("us-west-002"), HTTPS_B2, Some(true)),
        ("s3://b.s3.filebase.com/p", "b", "p", None, Some("s3.filebase.com"), Some(true)),
        ("s3://b.s3.fr-par.scw.cloud/p", "b", "p", Some("fr-par"), Some("s3.fr-par.scw.cloud"), Some(false)),
        (
            "s3://b.minio.local:9000/p",
            "b",
            "p",
            Some("us-east-1"),
            Some("http://minio.local:9000"),
            Some(true),
        ),
        ("s3://b.localhost:9000/p", "b", "p", Some("us-east-1"), Some("http://localhost:9000"), Some(true)),
        ("s3://localhost:9000/b/p", "b", "p", Some("us-east-1"), Some("http://localhost:9000"), Some(true)),
        (
            "s3://127.0.0.1:9000/b/p/q",
            "b",
            "p/q",
            Some("us-east-1"),
            Some("http://127.0.0.1:9000"),
            Some(true),
        ),
    ];
    for (url, bucket, path, region, endpoint, path_style) in rows {
        let got = s3(url);
        assert_eq!(
            (&*got.bucket, &*got.path, got.region.as_deref(), got.endpoint.as_deref(), got.force_path_style),
            (bucket, path, region, endpoint, path_style),
            "{url}"
        );
    }
    for (tail, path) in [("/my/path?concurrency=2", "my/path"), ("", ""), ("/", "")] {
        let got = s3(&format!("s3://{arn}{tail}"));
        assert_eq!(
            (&*got.bucket, &*got.path, got.region.as_deref()),
            (arn, path, Some("us-east-2")),
            "{tail}"
        );
    }
}

#[test]
fn query_parameters_in_both_spellings() {
    let expected = S3Settings {
        bucket: "b".into(),
        path: "p".into(),
        region: Some("r".into()),
        endpoint: Some("https://s3.example.com/storage/v1/s3".into()),
        force_path_style: Some(false),
        skip_verify: Some(true),
        sign_payload: Some(false),
        require_content_md5: Some(false),
        sign_accept_encoding: Some(false),
        storage_class: Some("STANDARD_IA".into()),
        part_size: Some(10_485_760),
        concurrency: Some(3),
        sse_customer_algorithm: Some("AES256".into()),
        sse_customer_key: Some(Secret::new("a/b=")),
        sse_customer_key_path: Some("/k".into()),
        sse_customer_key_md5: Some("m".into()),
        sse_kms_key_id: Some("k".into()),
        ..S3Settings::default()
    };
    let camel = "s3://b/p?endpoint=s3.example.com/storage/v1/s3&region=r&forcePathStyle=no&skipVerify=1&signPayload=f\
        &requireContentMD5=0&signAcceptEncoding=FALSE&storageClass=STANDARD_IA&partSize=10485760&concurrency=3\
        &sseCustomerAlgorithm=AES256&sseCustomerKey=a%2Fb%3D&sseCustomerKeyPath=/k&sseCustomerKeyMD5=m&sseKmsKeyId=k";
    let kebab = "s3://b/p?endpoint=https%3A%2F%2Fs3.example.com/storage/v1/s3&region=r&force-path-style=false\
        &skip-verify=yes&sign-payload=false&require-content-md5=false&sign-accept-encoding=f\
        &storage-class=STANDARD_IA&part-size=10485760&concurrency=3&sse-customer-algorithm=AES256\
        &sse-customer-key=a%2Fb%3D&sse-customer-key-path=%2Fk&sse-customer-key-md5=m&sse-kms-key-id=k";
    assert_eq!(s3(camel), expected);
    assert_eq!(s3(kebab), expected);
}

#[test]
fn endpoints_in_urls_get_a_scheme_by_where_they_are() {
    for (endpoint, expected) in [
        ("localhost:9000", "http://localhost:9000"),
        ("127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("10.1.2.3", "http://10.1.2.3"),
        ("172.31.0.1:80", "http://172.31.0.1:80"),
        ("172.32.0.1:80", "https://172.32.0.1:80"),
        ("192.168.0.9", "http://192.168.0.9"),
        ("[::1]:9000", "http://[::1]:9000"),
        ("minio.local", "http://minio.local"),
        ("10.example.com", "https://10.example.com"),
        ("s3.us-west-002.backblazeb2.com", "https://s3.us-west-002.backblazeb2.com"),
        ("http://example.com", "http://example.com"),
    ] {
        let got = s3(&format!("s3://b/p?endpoint={endpoint}"));
        assert_eq!(got.endpoint.as_deref(), Some(expected), "{endpoint}");
    }
    // The query's endpoint replaces the one in the host, and its addressing.
    let got = s3("s3://b.nyc3.digitaloceanspaces.com/p?endpoint=https://e.example");
    assert_eq!((got.endpoint.as_deref(), got.force_path_style), (Some("https://e.example"), None));
}

#[test]
fn what_is_ignored_is_reported() {
    let parsed = parse("s3://key:pw@b/p?retention=1h&region=r&Endpoint=x").unwrap();
    assert_eq!(
        parsed.ignored,
        ["user name or password in the URL", "query parameter \"Endpoint\"", "query parameter \"retention\""]
    );
}

#[test]
fn mistakes_are_named() {
    for (url, kind, needle) in [
        ("/a/path", ErrorKind::Usage, "no scheme"),
        ("s3://", ErrorKind::Usage, "names no bucket"),
        ("s3:///p", ErrorKind::Usage, "names no bucket"),
        ("s3://localhost:9000/", ErrorKind::Usage, "names no bucket"),
        ("s3://arn:aws:s3:us-east-1:1:bucket/x", ErrorKind::Usage, "accesspoint/NAME"),
        ("s3://arn:aws:s3:us-east-1:1:accesspoint/", ErrorKind::Usage, "accesspoint/NAME"),
        ("s3://b/p?partSize=5MB", ErrorKind::Usage, "part-size"),
        ("s3://b/p?concurrency=0", ErrorKind::Usage, "concurrency"),
        ("s3://b/p?skipVerify=maybe", ErrorKind::Usage, "skip-verify"),
        ("s3://b/%ff", ErrorKind::Usage, "UTF-8"),
        ("s3://acct.r2.cloudflarestorage.com/b/p", ErrorKind::Usage, "is a server"),
        ("s3://b.s3.wasabisys.com/p", ErrorKind::Usage, "is a server"),
        ("gs://b/p", ErrorKind::Unsupported, "storage.googleapis.com"),
        ("gcs://b/p", ErrorKind::Unsupported, "\"gcs\""),
        ("abs://b/p", ErrorKind::Unsupported, "\"abs\""),
        ("sftp://u@h/p", ErrorKind::Unsupported, "\"sftp\""),
        ("webdavs://h/p", ErrorKind::Unsupported, "\"webdavs\""),
        ("nats://h/b", ErrorKind::Unsupported, "\"nats\""),
        ("oss://b/p", ErrorKind::Unsupported, "aliyuncs"),
        ("ftp://b/p", ErrorKind::Unsupported, "supported are"),
    ] {
        let error = parse(url).map(|parsed| panic!("{url} parsed as {parsed:?}")).unwrap_err();
        assert_eq!(error.kind(), kind, "{url}: {error}");
        assert!(error.message().contains(needle), "{url}: {error}");
    }
}

#[test]
fn urls_and_paths_are_told_apart() {
    for (text, expected) in [
        ("s3://b", true),
        ("file:///x", true),
        ("/a/b", false),
        ("a b://c", false),
        ("C:\\x", false),
        ("://", false),
    ] {
        assert_eq!(is_url(text), expected, "{text}");
    }
}

#[test]
fn keys_in_a_url_are_never_shown() {
    // A secret with a slash: the host would end there.
    for url in ["s3://AKIA:SEC/RET@minio:9000/p", "s3://AKIA:SEC/RET@bucket"] {
        let error = parse(url).unwrap_err().to_string();
        assert!(
            error.contains("contains keys") && !error.contains("RET") && !error.contains("SEC"),
            "{error}"
        );
    }
    assert!(parse("s3://localhost:9000/bucket/a@b").is_ok());
    let error = parse("s3://b/p?sseCustomerKey=secret%ff").unwrap_err().to_string();
    assert!(error.contains("sseCustomerKey") && !error.contains("secret"), "{error}");
}
