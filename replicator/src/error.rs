//! The one public error type: kind + message + source.
//!
//! Kinds are named by what the caller should do. A message names the file, key or request and says what to do
//! next; it never carries a secret. Must not know about exit codes (that is [`crate::cli`]).

use std::fmt;

/// What the caller should do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The user asked for something impossible or contradictory: fix the command line or the config file.
    Usage,
    /// The named thing does not exist, and a complete, authorised look proved it.
    NotFound,
    /// Credentials or file permissions do not allow the operation: fix them.
    Denied,
    /// The store or the disk failed for now; trying again later can succeed.
    Transient,
    /// The store or file system lacks a capability, or refused the request for good: change the settings.
    Unsupported,
    /// Bytes are not what they claim to be (checksum, format, contiguity): do not use them.
    Corrupt,
    /// Somebody else wrote where only we may write, or the lineage changed: an operator must decide.
    Conflict,
    /// No space, no descriptors or another bounded resource is exhausted: free some.
    Exhausted,
    /// The operation was stopped by request (shutdown).
    Cancelled,
    /// A defect of this program.
    Internal,
}

impl ErrorKind {
    /// Whether the same operation, repeated later without any change by a person, can succeed.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Transient | Self::Exhausted)
    }
}

/// An error with a kind, a message for a person, and the error that caused it.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// An error caused by `source`.
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { kind, message: message.into(), source: Some(source.into()) }
    }

    /// Classifies an I/O error; `what` says what was attempted and on which path.
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let kind = match source.kind() {
            K::NotFound => ErrorKind::NotFound,
            K::PermissionDenied | K::ReadOnlyFilesystem => ErrorKind::Denied,
            K::StorageFull | K::QuotaExceeded | K::FileTooLarge => ErrorKind::Exhausted,
            K::InvalidData | K::UnexpectedEof => ErrorKind::Corrupt,
            K::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Transient,
        };
        Self::with_source(kind, what, source)
    }

    /// What the caller should do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message without its causes.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Adds what was being done, keeping the kind: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    /// The message followed by its causes, outermost first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
