//! Where objects live and how to reach them, as plain typed values.
//!
//! Filled from a URL ([`super::url`]), from configuration, or by hand. Every field that was not given is `None`:
//! defaults that depend on the provider are decided in one place, `s3::dialect`. No I/O here.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// One replica's storage.
#[derive(Debug, Clone, PartialEq)]
pub enum Settings {
    /// A bucket, or an access point, of a store that speaks S3.
    S3(Box<S3Settings>),
    /// A directory of a file system.
    Directory(DirectorySettings),
}

/// A directory replica.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirectorySettings {
    /// The replica's own directory. Created, with its parents, by the first PUT.
    pub path: PathBuf,
    /// Whom new files and directories belong to; absent means readable by this process's user alone.
    pub ownership: Option<Ownership>,
}

/// Permissions and owner of what a directory replica creates, usually those of the database and its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// Permission bits of files.
    pub file_mode: u32,
    /// Permission bits of directories.
    pub directory_mode: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// An S3 replica.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct S3Settings {
    /// Bucket name or access-point ARN.
    pub bucket: String,
    /// Text before every key, joined with `/` exactly as given: with an empty path keys begin with `/`, as
    /// Litestream's do. (Keys of 0.3.x replicas are the exception: they are joined with the path as one cleans paths.)
    pub path: String,
    /// Region; absent means: from the ARN, else asked of AWS, else `us-east-1` on a custom endpoint.
    pub region: Option<String>,
    /// Endpoint as typed: with or without scheme (then `https`), port and path prefix. Absent means AWS.
    pub endpoint: Option<String>,
    /// Access key id. Both keys, or neither: then the environment's chain is asked.
    pub access_key_id: Option<String>,
    /// Secret access key.
    pub secret_access_key: Option<Secret>,
    /// Session token of temporary keys.
    pub session_token: Option<Secret>,
    /// Name of a profile in the AWS configuration files, before `AWS_PROFILE`.
    pub profile: Option<String>,
    /// `bucket` in the path instead of the host name.
    pub force_path_style: Option<bool>,
    /// Accept any server certificate.
    pub skip_verify: Option<bool>,
    /// Sign bodies; otherwise they are sent as `UNSIGNED-PAYLOAD`.
    pub sign_payload: Option<bool>,
    /// Send `Content-MD5` with batch deletions.
    pub require_content_md5: Option<bool>,
    /// Include `Accept-Encoding` in the signature.
    pub sign_accept_encoding: Option<bool>,
    /// Storage class of new objects.
    pub storage_class: Option<String>,
    /// Bytes per part; objects up to this size are sent in one request.
    pub part_size: Option<u64>,
    /// Parts of one object in flight.
    pub concurrency: Option<usize>,
    /// Encryption with a customer's key: algorithm, `AES256` if absent.
    pub sse_customer_algorithm: Option<String>,
    /// Encryption with a customer's key: 32 bytes in base64.
    pub sse_customer_key: Option<Secret>,
    /// File that holds [`Self::sse_customer_key`].
    pub sse_customer_key_path: Option<PathBuf>,
    /// MD5 of the key in base64, checked against the key if given.
    pub sse_customer_key_md5: Option<String>,
    /// Encryption with this KMS key.
    pub sse_kms_key_id: Option<String>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// How often to try again.
    pub retry: RetrySettings,
}

/// Bounds on waiting for a server. None of them limits the duration of a transfer that moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Name resolution, TCP and TLS handshakes together.
    pub connect: Duration,
    /// From the last byte of the request to the first byte of the answer.
    pub answer: Duration,
    /// Between two bytes taken by the server while sending a body.
    pub upload_progress: Duration,
    /// Between two bytes of an answer's body.
    pub download_progress: Duration,
    /// How long an unused connection is kept.
    pub idle_connection: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            upload_progress: Duration::from_secs(20),
            download_progress: Duration::from_secs(15),
            idle_connection: Duration::from_secs(30),
        }
    }
}

/// Bounds on repeating a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// Attempts without progress before a request (or the resumption of a body) fails.
    pub attempts: u32,
    /// Upper bound of the first pause; it doubles with each attempt and is drawn at random below the bound.
    pub first_pause: Duration,
    /// Largest pause, also for a server's `Retry-After`.
    pub longest_pause: Duration,
    /// No attempt begins later than this after the first failure since the last progress.
    pub patience: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            attempts: 10,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(20),
            patience: Duration::from_secs(60),
        }
    }
}

/// Text that must not be printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for signing only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let settings = S3Settings {
            secret_access_key: Some(Secret::new("hush1")),
            session_token: Some(Secret::new("hush2")),
            sse_customer_key: Some(Secret::new("hush3")),
            ..S3Settings::default()
        };
        let printed = format!("{settings:?}");
        assert!(!printed.contains("hush"), "{printed}");
        assert!(printed.contains("***"), "{printed}");
    }
}
