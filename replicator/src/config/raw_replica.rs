//! What the user typed about one replica, and about all replicas at the top of the file.

use std::time::Duration;

use super::section::{At, Section};
use crate::bucket::settings::Secret;

/// A replica, or the settings that replicas inherit.
#[derive(Debug, Clone, Default)]
pub struct RawReplica {
    /// Line of the entry.
    pub line: u64,
    /// Its full key, `dbs[0].replica`.
    pub key: String,
    /// `s3` or `file`.
    pub kind: Option<At<String>>,
    /// Everything in one URL.
    pub url: Option<At<String>>,
    /// Litestream 0.3: what `-replica` calls it.
    pub name: Option<At<String>>,
    /// Path in the bucket, or directory.
    pub path: Option<At<String>>,
    /// Shortest time between uploads.
    pub sync_interval: Option<At<Duration>>,
    /// Litestream 0.3: time between snapshots.
    pub snapshot_interval: Option<At<Duration>>,
    /// Litestream 0.3: how long snapshots are kept.
    pub retention: Option<At<Duration>>,
    /// Private keys that open encrypted 0.3 backups.
    pub age_identities: Vec<Secret>,
    /// Line of `age:`, whatever stands below it: encryption was asked for.
    pub age: Option<u64>,
    /// Settings of an S3 store.
    pub s3: RawS3,
}

/// Settings of an S3 store.
#[derive(Debug, Clone, Default)]
pub struct RawS3 {
    /// Bucket name or access-point ARN.
    pub bucket: Option<At<String>>,
    /// Region.
    pub region: Option<At<String>>,
    /// Endpoint, with or without scheme.
    pub endpoint: Option<At<String>>,
    /// Key id.
    pub access_key_id: Option<At<String>>,
    /// Secret key.
    pub secret_access_key: Option<At<Secret>>,
    /// Session token of temporary keys.
    pub session_token: Option<At<Secret>>,
    /// Bucket in the path.
    pub force_path_style: Option<At<bool>>,
    /// Accept any certificate.
    pub skip_verify: Option<At<bool>>,
    /// Sign bodies.
    pub sign_payload: Option<At<bool>>,
    /// MD5 with batch deletes.
    pub require_content_md5: Option<At<bool>>,
    /// Sign `Accept-Encoding`.
    pub sign_accept_encoding: Option<At<bool>>,
    /// Storage class.
    pub storage_class: Option<At<String>>,
    /// Multipart part size in bytes.
    pub part_size: Option<At<u64>>,
    /// Parts in flight.
    pub concurrency: Option<At<u32>>,
    /// SSE-C algorithm.
    pub sse_customer_algorithm: Option<At<String>>,
    /// SSE-C key.
    pub sse_customer_key: Option<At<Secret>>,
    /// File with the SSE-C key.
    pub sse_customer_key_path: Option<At<String>>,
    /// SSE-KMS key.
    pub sse_kms_key_id: Option<At<String>>,
}

/// Keys of replica types that Litestream has and this program has not.
const FOREIGN: &[(&str, &[&str])] = &[
    ("abs", &["account-name", "account-key", "sas-token"]),
    ("sftp", &["host", "user", "password", "key-path", "host-key", "concurrent-writes"]),
    ("webdav", &["webdav-url", "webdav-username", "webdav-password"]),
    (
        "nats",
        &[
            "jwt",
            "seed",
            "creds",
            "nkey",
            "username",
            "token",
            "tls",
            "root-cas",
            "client-cert",
            "client-key",
            "max-reconnects",
            "reconnect-wait",
            "timeout",
        ],
    ),
];

impl RawReplica {
    /// Reads one replica, and finishes its section.
    #[must_use]
    pub fn read(mut section: Section<'_>, key: &str, line: u64) -> Self {
        let mut replica = Self::read_settings(&mut section);
        replica.line = line;
        key.clone_into(&mut replica.key);
        replica.kind = section.text("type");
        replica.url = section.text("url");
        replica.path = section.text("path");
        replica.name = section.text("name");
        replica.snapshot_interval = section.positive_duration("snapshot-interval");
        replica.retention = section.positive_duration("retention");
        section.without_effect("retention-check-interval", "retention is looked at after every snapshot");
        section.finish();
        replica
    }

    /// Reads what may also stand at the top of the file, to be inherited.
    #[must_use]
    pub fn read_settings(section: &mut Section<'_>) -> Self {
        let mut replica = Self {
            sync_interval: section.positive_duration("sync-interval"),
            s3: read_s3(section),
            ..Self::default()
        };
        replica.take_age(section);
        section.without_effect("validation-interval", "there is no periodic validation in this program yet");
        section.without_effect(
            "max-sync-ltx-files",
            "all pending files are uploaded in order, in bounded memory",
        );
        section.without_effect("auto-recover", "local state that cannot be trusted is always rebuilt");
        for (kind, keys) in FOREIGN {
            for key in *keys {
                section.without_effect(
                    key,
                    &format!("it belongs to replica type {kind:?}, which is not supported"),
                );
            }
        }
        replica
    }

    fn take_age(&mut self, section: &mut Section<'_>) {
        self.age = section.line_of("age");
        let Some((_, mut age)) = section.section("age") else { return };
        self.age_identities = age.texts("identities").into_iter().map(|at| Secret::new(at.value)).collect();
        age.texts("recipients");
        age.finish();
    }
}

fn read_s3(section: &mut Section<'_>) -> RawS3 {
    let secret = |at: Option<At<String>>| {
        at.map(|At { value, line, key }| At { value: Secret::new(value), line, key })
    };
    RawS3 {
        bucket: section.text("bucket"),
        region: section.text("region"),
        endpoint: section.text("endpoint"),
        access_key_id: section.text("access-key-id"),
        secret_access_key: secret(section.text("secret-access-key")),
        session_token: secret(section.text("session-token")),
        force_path_style: section.boolean("force-path-style"),
        skip_verify: section.boolean("skip-verify"),
        sign_payload: section.boolean("sign-payload"),
        require_content_md5: section.boolean("require-content-md5"),
        sign_accept_encoding: section.boolean("sign-accept-encoding"),
        storage_class: section.text("storage-class"),
        part_size: section.size("part-size"),
        concurrency: section.number("concurrency", 1),
        sse_customer_algorithm: section.text("sse-customer-algorithm"),
        sse_customer_key: secret(section.text("sse-customer-key")),
        sse_customer_key_path: section.text("sse-customer-key-path"),
        sse_kms_key_id: section.text("sse-kms-key-id"),
    }
}

/// `target.field = target.field or from.field`, for each field.
macro_rules! inherit {
    ($target:expr, $from:expr, $($field:ident),+ $(,)?) => {
        $(if $target.$field.is_none() { $target.$field.clone_from(&$from.$field); })+
    };
}

impl RawReplica {
    /// Fills what is not given here from the settings at the top of the file. Their bucket is not for a replica
    /// whose URL names its own.
    pub fn inherit(&mut self, top: &Self) {
        inherit!(self, top, sync_interval);
        if self.url.is_none() {
            inherit!(self.s3, top.s3, bucket);
        }
        self.s3.inherit(&top.s3);
        if self.age.is_none() {
            self.age = top.age;
            self.age_identities.clone_from(&top.age_identities);
        }
    }
}

/// Whether two values, as far as both are written, are the same.
fn is_absent_or_equal<T: PartialEq>(a: Option<&At<T>>, b: Option<&At<T>>) -> bool {
    a.zip(b).is_none_or(|(a, b)| a.value == b.value)
}

impl RawS3 {
    fn inherit(&mut self, top: &Self) {
        // Half of one pair and half of another never fit, so a half is inherited only beside an equal one.
        let is_whole = self.access_key_id.is_some() && self.secret_access_key.is_some();
        let fits = is_absent_or_equal(self.access_key_id.as_ref(), top.access_key_id.as_ref())
            && is_absent_or_equal(self.secret_access_key.as_ref(), top.secret_access_key.as_ref());
        if !is_whole && fits {
            inherit!(self, top, access_key_id, secret_access_key, session_token);
        }
        if self.sse_customer_key.is_none() && self.sse_customer_key_path.is_none() {
            inherit!(self, top, sse_customer_algorithm, sse_customer_key, sse_customer_key_path);
        }
        inherit!(
            self,
            top,
            region,
            endpoint,
            force_path_style,
            skip_verify,
            sign_payload,
            require_content_md5,
            sign_accept_encoding,
            storage_class,
            part_size,
            concurrency,
            sse_kms_key_id,
        );
    }

    /// Line and full key of everything given here.
    #[must_use]
    pub fn given(&self) -> Vec<(u64, &str)> {
        fn place<T>(at: &Option<At<T>>) -> Option<(u64, &str)> {
            at.as_ref().map(|at| (at.line, at.key.as_str()))
        }
        let places = [
            place(&self.bucket),
            place(&self.region),
            place(&self.endpoint),
            place(&self.access_key_id),
            place(&self.secret_access_key),
            place(&self.session_token),
            place(&self.force_path_style),
            place(&self.skip_verify),
            place(&self.sign_payload),
            place(&self.require_content_md5),
            place(&self.sign_accept_encoding),
            place(&self.storage_class),
            place(&self.part_size),
            place(&self.concurrency),
            place(&self.sse_customer_algorithm),
            place(&self.sse_customer_key),
            place(&self.sse_customer_key_path),
            place(&self.sse_kms_key_id),
        ];
        places.into_iter().flatten().collect()
    }
}
