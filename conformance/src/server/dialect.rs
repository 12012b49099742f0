//! What a provider does differently from the S3 documentation, as plain data.
//!
//! A dialect is read from `dialects/<name>.toml`; comments there say which real provider behaves so, and where that
//! was seen. The embedded server obeys it; this module only parses. It must not contain behaviour.

use std::collections::BTreeMap;

use serde::Deserialize;

/// How a server treats something a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// Works as documented.
    #[default]
    Accepted,
    /// Answered with an error; nothing is stored.
    Refused,
    /// Accepted and without effect, which is worse than a refusal.
    Ignored,
}

/// How a server treats a body in `aws-chunked` content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AwsChunked {
    /// The framing is removed and the chunk signatures are checked.
    #[default]
    Accepted,
    /// Answered with an error.
    Refused,
    /// The frame text becomes part of the object, and the answer is a success.
    Stored,
}

/// How a server treats `If-None-Match` and `If-Match` on writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conditions {
    /// Checked atomically with the write.
    #[default]
    Honoured,
    /// `501 NotImplemented`.
    Refused,
    /// The write happens whatever the condition says.
    Ignored,
    /// `412` whether or not the condition holds.
    AlwaysFails,
}

/// What a request must carry to protect its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Integrity {
    /// Nothing.
    #[default]
    Nothing,
    /// `Content-MD5` or any `x-amz-checksum-*`.
    Checksum,
    /// `Content-MD5`.
    Md5,
}

/// Which way of naming the bucket works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Addressing {
    /// Both.
    #[default]
    Both,
    /// `https://host/bucket/key` only.
    Path,
    /// `https://bucket.host/key` only.
    Virtual,
}

/// Oddities of `ListObjectsV2`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListRules {
    /// Most keys in one page, whatever the client asks for.
    pub page_size: i32,
    /// `LastModified` is left out.
    pub omit_last_modified: bool,
    /// `ETag` is left out.
    pub omit_etag: bool,
    /// `Size` is left out.
    pub omit_size: bool,
    /// A write shows in listings only after this many milliseconds…
    pub stale_millis: i64,
    /// …unless the request carries this header with the value `true`.
    pub fresh_header: Option<String>,
    /// A continuation token that is not one of the server's own counts as a key to start after.
    pub any_token: bool,
    /// What happens to `start-after`.
    pub start_after: Treatment,
}

impl Default for ListRules {
    fn default() -> Self {
        Self {
            page_size: 1000,
            omit_last_modified: false,
            omit_etag: false,
            omit_size: false,
            stale_millis: 0,
            fresh_header: None,
            any_token: false,
            start_after: Treatment::Accepted,
        }
    }
}

/// Limits of multipart uploads.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MultipartRules {
    /// Smallest part but the last, in bytes.
    pub min_part_bytes: u64,
    /// All parts but the last must have one size.
    pub equal_parts: bool,
    /// Highest part number.
    pub max_parts: i32,
    /// Parts of one upload that may be in flight at once; 0 means any number.
    pub concurrent_parts: usize,
    /// Conditions on `CompleteMultipartUpload`.
    pub conditions: Conditions,
}

impl Default for MultipartRules {
    fn default() -> Self {
        Self {
            min_part_bytes: 5 << 20,
            equal_parts: false,
            max_parts: 10_000,
            concurrent_parts: 0,
            conditions: Conditions::Honoured,
        }
    }
}

/// A provider's way of speaking S3. The default is S3 as documented, lenient where AWS is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dialect {
    /// Name as in the file name.
    pub name: String,
    /// Provider, for people.
    pub title: String,
    /// Host name of the provider's endpoint, under which a client recognises it.
    pub host: Option<String>,
    /// Ways of naming the bucket.
    pub addressing: Addressing,
    /// Path in front of every request, such as `/storage/v1/s3`; part of what the client signs.
    pub path_prefix: String,
    /// The only region a signature may name; `None` accepts any.
    pub region: Option<String>,
    /// `aws-chunked` bodies without a trailer.
    pub aws_chunked: AwsChunked,
    /// `aws-chunked` bodies with a trailing checksum. `Accepted` still follows `aws_chunked`.
    pub trailers: Treatment,
    /// `x-amz-checksum-*` and `x-amz-sdk-checksum-algorithm` headers.
    pub checksum_headers: Treatment,
    /// `x-amz-content-sha256: UNSIGNED-PAYLOAD`.
    pub unsigned_payload: Treatment,
    /// What `DeleteObjects` must carry to be taken.
    pub batch_delete_needs: Integrity,
    /// `DeleteObjects` altogether.
    pub batch_delete: Treatment,
    /// A PUT without `Content-Length` is answered `411`; otherwise it is taken.
    pub needs_content_length: bool,
    /// `If-None-Match: *` on PUT.
    pub if_none_match: Conditions,
    /// `If-Match: <etag>` on PUT.
    pub if_match: Conditions,
    /// The SDK's `x-id` query key, which some servers leave out when they compute the signature.
    pub x_id: Treatment,
    /// A proxy in front rewrites `Accept-Encoding`, so a signature that covers it fails.
    pub rewrites_accept_encoding: bool,
    /// What the key of a new object may hold beside ASCII letters and digits, else `400 InvalidKey`; `None` allows all.
    pub key_signs: Option<String>,
    /// Requests in flight at once before `503 SlowDown`; 0 means any number.
    pub concurrent_requests: usize,
    /// Requests with an `x-amz-security-token` that no key of the server has are refused; otherwise it is ignored.
    pub session_tokens: Treatment,
    /// Listings.
    pub list: ListRules,
    /// Multipart uploads.
    pub multipart: MultipartRules,
    /// Checks of the conformance suite that fail against this dialect, and why.
    pub expected_failures: BTreeMap<String, String>,
}

/// Why a dialect could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DialectError {
    /// No such file was compiled in.
    #[error("no dialect is named {0:?}; there are: {1}")]
    Unknown(String, String),
    /// The file does not parse.
    #[error("dialect {0:?}: {1}")]
    Invalid(String, Box<toml::de::Error>),
}

macro_rules! dialects {
    ($($name:literal),* $(,)?) => {
        /// Dialects compiled in: name and text of `dialects/<name>.toml`.
        const BUILT_IN: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../dialects/", $name, ".toml")))),*];
    };
}

dialects![
    "strict",
    "aws",
    "b2",
    "r2",
    "tigris",
    "minio",
    "spaces",
    "hetzner",
    "ceph",
    "scaleway",
    "filebase",
    "supabase",
    "gcs",
    "garage",
    "oci",
    "oss",
    "seaweedfs"
];

impl Dialect {
    /// Parses a dialect.
    ///
    /// # Errors
    /// [`DialectError::Invalid`] with line and column of the first fault, unknown keys included.
    pub fn parse(name: &str, text: &str) -> Result<Self, DialectError> {
        let mut dialect: Self =
            toml::from_str(text).map_err(|error| DialectError::Invalid(name.to_owned(), Box::new(error)))?;
        dialect.name = name.to_owned();
        Ok(dialect)
    }

    /// A dialect that is compiled in.
    ///
    /// # Errors
    /// [`DialectError::Unknown`] names those there are.
    pub fn named(name: &str) -> Result<Self, DialectError> {
        match BUILT_IN.iter().find(|(known, _)| *known == name) {
            Some((name, text)) => Self::parse(name, text),
            None => Err(DialectError::Unknown(name.to_owned(), Self::names().join(", "))),
        }
    }

    /// Names of all dialects that are compiled in.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        BUILT_IN.iter().map(|(name, _)| *name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_dialect_parses_and_has_a_title() {
        for name in Dialect::names() {
            let dialect = Dialect::named(name).unwrap();
            assert!(!dialect.title.is_empty(), "{name} has no title");
        }
    }

    /// The default is the better case, and what is not said was not looked up.
    #[test]
    fn every_dialect_says_what_it_makes_of_conditions() {
        for (name, text) in BUILT_IN {
            let table: toml::Table = toml::from_str(text).unwrap();
            let multipart = table.get("multipart").and_then(toml::Value::as_table);
            let said = [table.get("if_none_match"), table.get("if_match")]
                .into_iter()
                .chain([multipart.and_then(|rules| rules.get("conditions"))]);
            assert_eq!(said.flatten().count(), 3, "{name}: if_none_match, if_match, multipart.conditions");
        }
    }

    #[test]
    fn a_misspelt_key_is_an_error_that_names_it() {
        let error = Dialect::parse("x", "title = 'X'\nadressing = 'path'\n").unwrap_err();
        assert!(error.to_string().contains("adressing"), "{error}");
    }
}
