//! Access keys, what each may do, and until when.

use std::sync::{Arc, Mutex};

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

use super::Clock;
use super::dialect::{Dialect, Treatment};
use super::s3_error_with;
use super::store::Millis;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// GET and HEAD.
    pub read: bool,
    /// Listings.
    pub list: bool,
    /// PUT and multipart uploads.
    pub write: bool,
    /// DELETE, single and in batches.
    pub delete: bool,
}

impl Rights {
    /// Everything.
    pub const ALL: Self = Self { read: true, list: true, write: true, delete: true };
}

/// An access key known to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Access key id.
    pub id: String,
    /// Secret access key.
    pub secret: String,
    /// Session token that must come with it, if it is a temporary key.
    pub session_token: Option<String>,
    /// End of its life by the server's clock.
    pub expires: Option<Millis>,
    /// What it may do.
    pub rights: Rights,
}

impl AccessKey {
    /// A lasting key that may do everything.
    #[must_use]
    pub fn new(id: &str, secret: &str) -> Self {
        Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
            session_token: None,
            expires: None,
            rights: Rights::ALL,
        }
    }
}

/// The keys in force; shared with the caller, who may rotate them while the server runs.
pub(super) type Keys = Arc<Mutex<Vec<AccessKey>>>;

pub(super) struct Auth(pub Keys);

fn find(keys: &Keys, id: &str) -> Option<AccessKey> {
    keys.lock().expect("no holder of the key list panics").iter().find(|key| key.id == id).cloned()
}

#[async_trait::async_trait]
impl S3Auth for Auth {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match find(&self.0, access_key) {
            Some(key) => Ok(SecretKey::from(key.secret)),
            None => Err(s3_error!(InvalidAccessKeyId, "the access key id does not exist here")),
        }
    }
}

pub(super) struct Access {
    pub keys: Keys,
    pub clock: Clock,
    pub dialect: Arc<Dialect>,
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(id) = cx.credentials().map(|c| c.access_key.clone()) else {
            return Err(s3_error!(AccessDenied, "the request is not signed"));
        };
        let key = find(&self.keys, &id).ok_or_else(|| s3_error!(InvalidAccessKeyId))?;
        let token = cx.headers().get("x-amz-security-token").and_then(|v| v.to_str().ok());
        let token_fits = match &key.session_token {
            Some(wanted) => token == Some(wanted.as_str()),
            None => token.is_none() || self.dialect.session_tokens == Treatment::Ignored,
        };
        if !token_fits {
            return Err(s3_error_with(403, "InvalidToken", "the security token does not belong to the key"));
        }
        if key.expires.is_some_and(|end| (self.clock)() >= end) {
            return Err(s3_error_with(400, "ExpiredToken", "the security token has expired"));
        }
        let rights = key.rights;
        let allowed = match cx.s3_op().name() {
            "GetObject" | "HeadObject" => rights.read,
            "ListObjects" | "ListObjectsV2" | "ListMultipartUploads" | "ListBuckets" => rights.list,
            "DeleteObject" | "DeleteObjects" => rights.delete,
            "HeadBucket" | "GetBucketLocation" => true,
            _ => rights.write,
        };
        if allowed { Ok(()) } else { Err(s3_error!(AccessDenied, "the key may not do this")) }
    }
}
